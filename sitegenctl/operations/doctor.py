"""The check-up: measure the facts that the checks need, all at once, and run the checks. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.overview import remedy_for
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.check import CheckUp, Missing, run_checks
from sitegenctl.domain.health.files import DirectoryFacts, FinishedSites
from sitegenctl.domain.health.messages import Leftovers, MessageFacts
from sitegenctl.domain.health.orders import OpenOrders
from sitegenctl.domain.health.postgres import PostgresFacts, Schemas
from sitegenctl.domain.health.redis import RedisFacts
from sitegenctl.domain.health.registry import checks_of
from sitegenctl.domain.health.system import System
from sitegenctl.domain.health.workers import QueueActivity, QueueHead, StaleClaims, WorkersFacts
from sitegenctl.domain.orders.site import MIN_SITE_FILES
from sitegenctl.domain.ports import Sources
from sitegenctl.errors import NotListening, SourceError, Unreachable
from sitegenctl.operations.observe import Attempts, observe_open

T = TypeVar("T")

#: The newest finished orders whose files are counted.
_SAMPLE_SIZE = 20


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What the check-up expects, and how long it may take."""

    system: System
    backend: str
    timeout: timedelta  # for one source to respond
    patience: timedelta = timedelta(seconds=3)  # for an idle worker to fetch a message
    strict: bool = False  # fail for a warning


async def check_up(sources: Sources, options: DoctorOptions, *, quick: bool = False) -> CheckUp:
    """Make all checks, or the quick ones, which ask no worker. Raises nothing for a source that is unreachable."""
    checks = checks_of(options.backend, quick=quick)
    measuring = _Measuring(sources, options, {fact for check in checks for fact in check.needs})
    await measuring.run()
    return run_checks(checks, measuring.facts, strict=options.strict)


