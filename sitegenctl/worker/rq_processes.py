"""The processes of a reference worker on RQ: a parent, RQ's workers and RQ's scheduler.

RQ's own pool is not used. In RQ 1.15 it runs no scheduler, so that scheduled jobs and retries never start. In later
releases the scheduler is a child of a worker and inherits its connection: when that worker is killed, the connection
stays open and takes one more job, which then never runs.

A process that ends is replaced, and all of them end with the parent. On SIGTERM or SIGINT the workers finish their
jobs; on a second signal, or on SIGQUIT, they abandon them.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.scheduler import RQScheduler

from sitegenctl.config.secrets import mask_url
from sitegenctl.config.settings import Settings
from sitegenctl.domain.queue.defaults import RESULTS_KEPT
from sitegenctl.worker.rq_jobs import job_class

# As the Celery worker's.
_LOG_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
# Seconds before another attempt to connect, or to replace a process that ended early; doubled each time.
_FIRST_DELAY, _MAX_DELAY = 2.0, 32.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_log = logging.getLogger(__name__)

# Whether this forked process was stopped before it handles signals as RQ does. Python drops an exception that a
# handler raises inside a callback, such as that of the import lock.
_is_stopped = False


def run_worker(settings: Settings, queue: Queue, serializer: Any, *, verbose: bool = False) -> int:
    """Run a worker on this queue in the foreground until it is stopped; return its exit code."""
    level = "DEBUG" if verbose else "INFO"
    logging.basicConfig(level=level, format=_LOG_FORMAT, stream=sys.stderr, force=True)
    jobs = job_class(settings)
    url = mask_url(settings.require_url("redis"))

    def work() -> None:
        _await_redis(queue.connection, url, lambda: _is_stopped)
        _remember_stops()
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
        _await_redis(queue.connection, url, lambda: _is_stopped)
        _remember_stops()
        scheduler = RQScheduler([queue], connection=queue.connection, logging_level=level, serializer=serializer)
        signal.signal(signal.SIGQUIT, scheduler.request_stop)
        scheduler._install_signal_handlers()  # type: ignore[no-untyped-call]
        if not _is_stopped:
            scheduler.work()  # type: ignore[no-untyped-call]

    roles = {f"Worker {number}": work for number in range(1, settings.concurrency + 1)}
    return _Processes({"Scheduler": schedule, **roles}, queue.connection, url).run()


class _Worker(Worker):
    """RQ's worker, which on SIGQUIT abandons its job and ends."""

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGQUIT, self._abandon)
        self._stop_requested = _is_stopped

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        # RQ only raises in an idle worker, and Python may drop the exception; RQ's loop checks this as well.
        self._stop_requested = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def _abandon(self, number: int, frame: FrameType | None) -> None:
        if self.horse_pid:
            self.kill_horse()
            self.wait_for_horse()
        raise SystemExit


def _await_redis(connection: Redis, url: str, is_cancelled: Callable[[], bool]) -> None:
    """Return once Redis responds, or when it is cancelled."""
    delay = _FIRST_DELAY
    while not is_cancelled():
        try:
            connection.ping()
        except (RedisError, OSError) as exc:
            _log.error("Cannot connect to %s: %s. Trying again in %.0f seconds...", url, exc, delay)
            _sleep(delay, is_cancelled)
            delay = min(delay * 2, _MAX_DELAY)
        else:
            return


def _sleep(seconds: float, is_cancelled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not is_cancelled() and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))  # a signal handler does not end it


class _Processes:
    """One process for each role, by its name in the log. A process that ends too early is replaced."""

    def __init__(self, roles: Mapping[str, Callable[[], None]], connection: Redis, url: str) -> None:
        self._roles = roles
        self._connection = connection
        self._url = url
        self._running: dict[str, BaseProcess] = {}
        self._is_stopping = False
        # Not multiprocessing's own: processes that are forked later would keep it open.
        self._parent_alive, self._alive = os.pipe()

    def run(self) -> int:
        """Start the processes; return when all have ended because they were stopped."""
        previous = {number: signal.signal(number, self._stop) for number in _STOP_SIGNALS}
        delay = 0.0
        try:
            _await_redis(self._connection, self._url, lambda: self._is_stopping)
            # Forked processes open connections of their own.
            self._connection.connection_pool.disconnect()
            self._start_missing()
            while self._running:
                started = time.monotonic()
                self._collect_ended()
                lived_long = time.monotonic() - started > _MAX_DELAY
                delay = 0.0 if lived_long else min(delay * 2 or _FIRST_DELAY, _MAX_DELAY)
                _sleep(delay, lambda: self._is_stopping)
                self._start_missing()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._alive)
            os.close(self._parent_alive)
        return 0

    def _start_missing(self) -> None:
        # Blocked: a signal in between would miss the new process, or call this process's handler in it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            for name in self._roles.keys() - self._running.keys():
                if not self._is_stopping:
                    process = multiprocessing.get_context("fork").Process(
                        target=self._run_role, args=(self._roles[name], mask), name=name
                    )
                    process.start()
                    self._running[name] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _collect_ended(self) -> None:
        """Wait until at least one process has ended."""
        wait([process.sentinel for process in self._running.values()])
        for name, process in list(self._running.items()):
            if not process.is_alive():
                del self._running[name]
                if not self._is_stopping:
                    _log.error("%s (pid %s) has ended with exit code %s", name, process.pid, process.exitcode)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                # A worker finishes its job on the first SIGTERM and abandons it on the second.
                if process.pid is not None:
                    os.kill(process.pid, signal.SIGQUIT if number == signal.SIGQUIT else signal.SIGTERM)

    def _run_role(self, role: Callable[[], None], mask: set[int | signal.Signals]) -> None:
        """Run one role in a forked process."""
        os.close(self._alive)
        for number in _STOP_SIGNALS:
            signal.signal(number, _exit)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
        role()

    def _end_with_parent(self) -> None:
        os.read(self._parent_alive, 1)  # at its end when the parent is gone
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)


def _exit(number: int, frame: FrameType | None) -> None:
    _remember(number, frame)
    raise SystemExit


def _remember(number: int, frame: FrameType | None) -> None:
    global _is_stopped
    _is_stopped = True


def _remember_stops() -> None:
    """Only remember signals from now on: a worker that ended while it registers itself would stay registered."""
    for number in _STOP_SIGNALS:
        signal.signal(number, _remember)
