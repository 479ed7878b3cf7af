"""Which places of a task are live, and what a delivery that no worker claims allows to conclude.

Broker and workers are joined by task id: list entries, deliveries and claims are counted, not merely looked up, so that
one id in two places stays two places. Nothing is concluded from a missing reply: a delivery that nobody claims is
unaccounted until the time limit of whatever may be running it has passed, or until something proves that it runs
nowhere. All functions are pure; times of the broker and of the database are compared as ages only, each by its own
clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.run import Run, RunOutcome
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, DEFAULT_RECONNECT, BrokerReading, LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerSurvey
from sitegenctl.domain.slotted import light

#: How long after its hard time limit a run may still be ending.
LIMIT_MARGIN = timedelta(seconds=30)

# A run that began this much before its delivery by our reckoning may still be of it: two clocks are involved.
_CLOCK_TOLERANCE = timedelta(seconds=5)

_RUNNING_FIRST = sorted(TaskState, key=lambda state: state is not TaskState.RUNNING)


@light
class StaleClaim:
    """A task that a worker still lists as running although it cannot be; ``reason`` says why."""

    worker: str
    task_id: str
    order_id: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a snapshot was taken, by this machine's clock and by the broker's (None where it is not known)."""

    local: datetime
    broker: datetime | None = None

    def broker_age(self, at: datetime) -> timedelta:
        """How long ago a time by the broker's clock was; one in the future was just now."""
        return max((self.broker or self.local) - at, timedelta(0))


def attribute(
    tasks: Iterable[LiveTask],
    survey: WorkerSurvey | None,
    *,
    finished: Mapping[str, str] | None = None,
) -> tuple[LiveTask, ...]:
    """Join the broker's tasks with the workers' claims, by task id and place.

    A claim accounts for one delivery of its task. List entries stay places of their own. A delivery without a claim is
    unaccounted, unless the broker itself has shown that it is orphaned. A claim without a message is live, too: the
    task was acknowledged early, or its message was lost. ``finished`` has the final results of tasks without a message.
    What is ``doubtful`` takes a second reading.
    """
    by_id: dict[str, list[LiveTask]] = {}
    for task in tasks:
        by_id.setdefault(task.task_id, []).append(task)
    claims: dict[str, list[LiveTask]] = {}
    live, _ = separate_claims(survey, by_id, finished or {})
    for claim in live:
        claims.setdefault(claim.task_id, []).append(claim)
    joined: list[LiveTask] = []
    for task_id, places in by_id.items():
        deliveries = sorted((task for task in places if _is_delivered(task)), key=_delivery_order)
        joined += [task for task in places if not _is_delivered(task)]
        for claim in claims.pop(task_id, ()):
            known = deliveries.pop(0) if deliveries else next(iter(places))
            joined.append(_claimed(known, claim))
        joined += [_unclaimed(task) for task in deliveries]
    joined += [claim for rest in claims.values() for claim in rest]
    return _in_order(joined)


def separate_claims(
    survey: WorkerSurvey | None, messages: Collection[str], finished: Mapping[str, str]
) -> tuple[list[LiveTask], list[StaleClaim]]:
    """The workers' claims of our task that are live, and the stale ones of any task.

    Celery keeps ended tasks among the active ones after a lost connection (celery#8541). ``messages`` are the ids of
    tasks that the broker has a message of, ``finished`` those with a final result.
    """
    live: list[LiveTask] = []
    stale: list[StaleClaim] = []
    for worker in survey.workers if survey is not None else ():
        reasons = _stale_reasons(worker, messages, finished)
        for task in (*worker.tasks, *worker.others):
            reason = reasons.get(task.carrier or task.task_id) if task.state is TaskState.RUNNING else None
            if reason is None:
                live += [task] if task in worker.tasks else []
            else:
                stale.append(
                    StaleClaim(worker=worker.name, task_id=task.task_id, order_id=task.order_id, reason=reason)
                )
    return live, stale


