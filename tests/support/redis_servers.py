"""Redis servers that are reached otherwise than by an address and a password."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from sitegenctl.demo.servers.redis import redis_binary
from tests.support.world import eventually


@contextlib.contextmanager
def server(*arguments: str, url: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(redis_binary()), *arguments], stdout=subprocess.DEVNULL)

    def up() -> bool:
        assert process.poll() is None
        # redis 4.6 leaves a socket open that finds nothing to connect to.
        if url.startswith("unix:") and not Path(url.partition("@")[2]).exists():
            return False
        with contextlib.suppress(RedisError), Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    try:
        eventually(up)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True)
class Certificates:
    certificate: Path
    key: Path


class Proxy(threading.Thread):
    """Takes TLS connections from clients that have a certificate, and passes them on to a Redis."""

    def __init__(self, redis_port: int, certificates: Certificates) -> None:
        super().__init__()
        self._redis_port = redis_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.certificate))
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._passing: list[asyncio.Task[None]] = []
        self.port = 0

    def __enter__(self) -> Proxy:
        self.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self.join()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        listening = await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=self._context)
        self.port = listening.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        listening.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._passing)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._redis_port)
        self._writers += [writer, to_redis]
        both = [asyncio.create_task(_copy(reader, to_redis)), asyncio.create_task(_copy(from_redis, writer))]
        self._passing += both
        await asyncio.gather(*both)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
