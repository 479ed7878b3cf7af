"""Background processes of the demo: started detached, found again later, and ended with everything they started.

A JSON file records the pid and the start time of a process. Together they identify it: the pid alone may belong to
another process after a reboot. Descendants are found by an environment variable that they inherit, also when the
recorded process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import psutil

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.errors import SourceError

StopSteps: TypeAlias = Sequence[tuple[signal.Signals, float]]

POLL_INTERVAL: Final = 0.02

_MARK: Final = "SITEGENCTL_DEMO_PART"
# psutil derives start times from the boot time, which shifts slightly when the clock is adjusted.
_START_TIME_TOLERANCE: Final = 5.0
_KILL_TIMEOUT: Final = 10.0

# Started by this process: it has to reap them.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An operating system account to run a process under."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process, identified by its pid and its start time (seconds since the epoch)."""

    pid: int
    started: float

    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) < _START_TIME_TOLERANCE
            return is_same and bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


@dataclass(frozen=True)
class Daemon:
    """The background process that is recorded in the file ``record``, and its descendants.

    ``names`` are programs that overwrite their environment with their title. They are recognised by their working
    directory instead: the record's folder, or one directly below it.
    """

    record: Path
    names: tuple[str, ...] = ()

    def process(self) -> Process | None:
        """Return the recorded process if it runs."""
        try:
            process = Process(**json.loads(self.record.read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return process if process.alive() else None

    def start(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str], account: Account | None = None
    ) -> Process:
        """Start ``argv`` detached from this process and its terminal; its output is appended to ``log``.

        Raises ``SourceError`` if it cannot be executed.
        """
        with open(log, "ab", opener=lambda path, flags: os.open(path, flags, PRIVATE)) as output:
            try:
                child = subprocess.Popen(  # noqa: S603 - the callers' own programs
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd="/",
                    env={**env, **self.mark},
                    **_credentials(account),
                )
            except (OSError, subprocess.SubprocessError) as exc:
                raise SourceError(f"{argv[0]} cannot be started: {exc}") from exc
        _children[child.pid] = child
        # A dead child remains visible until it is reaped, so this cannot fail.
        process = Process(pid=child.pid, started=psutil.Process(child.pid).create_time())
        write_whole(self.record, json.dumps(asdict(process)) + "\n", mode=PRIVATE)
        return process

    def family(self) -> list[psutil.Process]:
        """List every living process that was started for this record."""
        folder = os.path.realpath(self.record.parent)

        def is_relative(process: psutil.Process) -> bool:
            try:
                if self.mark.items() <= process.environ().items():
                    return bool(process.pid != os.getpid())
                cwd = process.cwd()
                return process.name() in self.names and folder in (cwd, os.path.dirname(cwd))
            except (psutil.Error, OSError):
                return False

        return [process for process in psutil.process_iter() if is_relative(process)]

    def stop(self, steps: StopSteps = ()) -> bool:
        """End the process and all of its descendants; return whether there were any.

        ``steps`` are signals for the process itself, each with the seconds to wait for its end. Whatever is left is
        killed.

        Raises ``SourceError`` if a process belongs to another user or survives SIGKILL.
        """
        leader = self.process()
        if leader is not None:
            self._ask_to_stop(leader, steps)
        any_stopped = leader is not None
        deadline = time.monotonic() + _KILL_TIMEOUT
        # Repeatedly: a process may start children until its last moment.
        while family := self.family():
            any_stopped = True
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=1)
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in family)
                raise SourceError(f"processes cannot be ended: {pids}")
        return any_stopped

    def _ask_to_stop(self, leader: Process, steps: StopSteps) -> None:
        for number, seconds in steps:
            try:
                os.kill(leader.pid, number)
            except ProcessLookupError:
                return
            except PermissionError as exc:
                raise SourceError(f"process {leader.pid} belongs to another user and cannot be stopped") from exc
            if wait_until(lambda: not leader.alive(), seconds):
                return

    @property
    def mark(self) -> dict[str, str]:
        """The environment variable that the process and its descendants are recognised by."""
        return {_MARK: os.path.realpath(self.record)}


def run_to_end(
    argv: Sequence[str], *, env: Mapping[str, str], account: Account | None = None, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` and return its exit code and its output, stderr included.

    Raises ``SourceError`` if it cannot be executed or takes longer than ``timeout`` seconds.
    """
    try:
        return subprocess.run(  # noqa: S603 - the callers' own programs
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            cwd="/",
            env=env,
            **_credentials(account),
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceError(f"{argv[0]} did not end within {timeout:.0f} s") from exc
    except (OSError, subprocess.SubprocessError) as exc:
        raise SourceError(f"{argv[0]} cannot be started: {exc}") from exc


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll the condition, at least once; return whether it became true within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def _credentials(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077}
