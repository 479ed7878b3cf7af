"""The embedded stack as a whole: what is up, in which order it starts and stops, and that two don't collide.

Below the root folder: ``redis/`` and ``postgres/`` (see those modules), ``worker.pid`` and ``worker.log``,
``sites/``, ``state.json``, ``context.toml`` (the settings' context ``demo``) and ``lock``. What the sample
orders are, and what the worker does, is left to the callers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.config.file import DEMO_CONTEXT, data_dir
from sitegenctl.demo.servers.base import Server, printed_since, read_json, telling_line, write_json
from sitegenctl.demo.servers.lock import taking_turns
from sitegenctl.demo.servers.pidfile import claimed, running, stop
from sitegenctl.demo.servers.postgres import find_postgres, remove_postgres, start_postgres, stop_postgres
from sitegenctl.demo.servers.processes import Process, wait_until
from sitegenctl.demo.servers.redis import find_redis, redis_binary, remove_redis, start_redis, stop_redis
from sitegenctl.errors import SourceError, UsageProblem

WORKER_ARGV: Final = (sys.executable, "-m", "sitegenctl", "worker")

_BACKEND: Final = "celery"
_WORKER_PATIENCE: Final = 60.0
# A worker of the demo must not meet the operator's real system: Celery prefers CELERY_BROKER_URL to any other
# setting, sitegenctl prefers SITEGENCTL_DATABASE_URL, and libpq's variables fill what a URL leaves open.
_FOREIGN_SETTINGS: Final = ("SITEGENCTL_", "CELERY_", "PG")


@dataclass(frozen=True, kw_only=True)
class PartState:
    """One process of the stack; ``url`` holds the password and is None for the worker."""

    name: str
    pid: int | None
    alive: bool
    url: str | None = field(default=None, repr=False)
    log: Path


@dataclass(frozen=True, kw_only=True)
class StackState:
    """The stack as it was found."""

    root: Path
    redis: PartState
    postgres: PartState
    worker: PartState
    seeded: bool
    backend: str

    @property
    def parts(self) -> tuple[PartState, ...]:
        """All processes, in the order in which they start."""
        return (self.redis, self.postgres, self.worker)

    @property
    def sites(self) -> Path:
        """Where the generated sites lie."""
        return self.root / "sites"

    @property
    def redis_url(self) -> str:
        """The broker's URL, with the password; empty before the first start."""
        return self.redis.url or ""

    @property
    def database_url(self) -> str:
        """The database's URL, with the password; empty before the first start."""
        return self.postgres.url or ""


