"""Which places of a task are live, and what follows from a delivery that no worker claims.

Broker and workers are joined by task id and place: one id in two places stays two places. A missing reply proves
nothing: a delivery that no worker claims is unaccounted until its time limit has passed, or until something proves that
it runs nowhere. Times of the broker and of the database are compared as ages only, each by its own clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.run import Run, RunOutcome
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerSurvey
from sitegenctl.slotted import slotted

#: How long after its hard time limit a run may still be ending.
LIMIT_MARGIN = timedelta(seconds=30)

# Two clocks are involved: a run may seem to begin this long before its delivery.
_CLOCK_TOLERANCE = timedelta(seconds=5)

_RUNNING_FIRST = sorted(TaskState, key=lambda state: state is not TaskState.RUNNING)


@slotted
class StaleClaim:
    """A task that a worker lists as running although it cannot be, with the ``reason``."""

    worker: str
    task_id: str
    order_id: int | None
    reason: str


def attribute(
    tasks: Iterable[LiveTask],
    survey: WorkerSurvey | None,
    *,
    finished: Mapping[str, str] | None = None,
) -> tuple[LiveTask, ...]:
    """Join the broker's tasks with the workers' claims, by task id and place.

    A claim accounts for one delivery of its task. List entries stay places of their own. A delivery without a claim is
    unaccounted, unless the broker has shown that it is orphaned. A claim without a message is live, too: the task was
    acknowledged early, or its message was lost. ``finished`` has the final results of tasks without a message.
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
        # The oldest first: the delivery left without a claim is then the latest, which takes the longest to decide.
        deliveries = sorted(
            (task for task in places if _is_delivered(task)),
            key=lambda task: (task.delivered_at is None, task.delivered_at.timestamp() if task.delivered_at else 0.0),
        )
        joined += [task for task in places if not _is_delivered(task)]
        for claim in claims.pop(task_id, ()):
            known = deliveries.pop(0) if deliveries else next(iter(places))
            joined.append(_claimed(known, claim))
        for task in deliveries:
            if task.state is not TaskState.ORPHANED:
                # A task carried by another message waits until that one ends.
                waits = task.part_of is not None
                task = replace(task, state=TaskState.SCHEDULED if waits else TaskState.UNACCOUNTED)
            joined.append(task)
    joined += [claim for rest in claims.values() for claim in rest]
    return _in_order(joined)


