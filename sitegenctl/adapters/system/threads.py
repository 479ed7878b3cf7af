"""Blocking work in threads that the end of the process doesn't wait for.

Not ``asyncio.to_thread``: its threads are joined when the process ends, so that a network mount or a server that
hangs would keep the process for good, Ctrl-C or not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_a_thread(work: Callable[[], T], *, timeout: float | None = None) -> T:
    """What the work returns or raises; ``TimeoutError`` when it takes more than ``timeout`` seconds.

    Then, and when this is cancelled, the work is left to itself: for what changes nothing, or may be cut short.
    """
    async with asyncio.timeout(timeout):
        return await _begin(work)


async def to_its_end_in_a_thread(work: Callable[[], T]) -> T:
    """What the work returns or raises, for work that nobody may take for undone while it goes on.

    There is no time limit, and a cancellation takes effect when the work has ended. Only a second one doesn't wait:
    who presses Ctrl-C again wants the process to end whatever that leaves half-done.
    """
    future = _begin(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait([future])
        raise cancelled from future.exception()


def _begin(work: Callable[[], T]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settling: Callable[[], None]) -> None:
        if not future.done():
            settling()

    def run() -> None:
        settling: Callable[[], None]
        try:
            result = work()
            settling = lambda: future.set_result(result)  # noqa: E731
        except BaseException as exc:  # noqa: BLE001 - it is raised where it is awaited
            problem = exc
            settling = lambda: future.set_exception(problem)  # noqa: E731
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, settling)

    threading.Thread(target=run, daemon=True).start()
    return future
