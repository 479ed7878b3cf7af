"""Some orders of a plan on their way through its parts, and what became of each of them.

The parts, in this order for every step: look at the queue once more; claim (one transaction: lock, re-check, set the
status, journal with the id of the task to come); withdraw tasks; move files to the trash; publish, put back, or hand
to another queue. What fails on the way is taken back, files first. A process killed in between leaves orders whose
journal says what was meant: a task that exists nowhere, which ``repair`` publishes under the same id, or tasks and
files as they were.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_task
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.plans.result import Outcome, OutcomeKind
from sitegenctl.domain.ports import Actor, OrdersStore, QueueBackend, SiteStore, TransitionResult
from sitegenctl.domain.queue.task import LiveTask, Publication
from sitegenctl.errors import SourceError
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.failpoints import Checkpoint
from sitegenctl.operations.outcomes import Failure, has_gone, look_for, outcome, settle, unclaimed
from sitegenctl.operations.queue_cache import QueueCache


@dataclass(kw_only=True)
class ExecutionContext:
    """What the chunks of one plan share."""

    orders: OrdersStore
    queue: QueueBackend
    sites: SiteStore | None
    actor: Actor
    now: Callable[[], datetime]
    belief: QueueCache
    refusal: SourceError | None = None

    async def require_writable(self) -> None:
        """Raise ``SourceError`` where the broker refuses writes; after the first refusal nothing more is tried."""
        if self.refusal is not None:
            raise self.refusal
        try:
            await self.queue.require_writable()
        except SourceError as exc:
            self.refusal = exc
            raise


@dataclass(kw_only=True)
class Batch:
    """Some steps of a plan on their way through the parts; what went wrong is kept by order.

    What it publishes comes behind what the ``previous`` one publishes. ``lost`` says which source was away when its
    orders were to be claimed.
    """

    hands: ExecutionContext
    steps: Sequence[Step]
    tell: Callable[[int], None]
    skipped: dict[int, Outcome] = field(default_factory=dict)
    claim: TransitionResult = field(default_factory=TransitionResult)
    failures: dict[int, Failure] = field(default_factory=dict)
    trashed: dict[int, str] = field(default_factory=dict)
    previous: Batch | None = None
    lost: SourceError | None = None
    has_published: asyncio.Event = field(default_factory=asyncio.Event)

    async def apply(self) -> list[Outcome]:
        """Take the steps; returns an outcome for each."""
        try:
            return await self._apply()
        finally:
            self.has_published.set()

    async def _apply(self) -> list[Outcome]:
        try:
            await self._look()
            if any(step.publish is not None or step.requeue is not None for step in self.steps):
                # Before the orders are changed: taking that back writes two journal rows for each.
                await self.hands.require_writable()
            await self._claim()
        except SourceError as exc:
            self.lost = exc
            # The next one waits for this one alone.
            await self._turn()
            return [self.skipped.get(step.order_id) or unclaimed(step, exc) for step in self.steps]
        self.tell(len(self.steps) - sum(1 for _ in self._going()))
        await self._withdraw()
        await self._confirm()
        await self._trash()
        await self._turn()
        await self._publish()
        await self._put_back()
        self.has_published.set()
        release = await self._take_back()
        return [
            settle(step, self.skipped.get(step.order_id), self.claim, self.failures.get(step.order_id), release)
            for step in self.steps
        ]

    async def _turn(self) -> None:
        """Wait until the previous one has published, if there is one."""
        if self.previous is not None:
            # Orders are expected to be generated in the order in which they were enqueued.
            await self.previous.has_published.wait()
            self.previous = None

    def _going(self) -> Iterator[Step]:
        """The steps that nothing has stopped so far."""
        for step in self.steps:
            if step.order_id in self.skipped or step.order_id in self.failures:
                continue
            # A missing order has no row to claim: its tasks are all there is.
            if step.before is None or step.order_id in self.claim.journal_ids:
                yield step

    async def _look(self) -> None:
        """Find out who got a task since the plan was made, or lost the one to be kept, and which orders exist now."""
        missing = [step.order_id for step in self.steps if step.before is None]
        # A plan may wait long for its answer, and an order may be committed after its task was published.
        existing = await self.hands.orders.existing(missing) if missing else ()
        live = await self.hands.belief.tasks()
        unattributed = (await self.hands.belief.reading()).unattributed
        for step in self.steps:
            tasks = live.get(step.order_id, ())
            strange = _unexpected(step, tasks)
            if step.order_id in existing:
                self.skipped[step.order_id] = outcome(step, OutcomeKind.SKIPPED, "the order exists now")
            elif strange is not None:
                self.skipped[step.order_id] = outcome(
                    step, OutcomeKind.SKIPPED, describe_task(strange), task_id=strange.task_id
                )
            elif unattributed and not step.expected_tasks and step.publish is not None:
                self.skipped[step.order_id] = outcome(
                    step, OutcomeKind.SKIPPED, "a message of our task that cannot be attributed may be of this order"
                )
            elif step.keep is not None and has_gone(step.keep, tasks):
                self.skipped[step.order_id] = outcome(
                    step, OutcomeKind.SKIPPED, f"task {step.keep.task_id} is no longer there: look again"
                )
        failpoints.reached(Checkpoint.LOOKED)

    async def _claim(self) -> None:
        with_row = [step for step in self.steps if step.before is not None and step.order_id not in self.skipped]
        if with_row:
            self.claim = await self.hands.orders.apply(with_row, self.hands.actor)
        failpoints.reached(Checkpoint.CLAIMED)

    async def _withdraw(self) -> None:
        going = [step for step in self._going() if step.revoke]
        if not going:
            return
        try:
            left = await self.hands.queue.revoke(
                [task for step in going for task in step.revoke],
                terminate=any(step.terminate for step in going),
                # Another place of what stays may be among those to be removed.
                keep={task.task_id for step in going for task in step.staying},
            )
        except SourceError as exc:
            reason = f"it isn't known whether its tasks were withdrawn: {exc.message}"
            self.failures |= {step.order_id: Failure(reason=reason, hint=exc.hint) for step in going}
            return
        for step in going:
            still = [left[task.task_id] for task in step.revoke if task.task_id in left]
            if still:
                self.failures[step.order_id] = Failure(reason=still[0])
        failpoints.reached(Checkpoint.WITHDRAWN)

    async def _confirm(self) -> None:
        """Find out who went on until the tasks were gone: a site that was finished meanwhile is not to be moved."""
        going = [step for step in self._going() if step.before is not None and (step.revoke or step.trash)]
        if not going:
            return
        by_journal_id = {self.claim.journal_ids[step.order_id]: step for step in going}
        try:
            went_on = await self.hands.orders.confirm(by_journal_id)
        except SourceError as exc:
            self.failures |= {step.order_id: Failure(reason=exc.message, hint=exc.hint) for step in going}
            return
        for order_id, reason in went_on.items():
            self.failures[order_id] = Failure(reason=f"its task ended by itself: {reason}")

    async def _trash(self) -> None:
        going = [step.order_id for step in self._going() if step.trash]
        if not going:
            return
        assert self.hands.sites is not None  # noqa: S101 - a plan that moves files is applied with them
        try:
            trashing = await self.hands.sites.trash(going)
        except SourceError as exc:
            self.failures |= {order_id: Failure(reason=exc.message, hint=exc.hint) for order_id in going}
            return
        self.trashed = dict(trashing.moved)
        self.failures |= {order_id: Failure(reason=reason) for order_id, reason in trashing.failed.items()}
        failpoints.reached(Checkpoint.TRASHED)

    async def _publish(self) -> None:
        going = [step for step in self._going() if step.publish is not None]
        if going and (refusal := self.hands.refusal) is not None:
            # Another batch was refused meanwhile.
            reason = f"publishing failed: {refusal.message}"
            self.failures |= {step.order_id: Failure(reason=reason, hint=refusal.hint) for step in going}
            return
        if not going:
            return
        enqueued_at = self.hands.now()
        publications = [
            Publication(
                task_id=step.publish or "",
                order_id=step.order_id,
                resume=step.resume,
                actor=str(self.hands.actor),
                enqueued_at=enqueued_at,
            )
            for step in going
        ]
        failures = dict(await self.hands.queue.publish(publications))
        if any(not failure.certain for failure in failures.values()):
            failures = await look_for(self.hands.queue, {step.order_id for step in going}, failures)
        for step in going:
            failure = failures.get(step.publish or "")
            if failure is not None and failure.certain:
                self.failures[step.order_id] = Failure(reason=f"publishing failed: {failure.reason}")
                self.hands.refusal = SourceError(failure.reason, source=Source.BROKER)
            elif failure is not None:
                self.failures[step.order_id] = Failure(
                    reason=f"it isn't known whether task {step.publish} was published: {failure.reason}",
                    hint=Remedy.run(Command.INSPECT, step.order_id, advice="once Redis responds again"),
                    certain=False,
                )
        failpoints.reached(Checkpoint.PUBLISHED)

    async def _put_back(self) -> None:
        going = [(step, step.requeue) for step in self._going() if step.requeue is not None]
        if not going:
            return
        try:
            left: dict[str, str] = {}
            for worker_dead in {step.worker_dead for step, _ in going}:
                tasks = [task for step, task in going if step.worker_dead is worker_dead]
                left |= await self.hands.queue.requeue(tasks, worker_dead=worker_dead)
        except SourceError as exc:
            reason = f"it isn't known whether its task was put back: {exc.message}"
            self.failures |= {step.order_id: Failure(reason=reason, hint=exc.hint) for step, _ in going}
            return
        for step, task in going:
            if task.task_id in left:
                self.failures[step.order_id] = Failure(reason=left[task.task_id])
        failpoints.reached(Checkpoint.PUT_BACK)

    async def _take_back(self) -> TransitionResult | SourceError:
        """Restore what failed: first the files, then the status, with the reason in the journal."""
        failed = [
            step
            for step in self.steps
            if step.order_id in self.claim.journal_ids
            and step.order_id in self.failures
            and self.failures[step.order_id].certain
        ]
        if not failed:
            return TransitionResult()
        moved = {step.order_id: self.trashed[step.order_id] for step in failed if step.order_id in self.trashed}
        if moved and self.hands.sites is not None:
            try:
                still = await self.hands.sites.untrash(moved)
            except SourceError as exc:
                still = dict.fromkeys(moved, exc.message)
            for order_id, reason in still.items():
                self.failures[order_id].reason += f"; its files are in the trash as {moved[order_id]}: {reason}"
        by_journal_id = {self.claim.journal_ids[step.order_id]: step for step in failed}
        reasons = {step.order_id: self.failures[step.order_id].reason for step in failed}
        try:
            release = await self.hands.orders.roll_back(by_journal_id, self.hands.actor, reasons)
        except SourceError as exc:
            return exc
        failpoints.reached(Checkpoint.TAKEN_BACK)
        return release


def _unexpected(step: Step, tasks: Sequence[LiveTask]) -> LiveTask | None:
    """A task that the plan did not see: of another id, or another copy of one that it saw."""
    expected = Counter(task.task_id for task in step.planned_tasks)
    found = Counter(task.task_id for task in tasks)
    return next((task for task in tasks if found[task.task_id] > expected[task.task_id]), None)
