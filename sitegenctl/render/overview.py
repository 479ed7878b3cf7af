"""The overview, as JSON and on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.overview import Overview, describe_faults, describe_standstill, remedy_for
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.queue.worker import WorkerDetails
from sitegenctl.render.command import hint_text
from sitegenctl.render.queue import no_worker_text
from sitegenctl.render.table import Column, Line, Screen, coloured, table
from sitegenctl.render.text import hanging, neutralise, seconds

#: So many order numbers stand behind a condition; the rest is only counted.
_IDS_SHOWN = 8

_LIFE = tuple(OrderStatus)

#: Columns of the conditions and a few of their orders, which a screen must have besides the remedies.
_BESIDE_REMEDY = 28


def overview_data(seen: Overview, *, selector: str | None = None) -> dict[str, Any]:
    """The overview as the envelope has it; what a silent source would have told is null."""
    return {
        "taken_at": seen.snapshot.taken_at.isoformat(),
        "depth": {
            state: {"count": depth.count, "oldest_seconds": seconds(depth.oldest)}
            for state, depth in seen.depth.items()
        }
        if seen.depth is not None
        else None,
        "foreign": seen.foreign,
        "workers": [_worker(worker) for worker in seen.roster.workers] if seen.roster else None,
        "silent_workers": seen.roster.silent if seen.roster else None,
        "by_status": {str(status): count for status, count in seen.by_status.items()} if seen.by_status else None,
        "by_condition": {
            condition: {
                "count": _count(orders),
                "severity": condition.severity,
                "orders": list(orders) if not isinstance(orders, int) else None,
                "remedy": hint_text(remedy_for(condition, orders, seen.snapshot), selector),
            }
            for condition, orders in (seen.by_condition or {}).items()
        }
        if seen.by_condition is not None
        else None,
        "last_hour": _runs(seen.last_hour),
        "last_day": _runs(seen.last_day),
    }


OVERVIEW_COLUMNS = ("condition", "severity", "count")


def overview_rows(seen: Overview) -> list[dict[str, Any]]:
    """The overview's conditions as the rows of NDJSON and CSV."""
    return [
        {"condition": condition, "severity": condition.severity, "count": _count(orders)}
        for condition, orders in (seen.by_condition or {}).items()
    ]


def overview_text(seen: Overview, screen: Screen, *, queue: str, selector: str | None = None) -> str:
    """The overview for people; the first line says whether somebody is needed. ``queue`` is ours."""
    lines = [_verdict(seen, queue, screen), ""]
    lines += _labelled("queue", _queue(seen), screen)
    lines += _labelled("workers", _workers(seen, queue), screen)
    lines += _labelled("last hour", [_run_words(seen.last_hour)], screen)
    lines += _labelled("last day", [_run_words(seen.last_day)], screen)
    text = "\n".join(lines) + "\n"
    if seen.by_condition:
        text += f"\n{_condition_table(seen.by_condition, seen.snapshot, screen, selector)}"
    if seen.by_status:
        statuses = [f"{count} {status or 'NULL'}" for status, count in _by_life(seen).items()]
        text += "\n" + "\n".join(_labelled("status", _packed(statuses, screen.width - 11), screen)) + "\n"
    return text


def _verdict(seen: Overview, queue: str, screen: Screen) -> str:
    sources = ", ".join(f"the {source}" for source in seen.unanswered)
    if seen.by_condition is None:
        return coloured(f"can't tell: {sources} could not be read", Severity.UNKNOWN, screen)
    counts = {condition: _count(orders) for condition, orders in seen.by_condition.items()}
    faults = sum(count for condition, count in counts.items() if condition.severity is Severity.FAULT)
    unknown = counts.get(Condition.UNKNOWN, 0)
    standstill = describe_standstill(seen.snapshot, seen.roster, queue=queue)
    needs = [neutralise(standstill)] if standstill else []
    if faults:
        needs.append(describe_faults(faults))
    if needs:
        return "\n".join(coloured(need, Severity.FAULT, screen) for need in needs)
    if unknown:
        return coloured(f"{unknown} {'order' if unknown == 1 else 'orders'} unknown", Severity.UNKNOWN, screen)
    if seen.unanswered:
        return coloured(f"nothing wrong is seen, but {sources} did not respond fully", Severity.UNKNOWN, screen)
    return "all well"


