"""Orders as JSON and as text: one, and a page of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age, describe_due, describe_files
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderPage
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import COUNTED_ROWS, EntryKind, TimelineEntry
from sitegenctl.domain.orders.order import LogRow, Order
from sitegenctl.domain.orders.promise import Promise
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import LiveTask
from sitegenctl.render.command import hint_text, remedy_data
from sitegenctl.render.log import MARKS, log_severity, row_prefix
from sitegenctl.render.output import row_of
from sitegenctl.render.queue import task_forecast_data
from sitegenctl.render.table import MAX_REASON, Column, Line, Screen, coloured, table
from sitegenctl.render.text import clock, fit, folded, hanging, neutralise, shorten

#: Lines of a screen besides the order and its timeline: two for its heading, the command and the prompt.
_OTHER_LINES = 4

#: Minimum number of entries shown.
_MIN_ENTRIES = 3


SUMMARY_COLUMNS = (
    "order_id",
    "status",
    "condition",
    "severity",
    "evidence",
    "remedy",
    "remedy_parts",
    "until",
    "tasks",
    "files",
    "customer_name",
    "customer_email",
    "business_name",
    "onboarding",
    "attempts",
    "site_url",
    "admin_notes",
    "created_at",
    "updated_at",
    "onboarding_completed_at",
    "due_at",
    "due_in_seconds",
    "promise",
)

_TASK_KEYS = (
    *("task_id", "state", "worker", "attempt", "enqueued_at", "delivered_at", "until", "eta"),
    *("starts_in_seconds", "ends_in_seconds"),
)


def order_summary(listed: ListedOrder, snapshot: Snapshot, *, selector: str | None = None) -> dict[str, Any]:
    """The order for the envelope. Texts are exact, not neutralised.

    ``tasks`` is null where the broker did not respond, ``files`` where not all were counted.
    """
    order, verdict = listed.order, listed.verdict
    tasks = None if Source.BROKER in snapshot.errors else snapshot.tasks_of(listed.order_id)
    files = snapshot.files.get(listed.order_id)
    return row_of(
        order,
        SUMMARY_COLUMNS,
        order_id=listed.order_id,
        status=order.label if order else None,
        condition=verdict.condition,
        severity=verdict.severity,
        evidence=list(verdict.evidence),
        remedy=hint_text(verdict.remedy, selector),
        remedy_parts=remedy_data(verdict.remedy),
        until=verdict.until,
        promise=snapshot.promise_of(order),
        tasks=None
        if tasks is None
        else [row_of(task, _TASK_KEYS, **task_forecast_data(task, snapshot)) for task in tasks],
        files={"count": files.count, "bytes": files.size} if files and files.complete else None,
        attempts=order.history.attempts if order else None,
    )


def order_data(
    order_id: int,
    snapshot: Snapshot,
    log: Sequence[LogRow] = (),
    timeline: Sequence[TimelineEntry] = (),
    *,
    rows_left_out: int = 0,
    selector: str | None = None,
) -> dict[str, Any]:
    """Everything about one order for the envelope."""
    listed = ListedOrder(order_id=order_id, order=snapshot.orders.get(order_id), verdict=snapshot.diagnose(order_id))
    rows = [row_of(row, ("at", "step", "status", "message"), at=row.created_at) for row in log]
    story = [row_of(entry, ("at", "kind", "step", "status", "message")) for entry in timeline]
    summary = order_summary(listed, snapshot, selector=selector)
    return {**summary, "log": rows, "timeline": story, "rows_left_out": rows_left_out}


def order_text(
    order_id: int,
    snapshot: Snapshot,
    timeline: Sequence[TimelineEntry],
    *,
    rows_left_out: int = 0,
    screen: Screen,
    selector: str | None = None,
    whole: bool = False,
) -> str:
    """The order as text that fits on one screen; the first line has its condition.

    A timeline that does not fit loses its oldest entries, except the newest one of an operator, unless the ``whole`` of
    it is requested. ``rows_left_out`` are the rows of the log that are not in it.
    """
    order = snapshot.orders.get(order_id)
    verdict = snapshot.diagnose(order_id)
    width = screen.width
    first = folded(f"order {order_id}  {verdict.condition.upper()}{_customer(order)}", width)
    lines = [coloured(line, verdict.severity, screen) for line in first]
    lines += [line for reason in verdict.evidence for line in folded(f"  {neutralise(reason)}", width)]
    if verdict.remedy:
        # Not wrapped, so that it can be copied as one command.
        lines.append(f"  → {hint_text(verdict.remedy, selector)}")
    lines.append("")
    facts = {**(order_facts(order, snapshot.promise_of(order)) if order else {}), **_live_facts(order_id, snapshot)}
    lines += [line for name, fact in facts.items() for line in hanging(f"  {name:<11} ", fact, width)]
    for task in snapshot.tasks_of(order_id):
        lines += folded(f"    {_task(task)}", width)
        forecast = snapshot.forecast.describe(task) if snapshot.forecast is not None else None
        lines += [f"    {forecast}"] if forecast is not None else []
    if timeline:
        room = max(screen.height - len(lines) - _OTHER_LINES, _MIN_ENTRIES) if not whole else sys.maxsize
        shown = _timeline_lines(timeline, snapshot.now, screen, room)
        cut = _left_out(shown, room)
        is_journal = [entry.kind is EntryKind.JOURNAL for entry in timeline]
        operator = [] if any(is_journal[cut:]) else [place for place in range(cut) if is_journal[place]][-1:]
        left_out = rows_left_out + cut - len(operator)
        rows = rows_left_out + sum(entry.kind is not EntryKind.TASK for entry in timeline)
        more = f"; {left_out}{' or more' if rows >= COUNTED_ROWS else ''} earlier, --last {rows} shows them"
        lines += ["", "timeline, UTC" + (more if left_out else "")]
        lines += [line for entry in [*(shown[place] for place in operator), *shown[cut:]] for line in entry]
    return "\n".join(lines) + "\n"


def _left_out(shown: Sequence[Sequence[str]], room: int) -> int:
    """The number of oldest entries to leave out, so that the rest fits into ``room`` lines."""
    used = 0
    for kept, lines in enumerate(reversed(shown)):
        used += len(lines)
        if used > room and kept >= _MIN_ENTRIES:
            return len(shown) - kept
    return 0


def _timeline_lines(timeline: Sequence[TimelineEntry], now: datetime, screen: Screen, room: int) -> list[list[str]]:
    """The lines of each entry. If they do not fit into ``room``, only errors take more than one."""
    parts = []
    for entry in timeline:
        mark = MARKS.get(entry.status.lower(), "·" if entry.kind is EntryKind.TASK else " ")
        prefix = row_prefix(entry.at, now, mark, entry.step, screen.width)
        parts.append((f"  {prefix}", neutralise(entry.message)))
    rows = [hanging(prefix, message, screen.width) for prefix, message in parts]
    if sum(map(len, rows)) > room:
        rows = [
            lines if log_severity(entry.status) is not Severity.OK else [fit("".join(words).rstrip(), screen.width)]
            for entry, words, lines in zip(timeline, parts, rows, strict=True)
        ]
    return [
        [coloured(line, log_severity(entry.status), screen) for line in lines]
        for entry, lines in zip(timeline, rows, strict=True)
    ]


def _customer(order: Order | None) -> str:
    if order is None:
        return ""
    name = order.business_name or order.customer_name
    return f"  {neutralise(order.label or 'NULL')}  {shorten(name, 50)}"


def order_facts(order: Order, promise: Promise | None) -> dict[str, str]:
    """Facts about the order by name, neutralised."""
    facts = {
        "customer": f"{shorten(order.customer_name, 60)} <{shorten(order.customer_email, 60)}>",
        "status": f"{neutralise(order.label or 'NULL')}, changed {describe_age(order.idle)} ago",
        "onboarding": f"{order.onboarding}, completed {clock(order.onboarding_completed_at)}",
        "attempts": f"{order.history.attempts}",
    }
    if order.due_at is not None:
        facts["due"] = f"{clock(order.due_at)} UTC, {describe_due(order.due_in, promise)}"
    if order.site_url:
        facts["site"] = shorten(order.site_url, 100)
    if order.admin_notes:
        facts["notes"] = shorten(order.admin_notes.strip(), 300)
    return facts


def _live_facts(order_id: int, snapshot: Snapshot) -> dict[str, str]:
    count = len(snapshot.tasks_of(order_id))
    known = Source.BROKER not in snapshot.errors
    return {
        "files": _files(snapshot.files.get(order_id)),
        "tasks": str(count or "none") if known else "unknown: the broker could not be read",
    }


def _files(files: SiteFiles | None) -> str:
    return f"{describe_files(files)}, {files.size} bytes" if files else "unknown"


def _task(task: LiveTask) -> str:
    parts = [neutralise(task.task_id), str(task.state)]
    if task.worker:
        parts.append(f"at {neutralise(task.worker)}")
    if task.position is not None:
        parts.append(f"place {task.position + 1}")
    parts.append(f"attempt {task.attempt}")
    if task.enqueued_at:
        parts.append(f"enqueued {clock(task.enqueued_at)} UTC")
    if task.eta:
        parts.append(f"ETA {clock(task.eta)} UTC")
    return "  ".join(parts)


def listing_text(page: OrderPage, snapshot: Snapshot, *, offset: int, screen: Screen) -> str:
    """The orders as a table, with the range of the page below it."""
    if not page.orders and page.undecided:
        return f"unknown: {_undecided(page.undecided)}\n"
    if not page.orders:
        return "no such orders\n"
    has_due_dates = any(listed.order is not None and listed.order.due_at is not None for listed in page.orders)
    columns = [
        Column(heading="order", number=True),
        Column(heading="condition"),
        Column(heading="status", from_width=60),
        Column(heading="changed"),
        *([Column(heading="due", from_width=80)] if has_due_dates else []),
        Column(heading="business", may_shrink=True),
        Column(heading="why", may_shrink=True, from_width=70, most=MAX_REASON),
    ]
    text = table(columns, [_line(listed, snapshot, has_due_dates=has_due_dates) for listed in page.orders], screen)
    if page.total is None or page.total > len(page.orders) or offset:
        of = f" of {page.total}" if page.total is not None else ""
        text += f"\n{offset + 1} to {offset + len(page.orders)}{of}; --page shows more\n"
    return text + (f"\nand perhaps more: {_undecided(page.undecided)}\n" if page.undecided else "")


def _undecided(number: int) -> str:
    return f"{number} {'order is' if number == 1 else 'orders are'} in a condition that cannot be decided now"


def _line(listed: ListedOrder, snapshot: Snapshot, *, has_due_dates: bool) -> Line:
    order, verdict = listed.order, listed.verdict
    due_in = order.due_in if order is not None else None
    due = [describe_due(due_in, snapshot.promise_of(order)) or "-"] if has_due_dates else []
    facts = ["-", "-", *due, "-"]
    if order is not None:
        changed = describe_age(order.idle) if order.idle is not None else "-"
        facts = [order.label or "NULL", changed, *due, order.business_name or order.customer_name]
    return Line(
        cells=[str(listed.order_id), verdict.condition.value, *facts, verdict.evidence[0]], severity=verdict.severity
    )
