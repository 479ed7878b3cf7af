"""Plan the undo of an operation, order by order: its task revoked, its files and its status as they were before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.describe import describe_age, describe_files, describe_task, describe_time
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.operation import JournalRow, Operation, OperationKind, journal_row
from sitegenctl.domain.orders.order import OPEN_STATUSES, JournalEntry, LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import (
    OPERATOR_CANCEL,
    OPERATOR_FAILED_SUFFIX,
    OPERATOR_PREFIX,
    OPERATOR_RESTORE,
    OPERATOR_UNDO,
)
from sitegenctl.domain.orders.run_reader import Before, OrderReader, RunRow
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.plans.guards import (
    announced_recently,
    describe_revoked,
    not_revocable,
    possibly_live,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Obstacle, Outcome, Plan, Step, refuse, skip
from sitegenctl.domain.plans.reset import uncounted
from sitegenctl.domain.queue.task import TaskState

#: Log rows of an order that an undo reads: after an operation that can be undone, there are only journal rows.
LOG_ROWS = 20

#: Operations of one operator so close to each other may be mistaken for each other.
CLOSE = timedelta(minutes=1)

#: Operations that are listed where it is not clear which one to undo.
MAX_CANDIDATES = 10

_REVERSIBLE = frozenset({Action.ENQUEUE, Action.RESET, Action.CANCEL})
_OPERATIONS = _REVERSIBLE | {Action.REPAIR}


@dataclass(frozen=True, kw_only=True)
class UndoFacts:
    """What an undo needs besides the snapshot, by order."""

    rows: Mapping[int, JournalRow]  # the last row of the operation that is not a rollback
    logs: Mapping[int, Sequence[LogRow]] = field(default_factory=dict)  # the newest rows, oldest first
    trashed: Mapping[int, str] = field(default_factory=dict)  # the site that it moved to the trash, by its name there


def plan_undo(
    snapshot: Snapshot, order_ids: Sequence[int], facts: UndoFacts, *, new_task_id: Callable[[], str]
) -> Plan:
    """Decide for each order of an operation whether it can be undone; all sources must have responded."""
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order, row = snapshot.orders.get(order_id), facts.rows.get(order_id)
        if order is None:
            decisions.append(refuse(order_id, "no such order"))
        elif row is None:
            decisions.append(skip(order, "no operation changed it"))
        else:
            undo = _Undo(order=order, row=row, snapshot=snapshot, facts=facts, new_task_id=new_task_id)
            decisions.append(undo.decide())
    plan = Plan.of("undo", decisions)
    if plan.steps and any(row.command == "maintain" for row in facts.rows.values()):
        return replace(plan, notes=("the next run of maintain does the same again; cancel holds an order",))
    return plan


def latest(operations: Sequence[Operation], *, host: str) -> Sequence[Operation]:
    """The latest of an operator's operations that is not undone; several where it is not clear which one is meant.

    That is the case if another one began within ``CLOSE`` before it, or if it was begun at another host.
    """
    standing = [
        operation
        for operation in sorted(operations, key=lambda each: each.log_id, reverse=True)
        if operation.kind is OperationKind.OPERATOR
        and operation.operation_id is not None
        and operation.undone_by is None
        and operation.undoes is None
        # A restore moves files only: the operation before it can be undone.
        and any(entry.rollback is None and entry.row.step != Action.RESTORE for entry in operation.entries)
    ]
    if not standing:
        return []
    newest = standing[0]
    close = [each for each in standing if each.at and newest.at and newest.at - each.at < CLOSE] or [newest]
    return standing[:MAX_CANDIDATES] if newest.host != host else close[:MAX_CANDIDATES]


def newest_row(log: Sequence[LogRow]) -> JournalRow | None:
    """The row of the newest operation that stands in an order's log, or else of the newest one."""
    reader = OrderReader()
    for each in log:
        reader.feed(_run_row(each))
    rows = [row for each in log if (row := journal_row(each)) is not None and row.step in _OPERATIONS]
    standing = {before.row.log_id for before in reader.standing}
    return next((row for row in reversed(rows) if row.log_id in standing), rows[-1] if rows else None)


