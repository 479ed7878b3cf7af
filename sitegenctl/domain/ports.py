"""Ports: the outside systems as operations see them; ``adapters/`` implements them.

Every method may raise ``SourceError`` if its source can't be reached, and no exception of any driver.
The reference worker's port is in ``generation``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

# Only for annotations: this module is imported by every command that changes orders.
if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
    from sitegenctl.domain.health.news import Known
    from sitegenctl.domain.health.probes import HealthProbes
    from sitegenctl.domain.orders.generation import SiteFile
    from sitegenctl.domain.orders.operation import Operation
    from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
    from sitegenctl.domain.orders.promise import PromiseCounts
    from sitegenctl.domain.orders.run_reader import RunRow
    from sitegenctl.domain.orders.site import SiteFiles, SiteTree, TrashContents
    from sitegenctl.domain.plans.plan import Step
    from sitegenctl.domain.queue.event import Event, NoEvent
    from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskResult
    from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey
    from sitegenctl.domain.statistics.log_window import LogWindow


@dataclass(frozen=True, kw_only=True)
class Actor:
    """The user, host and command that act, as the journal records them, and the operation that they execute."""

    user: str
    host: str
    command: str
    operation: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


@dataclass(frozen=True, kw_only=True)
class TransitionFailure:
    """Why the transition of an order could not be applied or rolled back."""

    reason: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class TransitionResult:
    """Result of applying transitions or rolling them back, by order."""

    journal_ids: Mapping[int, int] = field(default_factory=dict)  # the journal row of a changed order
    changed: Mapping[int, str] = field(default_factory=dict)  # why it is no longer as the plan left it
    failed: Mapping[int, TransitionFailure] = field(default_factory=dict)  # refused, or locked by others


@dataclass(frozen=True, kw_only=True)
class PublishFailure:
    """Why a task was not published; ``certain`` is False if it may have arrived all the same."""

    reason: str
    certain: bool


@dataclass(frozen=True, kw_only=True)
class TrashResult:
    """Result of moving sites to the trash, by order; orders without a site are in neither mapping."""

    moved: Mapping[int, str]  # the name in the trash
    failed: Mapping[int, str]  # why a site stayed


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """Number of old sites deleted from the trash; ``failed`` has the reason for others, by name in the trash."""

    count: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Consumers:
    """Replies of the workers that were asked to consume our queue or to stop."""

    acknowledged: Sequence[str]
    rejected: Mapping[str, str]  # with the reasons
    unresponsive: int  # living workers that did not reply: what they do is unknown


class OrdersStore(Protocol):
    """The orders database."""

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        """Read these orders; missing ones are left out."""

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        """Read every order that may need attention (BUILDING, GENERATING, NULL), and those in ``also``."""

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """Read the first ``offset + limit`` of the other orders, sorted and filtered by the query."""

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """Count the other orders."""

    async def count_by_status(self) -> dict[OrderStatus | str | None, int]:
        """Count orders by status; an unknown status is given by its label in the database."""

    async def count_promises(self, due_soon: timedelta) -> PromiseCounts | None:
        """Count undelivered orders that are late or due within this time; None where the schema has no due dates."""

    async def recent_steps(self, window: timedelta, *, after_id: int = 0, limit: int = 10_000) -> list[RunRow]:
        """Read the newest log rows within the window and after ``after_id``, oldest first, with their ages only."""

    async def log_window(
        self, since: timedelta | datetime | None, *, lead: timedelta, until: timedelta | datetime | None = None
    ) -> LogWindow:
        """Find the ids of the log rows since then, and of those ``lead`` before; with ``until``, only those before it.

        Either is an age by the database's clock, or a time; without a zone it is in the clock of the log's rows. A
        ``since`` of None is the beginning of the day by that clock.
        """

    async def read_run_rows(
        self, first_id: int, last_id: int, *, limit: int, bounds_only: bool = False
    ) -> list[RunRow]:
        """Read the log rows of all orders from ``first_id`` to ``last_id``, lowest first.

        ``bounds_only`` leaves out the rows within a run: those left are enough to count runs by outcome.
        """

    async def read_log(
        self,
        order_ids: Collection[int],
        *,
        after_id: int = 0,
        last: int | None = None,
        since: timedelta | datetime | None = None,
        levels: Collection[str] | None = None,
        limit: int | None = None,
    ) -> list[LogRow]:
        """Read log rows with an id above ``after_id``, in the order of their ids.

        ``since`` and ``levels`` (statuses) filter as in ``LogQuery``. Of the rest, ``last`` keeps the newest rows of
        each order, ``limit`` the oldest rows of all.
        """

    async def read_operation(self, operation: str) -> Operation | None:
        """Read an operation by its id; None if the log has no such operation near the time in the id."""

    async def newest_operations(self, actor: str | None = None, *, limit: int = 50) -> list[Operation]:
        """Read the newest operations, newest first, of this user if it is given.

        They are looked for among the newest million log rows. The first rows of the last one may be missing.
        """

    async def read_all_logs(
        self,
        first_id: int,
        last_id: int,
        *,
        limit: int,
        newest: bool = False,
        levels: Collection[str] | None = None,
        journal_only: bool = False,
    ) -> list[LogRow]:
        """Read the log rows of all orders from ``first_id`` to ``last_id``, in the order of their ids.

        ``limit`` keeps the oldest of them, or the ``newest``; ``journal_only`` reads only rows of operators.
        """

    async def customers(self, order_ids: Collection[int]) -> dict[int, str]:
        """The business or else the customer of each of these orders that exists."""

    async def missed_due_dates(self, order_ids: Collection[int]) -> dict[int, datetime]:
        """The due dates of those of these orders that were not delivered in time, by the log's clock, naive."""

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        """The ids of these orders that exist."""

    async def in_status(self, status: OrderStatus) -> list[int]:
        """The ids of all orders in this status, lowest first."""

    async def newest_finished(self, limit: int) -> list[int]:
        """The ids of the newest orders in REVIEW or DELIVERED, newest first."""

    async def require_tables(self) -> None:
        """Raise ``SourceError`` if a table or column is missing that sitegenctl needs."""

    async def recently_finished(self, within: timedelta, *, newest: int = 1000) -> list[int]:
        """The ids of the orders in REVIEW or DELIVERED that were generated within this time.

        Those changed within it too, if they are among the ``newest``.
        """

    async def require_writable(self) -> None:
        """Check that orders can be changed in this database, whether or not ``--read-only`` is set."""

    async def is_authoritative(self) -> bool:
        """Whether an order that is missing here does not exist; False on a standby or a read-only server."""

    async def apply(self, steps: Sequence[Step], actor: Actor) -> TransitionResult:
        """Apply transitions in one transaction: lock, re-check, set the status, write the journal.

        Raises ``Unconfirmed`` if the connection was lost and the result cannot be read.
        """

    async def confirm(self, steps: Mapping[int, Step]) -> Mapping[int, str]:
        """Re-check orders after their tasks were revoked; returns why the generation of an order went on, by order.

        The task may have finished before it was revoked. Keys of ``steps`` are ids of the journal rows of ``apply``.
        """

    async def roll_back(self, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str]) -> TransitionResult:
        """Restore the status of these orders and journal why; an order that changed since is left alone.

        Keys of ``steps`` are ids of the journal rows of ``apply``, those of ``reasons`` are orders.
        """

    def maintenance_lock(self) -> AbstractAsyncContextManager[bool]:
        """Hold the maintenance lock, which one run holds at a time; False if another run holds it.

        The lock may be lost meanwhile: ``require_maintenance_lock`` detects that, and every ``apply`` checks it first.
        """

    async def require_maintenance_lock(self) -> None:
        """Raise ``SourceError`` if ``maintenance_lock`` took the lock in this process and lost it."""

    async def utc_now(self) -> datetime:
        """Read the database's clock, in UTC."""


