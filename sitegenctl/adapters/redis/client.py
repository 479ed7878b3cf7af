"""One Redis connection over asyncio streams, with the C parser that redis-py uses too.

Small on purpose: importing redis-py takes several times as long as most commands need.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from hiredis import ProtocolError, Reader, pack_command

from sitegenctl.adapters.redis.errors import error_of, unreachable
from sitegenctl.adapters.redis.urls import TLS_FILES, client_url, query_of

Command = tuple[str | bytes | int | float, ...]

#: What a broken connection raises, or a server that does not speak Redis's protocol.
CONNECTION_ERRORS = (OSError, UnicodeError, ProtocolError)

# hiredis annotates its argument as a tuple of one element.
_pack: Callable[[Command], bytes] = pack_command  # type: ignore[assignment]

_READ_SIZE = 65536
_INCOMPLETE = object()
_FALSE = ("0", "F", "FALSE", "N", "NO")
_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}

_open_connections: WeakSet[Connection] = WeakSet()


def own_addresses() -> frozenset[str]:
    """The local addresses of this process's connections, as CLIENT LIST shows them unless a proxy changes them."""
    addresses = (connection.local_address for connection in list(_open_connections))
    return frozenset(address for address in addresses if address is not None)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a Redis listens: ``path`` of a unix socket, or host and port, with TLS if ``tls`` has its options."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    tls: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in a URL that is not of sentinels. Raises ``UsageProblem``."""
        url = client_url(url)
        parts = urlsplit(url)
        return cls(
            host=unquote(parts.hostname or cls.host),
            port=parts.port or cls.port,
            path=unquote(parts.path) if parts.scheme == "unix" else None,
            tls={name: value for name, value in query_of(url).items() if value} if parts.scheme == "rediss" else None,
        )

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Connection:
    """An open connection; replies come in the order of the commands."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = Reader(replyError=error_of, notEnoughData=_INCOMPLETE)
        _open_connections.add(self)

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """Connect. Raises one of ``CONNECTION_ERRORS``, or ``SourceError`` for a missing certificate file."""
        if address.path is not None:
            return cls(*await asyncio.open_unix_connection(address.path))
        context = None if address.tls is None else _ssl_context(address.tls)
        return cls(*await asyncio.open_connection(address.host, address.port, ssl=context))

    @property
    def local_address(self) -> str | None:
        """The local end of a TCP connection; None for a unix socket."""
        name = self._writer.get_extra_info("sockname")
        if not isinstance(name, tuple) or self._writer.is_closing():
            return None
        host, port, *_ = name
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def is_lost(self) -> bool:
        """Whether the server is known to have closed the connection."""
        return self._reader.at_eof() or self._writer.is_closing()

    def send(self, commands: Iterable[Command]) -> None:
        """Queue commands for sending."""
        # Do not drain here: Redis may block until earlier replies are read.
        self._writer.write(b"".join(map(_pack, commands)))

    async def receive(self) -> Any:
        """The next reply; an error reply is returned as an exception. A cancelled call loses nothing."""
        while (reply := self._parser.gets()) is _INCOMPLETE:
            data = await self._reader.read(_READ_SIZE)
            if not data:
                raise ConnectionError("the connection was closed")
            self._parser.feed(data)
        return reply

    async def exchange(self, *commands: Command) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        self.send(commands)
        return [await self.receive() for _ in commands]

    def abort(self) -> None:
        """Close without a farewell: in TLS that could take its time."""
        self._writer.transport.abort()


def _ssl_context(options: Mapping[str, str]) -> ssl.SSLContext:
    for name in TLS_FILES:
        if (path := options.get(name)) and not os.path.exists(path):
            raise unreachable(f"{path} does not exist ({name} in REDIS_URL)")
    context = ssl.create_default_context()
    verify_mode = _CERT_REQS[options.get("ssl_cert_reqs", "required")]
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


def describe_error(exc: Exception) -> str:
    """The reason of a connection error, without the address that asyncio adds to it."""
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0 and not isinstance(exc, ssl.SSLError):
        return os.strerror(exc.errno)
    return (getattr(exc, "strerror", None) or str(exc) or type(exc).__name__).rstrip(".")