@dataclass(frozen=True, kw_only=True)
class _Undo:
    """The undo of an operation for one order; ``row`` is the operation's."""

    order: Order
    row: JournalRow
    snapshot: Snapshot
    facts: UndoFacts
    new_task_id: Callable[[], str]

    def decide(self) -> Step | Outcome:
        """Undo it, unless the order has changed since or something cannot come back."""
        before = self._irreversible() or self._before()
        if isinstance(before, Outcome):
            return before
        return (without_status(self.order) or self._differs() or self._has_run() or self._lacks_files()) or self._step(
            before
        )

    def _irreversible(self) -> Outcome | None:
        """Refuse what no undo brings back."""
        order, row = self.order, self.row
        if row.step.startswith(OPERATOR_UNDO):
            return refuse(order, "an undo is not undone", hint="run the command again that it undid")
        if row.operation is None:
            return refuse(order, "the release that did it gave operations no id")
        if row.step == Action.RESTORE:
            return refuse(order, f"{row.command} is not undone", hint="the site that it replaced is in the trash")
        if row.step not in _REVERSIBLE:
            hint = Remedy.run(Command.CANCEL, order.order_id, advice="to hold the order")
            return refuse(order, f"{row.command} is not undone: it put the order right", hint=hint)
        return None

    def _before(self) -> Before | Outcome:
        """The order's history before the operation; an outcome if that is not the newest operation that stands."""
        order, row, log = self.order, self.row, self.facts.logs.get(self.order.order_id, ())
        reader, removed_by, was_read = OrderReader(), None, False
        for each in log:
            reader.feed(_run_row(each))
            if any(before.row.log_id == row.log_id for before in reader.standing):
                was_read, removed_by = True, None
            elif was_read and removed_by is None:
                removed_by = each
        if not was_read or log[-1].log_id != order.last_log_id:
            return self._changed("its log has newer rows")
        if removed_by is None:
            newest = reader.standing[-1]
            if newest.row.log_id == row.log_id:
                return newest
            return self._changed_by(next(each for each in log if each.log_id == newest.row.log_id))
        if removed_by.step == OPERATOR_UNDO:
            return skip(order, f"it is undone already: {_describe_row(removed_by)}")
        if removed_by.step.startswith(OPERATOR_PREFIX):
            return skip(order, "it was rolled back, so there is nothing to undo")
        if order.status is not None and order.status.is_finished:
            changed = self._changed("its site was generated")
            if self._stopped() or self._trashed is None:
                return changed
            restore = Remedy.run(
                Command.TRASH_RESTORE, order.order_id, advice="for the old site", entry=row.operation or "", force=True
            )
            return replace(changed, hint=restore)
        return self._changed(f"its generation began ({log[-1].step})")

    def _changed(self, what: str) -> Outcome:
        """Refuse an order that is not as the operation left it."""
        if stopped := self._stopped():
            return stopped
        hint = Remedy.run(Command.INSPECT, self.order.order_id, advice="for what happened since")
        return refuse(self.order, f"it has changed since: {what}", hint=hint)

    def _changed_by(self, row: LogRow) -> Outcome:
        """Refuse an order that a later operation changed."""
        later = journal_row(row)
        changed = self._changed(_describe_row(row))
        if later is None or later.operation is None:
            return changed
        first = Remedy(command=Command.UNDO, operation=later.operation, advice="to undo that first")
        return replace(changed, hint=first)

    def _stopped(self) -> Outcome | None:
        """Refuse an order whose running task the operation stopped."""
        order = self.order
        if all(task.waited for task in self.row.revoked):
            return None
        again = Remedy.run(Command.ENQUEUE, order.order_id, advice="to generate it again")
        reason = "its running generation was stopped, and cannot be continued"
        return refuse(order, reason, hint=again if order.status is not OrderStatus.GENERATING else None)

    def _differs(self) -> Outcome | None:
        """Refuse an order with another status than the operation set, or without the task that it stopped."""
        order, row = self.order, self.row
        if stopped := self._stopped():
            return stopped
        if row.before not in OrderStatus.__members__ or order.status != (row.after or row.before):
            return self._changed(f"{row.after or row.before} became {order.status}")
        if row.after is None and not order.is_open:
            return skip(order, f"its task was superfluous, because it is {order.status}: nothing to undo")
        return None

    def _has_run(self) -> Outcome | None:
        """Refuse an order with another task than the operation published, or whose task may have begun."""
        order, row, snapshot = self.order, self.row, self.snapshot
        tasks = snapshot.tasks_of(order.order_id)
        for task in tasks:
            if task.task_id != self._task_id:
                return self._changed(describe_task(task))
            if task.state is TaskState.RUNNING:
                hint = Remedy.run(Command.CANCEL, order.order_id, terminate=True, advice="to stop it")
                return refuse(order, describe_task(task), hint=hint, obstacle=Obstacle.RUNNING)
            if task.attempt > 1:
                return self._changed(f"{describe_task(task)}, after {task.attempt - 1} failed")
        if tasks:
            return not_revocable(order, tasks, snapshot, terminate=False)
        run = order.history.last_run
        if row.task_id is not None and run is not None:
            return self._changed("its task failed")
        if early := announced_recently(order, snapshot):
            return replace(early, hint=self._wait())
        return possibly_live(order, snapshot)

    @property
    def _task_id(self) -> str | None:
        """The id of the order's task: the undo of a later operation published it again, under another id."""
        journal = self.order.journal
        return journal.task_id if journal is not None else self.row.task_id

    def _lacks_files(self) -> Outcome | None:
        """Refuse an order whose files cannot come back from the trash, or have new ones in their place."""
        order, row = self.order, self.row
        if not row.trashes:
            return None
        files = self.snapshot.files.get(order.order_id)
        if files is None:
            return uncounted(order)
        if self._trashed is not None:
            return self._changed(f"{describe_files(files)} in its folder") if files.count else None
        # A process that was killed before it moved them leaves them in place.
        if files.count or not row.file_count:
            return None
        if row.age is not None and row.age < self.snapshot.grace:
            return skip(order, "its files may be on their way to the trash", hint=self._wait())
        return refuse(order, "its files are no longer in the trash", obstacle=Obstacle.FILES)

    def _wait(self) -> str:
        return f"re-check after {describe_age(self.snapshot.grace)}"

    @property
    def _trashed(self) -> str | None:
        return self.facts.trashed.get(self.order.order_id) if self.row.trashes else None

    def _step(self, before: Before) -> Step:
        order, row = self.order, self.row
        tasks = self.snapshot.tasks_of(order.order_id)
        after = OrderStatus(row.before) if row.before is not None else None
        publish = self.new_task_id() if row.revoked and after in OPEN_STATUSES else None
        if publish is not None:
            # The system's beat starts BUILDING orders, even those with a task.
            after = OrderStatus.GENERATING
        details = describe_revoked(tasks)
        if self._trashed is not None:
            details.append(f"{describe_files(SiteFiles(count=row.file_count, size=None))} from the trash")
        if before.last_journal == OPERATOR_CANCEL and after is not OrderStatus.GENERATING:
            details.append("on hold again")
        removed = row.revoked[0] if publish is not None else None
        eta = removed.eta if removed is not None and removed.eta and removed.eta > self.snapshot.now else None
        attempt = removed.attempt if removed is not None else 1
        if publish is not None:
            wait = f", not to start before {describe_time(eta, self.snapshot.now)}" if eta is not None else ""
            details.append(f"its task published again{wait}{f', attempt {attempt}' if attempt > 1 else ''}")
        return Step(
            order_id=order.order_id,
            action=Action.UNDO,
            before=order.status,
            after=after,
            last_log_id=order.last_log_id,
            revoke=tasks,
            publish=publish,
            resume=all(task.resume for task in row.revoked[:1]),
            eta=eta,
            attempt=attempt,
            # A task that is published again is on its way for a moment.
            idle=row.idle + row.age if publish is None and row.idle is not None and row.age is not None else None,
            undoes=replace(row, task_id=self._task_id),
            untrash=self._trashed,
            restores=self._announcement(),
            verb="undone",
            details=tuple(details),
        )

    def _announcement(self) -> JournalEntry | None:
        """The newest journal row before the operation, which may announce a task."""
        for each in reversed(self.facts.logs[self.order.order_id]):
            if each.log_id < self.row.log_id and _announces(each):
                details = each.details if isinstance(each.details, dict) else {}
                failed = each.step.endswith(OPERATOR_FAILED_SUFFIX) and each.step != Action.UNDO.rollback_step
                task_id = details.get("task_id")
                return JournalEntry(
                    step=each.step,
                    task_id=task_id if isinstance(task_id, str) and not failed else None,
                    resume=details.get("resume") is not False,
                )
        return None


def _announces(row: LogRow) -> bool:
    """Whether a row of the journal says what the order's task is."""
    return row.step.startswith(OPERATOR_PREFIX) and not row.step.startswith(OPERATOR_RESTORE)


def _run_row(row: LogRow) -> RunRow:
    command = row.details.get("command") if isinstance(row.details, dict) else None
    return RunRow(log_id=row.log_id, step=row.step, command=command)


def _describe_row(row: LogRow) -> str:
    """Describe a row of the journal: its command, by which operator and when."""
    details = row.details if isinstance(row.details, dict) else {}
    actor = f"{details.get('actor', 'an operator')}@{details.get('host', 'an unknown host')}"
    return f"{details.get('command', row.step)} by {actor} {describe_age(row.age)} ago"
