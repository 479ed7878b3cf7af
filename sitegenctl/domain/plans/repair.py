"""Plan repairs for duplicated, ghost, orphaned and interrupted orders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition, Severity, onboarding_warning
from sitegenctl.domain.diagnosis.describe import describe_age, describe_task
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import (
    OPERATOR_ENQUEUE,
    OPERATOR_REPAIR,
    OPERATOR_RESET,
    OPERATOR_UNDO,
    OPERATOR_UNDO_BEGIN,
    STARTS,
)
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
from sitegenctl.domain.plans.plan import Action, Obstacle, Outcome, Plan, Step, refuse, skip
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
_PROMISES = frozenset(
    {OPERATOR_ENQUEUE, OPERATOR_RESET, OPERATOR_REPAIR, OPERATOR_UNDO, OPERATOR_UNDO_BEGIN, Action.UNDO.rollback_step}
)

# Steps of the log at which a run has files on disk; and those at which a run clears away what it finds.
_WRITES = ("WRITE_", "TEMPLATE_")
_CLEARS = STARTS | {"CLEANUP"}


@dataclass(frozen=True, kw_only=True)
class RepairFacts:
    """What a repair needs besides the snapshot."""

    unusable: Mapping[str, str] = field(default_factory=dict)  # why a task id must not be published again
    logs: Mapping[int, Sequence[LogRow]] = field(default_factory=dict)  # of orders with several running tasks
    missing: Collection[int] = ()  # orders that a second reading of the database did not find either


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """Limits of a repair."""

    only: frozenset[Condition] = frozenset(REPAIRABLE)
    terminate: bool = False  # stop running tasks
    patience: timedelta = timedelta(0)  # how long the order of an orphan must be unchanged, unless it is proven dead
    max_attempts: int | None = None  # an order that has them gets no new one
    worker_dead: bool = False  # an operator confirmed, for named orders, that the workers of their tasks are dead


_DEFAULTS = RepairOptions()


def plan_repair(
    snapshot: Snapshot,
    options: RepairOptions = _DEFAULTS,
    *,
    new_task_id: Callable[[], str],
    named: Sequence[int] | None = None,
    facts: RepairFacts = RepairFacts(),
) -> Plan:
    """Decide for each order what fixes it; database, broker and workers must have responded."""
    decisions: list[Step | Outcome] = []
    for order_id in snapshot.known_ids() if named is None else named:
        repair = Repair(order_id=order_id, snapshot=snapshot, options=options, new_task_id=new_task_id, facts=facts)
        condition = snapshot.diagnose(order_id).condition
        if condition in options.only:
            decisions.append(repair.decide(condition))
        elif named is not None:
            decisions.append(repair.decide_named())
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
class Repair:
    """Decides about one order of a snapshot."""

    order_id: int
    snapshot: Snapshot
    options: RepairOptions
    new_task_id: Callable[[], str]
    facts: RepairFacts

    @property
    def order(self) -> Order | None:
        """The order; None if it is missing."""
        return self.snapshot.orders.get(self.order_id)

    @property
    def tasks(self) -> tuple[LiveTask, ...]:
        """The order's tasks; those without a known worker are orphaned if an operator confirmed that it is dead."""
        tasks = self.snapshot.tasks_of(self.order_id)
        if not self.options.worker_dead:
            return tasks
        return tuple(
            replace(task, state=TaskState.ORPHANED, reason="an operator confirmed that its worker is dead", until=None)
            if task.is_unaccounted or task.state is TaskState.ORPHANED
            else task
            for task in tasks
        )

    def decide(self, condition: Condition) -> Step | Outcome:
        """Decide what fixes the order in this condition."""
        order, tasks = self.order, self.tasks
        if condition is Condition.INTERRUPTED:
            assert order is not None  # noqa: S101 - an interrupted order is GENERATING
            return self._enqueue(order)
        is_ghost = condition is Condition.GHOST or order is None or order.status is OrderStatus.CANCELLED
        is_finished = order is not None and order.status is not None and order.status.is_finished
        if order is None or is_ghost or (is_finished and not is_younger(order, self.snapshot.grace)):
            return self._revoke_ghosts()
        if condition is Condition.ORPHANED:
            details = (f"task {short_id(tasks[0].task_id)} requeued", *onboarding_warning(order))
            return self._requeue(order, tasks[0], (), details)
        return self._keep_one(order)

    def decide_named(self) -> Step | Outcome:
        """Decide about a named order that is in none of the conditions to fix."""
        order, tasks = self.order, self.tasks
        diagnosis = self.snapshot.diagnose(self.order_id)
        if order is None and not tasks:
            return refuse(self.order_id, "no such order")
        if diagnosis.severity is Severity.OK:
            return skip(order or self.order_id, f"nothing to repair: {diagnosis.evidence[0]}")
        if diagnosis.condition is not Condition.UNKNOWN:
            reason = f"it is {diagnosis.condition}, which repair does not fix"
            return skip(order or self.order_id, reason, hint=diagnosis.remedy)
        if order is None:
            if self.order_id in self.facts.missing:
                return self._revoke_ghosts()
        elif refusal := without_status(order):
            return refusal
        elif self.options.worker_dead and tasks and tasks[0].state is TaskState.ORPHANED:
            return self.decide(Condition.ORPHANED)
        elif (
            self.options.worker_dead
            and self.order_id in self.snapshot.possible
            and not self.snapshot.reading.unattributed
        ):
            return self._enqueue(order)
        return refuse(order or self.order_id, diagnosis.evidence[0], hint=diagnosis.remedy)

    def _keep_one(self, order: Order) -> Step | Outcome:
        """Keep the furthest task of several and revoke the others."""
        tasks = self.tasks
        running = [task for task in tasks if task.state is TaskState.RUNNING]
        log = self.facts.logs.get(self.order_id, ())
        kept = furthest(running, log) if len(running) > 1 else min(tasks, key=_turn)
        others = tuple(task for task in tasks if task is not kept)
        removable, left, refusal = self._divided(others)
        if refusal is not None and not removable:
            return refusal
        details = (f"task {short_id(kept.task_id)} kept ({kept.state})", *_describe_removed(removable, left))
        if kept.state is TaskState.ORPHANED:
            return self._requeue(order, kept, removable, details)
        return self._step(details=details, revoke=removable, keep=kept, leave=left)

    def _requeue(
        self, order: Order, task: LiveTask, others: tuple[LiveTask, ...], details: tuple[str, ...]
    ) -> Step | Outcome:
        """Requeue an orphaned task and revoke the other ones, unless it is too early."""
        if waiting := reconnecting(order, task, self.snapshot):
            return waiting
        run = order.history.last_run
        is_of_run = run is not None and run.takes_lock and run.task_id == task.task_id
        is_dead = self.options.worker_dead or (order.run_lock_held is False and is_of_run)
        if not is_dead and is_younger(order, self.options.patience):
            reason = f"its task is orphaned, but the order changed {describe_age(order.idle)} ago"
            hint = f"re-check after {describe_age(self.options.patience)}"
            return skip(order, reason, task_id=task.task_id, hint=hint)
        if exhausted := attempts_exhausted(order, self.options.max_attempts):
            return exhausted
        # A live worker writes to the log: unlike in other repairs, it must not have grown.
        if (why := self.facts.unusable.get(task.task_id)) is None:
            step = self._step(details=details, revoke=others, requeue=task)
            return replace(step, last_log_id=order.last_log_id)
        tasks = (task, *others)
        return replace(
            self._step(details=(*describe_revoked(tasks), f"enqueued under a new id: {why}"), revoke=tasks),
            after=OrderStatus.GENERATING,
            last_log_id=order.last_log_id,
            publish=self.new_task_id(),
        )

    def _revoke_ghosts(self) -> Step | Outcome:
        """Revoke the tasks of an order that must not be generated; running ones end by themselves."""
        order, tasks = self.order, self.tasks
        removable, left, refusal = self._divided(tasks)
        if removable or refusal is None:
            return self._step(details=_describe_removed(removable, left), revoke=removable, leave=left)
        running = next((task for task in tasks if task.state is TaskState.RUNNING), None)
        if running is None or running.worker is None:
            return refusal
        if order is not None and order.status is OrderStatus.CANCELLED:
            reason = "when it ends, it sets the order to REVIEW"
            hint: Hint = Remedy.run(Command.CANCEL, self.order_id, terminate=True)
        else:
            reason, hint = "it runs until it ends", "--terminate stops it"
        reason = f"{describe_task(running)}: {reason}"
        return skip(order or self.order_id, reason, hint=hint, obstacle=Obstacle.RUNNING)

    def _enqueue(self, order: Order) -> Step | Outcome:
        """Publish a task for an order without one: the journaled one, if there is one, or a new one."""
        worker_dead = self.options.worker_dead
        if not worker_dead and (live := possibly_live(order, self.snapshot)):
            return live
        journal, promised = order.journal, _promised(order)
        age, uptime = journal.age if journal is not None else None, self.snapshot.reading.uptime
        # No worker had a task that was published after the broker started.
        is_new = promised is not None and age is not None and uptime is not None and age < uptime
        wait = self.snapshot.reading.reconnecting
        if wait and not worker_dead and not is_new:
            reason = "the broker has just restarted: a worker that reconnects may have its task"
            return skip(order, reason, hint=f"re-check in {describe_age(wait)}")
        why = self.facts.unusable.get(promised) if promised is not None else None
        resume = journal.resume if journal is not None and promised is not None else True
        details: tuple[str, ...]
        if promised is not None and why is None:
            # The task keeps the id in the journal, so that it can be found by it. This is not another attempt: attempts
            # were counted before the id was journaled.
            task_id, details = promised, ("published again",)
        elif exhausted := attempts_exhausted(order, self.options.max_attempts):
            return exhausted
        else:
            task_id, details = self.new_task_id(), (f"enqueued under a new id: {why}" if why else "enqueued",)
        return replace(
            self._step(details=(*details, *onboarding_warning(order))),
            after=OrderStatus.GENERATING,
            last_log_id=order.last_log_id,
            publish=task_id,
            resume=resume,
        )

    def _divided(
        self, tasks: tuple[LiveTask, ...]
    ) -> tuple[tuple[LiveTask, ...], tuple[LiveTask, ...], Outcome | None]:
        """The tasks that can be removed, those that can't, and why the first of these can't."""
        order, terminate = self.order or self.order_id, self.options.terminate
        refusals = [not_revocable(order, (task,), self.snapshot, terminate=terminate) for task in tasks]
        removable = tuple(task for task, refusal in zip(tasks, refusals, strict=True) if refusal is None)
        left = tuple(task for task, refusal in zip(tasks, refusals, strict=True) if refusal is not None)
        return removable, left, next(filter(None, refusals), None)

    def _step(
        self,
        *,
        details: tuple[str, ...],
        revoke: tuple[LiveTask, ...] = (),
        keep: LiveTask | None = None,
        requeue: LiveTask | None = None,
        leave: tuple[LiveTask, ...] = (),
    ) -> Step:
        # The log may grow during a repair: only the status must be as planned. Tasks are read again.
        before = self.order.status if self.order is not None else None
        keeps_task = keep is not None or requeue is not None
        return Step(
            order_id=self.order_id,
            action=Action.REPAIR,
            before=before,
            # The system's beat starts BUILDING orders, even those with a task.
            after=OrderStatus.GENERATING if keeps_task and before is OrderStatus.BUILDING else None,
            revoke=revoke,
            terminate=self.options.terminate,
            keep=keep,
            leave=leave,
            requeue=requeue,
            worker_dead=self.options.worker_dead,
            verb="repaired",
            details=details,
        )


def _describe_removed(removed: tuple[LiveTask, ...], left: tuple[LiveTask, ...]) -> tuple[str, ...]:
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
