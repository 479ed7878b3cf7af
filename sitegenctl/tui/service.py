"""Where the live view waits for servers: a thread of its own, with the session, the one poller and the events.

The screen never waits: it hears of each look by a message, and asks for what an operator wants by ``ask``. One loop
looks, rests and looks again; a look that takes long makes the next one later, so that looking never takes more than a
part of a processor. Celery's events make it look sooner.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textual.message import Message

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.listing import OrderPage, OrderQuery
from sitegenctl.domain.queue.event import Event, EventFilter
from sitegenctl.errors import SourceError
from sitegenctl.operations.events import Advice, stream
from sitegenctl.operations.follow import Lost, Regained, back_off
from sitegenctl.session import Session, open_session

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot, LiveState, OrderDetail

T = TypeVar("T")

#: Of a processor's time looking takes a third at most: it rests twice as long as it took.
_REST = 2.0

#: Seconds that events are collected for before the screen hears of them, and that lie between two looks at least.
_BATCH = 0.1
_SOONEST = 0.25

#: Events that are kept while nobody takes them, and told at once.
_MOST = 2000

#: Seconds that leaving may take: as a rule, and when orders are being moved.
_LEAVING, _FINISHING = 0.5, 30.0

# A thread gives way after so many seconds, not only after Python's 5 ms: a key must not wait for a look.
_GIVE_WAY = 0.0005


class SnapshotReady(Message):
    """There is a new picture, with the page of orders and the one order that are on the screen."""

    def __init__(
        self, picture: LiveSnapshot, page: OrderPage | None, detail: OrderDetail | None, query: OrderQuery
    ) -> None:
        super().__init__()
        self.picture = picture
        self.page = page
        self.detail = detail
        self.query = query


class DetailReady(Message):
    """There is news of the order that is on the screen."""

    def __init__(self, detail: OrderDetail) -> None:
        super().__init__()
        self.detail = detail


class EventsHeard(Message):
    """Workers have told of their tasks, or somebody of the events themselves."""

    def __init__(self, events: list[Event | Advice | Lost | Regained]) -> None:
        super().__init__()
        self.events = events


class Failed(Message):
    """The live view can't go on."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


@dataclass
class ViewRequest:
    """What is on the screen, so that it is looked at."""

    query: OrderQuery
    order_id: int | None = None
    workers: bool = False


class Job(Generic[T]):
    """Something that is being done on the other thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[Session], Awaitable[T]], session: Session
    ) -> None:
        self._loop = loop
        self._outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.task: asyncio.Task[None] | None = None
        loop.call_soon_threadsafe(self._begin, work, session)

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended."""
        return not self._outcome.done()

    async def outcome(self) -> T:
        """What comes of it; raises what the work raises."""
        return await asyncio.wrap_future(self._outcome)

    def interrupt(self) -> None:
        """Have it end as Ctrl-C has a command end: with the chunk in hand done, and an outcome."""
        self._loop.call_soon_threadsafe(lambda: self.task is not None and self.task.cancel())

    def _begin(self, work: Callable[[Session], Awaitable[T]], session: Session) -> None:
        async def do() -> None:
            try:
                self._outcome.set_result(await work(session))
            except asyncio.CancelledError:
                self._outcome.cancel()
            except BaseException as exc:  # noqa: BLE001 - raised where the outcome is waited for
                self._outcome.set_exception(exc)

        self.task = self._loop.create_task(do())


