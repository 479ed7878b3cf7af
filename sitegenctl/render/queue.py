"""The queue, the workers and one task, as rows and as text; the reports of a pause and a purge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age, describe_time
from sitegenctl.domain.diagnosis.forecast import Forecast, Range
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import QueueItem, Snapshot
from sitegenctl.domain.health.system import BackendTexts
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskState
from sitegenctl.domain.queue.worker import (
    WorkerDetails,
    WorkerRoster,
    before_names,
    describe_no_worker,
    describe_shared,
)
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import Report, error_data, row_of
from sitegenctl.render.table import MAX_NAME, Column, Line, Screen, table
from sitegenctl.render.text import clock, folded, hanging, neutralise, shorten

_SEVERITIES = {
    TaskState.ORPHANED: Severity.FAULT,
    TaskState.UNACKED: Severity.UNKNOWN,
    TaskState.UNACCOUNTED: Severity.UNKNOWN,
}

QUEUE_COLUMNS = (
    "task_id",
    "name",
    "state",
    "order_id",
    "customer_name",
    "position",
    "worker",
    "attempt",
    "enqueued_at",
    "eta",
    "starts_in_seconds",
    "ends_in_seconds",
    "foreign",
)

_HELD = ("active", "reserved", "scheduled")
_HELD_KEYS = ("task_id", "name", "order_id", "started_at", "eta")

WORKER_COLUMNS = (
    "name",
    "pid",
    "pool",
    "concurrency",
    "prefetch_count",
    "queues",
    "registered",
    "processed",
    "uptime_seconds",
    "version",
    "soft_limit_seconds",
    "hard_limit_seconds",
    *_HELD,
    "stale",
)


def queue_rows(items: Sequence[QueueItem], snapshot: Snapshot) -> list[dict[str, Any]]:
    """The tasks for the envelope; a foreign message has no order, and the reason."""
    return [_queue_row(item, snapshot) for item in items]


def _queue_row(item: QueueItem, snapshot: Snapshot) -> dict[str, Any]:
    ours = item if isinstance(item, LiveTask) else None
    order = snapshot.orders.get(ours.order_id) if ours and ours.order_id is not None else None
    return row_of(
        item,
        QUEUE_COLUMNS,
        **task_forecast_data(ours, snapshot),
        customer_name=order.customer_name if order else None,
        foreign=None if isinstance(item, LiveTask) else item.reason,
    )


def forecast_data(forecast: Forecast | None) -> dict[str, Any] | None:
    """When the queue is empty, or why that is unknown, for the envelope."""
    if forecast is None:
        return None
    obstacle = forecast.obstacle.name.lower() if forecast.obstacle is not None else None
    return {"empty_in_seconds": _range_data(forecast.empty), "obstacle": obstacle}


def task_forecast_data(task: LiveTask | None, snapshot: Snapshot) -> dict[str, Any]:
    """When the task starts and ends; null where that is unknown, and the start of a running one."""
    known = snapshot.forecast.of(task) if snapshot.forecast is not None and task is not None else None
    return {
        "starts_in_seconds": _range_data(known.start if known else None),
        "ends_in_seconds": _range_data(known.end if known else None),
    }


def _range_data(span: Range | None) -> dict[str, float] | None:
    if span is None:
        return None
    times = {"p10": span.low, "p50": span.middle, "p90": span.high}
    return {name: round(time.total_seconds(), 1) for name, time in times.items()}


def queue_text(items: Sequence[QueueItem], snapshot: Snapshot, *, total: int, screen: Screen) -> str:
    """The tasks as a table, in the order in which they will run."""
    if not items:
        return "the queue is empty\n"
    columns = [
        Column(heading="", number=True),
        Column(heading="state"),
        Column(heading="order", number=True),
        Column(heading="customer", may_shrink=True),
        Column(heading="age"),
        Column(heading="try", number=True, from_width=60),
        Column(heading="starts in", from_width=80),
        Column(heading="when or where", may_shrink=True, from_width=70, most=2 * MAX_NAME),
        Column(heading="task", may_shrink=True, from_width=100),
    ]
    lines = [_queue_line(place, item, snapshot) for place, item in enumerate(items, 1)]
    more = f"\n{total - len(items)} more; --limit shows them\n" if total > len(items) else ""
    summary = snapshot.forecast.summary if snapshot.forecast is not None else None
    return table(columns, lines, screen) + more + (f"\n{summary}\n" if summary else "")


def _queue_line(place: int, item: QueueItem, snapshot: Snapshot) -> Line:
    if not isinstance(item, LiveTask):
        return Line(
            cells=[str(place), item.state, "-", item.reason, "-", "-", "-", item.name, item.task_id or "-"],
            severity=Severity.UNKNOWN if item.may_be_ours else Severity.OK,
        )
    order = snapshot.orders.get(item.order_id) if item.order_id is not None else None
    age = snapshot.age_of(item)
    return Line(
        cells=[
            str(place),
            item.state,
            str(item.order_id or "-"),
            order.customer_name if order else _no_customer(item, snapshot),
            describe_age(age) if age is not None else "-",
            str(item.attempt),
            starts_in(item, snapshot),
            _when(item, snapshot.now),
            item.task_id,
        ],
        severity=_SEVERITIES.get(item.state, Severity.OK),
    )


def starts_in(task: LiveTask, snapshot: Snapshot) -> str:
    """When a waiting task starts, as in ``3–6m``; "-" where that is unknown."""
    known = snapshot.forecast.of(task) if snapshot.forecast is not None else None
    return str(known.start) if known is not None and known.start is not None else "-"


def _no_customer(task: LiveTask, snapshot: Snapshot) -> str:
    if task.order_id is None:
        return "names no order"
    return "unknown" if Source.DATABASE in snapshot.errors else "no such order"


def _when(task: LiveTask, now: datetime) -> str:
    if task.eta is not None and task.eta > now:
        return f"in {describe_age(task.eta - now)}"
    if task.is_unaccounted and task.until is not None:
        return f"undecided until {describe_time(task.until, now)}"
    return task.worker or (f"in {task.part_of}" if task.part_of else "")


def worker_rows(roster: WorkerRoster, stale: Sequence[StaleClaim] = ()) -> list[dict[str, Any]]:
    """The workers for the envelope; ``stale`` are claims of tasks that have ended."""
    return [
        row_of(
            worker,
            WORKER_COLUMNS,
            **{name: [row_of(task, _HELD_KEYS) for task in getattr(worker, name)] for name in _HELD},
            stale=[row_of(claim, ("task_id", "order_id", "reason")) for claim in stale if claim.worker == worker.name],
        )
        for worker in roster.workers
    ]


def workers_text(
    roster: WorkerRoster, *, now: datetime, queue: str, screen: Screen, stale: Sequence[StaleClaim] = ()
) -> str:
    """The workers and their tasks; the first line says how many responded."""
    count = len(roster.workers)
    first = f"{count} {'worker responds' if count == 1 else 'workers respond'}"
    if roster.silent:
        first += f", {roster.silent} {'does' if roster.silent == 1 else 'do'} not"
    if not count and not roster.silent:
        first = no_worker_text(roster)
    first += before_names(roster.silent_names, roster.silent) + ", ".join(roster.silent_names)
    lines = [first, *(f"! {describe_shared(name)}" for name in roster.shared_names)]
    for worker in roster.workers:
        ended = {claim.task_id: claim.reason for claim in stale if claim.worker == worker.name}
        lines += ["", *_worker_lines(worker, now, queue, ended)]
    return "\n".join(shorten(line, screen.width) for line in lines) + "\n"


def no_worker_text(roster: WorkerRoster) -> str:
    """Describe that no worker responded, and whether one may be running all the same."""
    reason = describe_no_worker(roster)
    if roster.may_run:
        return f"{reason}, but a task may be running"
    if roster.consumers == 0:
        return f"{reason}: nothing will be generated"
    if roster.consumers is None:
        return f"{reason}, and the clients of Redis could not be listed"
    clients = "client waits" if roster.consumers == 1 else "clients wait"
    return f"{reason}, but {roster.consumers} {clients} for messages"


def _worker_lines(worker: WorkerDetails, now: datetime, queue: str, ended: Mapping[str, str]) -> list[str]:
    active = [task for task in worker.active if task.task_id not in ended]
    facts = [f"{len(active)} of {worker.concurrency or '?'} busy"]
    if worker.processed is not None:
        facts.append(f"{worker.processed} done")
    if worker.uptime is not None:
        facts.append(f"up {describe_age(worker.uptime)}")
    if worker.version:
        facts.append(f"{worker.software} {worker.version}")
    lines = [f"{shorten(worker.name, MAX_NAME)}  {', '.join(facts)}"]
    wrong = "" if queue in worker.queues else f"  ! it does not consume {queue}"
    lines.append(f"  queues    {', '.join(worker.queues) or 'none'}{wrong}")
    for label, tasks in (("running", active), ("reserved", worker.reserved), ("held", worker.scheduled)):
        for index, task in enumerate(tasks):
            lines.append(f"  {label if index == 0 else '':<9} {_held_words(task, now)}")
    for index, (task_id, reason) in enumerate(ended.items()):
        lines.append(
            f"  {'stale' if index == 0 else '':<9} task {task_id}: {reason}; a restart of the worker clears it"
        )
    return lines


def _held_words(task: LiveTask, now: datetime) -> str:
    what = f"order {task.order_id}" if task.order_id is not None else shorten(task.name, MAX_NAME)
    # Clocks of workers differ a little from the broker's.
    since = f"  for {describe_age(max(now - task.started_at, timedelta()))}" if task.started_at else ""
    due = f"  in {describe_age(max(task.eta - now, timedelta()))}" if task.eta else ""
    return f"{what}{since}{due}  task {shorten(task.task_id, MAX_NAME)}"


def task_data(task: TaskDetails) -> dict[str, Any]:
    """The task for the envelope."""
    data = row_of(task, asdict(task))
    if task.result is not None:
        data["result"] = row_of(task.result, asdict(task.result))
    return data


def task_text(task: TaskDetails, order: Order | None, screen: Screen) -> str:
    """The task as text; the first line has its state."""
    facts: dict[str, Any] = {
        "order": f"{task.order_id}  {order.label or 'NULL'}  {order.customer_name}" if order else task.order_id,
        "name": task.name,
        "place": task.place if task.position is None else f"{task.place}, place {task.position + 1}",
        "worker": task.worker,
        "attempt": task.attempt,
        "enqueued": _utc(task.enqueued_at),
        "by": task.actor,
        "delivered": _utc(task.delivered_at),
        "ETA": _utc(task.eta),
        "undecodable": task.undecodable,
    }
    state = str(task.state or (task.result.status if task.result else task.place))
    lines = folded(f"task {neutralise(task.task_id)}  {neutralise(state).upper()}", screen.width)
    for name, value in facts.items():
        if value is not None:
            lines += hanging(f"  {name:<11} ", neutralise(str(value)), screen.width)
    lines += [part for line in _details(task) for part in folded(neutralise(line), screen.width)]
    return "\n".join(lines) + "\n"


def _details(task: TaskDetails) -> Iterator[str]:
    """The task's result and its message."""
    if task.result is not None:
        done = f", {clock(task.result.date_done)} UTC" if task.result.date_done else ""
        yield f"  result      {task.result.status}{done}"
        yield f"    {task.result.value or '-'}"
        if task.result.traceback:
            yield "  traceback"
            yield from (f"    {line}" for line in task.result.traceback.rstrip().splitlines())
    if task.headers:
        yield "  message"
        yield from (f"    {key}: {json.dumps(value)}" for key, value in task.headers.items())


