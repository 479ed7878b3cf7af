"""Errors of network connections in plain words."""

from __future__ import annotations

import os
import socket
import ssl


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
