"""Our Redis client: connections that reconnect, a pool, and subscriptions; directly or through sentinels.

It uses asyncio streams and the C parser that redis-py uses too. Small on purpose: importing redis-py takes several
times as long as most commands need.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Protocol
from weakref import WeakSet

from hiredis import ProtocolError, Reader, pack_command

from sitegenctl.adapters.redis.errors import (
    LoginRefused,
    NotPermitted,
    Refusal,
    error_of,
    late,
    unreachable,
    without_errors,
)
from sitegenctl.adapters.redis.urls import TLS_FILES, Address, parse_url
from sitegenctl.adapters.system.network import connection_problem
from sitegenctl.errors import SourceError, UsageProblem

Command = tuple[str | bytes | int | float, ...]

# What a broken connection raises, or a server that does not speak Redis's protocol.
_CONNECTION_ERRORS = (OSError, UnicodeError, ProtocolError)

# hiredis annotates its argument as a tuple of one element.
_pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]

_READ_SIZE = 65536
_INCOMPLETE = object()
_FALSE = ("0", "F", "FALSE", "N", "NO")
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}

_open_streams: WeakSet[_Stream] = WeakSet()


class _SentinelOptions(Protocol):
    """The name under which sentinels monitor the Redis, and the sentinels' own password; None without sentinels."""

    @property
    def sentinel_master(self) -> str | None: ...

    @property
    def sentinel_password(self) -> str | None: ...


