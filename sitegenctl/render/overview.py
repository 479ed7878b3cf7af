"""The overview as JSON, as rows and as text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.overview import Overview, describe_faults, describe_standstill, remedy_for
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.promise import PromiseCounts
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.queue.worker import before_names, describe_shared
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import row_of
from sitegenctl.render.queue import forecast_data, no_worker_text
from sitegenctl.render.statistics import count_words, counts_data
from sitegenctl.render.table import MAX_NAME, Column, Line, Screen, coloured, table
from sitegenctl.render.text import hanging, neutralise, seconds, shorten

#: Maximum number of order numbers listed for a condition.
_IDS_SHOWN = 8

_LIFE = tuple(OrderStatus)

#: Minimum width of the table of conditions without the remedies.
_BESIDE_REMEDY = 28


def overview_data(overview: Overview, *, selector: str | None = None) -> dict[str, Any]:
    """The overview for the envelope; parts whose source did not respond are null."""
    return {
        "taken_at": overview.snapshot.taken_at.isoformat(),
        "depth": {
            state: {"count": depth.count, "oldest_seconds": seconds(depth.oldest)}
            for state, depth in overview.depth.items()
        }
        if overview.depth is not None
        else None,
        "foreign": overview.foreign,
        "forecast": forecast_data(overview.snapshot.forecast),
        "workers": [
            row_of(
                worker,
                ("name", "concurrency", "queues", "active"),
                active=[row_of(task, ("task_id", "order_id")) for task in worker.active],
            )
            for worker in overview.roster.workers
        ]
        if overview.roster
        else None,
        "silent_workers": overview.roster.silent if overview.roster else None,
        "by_status": {str(status): count for status, count in overview.by_status.items()}
        if overview.by_status
        else None,
        "by_condition": {
            condition: {
                "count": _count(orders),
                "severity": condition.severity,
                "orders": list(orders) if not isinstance(orders, int) else None,
                "remedy": hint_text(remedy_for(condition, orders, overview.snapshot), selector),
            }
            for condition, orders in overview.by_condition.items()
        }
        if overview.by_condition is not None
        else None,
        "promises": row_of(overview.promises, ("late", "will_be_late", "due_soon"))
        if overview.promises is not None
        else None,
        "last_hour": counts_data(overview.last_hour) if overview.last_hour else None,
        "last_day": counts_data(overview.last_day) if overview.last_day else None,
    }


OVERVIEW_COLUMNS = ("condition", "severity", "count")


def overview_rows(overview: Overview) -> list[dict[str, Any]]:
    """A row for each condition."""
    return [
        {"condition": condition, "severity": condition.severity, "count": _count(orders)}
        for condition, orders in (overview.by_condition or {}).items()
    ]


def overview_text(overview: Overview, screen: Screen, *, queue: str, selector: str | None = None) -> str:
    """The overview as text; the first line says what needs attention. ``queue`` is the name of our queue."""
    lines = [_summary(overview, queue, screen), ""]
    lines += _labelled("queue", _queue(overview), screen)
    lines += _labelled("workers", _workers(overview, queue), screen)
    if promises := describe_promises(overview.promises):
        lines += _labelled("promises", [promises], screen)
    lines += _labelled("last hour", [_run_words(overview.last_hour)], screen)
    lines += _labelled("last day", [_run_words(overview.last_day)], screen)
    text = "\n".join(lines) + "\n"
    if overview.by_condition:
        text += f"\n{_condition_table(overview.by_condition, overview.snapshot, screen, selector)}"
    if overview.by_status:
        statuses = [f"{count} {status or 'NULL'}" for status, count in _by_life(overview).items()]
        text += "\n" + "\n".join(_labelled("status", _packed(statuses, screen.width - 11), screen)) + "\n"
    return text


def _summary(overview: Overview, queue: str, screen: Screen) -> str:
    *others, last = [f"the {source}" for source in overview.unanswered] or [""]
    sources = f"{', '.join(others)} and {last}" if others else last
    if overview.by_condition is None:
        return coloured(f"conditions unknown: {sources} could not be read", Severity.UNKNOWN, screen)
    counts = {condition: _count(orders) for condition, orders in overview.by_condition.items()}
    faults = sum(count for condition, count in counts.items() if condition.severity is Severity.FAULT)
    unknown = counts.get(Condition.UNKNOWN, 0)
    standstill = describe_standstill(overview.snapshot, overview.roster, queue=queue)
    needs = [neutralise(standstill)] if standstill else []
    if faults:
        needs.append(describe_faults(faults))
    if needs:
        return "\n".join(coloured(need, Severity.FAULT, screen) for need in needs)
    if unknown:
        return coloured(f"{unknown} {'order' if unknown == 1 else 'orders'} unknown", Severity.UNKNOWN, screen)
    if overview.unanswered:
        return coloured(f"no faults found, but {sources} did not respond fully", Severity.UNKNOWN, screen)
    return "all well"


def _queue(overview: Overview) -> list[str]:
    if overview.depth is None:
        return ["unknown"]
    if not overview.depth and not overview.foreign:
        return ["empty"]
    parts = []
    for state, depth in overview.depth.items():
        oldest = f" (oldest {describe_age(depth.oldest)})" if depth.oldest is not None else ""
        parts.append(f"{depth.count} {state}{oldest}")
    if overview.foreign:
        parts.append(f"{overview.foreign} not ours")
    forecast = overview.snapshot.forecast
    return [*parts, forecast.summary] if forecast is not None and forecast.summary else parts


def describe_promises(promises: PromiseCounts | None) -> str:
    """How many orders are late, will be late, or are due soon; empty if none."""
    if promises is None:
        return ""
    counts = {"late": promises.late, "will be late": promises.will_be_late, "due soon": promises.due_soon}
    return " · ".join(f"{count} {name}" for name, count in counts.items() if count)


def _workers(overview: Overview, queue: str) -> list[str]:
    if overview.roster is None:
        return ["unknown"]
    lines = []
    for worker in overview.roster.workers:
        stale = {claim.task_id for claim in overview.snapshot.stale if claim.worker == worker.name}
        active = [task for task in worker.active if task.task_id not in stale]
        busy = " ".join(str(task.order_id or shorten(task.name, MAX_NAME)) for task in active)
        of = f" of {worker.concurrency}" if worker.concurrency else ""
        lost = "" if queue in worker.queues else f"  ! it does not consume {queue}"
        lines.append(f"{shorten(worker.name, MAX_NAME)}  {len(active)}{of} busy{f': {busy}' if busy else ''}{lost}")
    if overview.roster.silent:
        silent, names = overview.roster.silent, overview.roster.silent_names
        named = before_names(names, silent) + ", ".join(map(neutralise, names))
        lines.append(f"{silent} alive, no response{named}")
    lines += [f"! {describe_shared(neutralise(name))}" for name in overview.roster.shared_names]
    return lines or [no_worker_text(overview.roster)]


def _condition_table(
    by_condition: Mapping[Condition, Sequence[int] | int], snapshot: Snapshot, screen: Screen, selector: str | None
) -> str:
    lines = []
    remedies = {
        condition: hint_text(remedy_for(condition, orders, snapshot), selector) or ""
        for condition, orders in by_condition.items()
    }
    for condition, orders in by_condition.items():
        ids = [] if isinstance(orders, int) else list(orders)
        more = "…" if len(ids) > _IDS_SHOWN else ""
        shown = " ".join(map(str, ids[:_IDS_SHOWN])) + more if condition.severity is not Severity.OK else ""
        lines.append(
            Line(cells=[str(_count(orders)), condition.value, shown, remedies[condition]], severity=condition.severity)
        )
    longest = max(map(len, remedies.values()), default=0)
    columns = [
        Column(heading="n", number=True),
        Column(heading="condition"),
        Column(heading="orders", may_shrink=True, most=sys.maxsize),
        # Shown only in full: a command that is cut off is another command.
        Column(heading="remedy", from_width=_BESIDE_REMEDY + longest, most=sys.maxsize),
    ]
    return table(columns, lines, screen)


def _run_words(runs: RunCounts | None) -> str:
    if runs is None:
        return "unknown"
    rate = "" if runs.success_rate is None else f" ({runs.success_rate:.0%} success)"
    return f"{count_words(runs)}{rate}"


def _labelled(label: str, values: Sequence[str], screen: Screen) -> list[str]:
    prefixes = [f"{label:<9}  ", *[" " * 11] * len(values)]
    return [
        line
        for prefix, value in zip(prefixes, values, strict=False)
        for line in hanging(prefix, neutralise(value), screen.width)
    ]


def _packed(words: Sequence[str], width: int) -> list[str]:
    """The words in lines, as many as fit."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return lines


def _by_life(overview: Overview) -> dict[str | None, int]:
    counts = overview.by_status or {}
    unknown = sorted(label for label in counts if label is not None and label not in _LIFE)
    return {status: counts[status] for status in (*_LIFE, *unknown, None) if status in counts}


def _count(orders: Sequence[int] | int) -> int:
    return orders if isinstance(orders, int) else len(orders)
