"""What puts an order right that is in two hands, in the wrong ones, or in no one's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from sitegenctl.domain.condition import Condition
from sitegenctl.domain.order import Order, OrderStatus
from sitegenctl.domain.plan import Action, Plan, Step, skip
from sitegenctl.domain.planners.rules import given_up, is_younger, not_withdrawable, short_id, withdrawals
from sitegenctl.domain.result import Outcome
from sitegenctl.domain.run import OPERATOR_ENQUEUE, OPERATOR_MOVE, OPERATOR_REPAIR, OPERATOR_RESET
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.domain.task import LiveTask, TaskState
from sitegenctl.domain.wording import describe_age, describe_task

#: What ``repair`` mends, in the order in which it does.
REPAIRABLE = (Condition.DUPLICATED, Condition.GHOST, Condition.ORPHANED, Condition.INTERRUPTED)

# Which of several tasks is kept: the one that is furthest, and of those that wait the one that is next.
_KEPT_FIRST = (
    TaskState.RUNNING,
    TaskState.RESERVED,
    TaskState.QUEUED,
    TaskState.SCHEDULED,
    TaskState.RETRYING,
    TaskState.ORPHANED,
)
_PROMISES = frozenset({OPERATOR_ENQUEUE, OPERATOR_RESET, OPERATOR_REPAIR, OPERATOR_MOVE})


def plan_repair(
    snapshot: Snapshot,
    *,
    only: frozenset[Condition] = frozenset(REPAIRABLE),
    terminate: bool = False,
    patience: timedelta = timedelta(0),
    max_attempts: int | None = None,
    new_task_id: Callable[[], str],
) -> Plan:
    """Decide for each order in one of these conditions what mends it; all sources must have answered.

    An orphaned task whose order moved within ``patience`` is left alone: its worker may have lost Redis, and nothing
    else, and go on. So is what would begin an order again that has had ``max_attempts``.

    ``terminate`` lets running tasks be stopped where two run at once, or one runs for an order that is not to
    be generated.
    """
    repairer = _Repairer(
        snapshot=snapshot,
        terminate=terminate,
        patience=patience,
        max_attempts=max_attempts,
        new_task_id=new_task_id,
    )
    steps: list[Step] = []
    left_alone: list[Outcome] = []
    for order_id in snapshot.known_ids():
        condition = snapshot.diagnose(order_id).condition
        if condition not in only:
            continue
        decision = repairer.decide(condition, order_id)
        if isinstance(decision, Step):
            steps.append(decision)
        else:
            left_alone.append(decision)
    return Plan(
        command="repair",
        order_ids=sorted([*(step.order_id for step in steps), *(outcome.order_id for outcome in left_alone)]),
        steps=steps,
        left_alone=left_alone,
    )


def _turn(task: LiveTask) -> tuple[int, int, str, str]:
    """What tasks are sorted by to tell which is furthest, and of those alike which comes first."""
    eta = task.eta.isoformat() if task.eta else ""
    return _KEPT_FIRST.index(task.state), task.position or 0, eta, task.task_id


@dataclass(frozen=True, kw_only=True)
class _Repairer:
    snapshot: Snapshot
    terminate: bool
    patience: timedelta
    max_attempts: int | None
    new_task_id: Callable[[], str]

    def decide(self, condition: Condition, order_id: int) -> Step | Outcome:
        order = self.snapshot.orders.get(order_id)
        tasks = self.snapshot.tasks_of(order_id)
        if condition is Condition.INTERRUPTED:
            assert order is not None  # noqa: S101 - an interrupted order is GENERATING
            return self._interrupted(order)
        if condition is Condition.ORPHANED:
            return self._orphaned(order, order_id, tasks[0])
        if condition is Condition.GHOST or not self._may_be_generated(order):
            return self._ghost(order, order_id, tasks)
        return self._duplicated(order, order_id, tasks)

    def _orphaned(self, order: Order | None, order_id: int, task: LiveTask) -> Step | Outcome:
        if order is not None and is_younger(order, self.patience):
            return skip(
                order_id,
                f"its worker is gone, but it moved {describe_age(order.idle)} ago: the worker may only have lost Redis",
                before=order.status,
                task_id=task.task_id,
                hint=f"look again after {describe_age(self.patience)}",
            )
        if order is not None and (spent := given_up(order, self.max_attempts)):
            return spent
        # Whoever writes its log lives: unlike elsewhere in a repair, the log must not have grown.
        step = self._step(order, order_id, details=(f"task {short_id(task.task_id)} put back",), put_back=task)
        return replace(step, last_log_id=order.last_log_id) if order is not None else step

    def _duplicated(self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]) -> Step | Outcome:
        known = sorted(
            (task for task in tasks if task.state is not TaskState.UNACKED),
            key=_turn,
        )
        others = (*known[1:], *(task for task in tasks if task.state is TaskState.UNACKED))
        verdict = not_withdrawable(order, order_id, others, terminate=self.terminate)
        if verdict is not None:
            return verdict
        kept = known[0]  # of two or more, none of which is unknown
        orphaned = kept.state is TaskState.ORPHANED
        return self._step(
            order,
            order_id,
            details=(f"task {short_id(kept.task_id)} kept ({kept.state})", *withdrawals(others)),
            withdraw=others,
            keep=None if orphaned else kept,
            put_back=kept if orphaned else None,
        )

    def _ghost(self, order: Order | None, order_id: int, tasks: tuple[LiveTask, ...]) -> Step | Outcome:
        running = [task for task in tasks if task.state is TaskState.RUNNING]
        if running and not self.terminate:
            return skip(
                order_id,
                f"{describe_task(running[0])}: it will end by itself",
                before=order.status if order else None,
                hint="--terminate stops it",
            )
        verdict = not_withdrawable(order, order_id, tasks, terminate=self.terminate)
        if verdict is not None:
            return verdict
        return self._step(order, order_id, details=tuple(withdrawals(tasks)), withdraw=tasks)

    def _interrupted(self, order: Order) -> Step | Outcome:
        journal = order.journal
        promised = journal.task_id if journal is not None and journal.step in _PROMISES else None
        if order.history.last_run is None and promised is not None and journal is not None:
            # The very task that the journal promised: whoever enqueued it can find it again.
            # Not a question of attempts, which were counted before it was promised.
            task_id, resume, detail = promised, journal.resume, "published again"
        elif spent := given_up(order, self.max_attempts):
            return spent
        else:
            task_id, resume, detail = self.new_task_id(), True, "enqueued"
        return Step(
            order_id=order.order_id,
            action=Action.REPAIR,
            before=order.status,
            after=OrderStatus.GENERATING,
            last_log_id=order.last_log_id,
            publish=task_id,
            resume=resume,
            verb="repaired",
            details=(detail,),
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
        withdraw: tuple[LiveTask, ...] = (),
        keep: LiveTask | None = None,
        put_back: LiveTask | None = None,
    ) -> Step:
        # The log may grow under a repair: only the status has to be what it was. Tasks are looked at again.
        return Step(
            order_id=order_id,
            action=Action.REPAIR,
            before=order.status if order else None,
            withdraw=withdraw,
            terminate=self.terminate,
            keep=keep,
            put_back=put_back,
            verb="repaired",
            details=details,
        )
