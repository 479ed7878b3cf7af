"""Plan repairs for duplicated, ghost, orphaned and interrupted orders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age, describe_task
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import OPERATOR_ENQUEUE, OPERATOR_REPAIR, OPERATOR_RESET, STARTS
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.domain.plans.guards import (
    attempts_exhausted,
    describe_revoked,
    is_younger,
    not_revocable,
    possibly_live,
    reconnecting,
    short_id,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Plan, Step, refuse, skip
from sitegenctl.domain.plans.result import Obstacle, Outcome
from sitegenctl.domain.queue.task import LiveTask, TaskState

# Of several tasks the furthest is kept, and of waiting ones the next to run. One that may be running comes before
# those that wait: if it turns out to be dead it is requeued, and nothing is lost.
_KEPT_FIRST = (
    TaskState.RUNNING,
    TaskState.UNACCOUNTED,
    TaskState.UNACKED,
    TaskState.RESERVED,
    TaskState.QUEUED,
    TaskState.SCHEDULED,
    TaskState.RETRYING,
    TaskState.ORPHANED,
)
_PROMISES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET, OPERATOR_REPAIR})

# Steps of the log at which a run has files on disk; and those at which a run clears away what it finds.
_WRITES = ("WRITE_", "TEMPLATE_")
_CLEARS = STARTS | {"CLEANUP"}


@dataclass(frozen=True, kw_only=True)
class RepairFacts:
    """What a repair needs besides the snapshot.

    ``unusable`` has, by task id, why it must not be published again. ``logs`` are the log rows, oldest first, of orders
    with several running tasks. ``missing`` are orders that a second reading of the database did not find either.
    """

    unusable: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[int, Sequence[LogRow]] = field(default_factory=dict)
    missing: Collection[int] = ()


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """Limits of a repair.

    With ``terminate`` running tasks are stopped. An orphaned task whose order changed within ``patience`` is left
    alone, unless its worker is proven dead. An order with ``max_attempts`` gets no new attempt. With ``worker_dead`` an
    operator has confirmed, for the named orders, that the workers of their tasks are dead.
    """

    only: frozenset[Condition] = frozenset(REPAIRABLE)
    terminate: bool = False
    patience: timedelta = timedelta(0)
    max_attempts: int | None = None
    worker_dead: bool = False


_DEFAULTS = RepairOptions()


def plan_repair(
    snapshot: Snapshot,
    options: RepairOptions = _DEFAULTS,
    *,
    new_task_id: Callable[[], str],
    named: Sequence[int] | None = None,
    facts: RepairFacts = RepairFacts(),
) -> Plan:
    """Decide for each order what fixes it; database, broker and workers must have responded.

    The plan has all orders in one of the conditions, or each of the ``named`` ones.
    """
    repairer = Repairer(snapshot=snapshot, options=options, new_task_id=new_task_id, facts=facts)
    chosen = snapshot.known_ids() if named is None else named
    decisions: list[Step | Outcome] = []
    for order_id in chosen:
        condition = snapshot.diagnose(order_id).condition
        if condition in options.only:
            decisions.append(repairer.decide(condition, order_id))
        elif named is not None:
            decisions.append(repairer.decide_named(order_id))
    return Plan.of("repair", decisions, named=named is not None)


def needs_logs(snapshot: Snapshot) -> list[int]:
    """The orders with more than one running task: their logs show which to keep."""
    return [
        order_id
        for order_id in snapshot.known_ids()
        if sum(task.state is TaskState.RUNNING for task in snapshot.tasks_of(order_id)) > 1
    ]


def reused_ids(snapshot: Snapshot) -> set[str]:
    """The task ids that a repair might publish again."""
    orphaned = {task.task_id for task in snapshot.tasks if task.state is TaskState.ORPHANED or task.is_unaccounted}
    promised = {
        task_id
        for order_id, order in snapshot.orders.items()
        if (task_id := _promised(order)) is not None and not snapshot.tasks_of(order_id)
    }
    return orphaned | promised


def furthest(running: Sequence[LiveTask], log: Sequence[LogRow]) -> LiveTask:
    """The running task to keep of several: the furthest whose files are still in the folder.

    A run deletes the files that it finds when it begins: an earlier run that had written some will not be complete.
    Where the log does not name the task of a row, the run that began last owns the folder.
    """
    ids = {task.task_id for task in running}
    rows: dict[str, list[LogRow]] = {}
    for row in log:
        task_id = row.details.get("task_id") if isinstance(row.details, dict) else None
        if task_id in ids:
            rows.setdefault(str(task_id), []).append(row)

    def began(task: LiveTask) -> float:
        return task.started_at.timestamp() if task.started_at is not None else 0.0

    def rank(task: LiveTask) -> tuple[bool, bool, float, float, str]:
        own = rows.get(task.task_id, [])
        wrote = next((row.log_id for row in own if row.step.startswith(_WRITES)), None)
        spoiled = wrote is not None and any(
            row.log_id > wrote and row.step in _CLEARS
            for task_id, others in rows.items()
            if task_id != task.task_id
            for row in others
        )
        progress = max((stage.share for row in own if (stage := stage_of(row.step)) is not None), default=0.0)
        return bool(own), not spoiled, progress, began(task), task.task_id

    return max(running, key=rank)


@dataclass(frozen=True, kw_only=True)
class Repairer:
    """Decides for one order at a time."""

    snapshot: Snapshot
    options: RepairOptions
    new_task_id: Callable[[], str]
    facts: RepairFacts

    def decide(self, condition: Condition, order_id: int) -> Step | Outcome:
        """Decide what fixes an order in this condition."""
        order = self.snapshot.orders.get(order_id)
        tasks = self._tasks(order_id)
        if condition is Condition.INTERRUPTED:
            assert order is not None  # noqa: S101 - an interrupted order is GENERATING
            return self._interrupted(order)
        if condition is Condition.GHOST or not self._may_be_generated(order):
            return self._ghost(order, order_id, tasks)
        if condition is Condition.ORPHANED:
            return self._orphaned(order, order_id, tasks[0])
        return self._duplicated(order, order_id, tasks)

    def decide_named(self, order_id: int) -> Step | Outcome:
        """Decide about a named order that is in none of the conditions to fix."""
        order = self.snapshot.orders.get(order_id)
        diagnosis = self.snapshot.diagnose(order_id)
        tasks = self._tasks(order_id)
        if order is None and not tasks:
            return refuse(order_id, "no such order")
        if diagnosis.severity is Severity.OK:
            return skip(order or order_id, f"nothing to repair: {diagnosis.evidence[0]}")
        if diagnosis.condition is not Condition.UNKNOWN:
            reason = f"it is {diagnosis.condition}, which repair does not fix"
            return skip(order or order_id, reason, hint=diagnosis.remedy)
        if order is None:
            if order_id in self.facts.missing:
                return self._ghost(order, order_id, tasks)
        elif refusal := without_status(order):
            return refusal
        elif self.options.worker_dead and tasks and tasks[0].state is TaskState.ORPHANED:
            return self.decide(Condition.ORPHANED, order_id)
        elif self.options.worker_dead and order_id in self.snapshot.possible and not self.snapshot.unattributed:
            return self._interrupted(order)
        return refuse(order or order_id, diagnosis.evidence[0], hint=diagnosis.remedy)

    def _tasks(self, order_id: int) -> tuple[LiveTask, ...]:
        """The order's tasks; those without a known worker are orphaned if an operator confirmed that it is dead."""
        tasks = self.snapshot.tasks_of(order_id)
        if not self.options.worker_dead:
            return tasks
        return tuple(
            replace(task, state=TaskState.ORPHANED, reason="an operator confirmed that its worker is dead", until=None)
            if task.is_unaccounted or task.state is TaskState.ORPHANED
            else task
            for task in tasks
        )

    def _orphaned(self, order: Order | None, order_id: int, task: LiveTask) -> Step | Outcome:
        if order is None:
            return self._ghost(order, order_id, (task,))
        return self._requeued(order, task, (), (f"task {short_id(task.task_id)} requeued",))

    def _requeued(
        self, order: Order, task: LiveTask, others: tuple[LiveTask, ...], details: tuple[str, ...]
    ) -> Step | Outcome:
        """Requeue an orphaned task and revoke the other ones of its order, unless it is too early."""
        if waiting := reconnecting(order, task, self.snapshot):
            return waiting
        dead = self.options.worker_dead or (order.run_lock_held is False and _is_of_run(order, task))
        if not dead and is_younger(order, self.options.patience):
            reason = f"its task is orphaned, but the order was modified {describe_age(order.idle)} ago"
            hint = f"re-check after {describe_age(self.options.patience)}"
            return skip(order, reason, task_id=task.task_id, hint=hint)
        if exhausted := attempts_exhausted(order, self.options.max_attempts):
            return exhausted
        if (why := self.facts.unusable.get(task.task_id)) is not None:
            return self._replaced(order, (task, *others), why)
        # A live worker writes to the log: unlike in other repairs, it must not have grown.
        step = self._step(order, order.order_id, details=details, revoke=others, requeue=task)
        return replace(step, last_log_id=order.last_log_id)

    def _duplicated(self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]) -> Step | Outcome:
        kept = self._kept(order_id, tasks)
        others = tuple(task for task in tasks if task is not kept)
        removable, left = self._divided(order, order_id, others)
        if not removable:
            refusal = self._not_revocable(order or order_id, others)
            assert refusal is not None  # noqa: S101 - of two tasks or more there is another one
            return refusal
        details = (f"task {short_id(kept.task_id)} kept ({kept.state})", *_what_goes(removable, left))
        if kept.state is TaskState.ORPHANED and order is not None:
            return self._requeued(order, kept, removable, details)
        return self._step(order, order_id, details=details, revoke=removable, keep=kept, leave=left)

    def _kept(self, order_id: int, tasks: tuple[LiveTask, ...]) -> LiveTask:
        running = [task for task in tasks if task.state is TaskState.RUNNING]
        if len(running) > 1:
            return furthest(running, self.facts.logs.get(order_id, ()))
        return min(tasks, key=_turn)

    def _ghost(self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]) -> Step | Outcome:
        removable, left = self._divided(order, order_id, tasks)
        if removable:
            details = _what_goes(removable, left)
            return self._step(order, order_id, details=details, revoke=removable, leave=left)
        running = next((task for task in tasks if task.state is TaskState.RUNNING), None)
        if running is None or running.worker is None:
            refusal = self._not_revocable(order or order_id, tasks)
            assert refusal is not None  # noqa: S101 - none of its tasks is removable
            return refusal
        if order is not None and order.status is OrderStatus.CANCELLED:
            reason = "when it ends, it sets the order to REVIEW"
            hint: Hint = Remedy.run(Command.CANCEL, order_id, terminate=True)
        else:
            reason, hint = "it goes on until it ends", "--terminate stops it"
        return skip(order or order_id, f"{describe_task(running)}: {reason}", hint=hint, obstacle=Obstacle.RUNNING)

    def _divided(
        self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]
    ) -> tuple[tuple[LiveTask, ...], tuple[LiveTask, ...]]:
        """The tasks that can be removed, and those that can't."""
        removable = tuple(task for task in tasks if self._not_revocable(order or order_id, (task,)) is None)
        return removable, tuple(task for task in tasks if task not in removable)

    def _not_revocable(self, order: Order | int, tasks: tuple[LiveTask, ...]) -> Outcome | None:
        return not_revocable(order, tasks, self.snapshot, terminate=self.options.terminate)

    def _interrupted(self, order: Order) -> Step | Outcome:
        if not self.options.worker_dead and (live := possibly_live(order, self.snapshot)):
            return live
        wait = self.snapshot.reading.reconnecting
        if wait and not self.options.worker_dead and not self._was_enqueued_since_start(order):
            reason = "the broker has just restarted: a worker that reconnects may have its task"
            return skip(order, reason, hint=f"re-check in {describe_age(wait)}")
        journal, promised = order.journal, _promised(order)
        why = self.facts.unusable.get(promised) if promised is not None else None
        details: tuple[str, ...]
        if promised is not None and journal is not None and why is None:
            # The task keeps the id in the journal, so that it can be found by it. This is not another attempt: attempts
            # were counted before the id was journaled.
            task_id, resume, details = promised, journal.resume, ("published again",)
        elif exhausted := attempts_exhausted(order, self.options.max_attempts):
            return exhausted
        else:
            task_id, resume, details = self.new_task_id(), True, ("enqueued",)
            if why is not None and promised is not None and journal is not None:
                resume, details = journal.resume, (f"enqueued under a new id: {why}",)
        return Step(
            order_id=order.order_id,
            action=Action.REPAIR,
            before=order.status,
            after=OrderStatus.GENERATING,
            last_log_id=order.last_log_id,
            publish=task_id,
            resume=resume,
            verb="repaired",
            details=details,
        )

    def _was_enqueued_since_start(self, order: Order) -> bool:
        """Whether its task was published after the broker started: no worker had it before."""
        age, uptime = order.journal.age if order.journal is not None else None, self.snapshot.reading.uptime
        return _promised(order) is not None and age is not None and uptime is not None and age < uptime

    def _replaced(self, order: Order, tasks: tuple[LiveTask, ...], why: str) -> Step:
        """A new task in place of one whose id cannot be used again."""
        return replace(
            self._step(
                order,
                order.order_id,
                details=(*describe_revoked(tasks), f"enqueued under a new id: {why}"),
                revoke=tasks,
            ),
            after=OrderStatus.GENERATING,
            last_log_id=order.last_log_id,
            publish=self.new_task_id(),
        )

    def _may_be_generated(self, order: Order | None) -> bool:
        if order is None or order.status is OrderStatus.CANCELLED:
            return False
        finished = order.status is not None and order.status.is_finished
        return not finished or is_younger(order, self.snapshot.grace)

    def _step(
        self,
        order: Order | None,
        order_id: int,
        *,
        details: tuple[str, ...],
        revoke: tuple[LiveTask, ...] = (),
        keep: LiveTask | None = None,
        requeue: LiveTask | None = None,
        leave: tuple[LiveTask, ...] = (),
    ) -> Step:
        # The log may grow during a repair: only the status must be as planned. Tasks are read again.
        keeps_task = keep is not None or requeue is not None
        is_building = order is not None and order.status is OrderStatus.BUILDING
        return Step(
            order_id=order_id,
            action=Action.REPAIR,
            before=order.status if order else None,
            # The system's beat starts BUILDING orders, even those with a task.
            after=OrderStatus.GENERATING if keeps_task and is_building else None,
            revoke=revoke,
            terminate=self.options.terminate,
            keep=keep,
            leave=leave,
            requeue=requeue,
            worker_dead=self.options.worker_dead,
            verb="repaired",
            details=details,
        )


def _what_goes(removed: tuple[LiveTask, ...], left: tuple[LiveTask, ...]) -> tuple[str, ...]:
    return (*describe_revoked(removed), *(f"task {short_id(task.task_id)} left ({task.state})" for task in left))


def _turn(task: LiveTask) -> tuple[int, int, str, str]:
    """Sort key: the task that is furthest comes first, of equal ones the next to run."""
    eta = task.eta.isoformat() if task.eta else ""
    return _KEPT_FIRST.index(task.state), task.position or 0, eta, task.task_id


def _promised(order: Order) -> str | None:
    """The id of the journaled task, if no run of it has begun."""
    journal = order.journal
    if journal is None or journal.step not in _PROMISES or order.history.last_run is not None:
        return None
    return journal.task_id


def _is_of_run(order: Order, task: LiveTask) -> bool:
    run = order.history.last_run
    return run is not None and run.takes_lock and run.task_id == task.task_id