class _Stream:
    """An open connection; replies come in the order of the commands."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._parser = Reader(replyError=error_of, notEnoughData=_INCOMPLETE)
        _open_streams.add(self)

    @classmethod
    async def open(cls, address: Address, *, sentinel: bool = False) -> _Stream:
        """Connect, log in and select the database. Raises ``SourceError`` or one of ``_CONNECTION_ERRORS``.

        Only with ``sentinel`` may it be a sentinel.
        """
        if address.path is not None:
            stream = cls(*await asyncio.open_unix_connection(address.path))
        else:
            context = None if address.tls is None else _ssl_context(address.tls)
            stream = cls(*await asyncio.open_connection(address.host, address.port, ssl=context))
        try:
            if address.username or address.password:
                login = (address.username, address.password) if address.username else (address.password,)
                (reply,) = await stream.exchange(("AUTH", *(part or "" for part in login)))
                if isinstance(reply, Refusal | LoginRefused):
                    if not sentinel:
                        await stream.require_server(address)
                    raise LoginRefused(reply.reason, user_only=not address.password)
                without_errors([reply])
            if address.database:
                select = ("SELECT", address.database)
                replies = await stream.exchange(select)
                (reply,) = without_errors(replies, commands=[select], user=address.username, keep_refusals=True)
                if isinstance(reply, NotPermitted):
                    raise reply
                if isinstance(reply, Refusal):
                    await stream.require_server(address)
                    raise SourceError(
                        f"Redis has no database {address.database}: {reply.reason}",
                        hint="correct the database number at the end of REDIS_URL",
                        source="broker",
                    )
        except BaseException:
            stream.abort()
            raise
        return stream

    def send(self, commands: Iterable[Command]) -> None:
        # Do not drain here: Redis may block until earlier replies are read.
        self.writer.write(b"".join(map(_pack, commands)))

    async def receive(self) -> Any:
        """The next reply; an error reply is returned as an exception. A cancelled call loses nothing."""
        while (reply := self._parser.gets()) is _INCOMPLETE:
            data = await self.reader.read(_READ_SIZE)
            if not data:
                raise ConnectionError("the connection was closed")
            self._parser.feed(data)
        return reply

    async def exchange(self, *commands: Command) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        self.send(commands)
        return [await self.receive() for _ in commands]

    async def require_server(self, address: Address) -> None:
        """Raise ``SourceError`` if this is a sentinel, which refuses what a server does."""
        (role,) = await self.exchange(("ROLE",))
        if isinstance(role, list) and role[:1] == [b"sentinel"]:
            names = ", ".join(name.decode(errors="replace") for name in role[1]) if len(role) > 1 else ""
            raise SourceError(
                f"{address} is a Redis Sentinel, not a Redis server",
                hint=f"use sentinel://{address}/0, and set SITEGENCTL_SENTINEL_MASTER to {names or 'its master'}",
                source="broker",
            )

    def abort(self) -> None:
        """Close without a farewell: in TLS that could take its time."""
        self.writer.transport.abort()


class Connection:
    """A connection to Redis, which serves one call at a time.

    It connects when first used, and again after it was lost or a call was cancelled. Each call ends within ``timeout``
    seconds. Raises ``UsageProblem`` for an invalid URL, and for sentinels without a master name.
    """

    def __init__(self, url: str, options: _SentinelOptions, *, timeout: float) -> None:
        self._timeout = timeout
        self._master = options.sentinel_master or ""
        #: The server that errors name: with sentinels, the one that was asked last, or the master.
        self._address = parse_url(url)
        self._sentinels = [replace(each, password=options.sentinel_password) for each in self._address.sentinels]
        if self._sentinels and not self._master:
            raise UsageProblem(
                "REDIS_URL names sentinels, but the name of their master is not set",
                hint="set SITEGENCTL_SENTINEL_MASTER to kombu's master_name",
            )
        self._stream: _Stream | None = None

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        """Send commands in one round trip; returns their replies in RESP2 types, strings as bytes.

        With ``keep_refusals``, the reply to a command that Redis refuses is a ``Refusal``. Raises ``SourceError`` for
        every other failure.
        """
        replies: list[Any] | None = None
        try:
            with self._translated():
                async with asyncio.timeout(self._timeout):
                    stream = await self._opened()
                    replies = await stream.exchange(*commands)
                    if any(isinstance(reply, Refusal) and reply.code == "ERR" for reply in replies):
                        await stream.require_server(self._address)
        finally:
            if replies is None:
                # Otherwise the outstanding reply would be taken for the reply to the next command.
                await self.aclose()
        user = self._address.username
        return without_errors(replies, commands=commands, user=user, keep_refusals=keep_refusals)

    async def subscribe(self, patterns: Sequence[str], *, idle: float) -> AsyncGenerator[bytes | None, None]:
        """Yield the messages on channels that match; None first, and after ``idle`` silent seconds.

        Redis has confirmed the subscription when the first None arrives. A connection that was cut silently is
        detected by a PING after each silence. The connection serves nothing else meanwhile.
        """
        try:
            with self._translated():
                async with asyncio.timeout(self._timeout):
                    stream = await self._opened()
                    command = ("PSUBSCRIBE", *patterns)
                    stream.send([command])
                    # One confirmation for each pattern, or one error for all.
                    for _ in patterns:
                        without_errors([await stream.receive()], commands=[command], user=self._address.username)
            yield None
            is_silent = False
            while True:
                with self._translated():
                    try:
                        async with asyncio.timeout(self._timeout if is_silent else idle):
                            reply = await stream.receive()
                    except TimeoutError:
                        if is_silent:
                            raise
                        reply = None
                        stream.send([("PING",)])
                is_silent = reply is None
                if reply is None:
                    yield None
                    continue
                without_errors([reply])
                kind, *_, message = reply
                if kind == b"pmessage":
                    yield message
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()

    async def _opened(self) -> _Stream:
        if self._stream is not None and (self._stream.reader.at_eof() or self._stream.writer.is_closing()):
            # Closed while idle: Redis was restarted, or closes idle clients.
            await self.aclose()
        if self._stream is None:
            self._stream = await (self._open_master() if self._sentinels else _Stream.open(self._address))
        return self._stream

    async def _open_master(self) -> _Stream:
        """Ask the sentinels one after the other. Raises ``SourceError`` if none names a master that responds.

        During a failover a sentinel may still name the old master. It is now a replica, and its data may be old.
        """
        master = self._address
        failure: SourceError = unreachable(f"no sentinel knows {self._master}")
        for sentinel in self._sentinels:
            self._address = sentinel
            try:
                with self._translated():
                    # A share of the time for each sentinel and for the commands: one that hangs must not use it up.
                    async with asyncio.timeout(self._timeout / (len(self._sentinels) + 1)):
                        stream = await _Stream.open(sentinel, sentinel=True)
                        try:
                            question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
                            replies = await stream.exchange(question)
                        finally:
                            stream.abort()
                        (reply,) = without_errors(replies, commands=[question])
                        if reply is None:
                            continue
                        host, port = reply
                        self._address = replace(master, host=host.decode(), port=int(port))
                        return await _open_if_master(self._address, sentinel)
            except SourceError as exc:
                failure = exc
        self._address = master
        raise failure

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise ``SourceError`` for timeouts and for connection errors, which name the address."""
        try:
            yield
        except TimeoutError as exc:
            raise late() from exc
        except _CONNECTION_ERRORS as exc:
            raise unreachable(f"{self._address}: {connection_problem(exc)}", exc) from exc


