"""Runs and operations as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.operation import EntryOutcome, Operation, OperationEntry
from sitegenctl.domain.statistics.activity import Activity, ActivityOutcome, Past, RunActivity
from sitegenctl.render.log import row_prefix
from sitegenctl.render.output import row_of
from sitegenctl.render.table import Column, Line, Screen, coloured, table
from sitegenctl.render.text import hanging, iso, neutralise, shorten

HISTORY_COLUMNS = (
    *("kind", "at", "outcome", "order_id", "customer", "duration_seconds", "reason"),
    *("operation", "actor", "host", "command", "orders", "rolled_back", "undoes", "log_id"),
    *("late_seconds", "undone_by"),
)
ENTRY_COLUMNS = (
    "order_id",
    "customer",
    "step",
    "before",
    "after",
    "outcome",
    "task_id",
    "message",
    "at",
    "log_id",
    "undone_by",
)

_MARKS = {
    ActivityOutcome.GENERATED: "✓",
    ActivityOutcome.FAILED: "✗",
    ActivityOutcome.CUT_SHORT: "!",
    ActivityOutcome.DONE: "·",
}
_SEVERITIES = {ActivityOutcome.FAILED: Severity.FAULT, ActivityOutcome.CUT_SHORT: Severity.UNKNOWN}

# Order numbers of an operation that are named on its line.
_NAMED = 8

_MAX_REASON = 300


def activity_data(activity: Activity) -> dict[str, Any]:
    """A run or an operation for JSON; ``at`` is by the log's clock."""
    if isinstance(activity, RunActivity):
        return row_of(activity, HISTORY_COLUMNS, duration_seconds=activity.seconds, outcome=str(activity.outcome))
    operation = activity.operation
    return row_of(
        activity,
        HISTORY_COLUMNS,
        outcome=str(activity.outcome),
        **{name: value for name, value in operation_data(operation).items() if name in HISTORY_COLUMNS},
    )


def operation_data(operation: Operation) -> dict[str, Any]:
    """An operation for JSON."""
    return {
        "operation": operation.operation_id,
        "kind": str(operation.kind),
        "at": iso(operation.at),
        "actor": operation.actor,
        "host": operation.host,
        "command": operation.command,
        "undoes": operation.undoes,
        "undone_by": operation.undone_by.operation if operation.undone_by is not None else None,
        "orders": len(operation.entries),
        "rolled_back": sum(entry.outcome is EntryOutcome.ROLLED_BACK for entry in operation.entries),
    }


def entry_data(entry: OperationEntry, customers: Mapping[int, str]) -> dict[str, Any]:
    """What an operation did to one order, for JSON."""
    shown = entry.rollback or entry.row
    return row_of(
        entry.row,
        ENTRY_COLUMNS,
        customer=customers.get(entry.order_id),
        outcome=str(entry.outcome),
        message=shown.message,
        undone_by=entry.undone_by.operation if entry.undone_by is not None else None,
    )


def history_text(past: Past, screen: Screen) -> str:
    """The runs and operations as lines, the newest last."""
    lines = []
    if past.left_out:
        lines.append(f"({past.left_out} earlier; --last 0 shows them)")
    for each in past.activity:
        lines += activity_lines(each, past.window.until, screen)
    if not past.activity:
        lines.append(f"nothing since {past.window.since:%Y-%m-%d %H:%M}, on the log's clock")
    return "\n".join(lines) + "\n"


def activity_lines(activity: Activity, today: datetime | None, screen: Screen) -> list[str]:
    """One run or operation, wrapped to the screen, with its date if that is not today."""
    mark = _MARKS.get(activity.outcome, " ")
    if isinstance(activity, RunActivity):
        what, text = str(activity.outcome), _run_text(activity)
    else:
        what, text = activity.operation.command or "unknown", _operation_text(activity.operation)
    prefix = row_prefix(activity.at, today, mark, shorten(what, 20), screen.width)
    text = coloured("\n".join(hanging(prefix, neutralise(text), screen.width)), activity_severity(activity), screen)
    return text.split("\n")


