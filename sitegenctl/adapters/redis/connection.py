"""The Redis client: one connection that reconnects, a pool, and subscriptions; directly or through sentinels."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from typing import Any, Protocol

from sitegenctl.adapters.redis.client import CONNECTION_ERRORS, Address, Command, Connection, describe_error
from sitegenctl.adapters.redis.errors import (
    NotPermitted,
    Refusal,
    explained,
    late,
    login_refused,
    unreachable,
    without_errors,
    write_refused,
)
from sitegenctl.adapters.redis.urls import credentials, database_number, is_sentinel, sentinels
from sitegenctl.errors import SourceError, UsageProblem


class SentinelOptions(Protocol):
    """The name of the master and the sentinels' own password; None without sentinels."""

    @property
    def sentinel_master(self) -> str | None:
        """The name under which sentinels monitor the Redis."""
        ...

    @property
    def sentinel_password(self) -> str | None:
        """The password of the sentinels, not of the Redis that they monitor."""
        ...


class Link:
    """A client with one connection, which serves one call at a time.

    It connects when first used, and again after the connection was lost or a call was cancelled. Each call ends within
    ``timeout`` seconds. Raises ``UsageProblem`` for an invalid URL, and for sentinels without a master name.
    """

    def __init__(self, url: str, options: SentinelOptions, *, timeout: float) -> None:
        self._timeout = timeout
        self._database = database_number(url)
        self._login = credentials(url)
        self._sentinel_password = options.sentinel_password
        self._master = options.sentinel_master or ""
        self._sentinels: list[Address] = []
        self._address: Address | None = None
        if not is_sentinel(url):
            self._address = Address.of(url)
        elif not self._master:
            raise UsageProblem(
                "REDIS_URL names sentinels, but the name of their master is not set",
                hint="set SITEGENCTL_SENTINEL_MASTER to kombu's master_name",
            )
        else:
            self._sentinels = [Address(host=host, port=port) for host, port in sentinels(url)]
        self._connection: Connection | None = None

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        """Send commands in one round trip; returns their replies in RESP2 types, strings as bytes.

        With ``keep_refusals``, the reply to a command that Redis refuses is a ``Refusal``. Raises ``SourceError`` for
        every other failure.
        """
        replies: list[Any] | None = None
        try:
            with _translated():
                async with asyncio.timeout(self._timeout):
                    connection = await self._connected()
                    with _translated(self._address):
                        replies = await connection.exchange(*commands)
        finally:
            if replies is None:
                # Otherwise the outstanding reply would be taken for the reply to the next command.
                self._drop()
        return without_errors(explained(commands, replies), keep_refusals=keep_refusals)

    async def subscribe(self, patterns: Sequence[str], *, idle: float) -> AsyncGenerator[bytes | None, None]:
        """Yield the messages on channels that match; None first, and after ``idle`` silent seconds.

        Redis has confirmed the subscription when the first None arrives. A connection that was cut silently is
        detected by a PING after each silence. The client serves nothing else meanwhile.
        """
        try:
            with _translated():
                async with asyncio.timeout(self._timeout):
                    connection = await self._connected()
                    command = ("PSUBSCRIBE", *patterns)
                    connection.send([command])
                    # One confirmation for each pattern, or one error for all.
                    for _ in patterns:
                        without_errors(explained([command], [await connection.receive()]), keep_refusals=False)
            yield None
            is_silent = False
            while True:
                with _translated(self._address):
                    try:
                        async with asyncio.timeout(self._timeout if is_silent else idle):
                            reply = await connection.receive()
                    except TimeoutError:
                        if is_silent:
                            raise
                        reply = None
                        connection.send([("PING",)])
                is_silent = reply is None
                if reply is None:
                    yield None
                    continue
                without_errors([reply], keep_refusals=False)
                kind, *_, message = reply
                if kind == b"pmessage":
                    yield message
        finally:
            self._drop()

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        self._drop()

    def _drop(self) -> None:
        dropped, self._connection = self._connection, None
        if dropped is not None:
            dropped.abort()

    async def _connected(self) -> Connection:
        if self._connection is not None and self._connection.is_lost:
            # Closed while idle: Redis was restarted, or closes idle clients.
            self._drop()
        if self._connection is None:
            if self._sentinels:
                self._connection = await self._connect_to_master()
            else:
                assert self._address is not None  # noqa: S101 - for the type checker
                self._connection = await self._connect(self._address)
        return self._connection

    async def _connect(self, address: Address, *, named_by: Address | None = None) -> Connection:
        """Connect and log in. Raises ``SourceError`` if a sentinel named the address and it is not a master."""
        with _translated(address):
            connection = await Connection.open(address)
            try:
                await _log_in(connection, self._login.get("username"), self._login.get("password"))
                if named_by is not None and (role := await _role(connection)) != "master":
                    raise unreachable(f"sentinel {named_by} names {address}, but its role is {role}")
                if self._database:
                    without_errors(await connection.exchange(("SELECT", self._database)), keep_refusals=False)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _connect_to_master(self) -> Connection:
        """Ask the sentinels one after the other. Raises ``SourceError`` if none names a master that responds.

        During a failover a sentinel may still name the old master. It is now a replica, and its data may be old.
        """
        failure: SourceError = unreachable(f"no sentinel knows {self._master}")
        for sentinel in self._sentinels:
            try:
                with _translated(sentinel):
                    # A share of the time for each sentinel and for the commands: one that hangs must not use it up.
                    async with asyncio.timeout(self._timeout / (len(self._sentinels) + 1)):
                        reply = await self._ask_sentinel(sentinel)
                        if reply is None:
                            continue
                        host, port = reply
                        self._address = Address(host=host.decode(), port=int(port))
                        return await self._connect(self._address, named_by=sentinel)
            except SourceError as exc:
                failure = exc
        raise failure

    async def _ask_sentinel(self, address: Address) -> list[bytes] | None:
        connection = await Connection.open(address)
        try:
            await _log_in(connection, None, self._sentinel_password)
            replies = await connection.exchange(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master))
        finally:
            connection.abort()
        reply: list[bytes] | None = without_errors(replies, keep_refusals=False)[0]
        return reply


