"""A receiver of notifications."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def receiver(status: int = 200, *, answers: bool = True) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web server that keeps what is posted to it, or takes it and never answers; 3xx leads back to it."""
    posted: list[dict[str, Any]] = []
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self.path == "/elsewhere":
                raise AssertionError("the redirect was followed")
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if answers:
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
            else:
                released.wait(30)

        do_GET = do_POST  # noqa: N815 - called by the server

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook/t0ken?token=s3cret", posted
        finally:
            released.set()
            server.shutdown()
            thread.join()