def default_root() -> Path:
    """Where the stack lives if the caller doesn't decide: where the settings look for the context ``demo``."""
    return data_dir(os.environ) / DEMO_CONTEXT


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The embedded stack in the folder ``root``.

    ``backend`` is what a stack that is yet to be seeded gets its queue of; None is Celery. ``worker_ready`` tells
    whether the worker has come up, when its being alive isn't enough. On the way down
    the worker has ``worker_grace`` seconds to finish what it does; another ``up`` or ``down`` is waited for
    ``turn_patience`` seconds.
    """

    root: Path
    backend: str | None = None
    worker_argv: Sequence[str] = WORKER_ARGV
    worker_ready: Callable[[StackState], bool] | None = None
    worker_grace: float = 10.0
    turn_patience: float = 60.0

    def __post_init__(self) -> None:
        # The worker works elsewhere: what is relative here would be another folder there.
        object.__setattr__(self, "root", self.root.expanduser().absolute())

    def up(
        self,
        progress: Callable[[str], None],
        seed: Callable[[StackState], None],
        worker_env: Mapping[str, str],
        *,
        keep: bool = True,
    ) -> StackState:
        """Start whatever isn't running; harmless when everything is.

        ``keep`` marks the stack as one that somebody wants to stay: see ``is_kept``.

        The first time, ``seed`` is called with an empty database and an empty Redis, before the worker starts;
        the sites folder may hold what an earlier ``down`` was told to keep. A seeding that was cut short begins
        anew. When this fails or is interrupted by an exception, what this call has started is stopped again.

        Raises:
            SourceError: a part did not start; the hint names its log.
            SitegenError: another ``up`` or ``down`` has been at work for too long.
            UsageProblem: the folder holds something else.
        """
        redis_binary()
        self._adopt()
        with taking_turns(self.root, self.turn_patience, progress), contextlib.ExitStack() as undo:
            started = self._start_servers(progress, undo)
            self._seed_once(progress, seed)
            self._write_context()
            self._start_worker(progress, undo, worker_env, anew=started)
            if keep:
                self._remember(kept=True)
            undo.pop_all()
            return self._look()

    def down(self, *, keep_sites: bool = False, progress: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
        """Stop everything and remove every file, but for the sites if ``keep_sites``.

        Returns the names of what was stopped; harmless when nothing is up.

        Raises:
            SourceError: a process belongs to another user, or can't be ended.
            SitegenError: another ``up`` or ``down`` has been at work for too long.
        """
        if not self._is_ours():
            # As root, PostgreSQL's files may lie outside the folder and have outlived it.
            return ("PostgreSQL",) if remove_postgres(self._postgres) else ()
        with taking_turns(self.root, self.turn_patience, progress, leave=True):
            progress("Stopping the worker")
            worker = stop(self._worker_claim, self._worker_steps)
            progress("Stopping the servers")
            stopped = {
                "worker": worker,
                "Redis": remove_redis(self._redis),
                "PostgreSQL": remove_postgres(self._postgres),
            }
            self._clear(keep_sites=keep_sites)
        return tuple(name for name, was_there in stopped.items() if was_there)

    def is_kept(self) -> bool:
        """Whether an ``up`` has asked for the stack to stay, so that it isn't for others to take down."""
        return bool(self._read_state().get("kept"))

    def status(self) -> StackState | None:
        """What is up now; None where there is no stack. Reads only and waits for nobody."""
        return self._look() if self._state_file.exists() else None

    @property
    def _redis(self) -> Path:
        return self.root / "redis"

    @property
    def _postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def _worker_claim(self) -> Path:
        return self.root / "worker.pid"

    @property
    def _worker_log(self) -> Path:
        return self.root / "worker.log"

    @property
    def _state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def _worker_steps(self) -> Sequence[tuple[signal.Signals, float]]:
        return ((signal.SIGTERM, self.worker_grace), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0))

    def _is_ours(self) -> bool:
        return (self.root / "lock").exists() or self._state_file.exists()

    def _adopt(self) -> None:
        # `down` removes the whole folder: it must never have been anybody else's.
        if self.root.exists() and not self._is_ours():
            foreign = sorted(entry.name for entry in self.root.iterdir() if entry.name != "sites")
            # Another `up` may have begun between the two looks.
            if foreign and not self._is_ours():
                raise UsageProblem(
                    f"{self.root} holds something else ({foreign[0]}), and the demo needs a folder of its own"
                )

    def _start_servers(self, progress: Callable[[str], None], undo: contextlib.ExitStack) -> bool:
        """Start the servers that don't run; whether there was any."""
        (self.root / "sites").mkdir(mode=0o700, exist_ok=True)
        state = self._read_state()
        database = find_postgres(self._postgres)
        if database is None or state.get("seeded") != database.identity:
            # Never seeded, or only in part: the orders and the queue begin empty.
            stop(self._worker_claim, self._worker_steps)
            remove_redis(self._redis)
            remove_postgres(self._postgres)
        self._remember(seeded=state.get("seeded"))
        redis = self._starts("Redis", find_redis, stop_redis, self._redis, progress, undo)
        start_redis(self._redis, persistence=True)
        postgres = self._starts("PostgreSQL", find_postgres, stop_postgres, self._postgres, progress, undo)
        start_postgres(self._postgres, durable=True)
        return redis or postgres

    def _starts(
        self,
        name: str,
        find: Callable[[Path], Server | None],
        stop_it: Callable[[Path], bool],
        folder: Path,
        progress: Callable[[str], None],
        undo: contextlib.ExitStack,
    ) -> bool:
        # Before it is started, so that no interruption falls in between.
        found = find(folder)
        if found is not None and found.alive:
            return False
        progress(f"Starting {name}")
        undo.callback(stop_it, folder)
        return True

    def _seed_once(self, progress: Callable[[str], None], seed: Callable[[StackState], None]) -> None:
        database = find_postgres(self._postgres)
        if database is None or self._read_state().get("seeded") == database.identity:
            return
        progress("Writing the sample orders")
        self._remember(backend=self.backend or _BACKEND)
        seed(self._look())
        self._remember(seeded=database.identity)

    def _start_worker(
        self,
        progress: Callable[[str], None],
        undo: contextlib.ExitStack,
        worker_env: Mapping[str, str],
        *,
        anew: bool,
    ) -> None:
        state = self._look()
        addresses = {
            "DATABASE_URL": state.database_url,
            "REDIS_URL": state.redis_url,
            "SITES_BASE_DIR": str(state.sites),
            "SITEGENCTL_BACKEND": state.backend,
        }
        before = running(self._worker_claim)
        printed_before = self._worker_log.stat().st_size if self._worker_log.exists() else 0
        if before is not None:
            if not anew and self._read_state().get("worker") == addresses:
                self._await_worker(before, printed_before)
                return
            # It may not get over the loss of a server (kombu 5.7 dies of it a moment later), and would wait for
            # ever at an old port.
            stop(self._worker_claim, self._worker_steps)
        progress("Starting the worker")
        undo.callback(stop, self._worker_claim, self._worker_steps)
        self._remember(worker=addresses)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)}
        # No file of contexts either: one of them may be the default.
        env = {**inherited, "SITEGENCTL_CONFIG": os.devnull, **addresses, **worker_env}
        with claimed(self._worker_claim, what="worker") as claim:
            process = claim.start(self.worker_argv, log=self._worker_log, env=env)
        self._await_worker(process, printed_before)

    def _await_worker(self, process: Process, printed_before: int) -> None:
        is_ready = self.worker_ready or (lambda _: True)
        came_up = wait_until(lambda: not process.alive() or is_ready(self._look()), _WORKER_PATIENCE)
        if came_up and process.alive():
            return
        reason = "it does not answer"
        if not process.alive():
            reason = telling_line(printed_since(self._worker_log, printed_before))
        raise SourceError(f"the worker did not start: {reason}", hint=f"see {self._worker_log}", source="workers")

    def _read_state(self) -> dict[str, Any]:
        return read_json(self._state_file) or {}

    def _remember(self, **changes: Any) -> None:
        write_json(self._state_file, {"version": 1, **self._read_state(), **changes})

    def _write_context(self) -> None:
        state = self._look()
        values = {
            "database_url": state.database_url,
            "redis_url": state.redis_url,
            "sites_dir": str(state.sites),
            "backend": state.backend,
        }
        # JSON's strings are TOML's, too.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]
        write_whole(self.root / "context.toml", "".join(lines), mode=PRIVATE)

    def _look(self) -> StackState:
        database = find_postgres(self._postgres)
        worker = running(self._worker_claim)
        seeded = self._read_state().get("seeded")
        return StackState(
            root=self.root,
            redis=_part("Redis", find_redis(self._redis), self._redis),
            postgres=_part("PostgreSQL", database, self._postgres),
            worker=PartState(
                name="worker",
                pid=worker.pid if worker else None,
                alive=worker is not None,
                log=self._worker_log,
            ),
            seeded=database is not None and seeded == database.identity,
            backend=self._read_state().get("backend", _BACKEND),
        )

    def _clear(self, *, keep_sites: bool) -> None:
        kept = {"lock", "sites"} if keep_sites else {"lock"}
        for entry in self.root.iterdir():
            if entry.name in kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _part(name: str, server: Server | None, folder: Path) -> PartState:
    if server is None:
        return PartState(name=name, pid=None, alive=False, log=folder / "server.log")
    pid = server.process.pid if server.process else None
    return PartState(name=name, pid=pid, alive=server.alive, url=server.url, log=server.log)