def activity_cells(activity: Activity, today: datetime | None) -> tuple[str, ...]:
    """Time, what, order, customer or operator, duration and details of a run or an operation; untrusted texts."""
    time = "-"
    if activity.at is not None:
        is_today = today is not None and activity.at.date() == today.date()
        time = f"{activity.at:%H:%M:%S}" if is_today else f"{activity.at:%m-%d %H:%M}"
    if isinstance(activity, RunActivity):
        took = describe_age(timedelta(seconds=activity.seconds)) if activity.seconds is not None else ""
        return (
            time, str(activity.outcome), str(activity.order_id), activity.customer or "-", took,
            activity.reason or _lateness(activity.late),
        )  # fmt: skip
    operation = activity.operation
    orders = [str(entry.order_id) for entry in operation.entries]
    who = f"{operation.actor or 'unknown'}@{operation.host or 'unknown'}"
    details = [
        operation.operation_id or "",
        f"{activity.rolled_back} rolled back" if activity.rolled_back else "",
        "undone" if operation.undone_by is not None else "",
    ]
    what, count = operation.command or "unknown", orders[0] if len(orders) == 1 else f"{len(orders)} orders"
    return time, what, count, who, "", "  ".join(filter(None, details))


def activity_details(activity: Activity) -> list[str]:
    """The reason of a run, or the orders of an operation: lines of untrusted text."""
    if isinstance(activity, RunActivity):
        return [activity.reason] if activity.reason else []
    return [
        f"{entry.order_id}  {_change(entry)}  {entry.outcome.replace('-', ' ')}: {(entry.rollback or entry.row).reason}"
        for entry in activity.operation.entries
    ]


def _change(entry: OperationEntry) -> str:
    before, after = entry.row.before, entry.row.after
    return f"{before or '-'} → {after}" if after is not None and after != before else before or "-"


def activity_severity(activity: Activity) -> Severity:
    """The severity of a run or an operation, for its colour."""
    return _SEVERITIES.get(activity.outcome, Severity.OK)


def _run_text(run: RunActivity) -> str:
    text = f"order {run.order_id}  {run.customer or '-'}"
    if run.seconds is not None:
        text += f"  in {describe_age(timedelta(seconds=run.seconds))}"
    if run.late is not None:
        text += f", {_lateness(run.late)}"
    return f"{text}: {shorten(run.reason, _MAX_REASON)}" if run.reason else text


def _lateness(late: timedelta | None) -> str:
    return f"{describe_age(late)} after its due date" if late is not None else ""


def _operation_text(operation: Operation) -> str:
    ids = [str(entry.order_id) for entry in operation.entries]
    count = f"{len(ids)} {'order' if len(ids) == 1 else 'orders'}"
    named = " ".join(ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
    text = f"{count}: {named}  by {operation.actor or 'unknown'}@{operation.host or 'unknown'}"
    failed = operation_data(operation)["rolled_back"]
    if failed:
        text += f"  {failed} rolled back"
    if operation.undoes:
        text += f"  undoes {operation.undoes}"
    if operation.undone_by is not None:
        text += f"  undone by {operation.undone_by.operation}"
    return f"{text}  {operation.operation_id}" if operation.operation_id else text


def operation_text(operation: Operation, customers: Mapping[int, str], screen: Screen) -> str:
    """An operation with its orders, before, after and outcome."""
    at = f"{operation.at:%Y-%m-%d %H:%M:%S}" if operation.at else "at an unknown time"
    headings = [f"{operation.operation_id}  {operation.command}  by {operation.actor}@{operation.host}  {at}"]
    columns = (
        Column(heading="order", number=True),
        Column(heading="customer", may_shrink=True, from_width=70),
        Column(heading="before"),
        Column(heading="after"),
        Column(heading="outcome"),
        Column(heading="what", may_shrink=True, most=_MAX_REASON),
    )
    lines = [
        Line(
            cells=(
                str(entry.order_id),
                customers.get(entry.order_id) or "-",
                entry.row.before or "-",
                entry.row.after or entry.row.before or "-",
                "undone" if entry.undone_by is not None else entry.outcome.replace("-", " "),
                entry.rollback.message if entry.rollback is not None else entry.row.reason,
            ),
            severity=Severity.FAULT if entry.rollback is not None else Severity.OK,
        )
        for entry in operation.entries
    ]
    if (undo := operation.undone_by) is not None:
        later = f", {describe_age(undo.at - operation.at)} later" if undo.at and operation.at else ""
        headings.append(f"undone by {undo.operation}  by {undo.actor}@{undo.host}{later}")
    shown = "".join(f"{neutralise(line)}\n" for line in headings)
    return f"{shown}{table(columns, lines, screen, indent=2)}"
