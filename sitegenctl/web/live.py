"""The live view in a browser: whoever has the link sees it, each browser with a process of its own.

textual-serve brings the page's script and carries keys and pictures to and fro; it leaves it to others who may come in
and when a process must end. A token is part of every address that the page uses, and not in a cookie: browsers send
those to every port of a host, whoever listens there.
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
from pathlib import Path
from typing import Final, ParamSpec

import aiohttp_jinja2
from aiohttp import WSCloseCode, web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

from sitegenctl.errors import UsageProblem

P = ParamSpec("P")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Browsers at once; each has a process of some 100 MB and connections to PostgreSQL and Redis.
SESSIONS: Final = 10

#: Seconds for a process to end by itself (it finishes the chunk in hand) before it is killed, and for a place to come
#: free: a page that is loaded again comes back before its old process has gone.
_FAREWELL = 5.0
_PLACE = 3.0

#: Beyond that nobody has a screen, but drawing it would take all of a machine's memory.
_WIDEST, _HIGHEST = 1000, 500

_PAGE = Path(__file__).parent / "page"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?", re.IGNORECASE)


class BrowserSession(AppService):
    """The process behind one browser. It ends for certain; one that hangs is killed."""

    process: Process | None = None

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        # The one place where textual-serve has the process in its hands.
        self.process = await super()._open_app_process(_within(width, _WIDEST), _within(height, _HIGHEST))
        return self.process

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Tell the process how large the browser's window is."""
        await super().set_terminal_size(_within(width, _WIDEST), _within(height, _HIGHEST))

    async def ended(self) -> None:
        """Wait until the process has ended."""
        if self.process is not None:
            await self.process.wait()

    async def end(self, *, at_once: bool) -> None:
        """Have the process end, and wait for it; ``at_once`` also one that has hardly begun."""
        process = self.process
        if process is None:
            return
        if at_once:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        # Not asyncio.timeout: textual-serve's own task keeps a cancellation to itself.
        farewell = asyncio.create_task(self._farewell())
        if await _overdue(farewell, _FAREWELL):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if await _overdue(farewell, 1.0):
                farewell.cancel()

    async def _farewell(self) -> None:
        await self.stop()
        await self.ended()


