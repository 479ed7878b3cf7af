"""The live view in a browser, with a process for each browser.

textual-serve provides the page's script and carries keys and screen updates. It has no access control and does not
reliably end processes; both are added here. The token is part of every address instead of a cookie: browsers send a
host's cookies to all of its ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import ipaddress
import logging
import re
import secrets
import shlex
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec

import aiohttp_jinja2
from aiohttp import WSCloseCode, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int
from yarl import URL

from sitegenctl.errors import UsageProblem

P = ParamSpec("P")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Browsers at the same time. Each has a process of about 100 MB, with connections to PostgreSQL and Redis.
MAX_BROWSERS: Final = 10

#: Seconds to wait for a process to complete its current batch and exit.
_EXIT_TIMEOUT = 5.0

#: Seconds to wait for a free slot: the old process of a reloaded page may still be exiting.
_SLOT_TIMEOUT = 3.0

#: Larger than any screen. Without a limit, a browser could request a screen that fills the memory.
_MAX_COLUMNS, _MAX_LINES = 1000, 500

_MAX_FONT_SIZE = 64

_PAGE = Path(__file__).parent / "page"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?", re.IGNORECASE)

_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address contains the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class PublicUrl:
    """The address at which browsers reach a server behind a proxy; ``path`` begins and ends with a slash."""

    scheme: str
    name: str
    authority: str
    path: str

    @property
    def origin(self) -> str:
        """The ``Origin`` header of a page at this address."""
        return f"{self.scheme}://{self.authority}"

    @classmethod
    def parse(cls, text: str) -> PublicUrl:
        """Read the value of ``--public-url``. Raises ``UsageProblem`` without the value: it may have a password."""
        problem = UsageProblem(
            "--public-url must be an address such as https://ops.example/queue/",
            hint="give http:// or https://, a host name, and a port and a path if the proxy uses them",
        )
        try:
            url = URL(text)
            port = url.port
        except ValueError:
            raise problem from None
        name = url.raw_host or ""
        authority = (f"[{name}]" if ":" in name else name) + ("" if url.is_default_port() else f":{port}")
        extra = url.user or url.password or url.raw_query_string or url.raw_fragment
        if url.scheme not in ("http", "https") or extra or not _HOST.fullmatch(authority):
            raise problem
        path = url.raw_path.strip("/")
        return cls(scheme=url.scheme, name=name, authority=authority, path=f"/{path}/" if path else "/")


class BrowserSession(AppService):
    """The process of one browser."""

    process: Process | None = None

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self.process = await super()._open_app_process(_clamp(width, _MAX_COLUMNS), _clamp(height, _MAX_LINES))
        return self.process

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Pass on the size of the browser's window."""
        await super().set_terminal_size(_clamp(width, _MAX_COLUMNS), _clamp(height, _MAX_LINES))

    async def exited(self) -> None:
        """Wait until the process has exited."""
        if self.process is not None:
            await self.process.wait()

    async def end(self, *, at_once: bool) -> None:
        """Stop the process, and kill it if it hangs; ``at_once`` also stops one that is still starting."""
        if self.process is None:
            return
        if at_once:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        # asyncio.timeout does not work here: textual-serve's task suppresses its own cancellation.
        exiting = asyncio.create_task(self._stop_and_wait())
        await asyncio.wait([exiting], timeout=_EXIT_TIMEOUT)
        if not exiting.done():
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await asyncio.wait([exiting], timeout=1.0)
            exiting.cancel()

    async def _stop_and_wait(self) -> None:
        await self.stop()
        await self.exited()


