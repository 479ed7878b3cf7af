"""The background thread of the live view: the session, polling, events, and jobs for the screen.

The screen never freezes while a server is slow: this thread reads, and posts messages to the app. The longer a poll
takes, the longer the pause before the next, so that polling uses a limited share of one processor. Task events make the
next poll come sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from textual.message import Message

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.listing import OrderPage, OrderQuery
from sitegenctl.domain.queue.event import Event, EventFilter
from sitegenctl.errors import SourceError
from sitegenctl.operations.events import stream
from sitegenctl.operations.follow import Notice, back_off
from sitegenctl.session import Session, open_session

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot, LiveState, OrderDetail

T = TypeVar("T")

#: Pause between polls, as a multiple of the time that the last one took: polling takes at most a third of the time.
_PAUSE_FACTOR = 2.0

#: Shortest time between two polls, in seconds.
_MIN_PAUSE = 0.25

#: Events are delivered to the screen in batches: the interval in seconds, and the largest batch.
_EVENT_INTERVAL = 0.1
_MAX_EVENTS = 2000

#: Seconds to wait for the thread at exit, without and with an action under way.
_EXIT_TIMEOUT, _ACTION_TIMEOUT = 0.5, 30.0

#: Python switches threads every 5 ms by default; a key press must not wait that long for a poll.
_SWITCH_INTERVAL = 0.0005


@dataclass(frozen=True, eq=False, kw_only=True)
class ViewData:
    """A poll's snapshot, with the page of orders and the one order that the screen asked for.

    ``page`` is None if it could not be read, ``detail`` if there is nothing new. Compared by identity: it is large.
    """

    live: LiveSnapshot
    query: OrderQuery
    page: OrderPage | None = None
    detail: OrderDetail | None = None


@dataclass
class SnapshotReady(Message):
    """There is new data."""

    data: ViewData


@dataclass
class DetailReady(Message):
    """There are new details of the order under the cursor."""

    detail: OrderDetail


@dataclass
class EventsReceived(Message):
    """Workers sent events, or the connection to them changed."""

    events: list[Event | Notice]


@dataclass
class ServiceFailed(Message):
    """The thread ended with an error."""

    error: BaseException


@dataclass
class ViewRequest:
    """What the screen shows, and the next poll reads."""

    query: OrderQuery
    order_id: int | None = None
    worker_details: bool = False


class Job(Generic[T]):
    """Work that runs on the service's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self.task: asyncio.Task[T] | None = None
        self._future = asyncio.run_coroutine_threadsafe(self._run(work), loop)

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self.task = asyncio.create_task(work)
        return await self.task

    @property
    def is_running(self) -> bool:
        return self.task is None or not self.task.done()

    async def result(self) -> T:
        """Wait for the result without blocking the screen; raises what the work raises."""
        return await asyncio.wrap_future(self._future)

    def interrupt(self) -> None:
        """Cancel it as Ctrl-C cancels a command: the current batch is completed, and there is a result."""
        self._loop.call_soon_threadsafe(lambda: self.task is not None and self.task.cancel())


