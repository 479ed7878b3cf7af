"""One connection to a Redis, over asyncio streams, with the C parser that redis-py uses too.

For commands that are over at once: importing redis-py takes several times as long as they do. It knows TCP, unix
sockets and TLS with certificates; sentinels and rarer options of TLS are left to redis-py.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from hiredis import ProtocolError, Reader, pack_command

from sitegenctl.adapters.redis.errors import error_of, explained, late, unreachable, without_errors
from sitegenctl.adapters.redis.urls import client_url, credentials, database_number, query_of

Command = tuple[str | bytes | int | float, ...]

# Its annotation says a tuple of one.
_pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]

_CHUNK = 65536
_MORE = object()
_FALSE = ("0", "F", "FALSE", "N", "NO")
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS_OPTIONS = {*_FILES, "ssl_ca_data", "ssl_cert_reqs", "ssl_check_hostname", "ssl_password"}


# The open connections of this process, by which it knows itself among Redis' clients.
_open_connections: WeakSet[_Connection] = WeakSet()


def own_addresses() -> frozenset[str]:
    """The addresses of this process's connections, as CLIENT LIST has them where nothing on the way changes them."""
    addresses = (connection.address for connection in list(_open_connections))
    return frozenset(address for address in addresses if address is not None)


def knows(url: str) -> bool:
    """Whether everything that the URL says of TLS is known here; of Redis's other options none matters."""
    return {name for name in query_of(url) if name.startswith("ssl_")} <= _TLS_OPTIONS


class RedisWire:
    """``Link`` to the Redis of a URL; each call ends within ``timeout`` seconds."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._place = _Place.of(url)
        self._timeout = timeout
        self._open: _Connection | None = None

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        """Send these commands in one round trip; ``Link`` has the rest."""
        replies: list[Any] | None = None
        try:
            async with asyncio.timeout(self._timeout):
                if self._open is not None and self._open.is_lost:
                    # While nobody asked for anything: Redis was restarted, or had no patience with idle clients.
                    self._drop()
                connection = self._open or await self._connect()
                replies = await connection.exchange(commands)
        except TimeoutError as exc:
            raise late() from exc
        except (OSError, UnicodeError, ProtocolError) as exc:
            raise unreachable(f"{self._place.name}: {_words(exc)}") from exc
        finally:
            if replies is None:
                # Given up in the middle: what is still to come would be taken for the answer to the next call.
                self._drop()
        return without_errors(explained(commands, replies), keep_refusals=keep_refusals)

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        self._drop()

    async def _connect(self) -> _Connection:
        place = self._place
        if place.path is not None:
            streams = await asyncio.open_unix_connection(place.path)
        else:
            streams = await asyncio.open_connection(place.host, place.port, ssl=place.tls())
        self._open = _Connection(*streams)
        greeting: list[Command] = [("AUTH", *place.login)] if place.login else []
        if place.database:
            greeting.append(("SELECT", place.database))
        without_errors(await self._open.exchange(greeting), keep_refusals=False)
        return self._open

    def _drop(self) -> None:
        dropped, self._open = self._open, None
        if dropped is not None:
            dropped.abort()


class _Connection:
    """The two streams of one connection, and what has come in and is not a whole reply yet."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = Reader(replyError=error_of, notEnoughData=_MORE)
        _open_connections.add(self)

    @property
    def address(self) -> str | None:
        """Our end of a TCP connection; None of any other."""
        name = self._writer.get_extra_info("sockname")
        if not isinstance(name, tuple) or self._writer.is_closing():
            return None
        host, port, *_ = name
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_lost(self) -> bool:
        """Whether the other side has closed it, as far as that has been heard."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def exchange(self, commands: Iterable[Command]) -> list[Any]:
        packed = [_pack(command) for command in commands]
        # Nobody waits until all is sent: Redis may want its first replies read before it takes the rest.
        self._writer.write(b"".join(packed))
        return [await self._reply() for _ in packed]

    async def _reply(self) -> Any:
        while (reply := self._parser.gets()) is _MORE:
            part = await self._reader.read(_CHUNK)
            if not part:
                raise ConnectionError("the connection was closed")
            self._parser.feed(part)
        return reply

    def abort(self) -> None:
        # Nothing is left to be sent, and a farewell in TLS could take its time.
        self._writer.transport.abort()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a Redis is, and how to come in; ``path`` is that of a unix socket, ``options`` are those of TLS."""

    host: str
    port: int
    path: str | None
    secure: bool
    login: tuple[str, ...] = field(repr=False)
    database: int
    options: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, url: str) -> _Place:
        parts = urlsplit(client_url(url))
        known = credentials(url)
        password = known.get("password", "")
        name = known.get("username")
        return cls(
            host=unquote(parts.hostname or "localhost"),
            port=parts.port or 6379,
            path=unquote(parts.path) if parts.scheme == "unix" else None,
            secure=parts.scheme == "rediss",
            login=(name, password) if name else (password,) if password else (),
            database=database_number(url),
            options={name: value for name, value in query_of(client_url(url)).items() if value},
        )

    @property
    def name(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def tls(self) -> ssl.SSLContext | None:
        """What is asked of the other side's certificate, and our own. Raises ``OSError`` or ``SourceError``."""
        if not self.secure:
            return None
        given = self.options.get
        for option in _FILES:
            if (path := given(option)) and not os.path.exists(path):
                raise unreachable(f"there is no {path}, which REDIS_URL names as {option}")
        context = ssl.create_default_context()
        verify = _CERT_REQS[given("ssl_cert_reqs", "required")]
        checks_name = given("ssl_check_hostname", "yes").upper() not in _FALSE
        # In this order: a context that checks names does not let itself be told to verify nothing.
        context.check_hostname = checks_name and verify is not ssl.CERT_NONE
        context.verify_mode = verify
        if given("ssl_ca_certs") or given("ssl_ca_path") or given("ssl_ca_data"):
            context.load_verify_locations(given("ssl_ca_certs"), given("ssl_ca_path"), given("ssl_ca_data"))
        if own := given("ssl_certfile") or given("ssl_keyfile"):
            # With a password, if an empty one: without, OpenSSL would ask the terminal for that of a locked key.
            context.load_cert_chain(own, given("ssl_keyfile"), given("ssl_password", ""))
        return context


def _words(exc: Exception) -> str:
    # asyncio puts the address in the place of what the system says of the error.
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0 and not isinstance(exc, ssl.SSLError):
        return os.strerror(exc.errno)
    return (getattr(exc, "strerror", None) or str(exc) or type(exc).__name__).rstrip(".")