def _utc(time: datetime | None) -> str | None:
    return f"{clock(time)} UTC" if time else None


def consumers_report(
    consumers: Consumers,
    *,
    command: str,
    queue: str,
    texts: BackendTexts,
    pausing: bool,
    dry_run: bool = False,
    selector: str | None = None,
) -> Report:
    """Report a pause or resume: exit code 1 where a worker rejected it, 3 where one did not respond."""
    rows = [{"worker": name, "outcome": "done", "reason": None} for name in consumers.acknowledged]
    rows += [{"worker": name, "outcome": "failed", "reason": reason} for name, reason in consumers.rejected.items()]
    errors = [error_data(f"{name}: {reason}", source="workers") for name, reason in consumers.rejected.items()]
    if silent := consumers.unresponsive:
        message = f"{silent} living worker{'' if silent == 1 else 's'} did not respond"
        remedy = Remedy.run(Command.INSPECT_WORKERS, advice="it may still do so; to check")
        errors.append(error_data(message, hint_text(remedy, selector), "workers"))
    total = len(rows) + consumers.unresponsive
    lines = [
        f"{'would be ' if dry_run else ''}{'paused' if pausing else 'resumed'}: "
        f"{len(consumers.acknowledged)} of {total} workers on {queue}"
    ]
    lines += [f"  {neutralise(name)}" for name in consumers.acknowledged]
    lines.append(f"note: {texts.paused if pausing else texts.resumed}")
    text = "\n".join(lines if total else [texts.unattended]) + "\n"
    return Report(
        command=command,
        data={"dry_run": dry_run, "queue": queue, "workers": rows, "silent": consumers.unresponsive},
        rows=rows,
        columns=("worker", "outcome", "reason"),
        text=lambda: text,
        exit_code=1 if consumers.rejected else 3 if consumers.unresponsive else 0,
        errors=errors,
    )


def survivors_note(survivors: Mapping[TaskState, int], foreign: int) -> list[Hint]:
    """Notes on the tasks that a purge leaves."""
    apart = (TaskState.ORPHANED, TaskState.UNACCOUNTED)
    kept = [f"{count} {state}" for state, count in survivors.items() if state not in apart]
    notes: list[Hint] = []
    if orphaned := survivors.get(TaskState.ORPHANED):
        notes.append(
            Remedy.run(
                Command.REPAIR, advice=f"{orphaned} orphaned, at no worker and not in the queue; to requeue them"
            )
        )
    if unaccounted := survivors.get(TaskState.UNACCOUNTED):
        notes.append(
            f"{unaccounted} unaccounted: delivered, and at no worker that responds; they may be running and stay"
        )
    if kept:
        notes.append(f"workers hold {', '.join(kept)}: those survive and will be finished")
    if foreign:
        plural = "message that belongs" if foreign == 1 else "messages that belong"
        notes.append(f"{foreign} {plural} to no order {'stays' if foreign == 1 else 'stay'} in the queue")
    return notes
