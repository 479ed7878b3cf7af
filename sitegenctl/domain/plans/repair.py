"""Plan repairs for duplicated, ghost, orphaned and interrupted orders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import REPAIRABLE, Condition, Diagnosis, Severity
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

# Which of several tasks is kept: the one that is furthest, and of those that wait the one that is next. One that may be
# running somewhere comes before those that wait: if it turns out to be dead it is requeued, and nothing is lost.
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
    """What a repair needs to know besides the snapshot.

    ``unusable`` has, by task id, why it must not be published again. ``logs`` are the log rows, oldest first, of orders
    with several running tasks. ``missing`` are orders that a second reading of the database did not find either.
    """

    unusable: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[int, Sequence[LogRow]] = field(default_factory=dict)
    missing: Collection[int] = ()


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """How far a repair goes.

    ``terminate`` lets running tasks be stopped. An orphaned task whose order was modified within ``patience`` is left
    alone, unless it is proven to be dead. Nothing is begun again of an order that has had ``max_attempts``.
    ``worker_dead``: a person has confirmed, for the orders that are named, that whatever had their tasks is dead.
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

    Without ``named`` orders, all that are in one of the conditions are in the plan, and no others. Of each named order
    the plan says what becomes of it.
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
    """The orders of which more than one task runs: which to keep is read from their logs."""
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
    """Of several running tasks of one order the one to keep: furthest, and with its files still in the folder.

    A run that begins clears away the files that it finds: of runs that had written some by then nothing whole will
    come. Where the log does not say which task wrote a row, the run that began last owns the folder.
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
        """What fixes an order in this condition, or why nothing may be done."""
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
        """What becomes of a named order that is in none of the conditions to fix."""
        order = self.snapshot.orders.get(order_id)
        diagnosis = self.snapshot.diagnose(order_id)
        tasks = self._tasks(order_id)
        if order is None and not tasks:
            return refuse(order_id, "no such order")
        if diagnosis.condition is not Condition.UNKNOWN:
            return _not_repaired(order, order_id, diagnosis)
        if order is None:
            if order_id in self.facts.missing:
                return self._ghost(order, order_id, tasks)
        elif refused := without_status(order):
            return refused
        elif self.options.worker_dead and tasks and tasks[0].state is TaskState.ORPHANED:
            return self.decide(Condition.ORPHANED, order_id)
        elif self.options.worker_dead and order_id in self.snapshot.possible and not self.snapshot.unattributed:
            return self._interrupted(order)
        return refuse(
            order_id,
            diagnosis.evidence[0],
            before=order.status if order else None,
            hint=diagnosis.remedy,
        )

    def _tasks(self, order_id: int) -> tuple[LiveTask, ...]:
        """The order's tasks; those of which no worker is known are proven dead where a person has confirmed it."""
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
        """Requeue an orphaned task and remove its order's other ones, or say why not yet."""
        if waiting := reconnecting(order, order.order_id, task, self.snapshot):
            return waiting
        dead = self.options.worker_dead or (order.run_lock_held is False and _is_of_run(order, task))
        if not dead and is_younger(order, self.options.patience):
            return skip(
                order.order_id,
                f"its task is orphaned, but the order was modified {describe_age(order.idle)} ago",
                before=order.status,
                task_id=task.task_id,
                hint=f"re-check after {describe_age(self.options.patience)}",
            )
        if spent := attempts_exhausted(order, self.options.max_attempts):
            return spent
        if (why := self.facts.unusable.get(task.task_id)) is not None:
            return self._replaced(order, (task, *others), why)
        # A log that grows is written by a live worker: unlike elsewhere in a repair, it must not have grown.
        step = self._step(order, order.order_id, details=details, revoke=others, requeue=task)
        return replace(step, last_log_id=order.last_log_id)

    def _duplicated(self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]) -> Step | Outcome:
        kept = self._kept(order_id, tasks)
        others = tuple(task for task in tasks if task is not kept)
        removable, left = self._divided(order, order_id, others)
        if not removable:
            verdict = not_revocable(order, order_id, others, self.snapshot, terminate=self.options.terminate)
            assert verdict is not None  # noqa: S101 - of two tasks or more there is another one
            return verdict
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
            verdict = not_revocable(order, order_id, tasks, self.snapshot, terminate=self.options.terminate)
            assert verdict is not None  # noqa: S101 - none of its tasks is removable
            return verdict
        if order is not None and order.status is OrderStatus.CANCELLED:
            reason = "when it ends, it sets the order to REVIEW"
            hint: Hint = Remedy.run(Command.CANCEL, order_id, terminate=True)
        else:
            reason, hint = "it goes on until it ends", "--terminate stops it"
        return skip(
            order_id,
            f"{describe_task(running)}: {reason}",
            before=order.status if order else None,
            hint=hint,
            obstacle=Obstacle.RUNNING,
        )

    def _divided(
        self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]
    ) -> tuple[tuple[LiveTask, ...], tuple[LiveTask, ...]]:
        """Those of these tasks that can be removed, and those that can't."""
        removable = tuple(
            task
            for task in tasks
            if not_revocable(order, order_id, (task,), self.snapshot, terminate=self.options.terminate) is None
        )
        return removable, tuple(task for task in tasks if task not in removable)

    def _interrupted(self, order: Order) -> Step | Outcome:
        if not self.options.worker_dead and (live := possibly_live(order, self.snapshot)):
            return live
        wait = self.snapshot.reading.reconnecting
        if wait and not self.options.worker_dead and not self._was_enqueued_since_start(order):
            return skip(
                order.order_id,
                "the broker has restarted a moment ago: a worker on its way back may hold its task",
                before=order.status,
                hint=f"re-check in {describe_age(wait)}",
            )
        journal, promised = order.journal, _promised(order)
        why = self.facts.unusable.get(promised) if promised is not None else None
        details: tuple[str, ...]
        if promised is not None and journal is not None and why is None:
            # The task that the journal promised keeps its id, so that it can be found again by it. This is not another
            # attempt: attempts were counted before it was promised.
            task_id, resume, details = promised, journal.resume, ("published again",)
        elif spent := attempts_exhausted(order, self.options.max_attempts):
            return spent
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
        """Whether its task was published after the broker started, so that no worker can be bringing it back."""
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
        # The log may grow under a repair: only the status has to be what it was. Tasks are read again.
        keeps_task = keep is not None or requeue is not None
        is_building = order is not None and order.status is OrderStatus.BUILDING
        return Step(
            order_id=order_id,
            action=Action.REPAIR,
            before=order.status if order else None,
            # The system's beat starts what is BUILDING, whether or not it has a task.
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
    """What tasks are sorted by to tell which is furthest, and of those alike which comes first."""
    eta = task.eta.isoformat() if task.eta else ""
    return _KEPT_FIRST.index(task.state), task.position or 0, eta, task.task_id


def _promised(order: Order) -> str | None:
    """The id of the task that the journal promised and that no run has begun of."""
    journal = order.journal
    if journal is None or journal.step not in _PROMISES or order.history.last_run is not None:
        return None
    return journal.task_id


def _is_of_run(order: Order, task: LiveTask) -> bool:
    run = order.history.last_run
    return run is not None and run.takes_lock and run.task_id == task.task_id


def _not_repaired(order: Order | None, order_id: int, diagnosis: Diagnosis) -> Outcome:
    before = order.status if order else None
    if diagnosis.severity is Severity.OK:
        return skip(order_id, f"nothing to repair: {diagnosis.evidence[0]}", before=before)
    return skip(
        order_id, f"it is {diagnosis.condition}, which repair does not fix", before=before, hint=diagnosis.remedy
    )
