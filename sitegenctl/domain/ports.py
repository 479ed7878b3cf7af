"""What the operations and the reference worker need from outside; ``adapters/`` provides it.

Every method may raise ``sitegenctl.errors.SourceError`` when its source can't be reached, and no exception of
any driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sitegenctl.domain.brief import Brief, SiteFile
from sitegenctl.domain.event import Event, Heard
from sitegenctl.domain.listing import OrderFilter, OrderQuery
from sitegenctl.domain.order import LogRow, Order, OrderStatus
from sitegenctl.domain.overview import RunCounts
from sitegenctl.domain.plan import EnqueueStep
from sitegenctl.domain.site import SiteFiles
from sitegenctl.domain.task import BrokerReading, Publication, TaskDetails
from sitegenctl.domain.worker import WorkerRoster, WorkerSurvey


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who does it: the person, the host and the command, as the journal records them."""

    user: str
    host: str
    command: str

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What came of claiming orders: ids of the journal rows written, and why others were not claimed."""

    journal_ids: Mapping[int, int]
    moved: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class PublishFailure:
    """Why a task was not published; ``certain`` is False when it may have arrived all the same."""

    reason: str
    certain: bool


@dataclass(frozen=True, kw_only=True)
class Release:
    """What came of taking claims back: orders restored, and why others were left as they are."""

    restored: Collection[int]
    moved: Mapping[int, str]


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

    async def has_finished(self) -> bool:
        """Whether any order is in REVIEW or DELIVERED."""
        ...

    async def count_by_status(self) -> dict[OrderStatus | None, int]:
        """How many orders are in each status."""
        ...

    async def count_runs(self, window: timedelta) -> RunCounts:
        """How many runs ended within the window until now, by the database's clock."""
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

    async def claim(self, steps: Sequence[EnqueueStep], actor: Actor) -> Claim:
        """In one transaction: lock, re-check, set GENERATING and journal; orders that moved are left alone."""
        ...

    async def release(self, steps: Mapping[int, EnqueueStep], actor: Actor, reason: str) -> Release:
        """Take claims back: restore each status and journal why; an order that moved since is left alone.

        Keys are the journal ids of ``claim``.
        """
        ...


class EventSource(Protocol):
    """Where the events of tasks and workers can be heard."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[Event | Heard]]:
        """Listen; once inside, no event is missed until the connection is lost, which raises ``SourceError``.

        A silence is passed on too, once in a while. Nothing is written.
        """
        ...


class QueueBackend(Protocol):
    """The broker and its workers."""

    async def read(self) -> BrokerReading:
        """Read every unfinished task and foreign message."""
        ...

    async def survey(self) -> WorkerSurvey:
        """Ask every living worker what it holds; returns as soon as all have answered."""
        ...

    async def worker_details(self) -> WorkerRoster:
        """Ask every living worker about itself; returns as soon as all have answered."""
        ...

    async def task_details(self, task_id: str) -> TaskDetails | None:
        """Find one task in the broker, at the workers and among the results; None when it is nowhere."""
        ...

    async def publish(self, publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
        """Publish under exactly the given ids; returns the failure of each id that failed."""
        ...

    def new_task_id(self) -> str:
        """An id that no other task has."""
        ...


class SiteStore(Protocol):
    """The directory of generated sites."""

    async def count(self, order_ids: Collection[int], *, enough: int | None = None) -> dict[int, SiteFiles]:
        """Count files and bytes of these orders' sites; one that can't be counted is left out.

        A folder with ``enough`` files is counted no further.
        """
        ...

    async def is_bare(self) -> bool:
        """Whether no site has ever been in the directory, as in an empty one that a volume should cover."""
        ...

    async def replace(self, order_id: int, files: Collection[SiteFile], owner: str) -> None:
        """Write a whole site beside the old one, then rename it into place; the old one goes to the trash."""
        ...

    async def discard_leftovers(self, order_id: int) -> int:
        """Remove what killed writers of this order left beside its site; returns how many there were."""
        ...

    async def trash(self, order_id: int) -> bool:
        """Move the order's site to the trash; False when there was none."""
        ...


class GenerationRecords(Protocol):
    """What the reference worker reads and writes while it generates one order.

    All calls run on the one connection that holds the order's lock: when the connection is lost, so is the
    lock, and nothing more can be written.
    """

    async def status(self, order_id: int) -> OrderStatus | None:
        """The order's status. Raises ``GenerationError`` when there is no such order."""
        ...

    async def brief(self, order_id: int, site_url: str) -> Brief:
        """Everything the generator needs; ``site_url`` is where the site will be.

        Raises ``GenerationError`` without a complete onboarding.
        """
        ...

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        """Write one generation log row, visible at once."""
        ...

    async def has_briefing(self, order_id: int) -> bool:
        """Whether the BRIEFING deliverable is there already."""
        ...

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        """Write the BRIEFING deliverable, or write it anew: there is never a second."""
        ...

    async def finish(self, order_id: int, site_url: str) -> bool:
        """Move the order to REVIEW; False when it is no longer one that is being generated."""
        ...

    async def note_failure(self, order_id: int, message: str) -> None:
        """Put the failure into ``admin_notes`` as the system does."""
        ...


class GenerationStore(Protocol):
    """Where the reference worker gets its records."""

    def lock(self, order_id: int) -> AbstractAsyncContextManager[GenerationRecords | None]:
        """Hold the order's generation lock; None when another generation holds it."""
        ...

    def records(self) -> AbstractAsyncContextManager[GenerationRecords]:
        """The records without the lock, for whoever has lost it and must tell why."""
        ...