def _queue(seen: Overview) -> list[str]:
    if seen.depth is None:
        return ["unknown"]
    if not seen.depth and not seen.foreign:
        return ["empty"]
    parts = []
    for state, depth in seen.depth.items():
        oldest = f" (oldest {describe_age(depth.oldest)})" if depth.oldest is not None else ""
        parts.append(f"{depth.count} {state}{oldest}")
    if seen.foreign:
        parts.append(f"{seen.foreign} not ours")
    return parts


def _workers(seen: Overview, queue: str) -> list[str]:
    if seen.roster is None:
        return ["unknown"]
    lines = []
    for worker in seen.roster.workers:
        stale = {claim.task_id for claim in seen.snapshot.stale if claim.worker == worker.name}
        active = [task for task in worker.active if task.task_id not in stale]
        busy = " ".join(str(task.order_id or neutralise(task.name)) for task in active)
        of = f" of {worker.concurrency}" if worker.concurrency else ""
        lost = "" if queue in worker.queues else f"  ! it does not consume {queue}"
        lines.append(f"{neutralise(worker.name)}  {len(active)}{of} busy{f': {busy}' if busy else ''}{lost}")
    if seen.roster.silent:
        lines.append(f"{seen.roster.silent} alive and silent")
    return lines or [no_worker_text(seen.roster)]


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
            Line(
                cells=[str(_count(orders)), condition.value, shown, remedies[condition]],
                severity=condition.severity,
            )
        )
    columns = [
        Column(heading="n", number=True),
        Column(heading="condition"),
        Column(heading="orders", may_shrink=True),
        # Whole or not at all: a command that was cut is another command.
        Column(heading="remedy", from_width=_BESIDE_REMEDY + max(map(len, remedies.values()), default=0)),
    ]
    return table(columns, lines, screen)


def _run_words(runs: RunCounts | None) -> str:
    if runs is None:
        return "unknown"
    rate = "" if runs.success_rate is None else f" ({runs.success_rate:.0%} success)"
    return f"{runs.succeeded} generated, {runs.failed} failed{rate}"


def _labelled(label: str, values: Sequence[str], screen: Screen) -> list[str]:
    prefixes = [f"{label:<9}  ", *[" " * 11] * len(values)]
    return [
        line
        for prefix, value in zip(prefixes, values, strict=False)
        for line in hanging(prefix, neutralise(value), screen.width)
    ]


def _packed(words: Sequence[str], width: int) -> list[str]:
    """The words, as many on a line as fit."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" · {word}"
        else:
            lines.append(word)
    return lines


def _by_life(seen: Overview) -> dict[str | None, int]:
    counts = seen.by_status or {}
    unknown = sorted(label for label in counts if label is not None and label not in _LIFE)
    return {status: counts[status] for status in (*_LIFE, *unknown, None) if status in counts}


def _worker(worker: WorkerDetails) -> dict[str, Any]:
    return {
        "name": worker.name,
        "concurrency": worker.concurrency,
        "queues": list(worker.queues),
        "active": [{"task_id": task.task_id, "order_id": task.order_id} for task in worker.active],
    }


def _runs(runs: RunCounts | None) -> dict[str, Any] | None:
    if runs is None:
        return None
    return {
        "succeeded": runs.succeeded,
        "failed": runs.failed,
        "skipped": runs.skipped,
        "success_rate": runs.success_rate,
    }


def _count(orders: Sequence[int] | int) -> int:
    return orders if isinstance(orders, int) else len(orders)