async def _log_in(connection: Connection, user: str | None, password: str | None) -> None:
    if user is None and password is None:
        return
    login = (password or "",) if user is None else (user, password or "")
    (reply,) = await connection.exchange(("AUTH", *login))
    if isinstance(reply, Refusal):
        raise login_refused(reply.reason)
    without_errors([reply], keep_refusals=False)


async def _role(connection: Connection) -> str:
    """The server's role: ``master``, or another text."""
    (reply,) = await connection.exchange(("ROLE",))
    if isinstance(reply, NotPermitted):
        # Redis has ACLs since version 6, which reports the role in HELLO too. No ACL can forbid HELLO.
        (fields,) = without_errors(await connection.exchange(("HELLO",)), keep_refusals=False)
        role: bytes = fields[fields.index(b"role") + 1]
    else:
        role, *_ = without_errors([reply], keep_refusals=False)[0]
    return role.decode()


@contextmanager
def _translated(address: Address | None = None) -> Iterator[None]:
    """Raise ``SourceError`` for timeouts and for connection errors, which name the address."""
    try:
        yield
    except TimeoutError as exc:
        raise late() from exc
    except CONNECTION_ERRORS as exc:
        where = "" if address is None else f"{address}: "
        raise unreachable(f"{where}{describe_error(exc)}") from exc


def opened_link(url: str, options: SentinelOptions, *, timeout: float) -> AbstractAsyncContextManager[Link]:
    """A client that is closed at the end of the block."""
    return aclosing(Link(url, options, timeout=timeout))


class Links:
    """A pool of clients; each serves one caller at a time."""

    def __init__(self, url: str, options: SentinelOptions, *, timeout: float) -> None:
        self._url = url
        self._options = options
        self._timeout = timeout
        self._idle: list[Link] = []
        self._is_closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Link]:
        """A client for exclusive use."""
        link = self._idle.pop() if self._idle else Link(self._url, self._options, timeout=self._timeout)
        try:
            yield link
        finally:
            if self._is_closed:
                # A cancelled caller may leave only after the pool was closed.
                await link.aclose()
            else:
                self._idle.append(link)

    async def aclose(self) -> None:
        """Close idle clients now, and each of the others when its caller leaves."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for link in idle:
            await link.aclose()


async def require_writable(link: Link, key: str) -> None:
    """Raise ``SourceError`` if Redis refuses writes; ``key`` must not exist, so that nothing is changed."""
    (reply,) = await link.execute(("LPUSHX", key, ""), keep_refusals=True)
    if isinstance(reply, Refusal):
        raise write_refused(reply)


def literally(text: str) -> str:
    """The text as a Redis pattern that matches nothing else."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