def _stale_reasons(worker: Worker, messages: Collection[str], finished: Mapping[str, str]) -> dict[str, str]:
    """Why running claims of one worker are stale, by task id; what another task carries is as stale as that one."""
    running = {
        task.task_id: task
        for task in (*worker.others, *worker.tasks)
        if task.state is TaskState.RUNNING and task.carrier is None
    }
    reasons = {
        task_id: f"its result is {finished[task_id]} already, and it has no message"
        for task_id in running
        if task_id in finished and task_id not in messages
    }
    by_process: dict[int, list[LiveTask]] = {}
    for task_id, task in running.items():
        # Other pools than prefork run all tasks in one process.
        if worker.has_processes and task.pid is not None and task_id not in reasons:
            by_process.setdefault(task.pid, []).append(task)
    for pid, claims in by_process.items():
        newest = max((task.started_at for task in claims if task.started_at is not None), default=None)
        for task in claims:
            if newest is not None and (task.started_at is None or task.started_at < newest):
                reasons[task.task_id] = f"process {pid} has begun another task since"
    if worker.slots is not None:
        # What has a message still is more likely to be running than what has none; then the latest begun is.
        left = sorted(
            (task for task_id, task in running.items() if task_id not in reasons),
            key=lambda task: (task.task_id in messages, task.started_at.timestamp() if task.started_at else 0.0),
        )
        for task in left[: max(len(left) - worker.slots, 0)]:
            reasons[task.task_id] = f"the worker runs {worker.slots} at once, and lists {len(running)} as running"
    return reasons


def _is_delivered(task: LiveTask) -> bool:
    return task.state in (TaskState.UNACKED, TaskState.UNACCOUNTED, TaskState.ORPHANED)


def _delivery_order(task: LiveTask) -> tuple[bool, float]:
    # The oldest first: what is left without a claim is then the latest, which has to be waited for the longest.
    return task.delivered_at is None, task.delivered_at.timestamp() if task.delivered_at is not None else 0.0


def _claimed(task: LiveTask, claim: LiveTask) -> LiveTask:
    # A worker holds retries among the tasks scheduled for later, and does not say which is which.
    retrying = claim.state is TaskState.SCHEDULED and task.attempt > 1
    delivered = _is_delivered(task)
    return replace(
        task,
        state=TaskState.RETRYING if retrying else claim.state,
        worker=claim.worker,
        position=None,
        order_id=task.order_id if task.order_id is not None else claim.order_id,
        eta=task.eta or claim.eta,
        started_at=claim.started_at,
        pid=claim.pid,
        delivery=task.delivery if delivered else None,
        delivered_at=task.delivered_at if delivered else None,
    )


def _unclaimed(task: LiveTask) -> LiveTask:
    if task.state is TaskState.ORPHANED:
        return task
    # What is carried by another message waits for that one's end.
    return replace(task, state=TaskState.SCHEDULED if task.part_of is not None else TaskState.UNACCOUNTED)


# --- deliveries that nobody claims ---