class WebView(Server):
    """``command`` is what each browser gets; ``names`` are the hosts that it may ask for."""

    def __init__(self, command: Sequence[str], *, title: str) -> None:
        # exec: else a shell would stand between us and the process.
        super().__init__(f"exec {shlex.join(command)}", title=title, templates_path=_PAGE)
        self.token = secrets.token_urlsafe(32)
        self.names: frozenset[str] = _LOOPBACK
        self.any_address = False
        self._places = asyncio.Semaphore(SESSIONS)
        self._closing = asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()

    async def make_app(self) -> web.Application:
        """Make the application, guarded."""
        app = await self._make_app()
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(self._confine)
        # The page's script appends its own query to this address, so that the token has to be in the path.
        app.router.add_get("/ws/{token}", self.handle_websocket)
        app.router.add_static("/page", _PAGE)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Print nothing: stdout has the link, and no banner."""

    async def on_shutdown(self, app: web.Application) -> None:
        """End every browser's process."""
        self._closing.set()
        # It would complain of processes that end before they have quite begun.
        logging.getLogger("textual-serve").disabled = True
        if self._conversations:
            await asyncio.wait(self._conversations)

    # --- who may come in ----------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        authority = self._authority(request)
        if authority is None:
            # A name that leads here but isn't ours: a page elsewhere has had it changed, to read what we answer.
            raise web.HTTPForbidden(text="403: this server is not known by that name; use the link it printed\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{authority}":
            raise web.HTTPForbidden(text="403: asked for by a page that is not this server's\n")
        given = request.query.get("token") or request.match_info.get("token", "")
        if not hmac.compare_digest(given.encode(errors="replace"), self.token.encode()):
            raise web.HTTPForbidden(text="403: use the whole link that sitegenctl printed, with its token\n")
        return await handler(request)

    def _authority(self, request: web.Request) -> str | None:
        """The host and port that were asked for, where they are ours.

        Any port: somebody's tunnel may have another one than ours.
        """
        match = _HOST.fullmatch(request.headers.get("Host", ""))
        if match is None:
            return None
        name = (match[1] or match[2]).lower()
        # With an address in place of a name nothing can have been changed on the way.
        return match[0].lower() if name in self.names or (self.any_address and _is_address(name)) else None

    async def _confine(self, request: web.Request, response: web.StreamResponse) -> None:
        # Nothing from elsewhere. xterm.js writes its colours and sizes into style elements.
        # To older browsers 'self' is not the WebSocket; an address of IPv6 no policy can name.
        authority = self._authority(request)
        sources = "'self'" if authority is None or "[" in authority else f"'self' ws://{authority}"
        response.headers.update(
            {
                "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
                f" font-src 'self'; img-src 'self' data:; connect-src {sources}; base-uri 'none';"
                " form-action 'none'; frame-ancestors 'none'",
                "X-Frame-Options": "DENY",
                "X-Content-Type-Options": "nosniff",
                # The token is in the address.
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )

    # --- what they get ------------------------------------------------------------------------------------

    async def handle_index(self, request: web.Request) -> web.Response:
        """Give the page, which fetches nothing from elsewhere."""
        context = {
            "title": self.title,
            "token": self.token,
            "websocket": f"ws://{self._authority(request)}/ws/{self.token}",
            "font_size": _within(to_int(request.query.get("fontsize", ""), 16), 64),
        }
        return aiohttp_jinja2.render_template("index.html", request, context)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Carry keys and pictures between a browser and a process of its own."""
        # A browser that has gone without a word is missed after 22 s.
        websocket = web.WebSocketResponse(heartbeat=15, timeout=1.0)
        try:
            async with asyncio.timeout(_PLACE):
                await self._places.acquire()
        except TimeoutError:
            await websocket.prepare(request)
            why = f"{SESSIONS} browsers are looking already: close one of them."
            await websocket.send_bytes(f"\r\n  {why}\r\n".encode())
            await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return websocket
        try:
            await websocket.prepare(request)
            conversation = asyncio.create_task(self._converse(request, websocket))
            self._conversations.add(conversation)
            conversation.add_done_callback(self._conversations.discard)
            # Whoever drops the request doesn't drop the farewell.
            await asyncio.shield(conversation)
        finally:
            self._places.release()
        return websocket

    async def _converse(self, request: web.Request, websocket: web.WebSocketResponse) -> None:
        session = BrowserSession(
            self.command,
            # What a process still says when its browser has gone is taken, lest it hang with its mouth open.
            write_bytes=_while_open(websocket.send_bytes),
            write_str=_while_open(websocket.send_str),
            close=_while_open(websocket.close),
            download_manager=self.download_manager,
        )
        try:
            await session.start(to_int(request.query.get("width", ""), 80), to_int(request.query.get("height", ""), 24))
            ends = [
                asyncio.create_task(self._heed(websocket, session)),
                asyncio.create_task(session.ended()),
                asyncio.create_task(self._closing.wait()),
            ]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        finally:
            await session.end(at_once=self._closing.is_set())
            with contextlib.suppress(ConnectionError, RuntimeError):
                await websocket.close(code=WSCloseCode.GOING_AWAY if self._closing.is_set() else WSCloseCode.OK)

    async def _heed(self, websocket: web.WebSocketResponse, session: BrowserSession) -> None:
        # What isn't the page's own way of talking ends the conversation.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, AssertionError):
            await self._process_messages(websocket, session)


async def serve(
    command: Sequence[str], *, host: str, port: int, title: str, announce: Callable[[str, bool], None]
) -> None:
    """Serve until cancelled.

    ``announce`` hears the link, and whether other machines can reach it. Raises ``UsageProblem`` for an address that
    can't be listened at.
    """
    # textual-serve prints to stdout what a process had to complain of.
    with contextlib.redirect_stdout(sys.stderr):
        await _serve(WebView(command, title=title), host, port, announce)


async def _serve(view: WebView, host: str, port: int, announce: Callable[[str, bool], None]) -> None:
    # Not logged: the addresses have the token.
    runner = web.AppRunner(await view.make_app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise _no_place(exc, host, port) from exc
        place, port = runner.addresses[0][:2]
        bound = {ipaddress.ip_address(address[0]) for address in runner.addresses}
        if everywhere := any(address.is_unspecified for address in bound):
            place = socket.gethostname()
        view.names = frozenset({host.lower(), place.lower()} | (_LOOPBACK if _reach_loopback(bound) else set()))
        view.any_address = everywhere
        is_private = all(address.is_loopback for address in bound)
        named = place if is_private or everywhere else host
        shown = f"[{named}]" if ":" in named else named
        announce(f"http://{shown}:{port}/?token={view.token}", not is_private)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _no_place(exc: OSError, host: str, port: int) -> UsageProblem:
    if exc.errno == errno.EADDRINUSE:
        return UsageProblem(f"port {port} is taken", hint="--port takes another one; --port 0 any that is free")
    if exc.errno == errno.EACCES:
        return UsageProblem(f"port {port} may not be listened at by this account", hint="take one above 1023")
    return UsageProblem(f"--host {host}: can't be listened at", hint="give a name or an address of this machine")


def _reach_loopback(bound: set[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    return any(address.is_loopback or address.is_unspecified for address in bound)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _within(size: int, most: int) -> int:
    return max(1, min(int(size), most))


async def _overdue(task: asyncio.Task[None], patience: float) -> bool:
    return not (await asyncio.wait([task], timeout=patience))[0]


def _while_open(send: Callable[P, Awaitable[object]]) -> Callable[P, Awaitable[None]]:
    async def send_or_not(*args: P.args, **kwargs: P.kwargs) -> None:
        # aiohttp raises either for a connection that has been closed.
        with contextlib.suppress(ConnectionError, RuntimeError):
            await send(*args, **kwargs)

    return send_or_not