def separate_claims(
    survey: WorkerSurvey | None, messages: Collection[str], finished: Mapping[str, str]
) -> tuple[list[LiveTask], list[StaleClaim]]:
    """The live claims of our task, and the stale claims of any task.

    Celery keeps ended tasks among the active ones after a lost connection (celery#8541). ``messages`` are the ids of
    tasks with a message in the broker, ``finished`` those with a final result.
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
    """Why running claims of one worker are stale, by task id; a carried task is as stale as its carrier."""
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
        # Those with a message are the most likely to be running, then those that began last.
        left = sorted(
            (task for task_id, task in running.items() if task_id not in reasons),
            key=lambda task: (task.task_id in messages, task.started_at.timestamp() if task.started_at else 0.0),
        )
        for task in left[: max(len(left) - worker.slots, 0)]:
            reasons[task.task_id] = f"the worker runs {worker.slots} at once, and lists {len(running)} as running"
    return reasons


def _is_delivered(task: LiveTask) -> bool:
    return task.state in (TaskState.UNACKED, TaskState.UNACCOUNTED, TaskState.ORPHANED)


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


# --- deliveries that no worker claims ---


def hard_limit(task: LiveTask | None, survey: WorkerSurvey | None, fallback: timedelta) -> timedelta:
    """How long a run of this task can last.

    The message's own limit, else the longest of the workers that responded, which run the same program as the one that
    did not; ``fallback`` where no worker reports one. A worker without any limit counts as having the fallback.
    """
    if task is not None and task.limit is not None:
        return task.limit
    limits = [worker.hard_limit for worker in survey.workers] if survey is not None else []
    return max((limit or fallback for limit in limits), default=fallback)


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """Decides about unaccounted deliveries and open runs; ``now`` is by this machine's clock."""

    reading: BrokerReading
    survey: WorkerSurvey | None
    now: datetime

    def decide(self, tasks: Sequence[LiveTask], orders: Mapping[int, Order]) -> tuple[LiveTask, ...]:
        """The tasks; an unaccounted one gets its proven state, or the time at which it can be decided."""
        decided = []
        places = Counter(task.task_id for task in tasks)
        for task in tasks:
            order = orders.get(task.order_id) if task.order_id is not None else None
            # Two workers claim this id: nothing shows which of the two runs has ended.
            if places[task.task_id] == 1 and self._has_ended(task, order):
                if task.delivery is None:
                    continue
                # The lost connection could not acknowledge the delivery.
                task = replace(task, state=TaskState.UNACCOUNTED, worker=None, pid=None)
            if task.state is TaskState.RESERVED and self._has_begun(task, order):
                task = replace(task, state=TaskState.RUNNING)
            decided.append(self._account_for(task, order) if task.state is TaskState.UNACCOUNTED else task)
        return _in_order(decided)

    def possible_runs(self, orders: Iterable[Order]) -> dict[int, datetime | None]:
        """The orders without a task whose last run may still be going, and until when.

        Redis may have lost the message, and the worker its connection. The time is by this machine's clock, None
        where the run's first row has no usable time.
        """
        possible: dict[int, datetime | None] = {}
        for order in orders:
            run = order.history.last_run
            if run is None or not order.is_open or not _is_open(run) or _is_dead(order, run):
                continue
            rest = self._limit() - run.began if run.began is not None else None
            if rest is None or rest > timedelta(0):
                possible[order.order_id] = self.now + rest if rest is not None else None
        return possible

    def _limit(self, task: LiveTask | None = None) -> timedelta:
        return hard_limit(task, self.survey, self.reading.hard_limit) + LIMIT_MARGIN

    def _age(self, at: datetime) -> timedelta:
        """The age of a time by the broker's clock; one in the future is taken for now."""
        return max((self.reading.taken_at or self.now) - at, timedelta(0))

    def _account_for(self, task: LiveTask, order: Order | None) -> LiveTask:
        """An unaccounted task with its proven state, or with the time until which it may be running."""
        run = order.history.last_run if order is not None else None
        if order is not None and order.run_lock_held and (run is None or run.task_id in (None, task.task_id)):
            return replace(task, state=TaskState.RUNNING, reason="its run lock is held in PostgreSQL")
        open_for = run.began if run is not None and _is_open(run) else None
        if (proof := self._proof_of_death(task, order, open_for)) is not None:
            return self._orphaned(task, proof)
        if task.delivered_at is None:
            return replace(task, reason="its delivery time is not recorded")
        limit = self._limit(task)
        rest = limit - self._age(task.delivered_at)
        if task.eta is not None:
            # Its worker holds it until then, and runs it only afterwards.
            rest = max(rest, limit + (task.eta - (self.reading.taken_at or self.now)))
        if open_for is not None:
            # Redelivered, or delivered by a clock that is behind: the log says that it began later.
            rest = max(rest, limit - open_for)
        if rest > timedelta(0):
            return replace(task, until=self.now + rest)
        if self.survey is None or self.survey.silent:
            # A worker that does not respond may be paused, or have no time limit.
            return task
        return self._orphaned(task, "its time limit has passed")

    def _proof_of_death(self, task: LiveTask, order: Order | None, open_for: timedelta | None) -> str | None:
        """Why an unaccounted task cannot be running, whatever its age; None where nothing proves that."""
        run = order.history.last_run if order is not None else None
        if order is not None and run is not None and run.task_id == task.task_id:
            if _is_dead(order, run):
                return "its run takes a run lock, and that is free"
            if self._is_done(task, order, run):
                return "its run has ended"
        is_over = open_for is None or open_for >= self._limit(task)
        if self.survey is not None and not self.survey.ever_consumed and is_over:
            return "no worker has ever consumed from this Redis"
        return None

    def _orphaned(self, task: LiveTask, reason: str) -> LiveTask:
        """The task as an orphan; one delivered before the broker restarted is requeued only after workers reconnect."""
        uptime, wait = self.reading.uptime, self.reading.reconnecting
        is_older = uptime is not None and (task.delivered_at is None or self._age(task.delivered_at) > uptime)
        until = self.now + wait if wait and is_older else None
        return replace(task, state=TaskState.ORPHANED, reason=reason, until=until)

    def _is_done(self, task: LiveTask, order: Order, run: Run) -> bool:
        """Whether this delivery is of a run that has finished its order; one of a later delivery may be going on."""
        if order.status is None or not order.status.is_finished:
            return False
        if run.outcome not in (RunOutcome.SUCCESS, RunOutcome.SKIP) or run.began is None or task.delivered_at is None:
            return False
        return run.began <= self._age(task.delivered_at) + _CLOCK_TOLERANCE

    def _has_ended(self, task: LiveTask, order: Order | None) -> bool:
        """Whether the log shows the end of a task that a worker still lists as running, after a lost connection.

        Its order is finished, and the run that succeeded is the one that began when the task did. A run that began
        at another time may be a second one, which goes on.
        """
        run = order.history.last_run if order is not None else None
        if task.state is not TaskState.RUNNING or task.started_at is None or order is None or run is None:
            return False
        if order.status is None or not order.status.is_finished or run.outcome is not RunOutcome.SUCCESS:
            return False
        return run.began is not None and abs(self.now - task.started_at - run.began) <= _CLOCK_TOLERANCE

    def _has_begun(self, task: LiveTask, order: Order | None) -> bool:
        """Whether the log shows that a task listed as reserved is running, as after a lost connection."""
        run = order.history.last_run if order is not None else None
        if order is None or run is None or not _is_open(run) or run.began is None or _is_dead(order, run):
            return False
        if order.run_lock_held and run.task_id == task.task_id:
            return True
        if run.began > self._limit(task):
            return False
        if task.delivered_at is None:
            return True
        # A worker that reconnects may get its task delivered again: then its run began before that, and goes on.
        goes_on = run.progressed is not None and run.progressed <= self._age(task.delivered_at)
        return goes_on or run.began <= self._age(task.delivered_at) + _CLOCK_TOLERANCE


