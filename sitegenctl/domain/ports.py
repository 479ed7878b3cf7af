"""What the operations need from outside; ``adapters/`` provides it. The reference worker's own is in ``generation``.

Every method may raise ``sitegenctl.errors.SourceError`` when its source can't be reached, and no exception of
any driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery
from sitegenctl.domain.orders.generation_input import SiteFile
from sitegenctl.domain.orders.order import LogRow, Order, OrderStatus
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.orders.site import SiteFiles, SiteTree
from sitegenctl.domain.plans.plan import Step
from sitegenctl.domain.queue.event import Event, NoEvent
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey
from sitegenctl.domain.statistics.statistics import LogWindow
from sitegenctl.domain.statistics.throughput import StepMark


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who does it: the person, the host and the command, as the journal records them."""

    user: str
    host: str
    command: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


@dataclass(frozen=True, kw_only=True)
class TransitionFailure:
    """Why the transition of an order could not be applied or rolled back."""

    reason: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class TransitionResult:
    """Result of applying transitions or rolling them back, by order.

    ``journal_ids`` has the journal row of each order that was changed. ``changed`` gives the reason why an order was
    left alone: it is no longer as the plan (or the transition) left it. ``failed`` are orders that the database
    refused, or that another transaction locks.
    """

    journal_ids: Mapping[int, int] = field(default_factory=dict)
    changed: Mapping[int, str] = field(default_factory=dict)
    failed: Mapping[int, TransitionFailure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PublishFailure:
    """Why a task was not published; ``certain`` is False when it may have arrived all the same."""

    reason: str
    certain: bool


@dataclass(frozen=True, kw_only=True)
class TrashResult:
    """What came of moving sites to the trash.

    ``moved`` has the name in the trash of each site moved, ``failed`` the reason of each that is where it was;
    orders that had no site are in neither.
    """

    moved: Mapping[int, str]
    failed: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """How many old sites were deleted from the trash, and why others were not, by their names in it."""

    count: int
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Consumers:
    """Workers that were told to consume our queue or not to: those that obeyed, those that refused and why.

    ``silent`` living workers did not answer: what they do is not known.
    """

    acknowledged: Sequence[str]
    rejected: Mapping[str, str]
    unresponsive: int


class OrdersStore(Protocol):
    """The orders database."""

    async def read_orders(self, order_ids: Collection[int]) -> dict[int, Order]:
        """Read these orders; those that don't exist are left out."""
        ...

    async def read_open(self, also: Collection[int], only: OrderFilter | None = None) -> dict[int, Order]:
        """Read every order that may need somebody (BUILDING, GENERATING, NULL), and these, as far as they exist.

        ``only`` restricts them all.
        """
        ...

    async def read_settled(self, query: OrderQuery, *, excluding: Collection[int]) -> list[Order]:
        """Read the first ``offset + limit`` of the other orders, sorted and filtered as the query says."""
        ...

    async def count_settled(self, only: OrderFilter, *, excluding: Collection[int]) -> int:
        """How many other orders there are."""
        ...

    async def count_by_status(self) -> dict[OrderStatus | str | None, int]:
        """How many orders are in each status; one that is not known is under the database's label for it."""
        ...

    async def count_runs(self, window: timedelta) -> RunCounts:
        """How many runs ended within the window until now, by the database's clock."""
        ...

    async def recent_steps(self, window: timedelta, *, after_id: int = 0, limit: int = 10_000) -> list[StepMark]:
        """The newest log rows within the window and behind ``after_id``, oldest first; ``limit`` of them at most."""
        ...

    async def log_window(self, since: timedelta | datetime | None, *, lead: timedelta) -> LogWindow:
        """Find the stretch of the log since then, and the ids of its rows and of those ``lead`` before it.

        ``since`` is an age, measured by the database's own clock, or a moment; a moment without a zone is in the clock
        of the log's rows, and None is the beginning of the day as that clock has it.
        """
        ...

    async def read_run_rows(self, first_id: int, last_id: int, *, limit: int) -> list[RunRow]:
        """Read everybody's log rows with these ids, both included, lowest first; ``limit`` of them at most."""
        ...

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

        ``since`` and ``levels`` (statuses) keep those that match, as ``LogQuery`` says; of these, ``last``
        keeps the newest so many of each order, or ``limit`` the oldest so many of all.
        """
        ...

    async def existing(self, order_ids: Collection[int]) -> set[int]:
        """Which of these orders there are."""
        ...

    async def in_status(self, status: OrderStatus) -> list[int]:
        """The numbers of all orders in this status, lowest first."""
        ...

    async def newest_finished(self, limit: int) -> list[int]:
        """So many of the orders in REVIEW or DELIVERED, the newest first."""
        ...

    async def require_writable(self) -> None:
        """Return if orders can be changed in this database, which ``--read-only`` has no bearing on.

        Raises ``SourceError`` on a server that takes no writes, or where row-level security hides rows, and
        ``Refused`` where the schema is not understood or our role lacks a privilege. Asks the database each time.
        """
        ...

    async def is_authoritative(self) -> bool:
        """Whether an order that is missing here does not exist; False on a standby or a read-only server.

        Asks the database once, if ``require_writable`` has not.
        """
        ...

    async def apply(self, steps: Sequence[Step], actor: Actor) -> TransitionResult:
        """Apply transitions in one transaction: lock, re-check, set the status, write the journal.

        Raises ``Unconfirmed`` if the connection was lost and the result cannot be read.
        """
        ...

    async def confirm(self, steps: Mapping[int, Step]) -> Mapping[int, str]:
        """Re-check orders after their tasks were revoked; returns why the generation of an order went on, by order.

        The task may have finished before it was revoked. Keys of ``steps`` are ids of the journal rows of ``apply``.
        """
        ...

    async def roll_back(self, steps: Mapping[int, Step], actor: Actor, reasons: Mapping[int, str]) -> TransitionResult:
        """Restore the status of these orders and journal why; an order that changed since is left alone.

        Keys of ``steps`` are ids of the journal rows of ``apply``, those of ``reasons`` are orders.
        """
        ...

    def maintenance_lock(self) -> AbstractAsyncContextManager[bool]:
        """Hold the maintenance lock, which one run holds at a time; False if another run holds it.

        The lock may be lost meanwhile: ``require_maintenance_lock`` detects that, and every ``apply`` checks it first.
        """
        ...

    async def require_maintenance_lock(self) -> None:
        """Raise ``SourceError`` if ``maintenance_lock`` took the lock in this process and lost it."""
        ...

    async def utc_now(self) -> datetime:
        """Read the database's clock, in UTC."""
        ...


class ReportMemory(Protocol):
    """What maintenance has reported already, by order: a key that changes when there is something new to report."""

    def load(self) -> Mapping[int, str]:
        """What earlier runs have reported; nothing where that can't be read."""
        ...

    def save(self, reported: Mapping[int, str]) -> None:
        """Remember this instead, as far as it can be written."""
        ...


class EventSource(Protocol):
    """Where the events of tasks and workers can be heard."""

    @property
    def enabling(self) -> str:
        """How workers that send none are made to, for people."""
        ...

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Event | NoEvent]]:
        """Listen; once inside, no event is missed until the connection is lost, which raises ``SourceError``.

        A silence is passed on too, once in a while. Nothing is written.
        """
        ...


