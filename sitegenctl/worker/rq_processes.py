"""The processes of a reference worker on RQ: one parent, and below it workers as RQ knows them, and a scheduler.

RQ's own pool is not used: in 1.15 it runs no scheduler, without which nothing that waits for its time or for its
next attempt is ever taken. And where it does, the scheduler is a child of a worker and has inherited its connection:
when that worker is killed, the connection stays open, and takes one more job that nobody will run.

One that ends is replaced; all of them end when the parent does, however it ends. On SIGTERM or SIGINT the workers
finish what they run; a second time, or on SIGQUIT, they let go of it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.scheduler import RQScheduler

from sitegenctl.config.settings import Settings
from sitegenctl.config.urls import mask_url
from sitegenctl.domain.queue.defaults import RESULTS_KEPT
from sitegenctl.worker.rq_jobs import job_class

# As the Celery worker's.
_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
# Seconds until one more try to reach Redis, or to replace a worker that did not live for long: twice as many each time.
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 32.0
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_log = logging.getLogger(__name__)


def run_worker(settings: Settings, queue: Queue, serializer: Any, *, verbose: bool = False) -> int:
    """Run a worker on this queue in the foreground until it is told to stop; returns its exit code."""
    level = "DEBUG" if verbose else "INFO"
    logging.basicConfig(level=level, format=_LOG_FORMAT, stream=sys.stderr, force=True)
    jobs = job_class(settings)

    def work() -> None:
        _await_redis(queue.connection, settings)
        worker = _Worker(
            [queue],
            name=f"sitegenctl-{os.getpid()}@{socket.gethostname()}",
            connection=queue.connection,
            job_class=jobs,
            serializer=serializer,
            default_result_ttl=RESULTS_KEPT,
        )
        worker.work(logging_level=level)

    def schedule() -> None:
        _await_redis(queue.connection, settings)
        scheduler = RQScheduler([queue], connection=queue.connection, logging_level=level, serializer=serializer)
        signal.signal(signal.SIGQUIT, scheduler.request_stop)
        scheduler.work()  # type: ignore[no-untyped-call]

    def is_ready(seconds: float) -> bool:
        answers = _answers(queue.connection, settings, seconds)
        # The processes that are forked from this one make connections of their own.
        queue.connection.connection_pool.disconnect()
        return answers

    roles = [_Role(name="Scheduler", work=schedule), *[_Role(name="Worker", work=work)] * settings.concurrency]
    return _Family(roles, is_ready).run()


class _Worker(Worker):
    """RQ's worker, which also knows SIGQUIT: it lets go of its job and ends."""

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGQUIT, self._let_go)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def _let_go(self, number: int, frame: FrameType | None) -> None:
        if self.horse_pid:
            self.kill_horse()
            self.wait_for_horse()
        raise SystemExit


def _await_redis(connection: Redis, settings: Settings) -> None:
    """Return once Redis answers."""
    seconds = _FIRST_WAIT
    while not _answers(connection, settings, seconds):
        time.sleep(seconds)
        seconds = min(seconds * 2, _LONGEST_WAIT)


def _answers(connection: Redis, settings: Settings, seconds: float) -> bool:
    """Whether Redis answers; says so if it doesn't, and that it will be asked again in so many seconds."""
    try:
        connection.ping()
    except (RedisError, OSError) as exc:
        where = mask_url(settings.require_redis_url())
        _log.error("Cannot connect to %s: %s. Trying again in %.0f seconds...", where, exc, seconds)
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class _Role:
    """What one process does; ``name`` is for the log."""

    name: str
    work: Callable[[], None]


class _Family:
    """One process for each role, as soon as they can be of use; one that ends before it is told to is replaced."""

    def __init__(self, roles: Sequence[_Role], is_ready: Callable[[float], bool]) -> None:
        self._is_ready = is_ready
        self._missing = list(roles)
        self._children: dict[int, _Role] = {}
        self._stopping = False
        # The reading end is at its end when the last copy of the writing one is gone, which is the parent's.
        self._reading, self._writing = os.pipe()

    def run(self) -> int:
        """Start them, and return when all have ended because they were told to."""
        before = {number: signal.signal(number, self._stop) for number in _STOPS}
        seconds = _FIRST_WAIT
        try:
            while not self._stopping and not self._is_ready(seconds):
                self._pause(seconds)
                seconds = min(seconds * 2, _LONGEST_WAIT)
            seconds = 0.0
            self._fill()
            while self._children:
                began = time.monotonic()
                self._bury()
                lived = time.monotonic() - began
                seconds = 0.0 if lived > _LONGEST_WAIT else min(seconds * 2 or _FIRST_WAIT, _LONGEST_WAIT)
                self._pause(seconds)
                self._fill()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._writing)
            os.close(self._reading)
        return 0

    def _fill(self) -> None:
        """Start as many as are missing."""
        # A signal in between would be for a child that nobody knows of yet, or meet the parent's handlers in it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            while self._missing and not self._stopping:
                role = self._missing.pop(0)
                pid = os.fork()
                if pid == 0:
                    os._exit(self._live(role, held))
                self._children[pid] = role
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _bury(self) -> None:
        """Wait for one to end."""
        pid, status = os.wait()
        role = self._children.pop(pid)
        self._missing.append(role)
        if not self._stopping:
            _log.error("%s %s has ended with exit code %s", role.name, pid, os.waitstatus_to_exitcode(status))

    def _pause(self, seconds: float) -> None:
        """Let so much time pass, unless it is time to stop."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))  # a signal's handler doesn't end it

    def _stop(self, number: int, frame: FrameType | None) -> None:
        # A worker takes a first SIGTERM for a request, and a second for an order.
        self._stopping = True
        for pid in self._children:
            os.kill(pid, signal.SIGQUIT if number == signal.SIGQUIT else signal.SIGTERM)

    def _live(self, role: _Role, mask: set[int | signal.Signals]) -> int:
        """Be one of them; returns its exit code."""
        os.close(self._writing)
        multiprocessing.current_process().name = f"{role.name}-{os.getpid()}"
        try:
            for number in _STOPS:
                signal.signal(number, _leave)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
            role.work()
        except SystemExit:
            return 0
        except BaseException:  # noqa: BLE001 - here a process ends
            traceback.print_exc()
            return 1
        return 0

    def _end_with_parent(self) -> None:
        os.read(self._reading, 1)
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit
