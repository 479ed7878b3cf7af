"""One batch of a plan: its steps are executed together, phase by phase, with an outcome for each.

The phases, always in this order: read the queue again; apply the transitions (one transaction: lock, re-check, set the
status, journal with the id of the task to come); revoke tasks; move files to the trash, or back; publish or requeue.
What fails on the way is rolled back, files first. A process killed in between leaves orders whose journal has the
intention: a task that exists nowhere, which ``repair`` publishes under the same id, or tasks and files as they were.

An undo that removes a task or brings files back only journals that at first; a second transaction sets the status once
they are as before. A process killed in between leaves an order as the operation did, which can be undone again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_task
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import Action, Outcome, OutcomeKind, Step
from sitegenctl.domain.ports import Actor, PublishFailure, QueueBackend, Sources, TransitionFailure, TransitionResult
from sitegenctl.domain.queue.task import LiveTask, Publication, TaskState
from sitegenctl.errors import SourceError, Unconfirmed
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.observe import CONFIRM_DELAY, QueueCache


@dataclass(kw_only=True)
class Failure:
    """Why a step could not be completed; ``certain`` is False when a task may have been published all the same."""

    reason: str
    hint: Hint | None = None
    certain: bool = True


@dataclass(kw_only=True)
class ExecutionContext:
    """What the batches of one plan share; ``refusal`` is set once the broker has refused to publish."""

    sources: Sources
    actor: Actor
    now: Callable[[], datetime]
    cache: QueueCache
    progress: Callable[[int], None] | None = None
    completed: int = 0
    refusal: SourceError | None = None

    def advance(self, count: int) -> None:
        """Report that this many more orders are completed."""
        self.completed += count
        if self.progress is not None and count:
            self.progress(self.completed)


@dataclass(kw_only=True)
class Batch:
    """Steps that are executed together."""

    context: ExecutionContext
    steps: Sequence[Step]
    skips: dict[int, Outcome] = field(default_factory=dict)  # by order
    applied: TransitionResult = field(default_factory=TransitionResult)
    failures: dict[int, Failure] = field(default_factory=dict)  # by order
    trashed: dict[int, str] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)  # orders whose undo is completed
    previous: Batch | None = None  # it publishes after that one has
    lost: SourceError | None = None  # the source that could not be reached before anything was changed
    has_published: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> list[Outcome]:
        """Execute the steps; returns an outcome for each."""
        try:
            try:
                await self._apply()
            except SourceError as exc:
                self.lost = exc
            skipped_count = len(self.steps) - len(self._active())
            if self.lost is None:
                self.context.advance(skipped_count)
                if steps := [step for step in self._active() if step.revoke]:
                    await self._revoke(steps)
                if steps := [step for step in self._active() if step.before and (step.revoke or step.trash)]:
                    await self._confirm(steps)
                if steps := [step for step in self._active() if step.trash]:
                    await self._trash(steps)
                if steps := [step for step in self._active() if step.untrash is not None]:
                    await self._untrash(steps)
                if steps := [step for step in self._active() if step.beginning is not None]:
                    await self._complete(steps)
            if self.previous is not None:
                # Orders are generated in the order of their publication.
                await self.previous.has_published.wait()
                self.previous = None
            if self.lost is not None:
                self.context.advance(len(self.steps))
                return [self.skips.get(step.order_id) or not_applied(step, self.lost) for step in self.steps]
            if steps := [step for step in self._active() if step.publish is not None]:
                await self._publish(steps)
            if steps := [step for step in self._active() if step.requeue is not None]:
                await self._requeue(steps)
            self.has_published.set()
            rollback: TransitionResult | SourceError = TransitionResult()
            failed = [
                step
                for step in self.steps
                if step.order_id in self.applied.journal_ids
                and (failure := self.failures.get(step.order_id)) is not None
                and failure.certain
            ]
            if failed:
                rollback = await self._roll_back(failed)
        finally:
            self.has_published.set()
        self.context.advance(len(self.steps) - skipped_count)
        return [
            self.skips.get(step.order_id) or _outcome(step, self.applied, self.failures.get(step.order_id), rollback)
            for step in self.steps
        ]

    async def _apply(self) -> None:
        """Apply the transitions, except of orders that have a new task, lost the one to keep, or exist by now."""
        context = self.context
        missing = [step.order_id for step in self.steps if step.before is None]
        # A plan may wait long for its confirmation, and an order may be committed after its task was published.
        existing = await context.sources.orders.existing(missing) if missing else ()
        reading = await context.cache.read()
        for step in self.steps:
            tasks = context.cache.by_order.get(step.order_id, ())
            # Tasks that the plan did not see: of another id, or another copy of one that it saw.
            planned = (*step.revoke, *step.kept_tasks)
            surplus = Counter(task.task_id for task in tasks) - Counter(task.task_id for task in planned)
            unexpected = next((task for task in tasks if task.task_id in surplus), None)
            if step.order_id in existing:
                self._skip(step, "the order exists now")
            elif unexpected is not None:
                self._skip(step, describe_task(unexpected), task_id=unexpected.task_id)
            elif reading.unattributed and not planned and step.publish is not None:
                self._skip(step, "a message of our task that cannot be attributed may be of this order")
            elif step.keep is not None and _has_gone(step.keep, tasks):
                self._skip(step, f"task {step.keep.task_id} no longer exists: plan again")
        failpoints.reached(Failpoint.RECHECKED)
        if any(step.publish is not None or step.requeue is not None for step in self.steps):
            # Before the orders are changed: a rollback writes two journal rows for each.
            if context.refusal is not None:
                raise context.refusal
            try:
                await context.sources.queue.require_writable()
            except SourceError as exc:
                context.refusal = exc
                raise
        with_row = [
            step.beginning or step for step in self.steps if step.before is not None and step.order_id not in self.skips
        ]
        if with_row:
            self.applied = await context.sources.orders.apply(with_row, context.actor)
        failpoints.reached(Failpoint.APPLIED)

    async def _revoke(self, steps: Sequence[Step]) -> None:
        try:
            failed = await self.context.sources.queue.revoke(
                [task for step in steps for task in step.revoke],
                terminate=any(step.terminate for step in steps),
                # Another place of a task that stays may be among those to be removed.
                keep={task.task_id for step in steps for task in step.kept_tasks},
            )
        except SourceError as exc:
            self._fail(steps, f"could not confirm that its tasks were revoked: {exc.message}", hint=exc.hint)
            return
        for step in steps:
            self._fail([step], next((failed[task.task_id] for task in step.revoke if task.task_id in failed), None))
        failpoints.reached(Failpoint.REVOKED)

    async def _confirm(self, steps: Sequence[Step]) -> None:
        """Fail orders whose generation went on until the tasks were gone: a finished site must not be moved."""
        try:
            progress = await self.context.sources.orders.confirm(self._by_journal_id(steps))
        except SourceError as exc:
            self._fail(steps, exc.message, hint=exc.hint)
            return
        for step in steps:
            if step.order_id in progress:
                self._fail([step], f"its task ended by itself: {progress[step.order_id]}")

    async def _trash(self, steps: Sequence[Step]) -> None:
        try:
            result = await self.context.sources.sites.trash(
                [step.order_id for step in steps], self.context.actor.operation
            )
        except SourceError as exc:
            self._fail(steps, exc.message, hint=exc.hint)
            return
        self.trashed = dict(result.moved)
        for step in steps:
            self._fail([step], result.failed.get(step.order_id))
        failpoints.reached(Failpoint.TRASHED)

    async def _untrash(self, steps: Sequence[Step]) -> None:
        """Bring files back from the trash, never over other ones."""
        names = {step.order_id: step.untrash for step in steps if step.untrash is not None}
        try:
            failed = await self.context.sources.sites.untrash(names)
        except SourceError as exc:
            failed = dict.fromkeys(names, exc.message)
        for step in steps:
            self._fail([step], failed.get(step.order_id), hint=_republish(step))
        failpoints.reached(Failpoint.UNTRASHED)

    async def _complete(self, steps: Sequence[Step]) -> None:
        """Set the status from before the undone operation: the tasks and files are as they were then."""
        begun = [replace(step, last_log_id=self.applied.journal_ids[step.order_id]) for step in steps]
        try:
            result = await self.context.sources.orders.apply(begun, self.context.actor)
        except Unconfirmed as exc:
            self.skips |= {step.order_id: not_applied(step, exc) for step in steps}
            return
        except SourceError as exc:
            self._fail(steps, exc.message, hint=exc.hint)
            return
        for step in steps:
            if (change := result.changed.get(step.order_id)) is not None:
                # What happened since is not to be rolled back.
                self._skip(step, change, kind=OutcomeKind.FAILED)
            elif (failure := result.failed.get(step.order_id)) is not None:
                self._fail([step], failure.reason, hint=failure.hint or _republish(step))
        self.applied = replace(self.applied, journal_ids={**self.applied.journal_ids, **result.journal_ids})
        self.undone |= result.journal_ids.keys()
        failpoints.reached(Failpoint.UNDONE)

    async def _publish(self, steps: Sequence[Step]) -> None:
        context = self.context
        if context.refusal is not None:
            # Another batch was refused meanwhile.
            self._fail(steps, f"publishing failed: {context.refusal.message}", hint=context.refusal.hint)
            return
        actor, enqueued_at = str(context.actor), context.now()
        publications = [
            Publication(
                task_id=step.publish or "",
                order_id=step.order_id,
                resume=step.resume,
                actor=actor,
                enqueued_at=enqueued_at,
                eta=step.eta,
                attempt=step.attempt,
            )
            for step in steps
        ]
        failures = dict(await context.sources.queue.publish(publications))
        if any(not failure.certain for failure in failures.values()):
            failures = await _find_published(context.sources.queue, {step.order_id for step in steps}, failures)
        for step in steps:
            failure = failures.get(step.publish or "")
            if failure is not None and failure.certain:
                self._fail([step], f"publishing failed: {failure.reason}")
                context.refusal = SourceError(failure.reason, source=Source.BROKER)
            elif failure is not None:
                self.failures[step.order_id] = Failure(
                    reason=f"could not confirm that task {step.publish} was published: {failure.reason}",
                    hint=Remedy.run(Command.INSPECT, step.order_id, advice="once Redis responds again"),
                    certain=False,
                )
        failpoints.reached(Failpoint.PUBLISHED)

    async def _requeue(self, steps: Sequence[Step]) -> None:
        failed: dict[str, str] = {}
        try:
            for worker_dead in {step.worker_dead for step in steps}:
                tasks = [step.requeue for step in steps if step.requeue and step.worker_dead is worker_dead]
                failed |= await self.context.sources.queue.requeue(tasks, worker_dead=worker_dead)
        except SourceError as exc:
            self._fail(steps, f"could not confirm that its task was requeued: {exc.message}", hint=exc.hint)
            return
        for step in steps:
            self._fail([step], failed.get(step.task_id or ""))
        failpoints.reached(Failpoint.REQUEUED)

    async def _roll_back(self, failed: Sequence[Step]) -> TransitionResult | SourceError:
        """Restore what failed: first the files, then the status, with the reason in the journal."""
        moved = {step.order_id: self.trashed[step.order_id] for step in failed if step.order_id in self.trashed}
        if moved:
            try:
                left = await self.context.sources.sites.untrash(moved)
            except SourceError as exc:
                left = dict.fromkeys(moved, exc.message)
            for order_id, reason in left.items():
                self.failures[order_id].reason += f"; its files are in the trash as {moved[order_id]}: {reason}"
        reasons = {step.order_id: self.failures[step.order_id].reason for step in failed}
        try:
            rollback = await self.context.sources.orders.roll_back(
                self._by_journal_id(failed), self.context.actor, reasons
            )
        except SourceError as exc:
            return exc
        failpoints.reached(Failpoint.ROLLED_BACK)
        return rollback

    def _active(self) -> list[Step]:
        """The steps that were applied and have not failed; a missing order has no row, only tasks."""
        return [
            step
            for step in self.steps
            if step.order_id not in self.skips
            and step.order_id not in self.failures
            and (step.before is None or step.order_id in self.applied.journal_ids)
        ]

    def _by_journal_id(self, steps: Iterable[Step]) -> dict[int, Step]:
        """The steps as they are journaled so far."""
        return {
            self.applied.journal_ids[step.order_id]: step if step.order_id in self.undone else step.beginning or step
            for step in steps
        }

    def _skip(
        self, step: Step, reason: str, *, task_id: str | None = None, kind: OutcomeKind = OutcomeKind.SKIPPED
    ) -> None:
        self.skips[step.order_id] = outcome_of(step, kind, reason, task_id=task_id)

    def _fail(self, steps: Iterable[Step], reason: str | None, *, hint: Hint | None = None) -> None:
        """Record why these steps failed; None: they did not."""
        if reason is not None:
            self.failures |= {step.order_id: Failure(reason=reason, hint=hint) for step in steps}


def _has_gone(kept: LiveTask, tasks: Sequence[LiveTask]) -> bool:
    # A running task may end at any moment, and a worker that acknowledges early has it out of the broker.
    return kept.state is not TaskState.RUNNING and all(task.task_id != kept.task_id for task in tasks)


def _republish(step: Step) -> Remedy | None:
    """What publishes the task again that an undo removed before it failed."""
    if not step.revoke:
        return None
    return Remedy.run(Command.REPAIR, step.order_id, advice="its task was removed; to publish it again")


async def _find_published(
    queue: QueueBackend, order_ids: Collection[int], failures: dict[str, PublishFailure]
) -> dict[str, PublishFailure]:
    """Look for tasks whose reply was lost; returns the failures of those that were not published after all.

    A task is missing only if two readings miss it: Redis may execute the publishing call after it answered the first
    one. Where the queue can't be read, the doubt stays.
    """
    try:
        first = {task.task_id for task in (await queue.read(order_ids)).tasks}
        await asyncio.sleep(CONFIRM_DELAY)
        published = first | {task.task_id for task in (await queue.read(order_ids)).tasks}
    except SourceError:
        return failures
    return {
        task_id: replace(failure, certain=True) for task_id, failure in failures.items() if task_id not in published
    }


def _outcome(
    step: Step, applied: TransitionResult, failure: Failure | None, rollback: TransitionResult | SourceError
) -> Outcome:
    """The outcome of a step after its transition was attempted; a failure after that was rolled back."""
    order_id, failed = step.order_id, OutcomeKind.FAILED
    if order_id in applied.changed:
        return outcome_of(step, OutcomeKind.SKIPPED, applied.changed[order_id])
    if (refused := applied.failed.get(order_id)) is not None:
        return outcome_of(step, failed, refused.reason, hint=refused.hint)
    after = step.after or step.before
    if failure is None:
        log_id = applied.journal_ids.get(order_id)
        return outcome_of(step, OutcomeKind.DONE, step.description, task_id=step.task_id, after=after, log_id=log_id)
    if not failure.certain:
        return outcome_of(step, failed, failure.reason, hint=failure.hint, after=after)
    if step.before is None:
        return outcome_of(step, failed, failure.reason, hint=failure.hint)
    if isinstance(rollback, SourceError):
        rollback = TransitionResult(failed={order_id: TransitionFailure(reason=rollback.message)})
    if (stuck := rollback.failed.get(order_id)) is not None:
        reason = f"{failure.reason}; and {step.before} could not be restored: {stuck.reason}"
        advice = f"it is {after} without a task; later"
        enqueue = Remedy.run(Command.ENQUEUE, order_id, advice=advice)
        hint = enqueue if step.action is Action.ENQUEUE else Remedy.run(Command.REPAIR, advice=advice)
        return outcome_of(step, failed, reason, hint=hint, after=after)
    if order_id in rollback.journal_ids:
        again = f"; {step.before} again" if step.after not in (None, step.before) else ""
        return outcome_of(step, failed, f"{failure.reason}{again}", hint=failure.hint, after=step.before)
    reason = f"{failure.reason}; but {rollback.changed.get(order_id, 'it has changed since')}"
    return outcome_of(step, failed, reason, hint=Remedy.run(Command.INSPECT, order_id, advice="for its condition"))


def not_applied(step: Step, exc: SourceError) -> Outcome:
    """The outcome of a step whose transition could not be applied, or not be confirmed."""
    hint = exc.hint
    if isinstance(exc, Unconfirmed):
        hint = Remedy.run(
            Command.INSPECT, step.order_id, advice="once the database responds again", note="repair fixes it if needed"
        )
    return outcome_of(step, OutcomeKind.FAILED, exc.message, hint=hint)


def outcome_of(
    step: Step,
    kind: OutcomeKind,
    reason: str,
    *,
    task_id: str | None = None,
    after: OrderStatus | None = None,
    hint: Hint | None = None,
    log_id: int | None = None,
) -> Outcome:
    """The outcome of a step; without a status ``after`` it, a failed or skipped one changed nothing."""
    return Outcome(
        order_id=step.order_id,
        outcome=kind,
        reason=reason,
        task_id=task_id,
        before=step.before,
        after=after,
        hint=hint,
        log_id=log_id or step.last_log_id or 0,
    )