class WorkerSource(Protocol):
    """The workers, who can be asked."""

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker what it holds; returns as soon as all have answered."""
        ...

    async def worker_details(self) -> WorkerRoster:
        """Ask every living worker about itself; returns as soon as all have answered."""
        ...


class QueueBackend(WorkerSource, Protocol):
    """The broker and its workers."""

    async def read(self, only: Collection[int] | None = None) -> BrokerReading:
        """Read every unfinished task and foreign message.

        With ``only``, just the tasks of these orders, without their positions: then a long queue takes little memory.
        """
        ...

    async def task_details(self, task_id: str, *, survey: WorkerSurvey | None = None) -> TaskDetails | None:
        """Find one task in the broker, at the workers and among the results; None when it is nowhere.

        The workers are asked, if their answers are not at hand already as ``survey``.
        """
        ...

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly the given ids; returns the failure of each id that failed."""
        ...

    async def revoke(
        self, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = ()
    ) -> Mapping[str, str]:
        """Remove these places of tasks: list entries and deliveries from the broker, claims by revoking the task.

        A running task is stopped with ``terminate``, and left running without; a process that any other claim names is
        never signalled. ``keep`` are ids of which one place stays: of each only the places given are removed, a claim
        by revoking the task at that worker alone. Returns why a task is still there, or may be, by its id; all others
        are certain not to run.
        """
        ...

    async def requeue(self, tasks: Sequence[LiveTask], *, worker_dead: bool = False) -> Mapping[str, str]:
        """Return orphaned tasks to the queue, to be delivered next; nothing else of them changes.

        Reads broker and workers again first. With ``worker_dead`` an operator has confirmed that whatever had them is
        dead: silent workers are no reason then. Returns why a task was not put back, by its id.
        """
        ...

    async def finished(self, task_ids: Collection[str]) -> Mapping[str, str]:
        """The final result status of each of these ids that has one (``SUCCESS``, ``FAILURE``, ``REVOKED``)."""
        ...

    async def unusable(self, task_ids: Collection[str]) -> Mapping[str, str]:
        """Why each of these ids must not be published again: it has a final result, or a worker reports it revoked."""
        ...

    async def require_writable(self) -> None:
        """Raise ``SourceError`` where the broker refuses writes: out of memory, disk full, replica.

        Changes nothing.
        """
        ...

    async def pause(self) -> Consumers:
        """Have every living worker stop taking tasks from our queue."""
        ...

    async def resume(self) -> Consumers:
        """Have every living worker take tasks from our queue again."""
        ...

    async def prune_replies(self, *, dry_run: bool = False) -> int:
        """Remove what clients that died left behind of their questions to workers, or with ``dry_run`` only count it.

        Returns how many there were.
        """
        ...

    def new_task_id(self) -> str:
        """An id that no other task has."""
        ...