def _is_open(run: Run) -> bool:
    return run.outcome is None and not run.cut_short


def _is_dead(order: Order, run: Run) -> bool:
    """Whether an open run is proven to be over: it takes the run lock, and the lock is free."""
    return _is_open(run) and run.takes_lock and order.run_lock_held is False


# --- one reading is not enough ---


def doubtful(tasks: Iterable[LiveTask], before: Iterable[LiveTask] = ()) -> frozenset[str]:
    """The ids of tasks that need a second reading: orphaned, or in two places.

    A worker drops a task that finishes before the broker does, and publishes a retry before it acknowledges the last
    delivery. Those that the reading ``before`` shows in the same state need none.
    """
    known = doubtful(before) if before else frozenset()
    ids: set[str] = set()
    doubted: set[str] = set()
    for task in tasks:
        if task.state is TaskState.ORPHANED or task.task_id in ids:
            doubted.add(task.task_id)
        ids.add(task.task_id)
    return frozenset(doubted - known)


def confirmed(first: Sequence[LiveTask], second: Sequence[LiveTask]) -> tuple[LiveTask, ...]:
    """The tasks of the first reading; the doubtful ones as the second has them, where both agree."""
    doubted = doubtful(first)
    both = {(task.task_id, task.state) for task in first}
    again = [task for task in second if task.task_id in doubted]
    agreed = {task.task_id for task in again if (task.task_id, task.state) in both}
    certain = [task for task in first if task.task_id not in doubted]
    agreeing = [task for task in again if task.task_id in agreed]
    others = unconfirmed(task for task in again if task.task_id not in agreed)
    return _in_order((*certain, *agreeing, *others))


def unconfirmed(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    """What a single reading proves of the tasks: each task once, and none orphaned."""
    once: dict[str, LiveTask] = {}
    for task in tasks:
        orphaned = task.state is TaskState.ORPHANED
        once.setdefault(task.task_id, replace(task, state=TaskState.UNACCOUNTED) if orphaned else task)
    return tuple(once.values())


def _in_order(tasks: Iterable[LiveTask]) -> tuple[LiveTask, ...]:
    return tuple(sorted(tasks, key=lambda task: (_RUNNING_FIRST.index(task.state), task.position or 0)))
