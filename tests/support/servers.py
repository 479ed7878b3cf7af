"""Redis servers with options of their own, a proxy before Redis, PgBouncer before PostgreSQL, TLS certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis import Redis, asyncio as redis_asyncio
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


def make_certificates(folder: Path) -> Certificates:
    """A certificate for 127.0.0.1 that signs itself. Skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    made = Certificates(certificate=folder / "certificate.pem", key=folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(made.key), "-out", str(made.certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return made


@dataclass(eq=False)
class _Link:
    """One connection of a client; ``subscribes`` once it has asked Redis for a subscription."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    subscribes: bool = False
    is_cut: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class RedisProxy(threading.Thread):
    """Passes connections to ``port`` of the loopback, with TLS or without, on to the Redis at ``redis_port``.

    It can forget connections and stop passing data on, as a network that fails.
    """

    def __init__(self, redis_port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(name="redis proxy")
        self._redis_port = redis_port
        self._tls = tls
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
        listening = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
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
                    continue  # discard
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


def async_redis(url: str) -> redis_asyncio.Redis:
    """An asyncio client that speaks RESP2, on redis-py 4.6 and newer."""
    return redis_asyncio.Redis.from_url(url, **({"protocol": 2} if redis.VERSION >= (5,) else {}))


async def close(client: redis_asyncio.Redis) -> None:
    """Close the client and its pool; redis-py 4.6 has no ``aclose`` and keeps the pool by default."""
    closing = client.aclose if hasattr(client, "aclose") else client.close
    await closing(close_connection_pool=True)


#: Debian has it in a directory that is on the PATH of root alone.
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(database_url: str, mode: str) -> Iterator[str]:
    """Run one with its defaults in this pool mode; yields the URL through it. Skips the test where there is none."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    server, port = urlsplit(database_url), free_port()
    name = server.path[1:]
    # Not pytest's own temporary folder: the account that it runs as must be able to read it.
    with tempfile.TemporaryDirectory(prefix="sitegenctl-pooler-") as folder:
        Path(folder).chmod(0o711)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"{name} = host={server.hostname} port={server.port} dbname={name} user={server.username}"
            f" password={server.password}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n"
            + (f"user = {pwd.getpwuid(65534).pw_name}\n" if os.geteuid() == 0 else "")
        )
        settings.chmod(0o644)
        process = subprocess.Popen([PGBOUNCER, "-q", str(settings)], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: _accepts(port))
            yield server._replace(netloc=f"anybody:any@127.0.0.1:{port}").geturl()
        finally:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that handles each connection by a call in a thread of its own; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=handle, args=(server.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def silent_server() -> AbstractContextManager[str]:
    def handle(connection: socket.socket) -> None:
        with connection:
            while connection.recv(1024):
                pass

    return listening(handle)


def tls_server(certificates: Certificates) -> AbstractContextManager[str]:
    """A server that agrees to TLS as PostgreSQL does, and only shows its certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(8)
            connection.sendall(b"S")
            context.wrap_socket(connection, server_side=True).recv(1)

    return listening(handle)