class SiteStore(Protocol):
    """The directory of generated sites.

    One that hangs fails a count within a time limit. What changes something ends when it is done, even if it is
    cancelled meanwhile.
    """

    async def count(
        self, order_ids: Collection[int], *, enough: int | None = None, sizes: bool = True
    ) -> dict[int, SiteFiles]:
        """Count files and, with ``sizes``, bytes of these orders' sites; one that can't be counted is left out.

        A folder with ``enough`` files is counted no further.
        """
        ...

    async def tree(self, order_id: int, *, limit: int) -> SiteTree:
        """The files of one order's site, by path, ``limit`` of them at most; links are named and not followed."""
        ...

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        """Write a whole site beside the old one, then rename it into place; the old one goes to the trash."""
        ...

    async def discard_leftovers(self, order_id: int) -> int:
        """Remove what killed writers of this order left beside its site; returns how many there were."""
        ...

    async def trash(self, order_ids: Collection[int]) -> TrashResult:
        """Move these orders' sites to the trash, each by one rename; a link is not touched."""
        ...

    async def untrash(self, moved: Mapping[int, str]) -> Mapping[int, str]:
        """Move sites back from the trash to where nothing is; returns why one was not, by order."""
        ...

    async def prune_trash(
        self, older_than: timedelta, *, now: datetime, limit: int | None = None, dry_run: bool = False
    ) -> PruneResult:
        """Delete what has been in the trash for longer by the time ``now``, or with ``dry_run`` only count it.

        One that can't be deleted stops no other.
        """
        ...


class Sources(Protocol):
    """The systems and the settings that an operation works with; ``Session`` provides them.

    Operations take this one value instead of its parts. Each adapter connects when it is first used, and reading an
    attribute raises ``UsageProblem`` where that system is not configured.
    """

    @property
    def orders(self) -> OrdersStore:
        """The orders database."""
        ...

    @property
    def queue(self) -> QueueBackend:
        """The broker and its workers."""
        ...

    @property
    def workers(self) -> WorkerSource:
        """Workers only. Avoids importing the queue adapter, which is slow."""
        ...

    @property
    def sites(self) -> SiteStore:
        """The directory of generated sites."""
        ...

    @property
    def actor(self) -> Actor:
        """The operator, as the journal records it."""
        ...

    @property
    def grace(self) -> timedelta:
        """How long after a change an order is too recent to judge."""
        ...

    @property
    def task_name(self) -> str:
        """Name of the task that generates a site."""
        ...

    @property
    def queue_name(self) -> str:
        """Name of the queue that carries it."""
        ...
