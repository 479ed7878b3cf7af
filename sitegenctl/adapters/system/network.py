"""Addresses of hosts, and errors of network connections in plain words."""

from __future__ import annotations

import os
import socket
import ssl

from sitegenctl.adapters.system.threads import in_a_thread

#: Seconds that a name server gets.
_LOOKUP_TIMEOUT = 0.5


def connection_problem(exc: BaseException) -> str:
    """Why a connection failed, without the address that asyncio adds to it, and never as the name of a class."""
    if isinstance(exc, TimeoutError) and not exc.errno:
        return "it did not respond in time"
    if isinstance(exc, socket.gaierror):
        return "the name of its host can't be resolved"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return f"TLS failed: {exc.reason.replace('_', ' ').lower()}"
    if isinstance(exc, OSError) and exc.errno and exc.errno > 0:
        return os.strerror(exc.errno)
    closed = isinstance(exc, ConnectionError | EOFError)
    # Libraries raise errors without a text where the peer closes the connection.
    return (getattr(exc, "strerror", None) or str(exc)).rstrip(".") or (
        "it closed the connection" if closed else "the connection failed"
    )


async def addresses_of(host: str) -> frozenset[str]:
    """The IP addresses of a host; none if its name is not resolved in time. Those of this host include loopback."""
    try:
        found = await in_a_thread(lambda: socket.getaddrinfo(host, None), timeout=_LOOKUP_TIMEOUT)
    except (OSError, UnicodeError):
        found = []
    local = {"127.0.0.1", "::1"} if host == socket.gethostname() else set()
    return frozenset({str(entry[4][0]) for entry in found} | local)