class LiveService:
    """``tell`` takes messages from any thread; ``interval`` is in seconds between the beginnings of two looks."""

    def __init__(
        self,
        settings: Settings,
        tell: Callable[[Message], object],
        query: OrderQuery,
        *,
        interval: float,
        command: str = "live",
    ) -> None:
        self._settings = settings
        self._command = command
        self._tell = tell
        self._interval = interval
        self.wanted = ViewRequest(query=query)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backstage", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._errands: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
        self._moved = asyncio.Event()
        self._changed = asyncio.Event()
        self._picture: LiveSnapshot | None = None
        self._shown: tuple[OrderQuery, int | None] = (query, None)

    def start(self) -> None:
        """Begin to look."""
        sys.setswitchinterval(_GIVE_WAY)
        self._thread.start()

    def stop(self) -> None:
        """End; whatever a server keeps waiting is left to itself, but orders that are moved get through their chunk."""
        loop, main = self._loop, self._main
        if loop is None or main is None:
            return
        patience = _LEAVING if not any(errand.is_under_way for errand in self._errands) else _FINISHING
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(main.cancel)
        self._thread.join(timeout=patience)

    def look_now(self) -> None:
        """Look again as soon as can be: something was done."""
        self._signal(self._moved)

    def show_other(self) -> None:
        """Show what is wanted by now, from the last picture."""
        self._signal(self._changed)

    def _signal(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(event.set)

    def begin(self, work: Callable[[Session], Awaitable[T]]) -> Job[T]:
        """Do something with the session, on its thread."""
        self._ready.wait()
        assert self._loop is not None  # noqa: S101 - it has been started
        assert self._session is not None  # noqa: S101
        errand = Job(self._loop, work, self._session)
        self._errands.add(errand)
        return errand

    async def ask(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do something with the session, on its thread, and wait for the outcome without keeping the screen."""
        if not self._ready.is_set():
            await asyncio.to_thread(self._ready.wait)
        return await self.begin(work).outcome()

    # --- on its own thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass
        except BaseException as exc:  # noqa: BLE001 - the thread ends here: the screen must hear why
            self._tell(Failed(exc))
            self._ready.set()

    async def _live(self) -> None:
        # On this thread: the screen is painted meanwhile.
        from sitegenctl.operations.live_state import LiveState

        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        async with open_session(self._settings, self._command) as session:
            self._session = session
            watch = LiveState(
                orders=session.orders,
                queue=session.queue,
                sites=session.sites,
                task_name=self._settings.task,
                queue_name=self._settings.queue,
                grace=self._settings.grace,
            )
            self._ready.set()
            beside = [asyncio.create_task(self._hear(session)), asyncio.create_task(self._attend(watch))]
            try:
                await self._look_on(watch)
            finally:
                # The session is needed until what is being moved has been moved to the end of its chunk.
                errands = [errand.task for errand in self._errands if errand.task is not None]
                for task in (*beside, *errands):
                    task.cancel()
                await asyncio.gather(*beside, *errands, return_exceptions=True)

    async def _look_on(self, watch: LiveState) -> None:
        clock = asyncio.get_running_loop().time
        delays = None
        while True:
            began = clock()
            self._moved.clear()
            picture = await watch.look(ask_all=self.wanted.workers)
            self._picture = picture
            await self._show(watch, picture)
            took = clock() - began
            # What moves makes it look again sooner, but not at once: a thousand events are one look.
            soonest = max(_SOONEST, took * _REST)
            latest = max(self._interval - took, soonest)
            if picture.is_kept:
                delays = delays or back_off()
                latest = max(latest, next(delays))
            else:
                delays = None
            await asyncio.sleep(soonest)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), max(latest - soonest, 0.001))

    async def _attend(self, watch: LiveState) -> None:
        """Show what the screen wants to see otherwise, from the last picture and without waiting for the next."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._picture is not None:
                await self._show_other(watch, self._picture)

    async def _show(self, watch: LiveState, picture: LiveSnapshot) -> None:
        query, order_id = self.wanted.query, self.wanted.order_id
        page = await self._page(watch, picture, query)
        detail = await watch.detail(picture, order_id) if order_id is not None else None
        self._shown = (query, order_id)
        self._tell(SnapshotReady(picture, page, detail, query))

    async def _show_other(self, watch: LiveState, picture: LiveSnapshot) -> None:
        query, order_id = self.wanted.query, self.wanted.order_id
        before = self._shown
        self._shown = (query, order_id)
        if query != before[0]:
            self._tell(SnapshotReady(picture, await self._page(watch, picture, query), None, query))
        if order_id is not None and order_id != before[1]:
            self._tell(DetailReady(await watch.detail(picture, order_id)))

    async def _page(self, watch: LiveState, picture: LiveSnapshot, query: OrderQuery) -> OrderPage | None:
        try:
            return await watch.page(picture, query)
        except SourceError:
            # The next picture will say that the database is away.
            return None

    async def _hear(self, session: Session) -> None:
        """Tell of events in batches; where they can't be heard, say so and try again."""
        heard: list[Event | Advice | Lost | Regained] = []
        delays = back_off()
        told = asyncio.create_task(self._tell_in_batches(heard))
        try:
            while True:
                try:
                    wanted = EventFilter(heartbeats=False)
                    async for event in stream(session.events, session.queue, wanted, task_name=self._settings.task):
                        heard.append(event)
                        if isinstance(event, Event) and event.order_id is not None:
                            self._moved.set()
                except SourceError as exc:
                    heard.append(Lost(message=exc.message))
                    await asyncio.sleep(next(delays))
        finally:
            told.cancel()

    async def _tell_in_batches(self, heard: list[Event | Advice | Lost | Regained]) -> None:
        while True:
            await asyncio.sleep(_BATCH)
            if heard:
                self._tell(EventsHeard(heard[-_MOST:]))
                heard.clear()