class _Measuring:
    """Measures the facts that are ``needed``, by type; one that can't be measured is ``Missing``."""

    def __init__(self, sources: Sources, options: DoctorOptions, needed: set[type]) -> None:
        self._sources = sources
        self._probes = sources.probes
        self._options = options
        self._needed = needed
        self.facts: dict[type, object] = {System: options.system}

    async def run(self) -> None:
        """Measure everything."""
        broker, database = self._probes.broker, self._probes.database
        await asyncio.gather(
            self._measure(RedisFacts, Source.BROKER, broker.facts),
            self._measure(PostgresFacts, Source.DATABASE, database.facts),
            self._directory(),
        )
        # What is unreachable is not asked again: each question would take the whole timeout.
        await asyncio.gather(
            self._queue(),
            self._measure(Leftovers, Source.BROKER, broker.leftovers, after=(RedisFacts,)),
            self._orders(),
            self._measure(Schemas, Source.DATABASE, database.schemas, after=(PostgresFacts,)),
            self._measure(FinishedSites, Source.FILES, self._finished, after=(PostgresFacts, DirectoryFacts)),
        )

    async def _measure(
        self, fact: type[T], source: Source, measure: Callable[[], Awaitable[T]], *, after: tuple[type, ...] = ()
    ) -> None:
        """Measure a fact if a check needs it; it is missing where one that it comes ``after`` is."""
        if fact in self._needed:
            missing = [self.facts[each] for each in after if isinstance(self.facts[each], Missing)]
            self.facts[fact] = missing[0] if missing else await self._attempt(source, measure())

    async def _attempt(self, source: Source, reading: Awaitable[T]) -> T | Missing:
        # A little longer than the drivers' own limit: their errors are more precise than this one.
        limit = self._options.timeout.total_seconds() * 1.2
        try:
            return await asyncio.wait_for(reading, limit)
        except SourceError as exc:
            return _missing(source, exc)
        except TimeoutError:
            remedy = "it is slow or busy; --timeout gives it more time"
            return Missing(source=source, message=f"no answer within {limit:.1f} s", remedy=remedy, unreachable=True)

    async def _directory(self) -> None:
        if self._probes.directory is not None:
            await self._measure(DirectoryFacts, Source.FILES, self._probes.directory.facts)
        else:
            self.facts[DirectoryFacts] = Missing(
                source=Source.FILES,
                message="no sites directory is configured",
                remedy=f"set {self._options.system.commands.sites_dir} to the workers' own",
            )

    async def _finished(self) -> FinishedSites:
        directory = self.facts[DirectoryFacts]
        if isinstance(directory, DirectoryFacts) and not directory.exists:
            raise SourceError("the sites directory does not exist")
        orders = await self._probes.database.newest_finished(_SAMPLE_SIZE)
        return FinishedSites(orders=orders, files=await self._sources.sites.count(orders, enough=MIN_SITE_FILES))

    async def _orders(self) -> None:
        if OpenOrders not in self._needed:
            return
        missing = [fact for each in (RedisFacts, PostgresFacts) if isinstance(fact := self.facts[each], Missing)]
        if missing:
            self.facts[OpenOrders] = missing[0]
            return
        attempts = Attempts()
        snapshot = await observe_open(self._sources, attempts=attempts)
        self.facts[StaleClaims] = StaleClaims(snapshot.stale)
        failed = [source for source in (Source.BROKER, Source.DATABASE) if source in attempts.causes]
        self.facts[OpenOrders] = _missing(failed[0], attempts.causes[failed[0]]) if failed else _open_orders(snapshot)

    async def _queue(self) -> None:
        """Read queue and workers; again after a while where messages wait and no worker of ours is busy."""
        messages = asyncio.ensure_future(
            self._measure(MessageFacts, Source.BROKER, self._probes.broker.messages, after=(RedisFacts,))
        )
        if WorkersFacts in self._needed:
            redis = self.facts[RedisFacts]
            activity = redis if isinstance(redis, Missing) else await self._activity(messages)
            self.facts[QueueActivity] = activity
            self.facts[WorkersFacts] = activity.after if isinstance(activity, QueueActivity) else activity
        await messages

    async def _activity(self, messages: Awaitable[None]) -> QueueActivity | Missing:
        first = await self._read_queue()
        if isinstance(first, Missing):
            return first
        head, workers = first
        consumers = workers.consumers(self._options.system)
        if consumers and (not head.depth or any(worker.busy for worker in consumers)):
            return QueueActivity(first=head, second=head, before=workers, after=workers)
        await messages
        await asyncio.sleep(self._options.patience.total_seconds())
        second = await self._read_queue()
        if isinstance(second, Missing):
            second = first
        # Without a worker beat's messages stay in the queue.
        earlier, beat_came = self.facts[MessageFacts], False
        if not consumers and isinstance(earlier, MessageFacts):
            later = await self._attempt(Source.BROKER, self._probes.broker.messages())
            beat_came = isinstance(later, MessageFacts) and later.beat > earlier.beat
        return QueueActivity(
            first=head,
            second=second[0],
            before=workers,
            after=second[1],
            waited=self._options.patience,
            beat_came=beat_came,
        )

    async def _read_queue(self) -> tuple[QueueHead, WorkersFacts] | Missing:
        head = await self._attempt(Source.BROKER, self._probes.broker.head())
        if isinstance(head, Missing):
            return head
        workers = await self._attempt(Source.BROKER, self._probes.broker.workers())
        return workers if isinstance(workers, Missing) else (head, workers)


def _missing(source: Source, exc: SourceError) -> Missing:
    return Missing(
        source=source,
        message=exc.message,
        remedy=exc.hint,
        unreachable=isinstance(exc, Unreachable),
        stopped=isinstance(exc, NotListening),
    )


def _open_orders(snapshot: Snapshot) -> OpenOrders:
    conditions = {order_id: snapshot.diagnose(order_id).condition for order_id in snapshot.known_ids()}
    by_condition: dict[Condition, list[int]] = {}
    for order_id, condition in conditions.items():
        by_condition.setdefault(condition, []).append(order_id)
    # Beat would start those with a time of their onboarding.
    due = {
        order_id: order.idle or timedelta(0)
        for order_id, order in snapshot.orders.items()
        if conditions.get(order_id) is Condition.UNSTARTED and order.onboarding_completed_at is not None
    }
    return OpenOrders(
        conditions=conditions,
        idle={order_id: order.idle for order_id, order in snapshot.orders.items()},
        remedies={condition: remedy_for(condition, orders, snapshot) for condition, orders in by_condition.items()},
        due=due,
    )