async def _open_if_master(address: Address, named_by: Address) -> _Stream:
    stream = await _Stream.open(address)
    try:
        (reply,) = await stream.exchange(("ROLE",))
        if isinstance(reply, NotPermitted):
            # Redis has ACLs since version 6, which reports the role in HELLO too. No ACL can forbid HELLO.
            (fields,) = without_errors(await stream.exchange(("HELLO",)))
            role: bytes = fields[fields.index(b"role") + 1]
        else:
            role, *_ = without_errors([reply])[0]
        if role != b"master":
            raise unreachable(f"sentinel {named_by} names {address}, but its role is {role.decode()}")
    except BaseException:
        stream.abort()
        raise
    return stream


def _ssl_context(options: Mapping[str, str]) -> ssl.SSLContext:
    for name in TLS_FILES:
        if (path := options.get(name)) and not os.path.exists(path):
            raise unreachable(f"{path} does not exist ({name} in REDIS_URL)")
    context = ssl.create_default_context()
    verify_mode = _CERT_REQS[options["ssl_cert_reqs"]]
    # The host name first: a context that checks it refuses CERT_NONE.
    checks_hostname = options.get("ssl_check_hostname", "yes").upper() not in _FALSE
    context.check_hostname = checks_hostname and verify_mode is not ssl.CERT_NONE
    context.verify_mode = verify_mode
    authorities = [options.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if any(authorities):
        context.load_verify_locations(*authorities)
    if certificate := options.get("ssl_certfile") or options.get("ssl_keyfile"):
        # Always with a password: without one, OpenSSL would prompt for that of an encrypted key.
        context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_password", ""))
    return context


def own_addresses() -> frozenset[str]:
    """The local addresses of this process's TCP connections, as CLIENT LIST shows them unless a proxy changes them."""
    addresses = set()
    for stream in list(_open_streams):
        name = stream.writer.get_extra_info("sockname")
        if isinstance(name, tuple) and not stream.writer.is_closing():
            host, port, *_ = name
            addresses.add(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return frozenset(addresses)


def open_connection(url: str, options: _SentinelOptions, *, timeout: float) -> AbstractAsyncContextManager[Connection]:
    """A connection that is closed at the end of the block."""
    return aclosing(Connection(url, options, timeout=timeout))


class ConnectionPool:
    """A pool of connections; each serves one caller at a time."""

    def __init__(self, url: str, options: _SentinelOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._idle: list[Connection] = []
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for exclusive use."""
        connection = self._idle.pop() if self._idle else Connection(self._url, self._options, timeout=self._timeout)
        try:
            yield connection
        finally:
            if self._is_closed:
                # A cancelled caller may leave only after the pool was closed.
                await connection.aclose()
            else:
                self._idle.append(connection)

    async def aclose(self) -> None:
        """Close idle connections now, and each of the others when its caller leaves."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()


async def require_writable(connection: Connection, key: str) -> None:
    """Raise ``SourceError`` if Redis refuses writes; ``key`` must not exist, so that nothing is changed."""
    (reply,) = await connection.execute(("LPUSHX", key, ""), keep_refusals=True)
    if isinstance(reply, Refusal):
        raise reply
