"""Blocking work in daemon threads.

Not ``asyncio.to_thread``: its threads are joined at exit, so that a hanging network mount would keep the process from
ending, even after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_a_thread(work: Callable[[], T], *, timeout: float | None = None) -> T:
    """Run work; returns its result or raises its error, or ``TimeoutError`` after ``timeout`` seconds.

    After a timeout or cancellation the thread goes on: use it for work that changes nothing or may be cut short.
    """
    async with asyncio.timeout(timeout):
        return await _begin(work)


async def to_its_end_in_a_thread(work: Callable[[], T]) -> T:
    """Run work that must not be reported as undone while it goes on; returns its result or raises its error.

    There is no time limit, and a cancellation takes effect after the work has ended. A second cancellation (Ctrl-C
    pressed twice) does not wait.
    """
    future = _begin(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait([future])
        raise cancelled from future.exception()


def _begin(work: Callable[[], T]) -> asyncio.Future[T]:
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - it is raised where it is awaited
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return asyncio.wrap_future(future)
