"""A server for whoever scrapes: GET is answered with a fresh measurement, and nothing else is.

prometheus-client brings the application; here is who may hold it up, and how it ends.
"""

from __future__ import annotations

import ipaddress
import re
import signal
import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from sitegenctl.errors import UsageProblem

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?:\[([0-9a-f:.]+)\]|([^\s:/\[\]]*)):)?([0-9]{1,5})", re.IGNORECASE)

#: Seconds that a client may take for its question and for taking the answer.
_PATIENCE = 10.0

#: Clients at once: a scrape takes a connection to PostgreSQL, and they wait for one another.
_AT_ONCE = 8


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *given: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(*given, **options)

    def server_bind(self) -> None:
        # Not WSGIServer's, which asks the name servers for this machine's name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or took too long, is nobody's fault here."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


def address_of(text: str) -> tuple[str, int]:
    """Read ``9187``, ``:9187``, ``HOST:9187`` or ``[::1]:9187``; without a host it is this machine alone.

    Raises ``UsageProblem``.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise UsageProblem(f"--listen {text}: it looks like 9187 or 127.0.0.1:9187")
    return match[1] or match[2] or _LOOPBACK, int(match[3])


def serve(registry: CollectorRegistry, host: str, port: int, *, announce: Callable[[str, bool], None]) -> int:
    """Serve until SIGTERM or SIGHUP, which is no failure, or Ctrl-C, which is raised.

    ``announce`` is told the address, and whether other machines can reach it. Raises ``UsageProblem`` for an address
    that can't be had.
    """
    # Kept from every thread, so that they wait for the one that asks for them: a handler runs in the main thread alone,
    # which nothing wakes where the signal came to another.
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    # A signal that is blocked would be taken although it is ignored.
    ends -= {number for number in ends if signal.getsignal(number) is signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        _serve_until(ends, registry, host, port, announce)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


def _serve_until(
    ends: set[signal.Signals],
    registry: CollectorRegistry,
    host: str,
    port: int,
    announce: Callable[[str, bool], None],
) -> None:
    with _bound(host, port) as server:
        server.set_app(_one_at_a_time(make_wsgi_app(registry)))
        thread = threading.Thread(target=server.serve_forever, name="scraping", daemon=True)
        thread.start()
        address = ipaddress.ip_address(str(server.server_address[0]).partition("%")[0])
        shown = f"[{address}]" if address.version == 6 else str(address)
        announce(f"http://{shown}:{server.server_port}/metrics", not address.is_loopback)
        try:
            if signal.sigwait(ends) == signal.SIGINT:
                raise KeyboardInterrupt
        finally:
            server.shutdown()


def _bound(host: str, port: int) -> _Server:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        server = _SixServer if family is socket.AF_INET6 else _Server
        return server(address[:2], _Handler)
    except OSError as exc:
        raise UsageProblem(f"--listen {host}:{port}: {exc.strerror or exc}") from exc


def _one_at_a_time(app: Any) -> Any:
    """Measure for one client after another: two at once would look at everything twice at once."""
    turn = threading.Lock()

    def answer(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] not in ("/", "/metrics"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"404: there is /metrics\n"]
        with turn:
            return app(environ, start_response)

    return answer