def hard_limit(task: LiveTask | None, survey: WorkerSurvey | None, fallback: timedelta) -> timedelta:
    """After what time a run of this task is over for certain.

    The message's own limit, else the longest of the workers that responded, which run the same program as the one that
    did not; ``fallback`` where no worker names one. A worker without any limit counts as having the fallback.
    """
    if task is not None and task.limit is not None:
        return task.limit
    limits = [worker.hard_limit for worker in survey.workers] if survey is not None else []
    return max((limit or fallback for limit in limits), default=fallback)


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """What unaccounted deliveries and open runs are judged by."""

    moment: Moment
    survey: WorkerSurvey | None
    fallback: timedelta = DEFAULT_HARD_LIMIT
    uptime: timedelta | None = None
    reconnect_time: timedelta = DEFAULT_RECONNECT

    @classmethod
    def of(cls, reading: BrokerReading, survey: WorkerSurvey | None, now: datetime) -> Deciding:
        """What the tasks of this reading are judged by; ``now`` is by this machine's clock."""
        moment = Moment(local=now, broker=reading.taken_at)
        return cls(
            moment=moment,
            survey=survey,
            fallback=reading.hard_limit,
            uptime=reading.uptime,
            reconnect_time=reading.reconnect_time,
        )

    def settle(self, tasks: Sequence[LiveTask], orders: Mapping[int, Order]) -> tuple[LiveTask, ...]:
        """The tasks, each unaccounted one with the time at which it can be decided, or as what it proves to be."""
        decided = []
        places = Counter(task.task_id for task in tasks)
        for task in tasks:
            order = self._order_of(task, orders)
            # Of two claims of one id nothing shows which of them is over.
            if places[task.task_id] == 1 and self._has_ended(task, order):
                if task.delivery is None:
                    continue
                # The delivery is left, for the lost connection could not acknowledge it.
                task = replace(task, state=TaskState.UNACCOUNTED, worker=None, pid=None)
            decided.append(self._settled(task, order))
        return _in_order(decided)

    def limit(self, task: LiveTask | None = None) -> timedelta:
        """How long whatever runs this task may go on."""
        return hard_limit(task, self.survey, self.fallback) + LIMIT_MARGIN

    def may_be_running(self, order: Order) -> tuple[bool, datetime | None]:
        """Whether the order's last run may still be going, and until when, by this machine's clock.

        The time is None where the run's first row has no usable time. A run without an outcome that began less than its
        time limit ago may go on, whether or not anything of its task is left: Redis may have lost the message, and the
        worker its connection.
        """
        run = order.history.last_run
        if run is None or not _is_open(run) or _is_dead(order, run):
            return False, None
        if run.began is None:
            return True, None
        rest = self.limit() - run.began
        return (True, self.moment.local + rest) if rest > timedelta(0) else (False, None)

    def _settled(self, task: LiveTask, order: Order | None) -> LiveTask:
        run = order.history.last_run if order is not None else None
        if task.state is TaskState.RESERVED:
            return replace(task, state=TaskState.RUNNING) if self._has_begun(task, order) else task
        if task.state is not TaskState.UNACCOUNTED:
            return task
        if order is not None and order.run_lock_held and (run is None or run.task_id in (None, task.task_id)):
            return replace(task, state=TaskState.RUNNING, reason="its run lock is held in PostgreSQL")
        if order is not None and run is not None and run.task_id == task.task_id and _is_dead(order, run):
            return self._orphaned(task, "its run takes a run lock, and that is free")
        if order is not None and run is not None and self._is_done(task, order, run):
            return self._orphaned(task, "its run has ended")
        open_for = run.began if run is not None and _is_open(run) else None
        is_over = open_for is None or open_for >= self.limit(task)
        if self.survey is not None and not self.survey.ever_consumed and is_over:
            return self._orphaned(task, "no worker has ever consumed from this Redis")
        if task.delivered_at is None:
            return replace(task, reason="its delivery time is not recorded")
        rest = self.limit(task) - self.moment.broker_age(task.delivered_at)
        if task.eta is not None:
            # Its worker holds it until then, and runs it only afterwards.
            rest = max(rest, self.limit(task) + (task.eta - (self.moment.broker or self.moment.local)))
        if open_for is not None:
            # Redelivered, or delivered by a clock that is behind: the log says that it began later.
            rest = max(rest, self.limit(task) - open_for)
        if rest > timedelta(0):
            return replace(task, until=self.moment.local + rest)
        if self.survey is None or self.survey.silent:
            # A worker that is there and does not respond may be one without a time limit, or a paused one.
            return task
        return self._orphaned(task, "its time limit has passed")

    def _orphaned(self, task: LiveTask, reason: str) -> LiveTask:
        """The task as an orphan, which may not be requeued before workers had the time to reconnect."""
        reconnecting = self._reconnecting(task.delivered_at)
        until = self.moment.local + reconnecting if reconnecting > timedelta(0) else None
        return replace(task, state=TaskState.ORPHANED, reason=reason, until=until)

    def _is_done(self, task: LiveTask, order: Order, run: Run) -> bool:
        """Whether this delivery is of a run that has finished its order; one of a later delivery may be going on."""
        if order.status is None or not order.status.is_finished or run.task_id != task.task_id:
            return False
        if run.outcome not in (RunOutcome.SUCCESS, RunOutcome.SKIP) or run.began is None or task.delivered_at is None:
            return False
        return run.began <= self.moment.broker_age(task.delivered_at) + _CLOCK_TOLERANCE

    @property
    def reconnecting(self) -> timedelta:
        """How much longer workers may be on their way back to a broker that has restarted.

        They wait longer after each attempt that failed, and may hold what they had not begun.
        """
        return max(self.reconnect_time - self.uptime, timedelta(0)) if self.uptime is not None else timedelta(0)

    def _reconnecting(self, delivered_at: datetime | None) -> timedelta:
        """The same, where the delivery is older than the broker's start, or its time is not known."""
        if delivered_at is None:
            return self.reconnecting
        is_older = self.uptime is not None and self.moment.broker_age(delivered_at) > self.uptime
        return self.reconnecting if is_older else timedelta(0)

    def _has_ended(self, task: LiveTask, order: Order | None) -> bool:
        """Whether the log shows that a task is over which a worker still lists as running, after a lost connection.

        Its order is finished, and the run that succeeded is the one that began when the task did. A run that began
        at another time may be a second one, which goes on.
        """
        run = order.history.last_run if order is not None else None
        if task.state is not TaskState.RUNNING or task.started_at is None or order is None or run is None:
            return False
        if order.status is None or not order.status.is_finished or run.outcome is not RunOutcome.SUCCESS:
            return False
        age = self.moment.local - task.started_at
        return run.began is not None and abs(age - run.began) <= _CLOCK_TOLERANCE

    def _has_begun(self, task: LiveTask, order: Order | None) -> bool:
        """Whether the log shows that a task runs which its worker lists as reserved, as after a lost connection."""
        run = order.history.last_run if order is not None else None
        if order is None or run is None or not _is_open(run) or run.began is None or _is_dead(order, run):
            return False
        if order.run_lock_held and run.task_id == task.task_id:
            return True
        if run.began > self.limit(task):
            return False
        if task.delivered_at is None:
            return True
        return run.began <= self.moment.broker_age(task.delivered_at) + _CLOCK_TOLERANCE

    @staticmethod
    def _order_of(task: LiveTask, orders: Mapping[int, Order]) -> Order | None:
        return orders.get(task.order_id) if task.order_id is not None else None


