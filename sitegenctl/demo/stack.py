"""The embedded stack: private Redis, private PostgreSQL, sample orders and a worker.

Files below the root folder: ``redis/``, ``postgres/``, ``worker.pid``, ``worker.log``, ``sites/``, ``state.json``,
``context.toml`` (the settings' context ``demo``) and ``lock``. The callers supply samples and worker settings.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.config.file import DEMO_CONTEXT, require_data_dir
from sitegenctl.config.settings import SYSTEM_VARIABLES
from sitegenctl.demo.servers.base import (
    PrivateServer,
    ServerState,
    empty,
    read_json,
    read_log,
    relevant_line,
    write_json,
)
from sitegenctl.demo.servers.lock import exclusive
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.processes import Daemon, Process, StopSteps, wait_until
from sitegenctl.demo.servers.redis import PrivateRedis, redis_binary
from sitegenctl.errors import SourceError, UsageProblem

_DEFAULT_BACKEND: Final = "celery"
_WORKER_START_TIMEOUT: Final = 60.0
_VARIABLES: Final = {**SYSTEM_VARIABLES, "backend": "SITEGENCTL_BACKEND"}
# Settings of the operator's real system that must not reach the demo's worker. Celery prefers CELERY_BROKER_URL to
# any other setting, and libpq's variables fill in what a URL leaves open.
_FOREIGN_SETTINGS: Final = ("SITEGENCTL_", "CELERY_", "PG")


@dataclass(frozen=True, kw_only=True)
class StackState:
    """The state of the stack at one moment."""

    root: Path
    redis: ServerState
    postgres: ServerState
    worker: ServerState
    seeded: bool
    backend: str

    @property
    def parts(self) -> tuple[ServerState, ...]:
        """All processes, in the order in which they start."""
        return (self.redis, self.postgres, self.worker)

    @property
    def sites(self) -> Path:
        """The directory of the generated sites."""
        return self.root / "sites"

    @property
    def settings(self) -> dict[str, str]:
        """The settings for a client of the stack, with its passwords."""
        return {
            "database_url": self.postgres.url,
            "redis_url": self.redis.url,
            "sites_dir": str(self.sites),
            "backend": self.backend,
        }


def default_root() -> Path:
    """Return the folder where the settings expect the context ``demo``. Raises ``UsageProblem`` without a home."""
    return require_data_dir(os.environ) / DEMO_CONTEXT


class Stack:
    """The embedded stack in the folder ``root``.

    ``backend`` is the queue's backend for a stack that is not seeded yet; None means Celery. ``worker_ready`` checks
    whether a living worker accepts tasks. Seconds: ``worker_grace`` for the worker's shutdown, ``lock_timeout`` for
    another ``up`` or ``down`` to end.
    """

    def __init__(
        self,
        root: Path,
        *,
        backend: str | None = None,
        worker_argv: Sequence[str] = (sys.executable, "-m", "sitegenctl", "worker"),
        worker_ready: Callable[[StackState], bool] = lambda _: True,
        worker_grace: float = 10.0,
        lock_timeout: float = 60.0,
    ) -> None:
        # The worker runs in another directory.
        self.root = root.absolute()
        self.backend = backend
        self._lock_timeout = lock_timeout
        self._redis = PrivateRedis(self.root / "redis", persistence=True)
        self._worker = Daemon(self.root / "worker.pid")
        self._worker_argv = worker_argv
        self._worker_ready = worker_ready
        self._worker_stop_steps: StopSteps = ((signal.SIGTERM, worker_grace), (signal.SIGQUIT, 3.0))
        self._worker_log = self.root / "worker.log"
        self._state_file = self.root / "state.json"

    def up(
        self,
        progress: Callable[[str], None],
        seed: Callable[[StackState], object],
        worker_env: Mapping[str, str],
        *,
        keep: bool = True,
    ) -> StackState:
        """Start the parts that are not running.

        ``keep`` marks the stack as one to leave up: see ``is_kept``. ``seed`` is called the first time, before the
        worker starts, with an empty database and an empty Redis; the sites folder may contain the sites kept by an
        earlier ``down``. An interrupted seeding starts again from the beginning. If this call fails or is interrupted,
        the parts that it started are stopped again.

        Raises:
            SourceError: a part did not start; the hint names its log.
            SitegenError: another ``up`` or ``down`` did not end in time.
            UsageProblem: the folder contains something else.
        """
        redis_binary()
        self._adopt()
        with exclusive(self.root, self._lock_timeout, progress), contextlib.ExitStack() as undo:
            servers_started = self._start_servers(progress, undo)
            self._seed_once(progress, seed)
            self._write_context()
            self._start_worker(progress, undo, worker_env, restart=servers_started)
            if keep:
                self._remember(kept=True)
            undo.pop_all()
            return self._state()

    def down(self, *, keep_sites: bool = False, progress: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
        """Stop everything and remove every file, except the sites with ``keep_sites``.

        Returns the names of the stopped parts.

        Raises:
            SourceError: a process belongs to another user or cannot be ended.
            SitegenError: another ``up`` or ``down`` did not end in time.
        """
        if not self._is_ours():
            # For root, PostgreSQL's files may be outside the folder and still exist.
            return ("PostgreSQL",) if self._postgres.remove() else ()
        with exclusive(self.root, self._lock_timeout, progress, remove=True):
            progress("Stopping the worker")
            worker = self._stop_worker()
            progress("Stopping the servers")
            stopped = {"worker": worker, "Redis": self._redis.remove(), "PostgreSQL": self._postgres.remove()}
            kept = {"lock", "sites"} if keep_sites else {"lock"}
            empty(self.root, keep=kept)
        return tuple(name for name, was_running in stopped.items() if was_running)

    def is_kept(self) -> bool:
        """Whether an ``up`` asked for the stack to stay up, so that a tour must not take it down."""
        return bool(self._read_state().get("kept"))

    def status(self) -> StackState | None:
        """Return the current state; None if there is no stack. Reads only and does not wait."""
        return self._state() if self._has("state.json") else None

    @property
    def _postgres(self) -> PrivatePostgres:
        # Where its files are may change.
        return PrivatePostgres(self.root / "postgres")

    def _is_ours(self) -> bool:
        return self._has("lock") or self._has("state.json")

    def _has(self, name: str) -> bool:
        try:
            (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:
            raise UsageProblem(f"{self.root} can't be read: {exc.strerror}") from exc
        return True

    def _adopt(self) -> None:
        # `down` removes the whole folder, so it must not contain foreign files.
        if not self._is_ours() and self.root.is_dir():
            foreign = sorted(entry.name for entry in self.root.iterdir() if entry.name != "sites")
            # Another `up` may have started in the meantime.
            if foreign and not self._is_ours():
                raise UsageProblem(
                    f"{self.root} contains something else ({foreign[0]}); the demo needs a folder of its own"
                )

    def _start_servers(self, progress: Callable[[str], None], undo: contextlib.ExitStack) -> bool:
        """Start the servers that do not run; return whether there were any."""
        (self.root / "sites").mkdir(mode=0o700, exist_ok=True)
        seeded = self._read_state().get("seeded")
        if seeded is None or seeded != self._postgres.state().identity:
            # Never seeded, or only partly: start with an empty database and an empty queue.
            self._stop_worker()
            self._redis.remove()
            self._postgres.remove()
        self._remember(seeded=seeded)
        servers: tuple[PrivateServer, ...] = (self._redis, self._postgres)
        stopped = [server for server in servers if not server.state().alive]
        for server in servers:
            if server in stopped:
                progress(f"Starting {server.name}")
                # Before the start, so that an interruption cannot come between the two.
                undo.callback(server.stop)
            server.start()
        return bool(stopped)

    def _seed_once(self, progress: Callable[[str], None], seed: Callable[[StackState], object]) -> None:
        identity = self._postgres.state().identity
        if self._read_state().get("seeded") == identity:
            return
        progress("Writing the sample orders")
        self._remember(backend=self.backend or _DEFAULT_BACKEND)
        seed(self._state())
        self._remember(seeded=identity)

    def _start_worker(
        self,
        progress: Callable[[str], None],
        undo: contextlib.ExitStack,
        worker_env: Mapping[str, str],
        *,
        restart: bool,
    ) -> None:
        addresses = {_VARIABLES[name]: value for name, value in self._state().settings.items()}
        log_offset = self._worker_log.stat().st_size if self._worker_log.exists() else 0
        process = self._worker.process()
        if process is not None and not restart and self._read_state().get("worker") == addresses:
            self._await_worker(process, log_offset)
            return
        # A worker may not survive the loss of a server (kombu 5.7 dies of it), or would use an old port for ever.
        self._stop_worker()
        progress("Starting the worker")
        undo.callback(self._stop_worker)
        self._remember(worker=addresses)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)}
        # No configuration file either: its default context could be the operator's system.
        env = {**inherited, "SITEGENCTL_CONFIG": os.devnull, **addresses, **worker_env}
        self._await_worker(self._worker.start(self._worker_argv, log=self._worker_log, env=env), log_offset)

    def _await_worker(self, process: Process, log_offset: int) -> None:
        started = wait_until(lambda: not process.alive() or self._worker_ready(self._state()), _WORKER_START_TIMEOUT)
        is_alive = process.alive()
        if started and is_alive:
            return
        reason = "it does not respond" if is_alive else relevant_line(read_log(self._worker_log, log_offset))
        raise SourceError(f"the worker did not start: {reason}", hint=f"see {self._worker_log}", source="workers")

    def _stop_worker(self) -> bool:
        return self._worker.stop(self._worker_stop_steps)

    def _read_state(self) -> dict[str, Any]:
        return read_json(self._state_file) or {}

    def _remember(self, **changes: Any) -> None:
        write_json(self._state_file, {"version": 1, **self._read_state(), **changes})

    def _write_context(self) -> None:
        # JSON strings are valid TOML strings.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in self._state().settings.items()]
        write_whole(self.root / "context.toml", "".join(lines), mode=PRIVATE)

    def _state(self) -> StackState:
        postgres = self._postgres.state()
        state = self._read_state()
        return StackState(
            root=self.root,
            redis=self._redis.state(),
            postgres=postgres,
            worker=ServerState(name="worker", log=self._worker_log, process=self._worker.process()),
            seeded=bool(postgres.identity) and state.get("seeded") == postgres.identity,
            backend=state.get("backend", _DEFAULT_BACKEND),
        )