class LiveService:
    """Polls every ``interval`` seconds, and calls ``post`` with messages from its own thread."""

    def __init__(
        self, settings: Settings, post: Callable[[Message], object], query: OrderQuery, *, interval: float
    ) -> None:
        self._settings = settings
        self._post = post
        self._interval = interval
        self.request = ViewRequest(query=query)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live service", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._jobs: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
        self._poll_requested = asyncio.Event()
        self._request_changed = asyncio.Event()
        self._last: LiveSnapshot | None = None
        self._sent: tuple[OrderQuery, int | None] = (query, None)

    # --- called by the screen -----------------------------------------------------------------------------

    def start(self) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._thread.start()

    def stop(self) -> None:
        """Stop. Hanging servers are not waited for, but a running action completes its current batch."""
        if self._loop is None or self._main is None:
            return
        timeout = _ACTION_TIMEOUT if any(job.is_running for job in self._jobs) else _EXIT_TIMEOUT
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(timeout)

    def poll_now(self) -> None:
        """Poll as soon as possible."""
        self._set(self._poll_requested)

    def request_changed(self) -> None:
        """Answer the changed ``request`` from the last snapshot."""
        self._set(self._request_changed)

    def _set(self, event: asyncio.Event) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(event.set)

    def begin(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> Job[T]:
        """Run work with the session, on the service's thread."""
        self._ready.wait()
        assert self._loop is not None  # noqa: S101 - it is ready
        assert self._session is not None  # noqa: S101
        job = Job(self._loop, work(self._session))
        self._jobs.add(job)
        return job

    async def ask(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        """Run work as ``begin`` does, and return its result."""
        if not self._ready.is_set():
            await asyncio.to_thread(self._ready.wait)
        return await self.begin(work).result()

    # --- on the service's thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main_task())
        except asyncio.CancelledError:
            pass
        except BaseException as exc:  # noqa: BLE001 - the app reports it
            self._post(ServiceFailed(exc))
            self._ready.set()

    async def _main_task(self) -> None:
        # Imported here, so that the screen is painted meanwhile.
        from sitegenctl.operations.live_state import LiveState

        self._loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        async with open_session(self._settings, "live") as session:
            self._session = session
            state = LiveState(session)
            self._ready.set()
            others = [asyncio.create_task(self._receive_events(session)), asyncio.create_task(self._answer(state))]
            try:
                await self._poll(state)
            finally:
                # Jobs need the session until they have completed their current batch.
                tasks = [*others, *(job.task for job in self._jobs if job.task is not None)]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll(self, state: LiveState) -> None:
        clock = asyncio.get_running_loop().time
        delays = None
        while True:
            started = clock()
            self._poll_requested.clear()
            self._last = await state.poll(worker_details=self.request.worker_details)
            await self._send_all(state, self._last)
            duration = clock() - started
            # Requests shorten the pause to this, not to nothing: a thousand events cause one poll.
            shortest = max(_MIN_PAUSE, duration * _PAUSE_FACTOR)
            longest = max(self._interval - duration, shortest)
            if self._last.is_stale:
                delays = delays or back_off()
                longest = max(longest, next(delays))
            else:
                delays = None
            await asyncio.sleep(shortest)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poll_requested.wait(), max(longest - shortest, 0.001))

    async def _send_all(self, state: LiveState, live: LiveSnapshot) -> None:
        query, order_id = self.request.query, self.request.order_id
        page = await self._page(state, live, query)
        detail = await state.detail(live, order_id) if order_id is not None else None
        self._sent = (query, order_id)
        self._post(SnapshotReady(ViewData(live=live, query=query, page=page, detail=detail)))

    async def _answer(self, state: LiveState) -> None:
        """Answer a changed request from the last snapshot, without waiting for the next."""
        while True:
            await self._request_changed.wait()
            self._request_changed.clear()
            live = self._last
            if live is None:
                continue
            query, order_id = self.request.query, self.request.order_id
            previous, self._sent = self._sent, (query, order_id)
            if query != previous[0]:
                page = await self._page(state, live, query)
                self._post(SnapshotReady(ViewData(live=live, query=query, page=page)))
            if order_id is not None and order_id != previous[1]:
                self._post(DetailReady(await state.detail(live, order_id)))

    async def _page(self, state: LiveState, live: LiveSnapshot, query: OrderQuery) -> OrderPage | None:
        try:
            return await state.page(live, query)
        except SourceError:
            # The next poll reports that the database is unreachable.
            return None

    async def _receive_events(self, session: Session) -> None:
        received: list[Event | Notice] = []
        delays = back_off()
        sending = asyncio.create_task(self._send_events(received))
        try:
            while True:
                try:
                    events = stream(
                        session.events,
                        session.queue,
                        EventFilter(heartbeats=False),
                        task_name=self._settings.task,
                    )
                    async for event in events:
                        received.append(event)
                        if isinstance(event, Event) and event.order_id is not None:
                            self._poll_requested.set()
                except SourceError as exc:
                    received.append(Notice(message=exc.message))
                    await asyncio.sleep(next(delays))
        finally:
            sending.cancel()

    async def _send_events(self, received: list[Event | Notice]) -> None:
        while True:
            await asyncio.sleep(_EVENT_INTERVAL)
            if received:
                self._post(EventsReceived(received[-_MAX_EVENTS:]))
                received.clear()