def _is_open(run: Run) -> bool:
    return run.outcome is None and not run.cut_short


def _is_dead(order: Order, run: Run) -> bool:
    """Whether an open run is proven to be over: it takes the run lock, and the lock is free."""
    return _is_open(run) and run.takes_lock and order.run_lock_held is False


def may_run(tasks: Iterable[LiveTask], orders: Iterable[Order]) -> bool:
    """Whether a task may be running that no worker claims."""
    if any(task.is_unaccounted or (task.state is TaskState.RUNNING and task.worker is None) for task in tasks):
        return True
    return any(order.run_lock_held for order in orders)


# --- one reading is not enough ---


def doubtful(tasks: Iterable[LiveTask], before: Iterable[LiveTask] = ()) -> frozenset[str]:
    """The ids of tasks that one reading is not enough to believe: orphaned, or in two places.

    It may have met a task that finishes, whose worker had let go of it already, or one that is tried again: that is
    published before its last delivery is acknowledged. What an earlier reading found to be so ``before`` is believed.
    """
    known = doubtful(before) if before else frozenset()
    seen: set[str] = set()
    doubted: set[str] = set()
    for task in tasks:
        if task.state is TaskState.ORPHANED or task.task_id in seen:
            doubted.add(task.task_id)
        seen.add(task.task_id)
    return frozenset(doubted - known)


def confirmed(first: Sequence[LiveTask], second: Sequence[LiveTask]) -> tuple[LiveTask, ...]:
    """The tasks of the first reading; the doubtful ones are as the second has them, if both saw the same."""
    doubted = doubtful(first)
    both = {(task.task_id, task.state) for task in first}
    again = [task for task in second if task.task_id in doubted]
    agreed = {task.task_id for task in again if (task.task_id, task.state) in both}
    certain = [task for task in first if task.task_id not in doubted]
    believed = [task for task in again if task.task_id in agreed]
    others = unconfirmed(task for task in again if task.task_id not in agreed)
    return _in_order((*certain, *believed, *others))


def unconfirmed(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    """The tasks as far as one reading can be believed: each of them once, and none orphaned."""
    once: dict[str, LiveTask] = {}
    for task in tasks:
        orphaned = task.state is TaskState.ORPHANED
        once.setdefault(task.task_id, replace(task, state=TaskState.UNACCOUNTED) if orphaned else task)
    return tuple(once.values())


def _in_order(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    return tuple(sorted(tasks, key=lambda task: (_RUNNING_FIRST.index(task.state), task.position or 0)))
