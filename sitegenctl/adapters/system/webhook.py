"""Notification over HTTP: one POST of JSON."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from sitegenctl.adapters.system.network import connection_problem
from sitegenctl.adapters.system.threads import in_a_thread
from sitegenctl.errors import SourceError, UsageProblem


def require_http(url: str) -> str:
    """The URL. Raises ``UsageProblem`` unless it is HTTP or HTTPS."""
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_http = False
    if not is_http:
        raise UsageProblem("notifications need a URL that begins with http:// or https://")
    return url


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The URL often contains a token, and another host must not get what is posted: a redirect is a failure."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


async def post_json(url: str, value: Any, *, timeout: float) -> None:
    """Post a value as JSON; ``timeout`` is in seconds. Raises ``SourceError`` with the host, never the whole URL."""
    try:
        # The timeout of the socket is for each read: a slow server would never exceed it.
        await in_a_thread(lambda: _post(url, value, timeout), timeout=timeout)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        if isinstance(exc, urllib.error.HTTPError):
            exc.close()  # it is a response, too
        raise SourceError(f"{urlsplit(url).hostname} was not notified: {_reason(exc)}", source="notify") from exc


def _post(url: str, value: Any, timeout: float) -> None:
    request = urllib.request.Request(  # noqa: S310 - `require_http` has checked the scheme
        url,
        data=json.dumps(value, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "sitegenctl"},
        method="POST",
    )
    with _OPENER.open(request, timeout=timeout) as response:
        response.read(1)


def _reason(exc: BaseException) -> str:
    match exc:
        case urllib.error.HTTPError():
            return f"HTTP status {exc.code}"
        case urllib.error.URLError(reason=BaseException() as cause):
            return _reason(cause)
        case http.client.RemoteDisconnected():
            return "it closed the connection without a response"
        case http.client.HTTPException():
            return "it does not respond as a web server"
        case OSError():
            return connection_problem(exc)
        case _:
            return "its name or the path is not valid"