class ReportMemory(Protocol):
    """The faults that maintenance has reported, by order: a key that changes when there is news."""

    def load(self) -> Mapping[int, str]:
        """The reports of earlier runs; empty if they can't be read."""

    def save(self, reported: Mapping[int, str]) -> None:
        """Replace the reports, if they can be written."""

    def load_known(self, receiver: str) -> Known:
        """What the receiver of notifications with this URL knows; nothing if that can't be read."""

    def save_known(self, receiver: str, known: Known) -> None:
        """Replace what it knows. Raises ``UsageProblem`` if that can't be written."""

    def lock(self) -> AbstractContextManager[bool]:
        """Hold a lock from before a run until its news is posted; False if another process holds it."""


class EventSource(Protocol):
    """The events of tasks and workers."""

    @property
    def enabling(self) -> str:
        """How to make workers send events, for people."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Event | NoEvent]]:
        """Listen without missing an event until the connection is lost, which raises ``SourceError``."""


class WorkerSource(Protocol):
    """The workers."""

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker for its tasks; returns as soon as all have replied."""

    async def worker_details(self) -> WorkerRoster:
        """Ask every living worker for details; returns as soon as all have replied."""


class QueueBackend(WorkerSource, Protocol):
    """The broker and its workers."""

    async def read(self, only: Collection[int] | None = None) -> BrokerReading:
        """Read every unfinished task and foreign message.

        With ``only``, the tasks of these orders, without positions: then a long queue takes little memory.
        """

    async def task_details(self, task_id: str, *, survey: WorkerSurvey | None = None) -> TaskDetails | None:
        """Find one task in the broker, at the workers and among the results; None if it is nowhere."""

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly these ids; returns the failures by id."""

    async def revoke(
        self, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Remove these places of tasks: list entries and deliveries from the broker, claims by revoking the task.

        Running tasks are stopped with ``terminate`` only; a process that another claim names is never signalled.
        ``keep`` are ids that stay at another place: only the given places are removed, a claim by revoking it at that
        worker only. Returns why a task is or may be still there, by id; all others are certain not to run.
        """

    async def requeue(self, tasks: Sequence[LiveTask], *, worker_dead: bool = False) -> Mapping[str, str]:
        """Return orphaned tasks to the front of the queue, unchanged; reads broker and workers again first.

        With ``worker_dead`` an operator has confirmed that their workers are dead: unresponsive workers are ignored.
        Returns why a task was not requeued, by id.
        """

    async def finished(self, task_ids: Collection[str]) -> Mapping[str, str]:
        """The final status of each of these ids that has one (``SUCCESS``, ``FAILURE``, ``REVOKED``)."""

    async def results(self, task_ids: Collection[str]) -> Mapping[str, TaskResult]:
        """The final result of each of these ids that has one."""

    async def failed(self, order_ids: Collection[int]) -> Mapping[int, str]:
        """The id of the newest failed task of each of these orders, where the broker keeps a list of failed tasks."""

    async def unusable(self, task_ids: Collection[str]) -> Mapping[str, str]:
        """Why ids must not be published again: they have a final result, or a worker reports them revoked."""

    async def require_writable(self) -> None:
        """Raise ``SourceError`` where the broker refuses writes: out of memory, disk full, replica."""

    async def pause(self) -> Consumers:
        """Make every living worker stop consuming our queue."""

    async def resume(self) -> Consumers:
        """Make every living worker consume our queue again."""

    async def prune_replies(self, *, dry_run: bool = False) -> int:
        """Remove or count the replies and bindings that dead clients left behind; returns their number."""

    def new_task_id(self) -> str:
        """A new unique id."""


