"""Everything that was read at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Diagnosis, Evidence, Source, diagnose
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.promise import DEFAULT_DUE_SOON, Promise, PromiseCounts, judge_promise
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, describe_silence

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.forecast import Forecast


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Orders, tasks, workers and files as they were at one moment."""

    taken_at: datetime  # UTC, aware
    orders: Mapping[int, Order] = field(default_factory=dict)
    tasks: Sequence[LiveTask] = ()  # those of `reading`, with their workers
    reading: BrokerReading = field(default_factory=BrokerReading)
    workers: WorkerSurvey | None = None
    roster: WorkerRoster | None = None  # only read where the workers' details are needed
    files: Mapping[int, SiteFiles] = field(default_factory=dict)
    errors: Mapping[Source, str] = field(default_factory=dict)  # why a source did not respond: the rest is unknown
    hints: Mapping[Source, Hint] = field(default_factory=dict)  # what to do about these errors, where that is known
    grace: timedelta = DEFAULT_GRACE
    due_soon: timedelta = DEFAULT_DUE_SOON
    check_hollow: bool = False
    without_files: frozenset[int] = frozenset()  # recently finished orders that are hollow once grace is over
    possible: Mapping[int, datetime | None] = field(default_factory=dict)  # no task; a run may go on until then
    stale: Sequence[StaleClaim] = ()  # claims of tasks that have ended
    forecast: Forecast | None = None  # only made where it is shown
    authoritative: bool = True  # whether an order that was not found is missing: a standby may not have it yet

    @property
    def unanswered(self) -> Mapping[Source, str]:
        """Why each source did not respond, or not fully: ``errors``, and workers that did not respond."""
        silence = describe_silence(self.workers) if self.workers else None
        return {**self.errors, Source.WORKERS: silence} if silence else self.errors

    @property
    def now(self) -> datetime:
        """The time by the broker's clock, as the times of tasks are; by this machine's where that is unknown."""
        return self.reading.taken_at or self.taken_at

    @property
    def clock_offset(self) -> timedelta:
        """How far the broker's clock is ahead of this machine's."""
        return self.now - self.taken_at

    def age_of(self, task: LiveTask) -> timedelta | None:
        """A task's age since it was enqueued; where that is unknown, since the last change of its order."""
        if task.enqueued_at is not None:
            return max(self.now - task.enqueued_at, timedelta(0))
        order = self.orders.get(task.order_id) if task.order_id is not None else None
        return order.idle if order is not None else None

    def tasks_of(self, order_id: int) -> tuple[LiveTask, ...]:
        """The order's live tasks: the one that runs, or runs next, comes first."""
        return self._tasks_by_order.get(order_id, ())

    @cached_property
    def _tasks_by_order(self) -> Mapping[int | None, tuple[LiveTask, ...]]:
        by_order: dict[int | None, list[LiveTask]] = {}
        for task in self.tasks:
            by_order.setdefault(task.order_id, []).append(task)
        return {order_id: tuple(tasks) for order_id, tasks in by_order.items()}

    def known_ids(self) -> list[int]:
        """Every order that was read or has a live task, lowest first; a missing one may have a task."""
        with_task = {task.order_id for task in self.tasks if task.order_id is not None}
        return sorted({*self.orders, *with_task})

    def diagnose(self, order_id: int) -> Diagnosis:
        """The condition of one order, from everything in this snapshot."""
        if order_id not in self._diagnoses:
            evidence = Evidence(
                order_id=order_id,
                order=self.orders.get(order_id),
                tasks=self.tasks_of(order_id),
                files=self.files.get(order_id),
                unavailable=frozenset(self.errors),
                hints=self.hints,
                grace=self.grace,
                check_hollow=self.check_hollow or self._is_hollow(order_id),
                taken_at=self.taken_at,
                unattributed=len(self.reading.unattributed),
                may_be_running=order_id in self.possible,
                possible_until=self.possible.get(order_id),
                broker_time=self.reading.taken_at,
                silent=self.workers.silent if self.workers is not None else 0,
                authoritative=self.authoritative,
            )
            # Lists are sorted and counted by condition many times.
            self._diagnoses[order_id] = diagnose(evidence)
        return self._diagnoses[order_id]

    def promise_of(self, order: Order | None) -> Promise | None:
        """What is wrong, or soon may be, with the due date of an order."""
        if order is None:
            return None
        return judge_promise(order.due_in, due_soon=self.due_soon, ready_in=self.ready_in(order.order_id))

    def ready_in(self, order_id: int) -> timedelta | None:
        """Time until the order's task ends by the forecast: nine of ten trials took longer."""
        ends = self.forecast.order_ends.get(order_id) if self.forecast is not None else None
        return ends.low if ends is not None else None

    def with_expected(self, counts: PromiseCounts | None) -> PromiseCounts | None:
        """The counts with the orders that will be late by the forecast; a finished site has no task."""
        if counts is None or self.forecast is None or self.forecast.obstacle is not None:
            return counts
        expected = [order for order in self.orders.values() if self.promise_of(order) is Promise.WILL_BE_LATE]
        return replace(counts, will_be_late=len(expected))

    def _is_hollow(self, order_id: int) -> bool:
        idle = self.orders[order_id].idle if order_id in self.orders else None
        return order_id in self.without_files and (idle is None or idle >= self.grace)

    @cached_property
    def _diagnoses(self) -> dict[int, Diagnosis]:
        return {}


QueueItem = LiveTask | ForeignMessage

_STAGES = {
    TaskState.RUNNING: 0,
    TaskState.RESERVED: 1,
    TaskState.QUEUED: 2,
    TaskState.RETRYING: 3,
    TaskState.SCHEDULED: 3,
    TaskState.UNACKED: 4,
    TaskState.UNACCOUNTED: 4,
    TaskState.ORPHANED: 5,
}
_NEVER = datetime.max.replace(tzinfo=UTC)


def running_order(snapshot: Snapshot) -> list[QueueItem]:
    """Every task and foreign message of the snapshot: the one that runs, or runs first, comes first."""

    def key(item: QueueItem) -> tuple[int, datetime, int, int]:
        eta = item.eta if isinstance(item, LiveTask) else None
        # The order id makes the order the same in each snapshot.
        order_id = item.order_id if isinstance(item, LiveTask) else None
        position = item.position if item.position is not None else -1
        held = _STAGES[item.state] == _STAGES[TaskState.SCHEDULED]
        # A task that is held until its ETA runs then, whatever its position.
        return (_STAGES[item.state], (eta or _NEVER) if held else _NEVER, position, order_id or 0)

    return sorted([*snapshot.tasks, *snapshot.reading.foreign], key=key)
