"""A network between workers and Redis that can fail: it forgets connections, stops passing anything on, and heals."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Link:
    """One connection of a client; ``subscribes`` once it has asked Redis for a subscription."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    subscribes: bool = False
    is_cut: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class RedisProxy(threading.Thread):
    """Listens at ``port`` of the loopback and passes everything on to the Redis at ``redis_port``."""

    def __init__(self, redis_port: int) -> None:
        super().__init__(name="redis proxy")
        self._redis_port = redis_port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._links: set[_Link] = set()
        self._handlers: list[asyncio.Task[None]] = []
        self.port = 0

    def __enter__(self) -> RedisProxy:
        self.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self.join()

    @property
    def subscriptions(self) -> int:
        """How many connections have a subscription that Redis knows of."""
        return sum(link.subscribes and not link.is_cut for link in list(self._links))

    def forget_subscriptions(self) -> None:
        """Drop each subscription at Redis alone, as a NAT does that forgot an idle connection."""
        self._call(lambda: self._cut(only_subscriptions=True))

    def freeze(self) -> None:
        """Pass nothing on, in either direction; Redis still sees every connection."""
        self._call(self._gate.clear)

    def cut(self) -> None:
        """Pass nothing on, and let Redis see every connection end; clients notice nothing."""
        self.freeze()
        self._call(lambda: self._cut(only_subscriptions=False))

    def heal(self) -> None:
        """Pass everything on again; clients learn now of the connections that were cut."""

        def heal() -> None:
            for link in self._links:
                if link.is_cut or link.server is None:
                    link.client.transport.abort()
            self._gate.set()

        self._call(heal)

    def run(self) -> None:
        """Serve until the end of the ``with`` block."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._done, self._gate = asyncio.Event(), asyncio.Event()
        self._gate.set()
        listening = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        listening.close()
        self._gate.set()
        for link in list(self._links):
            _end(link)
        await asyncio.gather(*self._handlers)

    async def _connected(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        link = _Link(client)
        self._links.add(link)
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.append(handler)
        try:
            await self._gate.wait()
            if client.transport.is_closing():
                return
            from_redis, link.server = await asyncio.open_connection("127.0.0.1", self._redis_port)
            link.tasks = [
                asyncio.create_task(self._pass_on(link, reader, link.server)),
                asyncio.create_task(self._pass_on(link, from_redis, client)),
            ]
            await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
            if link.is_cut:
                await asyncio.wait(link.tasks)
        except OSError:
            pass  # Redis is down: the client's connection ends
        finally:
            _end(link)
            self._links.discard(link)

    async def _pass_on(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(65536):
                if link.is_cut:
                    continue  # into nowhere
                link.subscribes = link.subscribes or (writer is link.server and b"SUBSCRIBE" in part.upper())
                await self._gate.wait()
                if not link.is_cut:
                    writer.write(part)
                    await writer.drain()

    def _cut(self, *, only_subscriptions: bool) -> None:
        for link in self._links:
            if link.server is not None and (link.subscribes or not only_subscriptions):
                link.is_cut = True
                link.server.transport.abort()

    def _call(self, what: Callable[[], object]) -> None:
        done = threading.Event()

        def call() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(10)


def _end(link: _Link) -> None:
    link.client.transport.abort()
    if link.server is not None:
        link.server.transport.abort()
    for task in link.tasks:
        task.cancel()