class SiteStore(Protocol):
    """The directory of generated sites; counting has a time limit."""

    async def count(
        self, order_ids: Collection[int], *, enough: int | None = None, sizes: bool = True
    ) -> dict[int, SiteFiles]:
        """Count files and, with ``sizes``, bytes of these sites; one that can't be counted is left out."""

    async def tree(self, order_id: int, *, limit: int) -> SiteTree:
        """The files of one site by path, at most ``limit``; links are listed and not followed."""

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        """Write a whole site beside the old one, then rename it into place; the old one goes to the trash."""

    async def discard_leftovers(self, order_id: int) -> int:
        """Remove what killed writers left beside the site; returns how many there were."""

    async def trash(self, order_ids: Collection[int], operation: str | None = None) -> TrashResult:
        """Move these sites to the trash, each by one rename, under a name with the operation; a link is not touched."""

    async def untrash(self, moved: Mapping[int, str]) -> Mapping[int, str]:
        """Move sites back from the trash, not over anything; returns why one was not, by order."""

    async def read_trash(self) -> TrashContents:
        """Read the names in the trash; a missing trash is empty."""

    async def count_trash(self, names: Collection[str]) -> dict[str, SiteFiles]:
        """Count files and bytes of these entries of the trash; one that can't be counted is left out."""

    async def prune_trash(
        self, older_than: timedelta, *, now: datetime, limit: int | None = None, dry_run: bool = False
    ) -> PruneResult:
        """Delete or count what has been in the trash for longer than this at ``now``; failures stop nothing."""


class Sources(Protocol):
    """The systems and the settings that an operation works with; ``Session`` provides them."""

    @property
    def orders(self) -> OrdersStore:
        """The orders database."""

    @property
    def queue(self) -> QueueBackend:
        """The broker and its workers."""

    @property
    def workers(self) -> WorkerSource:
        """Workers only. Avoids importing the queue adapter, which is slow."""

    @property
    def sites(self) -> SiteStore:
        """The directory of generated sites."""

    @property
    def probes(self) -> HealthProbes:
        """The measurements of the doctor."""

    @property
    def actor(self) -> Actor:
        """The operator, as the journal records it."""

    @property
    def grace(self) -> timedelta:
        """How long after a change an order is too recent to judge."""

    @property
    def due_soon(self) -> timedelta:
        """How long before its due date an order is due soon."""

    @property
    def task_name(self) -> str:
        """Name of the task that generates a site."""

    @property
    def queue_name(self) -> str:
        """Name of the queue that carries it."""