class WebView(Server):
    """Starts ``command`` for each browser. ``names`` are the host names that this server is known by.

    Behind a proxy, browsers know it by ``public`` instead. The proxy may strip the public path from requests or keep
    it, and may pass on the public host or the server's own.
    """

    def __init__(self, command: Sequence[str], *, title: str, public: PublicUrl | None = None) -> None:
        # exec replaces the shell, so that the process is our own child.
        super().__init__(f"exec {shlex.join(command)}", title=title, templates_path=_PAGE)
        self.public = public
        self.token = secrets.token_urlsafe(32)
        self.names: frozenset[str] = _LOOPBACK
        self.any_address = False
        self._slots = asyncio.Semaphore(MAX_BROWSERS)
        self._closing = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()

    async def make_app(self) -> web.Application:
        """Make the application, with access control."""
        app = await self._make_app()
        app.middlewares.append(self._check_access)
        app.on_response_prepare.append(self._add_headers)
        prefix = self._base.rstrip("/")
        if prefix:
            for path in (prefix, f"{prefix}/"):
                app.router.add_get(path, self.handle_index)
            app.router.add_static(f"{prefix}/static", self.statics_path)
        for each in dict.fromkeys(("", prefix)):
            # The page's script appends a query to this address, so the token has to be in the path.
            app.router.add_get(each + "/ws/{token}", self.handle_websocket)
            app.router.add_static(f"{each}/page", _PAGE)
        return app

    @property
    def _base(self) -> str:
        return "/" if self.public is None else self.public.path

    async def on_startup(self, app: web.Application) -> None:
        """Print no banner: stdout has the link."""

    async def on_shutdown(self, app: web.Application) -> None:
        """End the processes of all browsers."""
        self._closing.set()
        # It would log errors about processes that exit while they start.
        logging.getLogger("textual-serve").disabled = True
        if self._sessions:
            await asyncio.wait(self._sessions)

    @web.middleware
    async def _check_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = self._host(request)
        if host is None:
            # DNS rebinding: another page's host name that now resolves to this server.
            advice = "" if self.public is None else f", or have the proxy send the Host header {self.public.authority}"
            raise web.HTTPForbidden(text=f"403: unknown host name; use the link that sitegenctl printed{advice}\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() not in self._origins(*host):
            raise web.HTTPForbidden(text="403: request from a page of another site\n")
        if request.path in ("/health", f"{self._base}health"):
            # For health checks of containers and proxies, which have no token.
            return web.Response(text="ok\n")
        token = request.query.get("token") or request.match_info.get("token", "")
        if not hmac.compare_digest(token.encode(errors="replace"), self.token.encode()):
            raise web.HTTPForbidden(text="403: invalid token; use the whole link that sitegenctl printed\n")
        return await handler(request)

    def _host(self, request: web.Request) -> tuple[str, str] | None:
        """The requested name, and the name with its port, if it is this server's. A tunnel may use another port."""
        match = _HOST.fullmatch(request.headers.get("Host", ""))
        if match is None:
            return None
        name = (match[1] or match[2]).lower()
        is_public = self.public is not None and name == self.public.name
        return (name, match[0].lower()) if is_public or self._is_own(name) else None

    def _is_own(self, name: str) -> bool:
        # Rebinding needs a name: an address is safe.
        return name in self.names or (self.any_address and _is_address(name))

    def _origins(self, name: str, authority: str) -> set[str]:
        """The origins of the server's own pages. The public name is not trusted with another scheme or port."""
        own = {f"http://{authority}"} if self._is_own(name) else set()
        return own if self.public is None else own | {self.public.origin}

    def _websocket_origin(self, request: web.Request) -> str | None:
        if self.public is not None:
            return "ws" + self.public.origin.removeprefix("http")
        host = self._host(request)
        return None if host is None else f"ws://{host[1]}"

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        # xterm.js writes style elements. Older browsers do not count a WebSocket as 'self', and a policy cannot
        # contain an IPv6 address.
        origin = self._websocket_origin(request)
        sources = "'self'" if origin is None or "[" in origin else f"'self' {origin}"
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self';"
            f" img-src 'self' data:; connect-src {sources}; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        response.headers.update(_HEADERS)

    async def handle_index(self, request: web.Request) -> web.Response:
        """Return the page."""
        context = {
            "title": self.title,
            "token": self.token,
            "base": self._base,
            "websocket": f"{self._websocket_origin(request)}{self._base}ws/{self.token}",
            "font_size": _clamp(to_int(request.query.get("fontsize", ""), 16), _MAX_FONT_SIZE),
        }
        return aiohttp_jinja2.render_template("index.html", request, context)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Connect a browser with a new process."""
        # A browser that vanishes is noticed after 22 s.
        websocket = web.WebSocketResponse(heartbeat=15, timeout=1.0)
        try:
            async with asyncio.timeout(_SLOT_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError:
            await websocket.prepare(request)
            await websocket.send_bytes(f"\r\n  Limit of {MAX_BROWSERS} browsers reached: close one.\r\n".encode())
            await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return websocket
        try:
            await websocket.prepare(request)
            session = asyncio.create_task(self._run_session(request, websocket))
            self._sessions.add(session)
            session.add_done_callback(self._sessions.discard)
            # A dropped request must not cancel the end of its process.
            await asyncio.shield(session)
        finally:
            self._slots.release()
        return websocket

    async def _run_session(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
        session = BrowserSession(
            self.command,
            # Output is read even if the browser is gone, or the process would block.
            write_bytes=_ignoring_closed(websocket.send_bytes),
            write_str=_ignoring_closed(websocket.send_str),
            close=_ignoring_closed(websocket.close),
            download_manager=self.download_manager,
        )
        width = to_int(request.query.get("width", ""), 80)
        height = to_int(request.query.get("height", ""), 24)
        try:
            await session.start(width, height)
            ends = [
                asyncio.create_task(self._read_messages(websocket, session)),
                asyncio.create_task(session.exited()),
                asyncio.create_task(self._closing.wait()),
            ]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        finally:
            is_closing = self._closing.is_set()
            await session.end(at_once=is_closing)
            await _ignoring_closed(websocket.close)(code=WSCloseCode.GOING_AWAY if is_closing else WSCloseCode.OK)

    async def _read_messages(self, websocket: web.WebSocketResponse, session: BrowserSession) -> None:
        # Malformed messages end the session.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, AssertionError):
            await self._process_messages(websocket, session)


async def serve(view: WebView, *, host: str, port: int, announce: Callable[[str, bool], None]) -> None:
    """Serve until cancelled.

    Calls ``announce`` with the link and whether other machines can reach it unencrypted. Raises ``UsageProblem`` if the
    address cannot be bound.
    """
    # textual-serve prints errors of the processes to stdout.
    with contextlib.redirect_stdout(sys.stderr):
        # No access log: the addresses contain the token.
        runner = web.AppRunner(await view.make_app(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except (OSError, UnicodeError) as exc:  # the resolver refuses some names by the latter
                raise _bind_error(exc, host, port) from exc
            announce(*_configure(view, runner, host))
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def _configure(view: WebView, runner: web.AppRunner, host: str) -> tuple[str, bool]:
    """Set the names of a bound server; returns its link, and whether other machines can reach it unencrypted."""
    address, port = runner.addresses[0][:2]
    bound = {ipaddress.ip_address(each[0]) for each in runner.addresses}
    is_private = all(each.is_loopback for each in bound)
    view.any_address = any(each.is_unspecified for each in bound)
    if view.any_address:
        address = socket.gethostname()
    view.names = frozenset({host.lower(), address.lower()})
    if any(each.is_loopback or each.is_unspecified for each in bound):
        view.names |= _LOOPBACK
    name = address if is_private or view.any_address else host
    name = f"[{name}]" if ":" in name else name
    if view.public is not None:
        is_private = is_private and view.public.scheme == "https"
        return f"{view.public.origin}{view.public.path}?token={view.token}", not is_private
    return f"http://{name}:{port}/?token={view.token}", not is_private


def _bind_error(exc: OSError | UnicodeError, host: str, port: int) -> UsageProblem:
    code = getattr(exc, "errno", None)
    if code == errno.EADDRINUSE:
        return UsageProblem(f"port {port} is in use", hint="use --port N, or --port 0 for any free port")
    if code == errno.EACCES:
        return UsageProblem(f"no permission to listen on port {port}", hint="use a port above 1023")
    return UsageProblem(f"--host {host}: cannot listen on this address", hint="use an address of this machine")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _clamp(size: int, maximum: int) -> int:
    return max(1, min(int(size), maximum))


def _ignoring_closed(send: Callable[P, Awaitable[object]]) -> Callable[P, Awaitable[None]]:
    async def send_if_open(*args: P.args, **kwargs: P.kwargs) -> None:
        # aiohttp raises either of them for a closed connection.
        with contextlib.suppress(ConnectionError, RuntimeError):
            await send(*args, **kwargs)

    return send_if_open
