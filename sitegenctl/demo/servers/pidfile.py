"""Claims: which background process runs for a part of the stack, and that there is one at most.

A claim is a file that the starter of a process locks and whose lock the process inherits, with all of its
children. The kernel thus keeps the claim for as long as anything of the process lives, and not one moment
longer, whoever is killed and whenever. The file says who it is, written by the process itself before it
becomes the server: a starter that is killed half-way leaves nothing that can't be found again.

What is started, with which settings, and when it is ready is left to the modules of the servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sitegenctl.demo.servers.file_lock import try_lock
from sitegenctl.demo.servers.processes import (
    POLL,
    Account,
    Process,
    from_stat,
    group_of,
    mark_of,
    members_of,
    run_to_end,
    send,
    start_detached,
    wait_until,
)
from sitegenctl.errors import SourceError

# The process itself writes who it is, with its start time, and only then becomes the server: its stdout is the
# claim's file until then, and the log from then on.
_INTRODUCE: Final = """\
if [ -r "/proc/$$/stat" ]; then read -r stat <"/proc/$$/stat"; printf 'proc %s\\n' "$stat"
else printf 'ps %s %s\\n' "$$" "$(LC_ALL=C ps -o lstart= -p $$)"; fi
exec "$@" >&2
"""


class Claim:
    """The exclusive right to run one process, held; see ``claimed``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        cwd: Path = Path("/"),
        account: Account | None = None,
    ) -> Process:
        """Start ``argv`` detached from this process and its terminal; what it prints is appended to ``log``.

        Raises:
            SourceError: it can't be executed.
        """
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = start_detached(
                ["/bin/sh", "-c", _INTRODUCE, "sh", *argv],
                stdout=self._descriptor,
                stderr=output,
                keep=self._descriptor,
                cwd=cwd,
                env={**env, **mark_of(self._path)},
                account=account,
            )
        finally:
            os.close(output)
        wait_until(lambda: recorded(self._path) == process or not process.alive(), 5.0)
        return process

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str], account: Account | None = None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` to its end; should we be killed meanwhile, it keeps the claim until it has ended.

        Raises:
            SourceError: it can't be executed, or takes longer than ``timeout`` seconds.
        """
        return run_to_end(argv, env=env, account=account, timeout=timeout, keep=(self._descriptor,))


@contextlib.contextmanager
def claimed(path: Path, *, what: str, patience: float = 30.0) -> Iterator[Claim]:
    """Hold the claim at ``path``, once nothing of an earlier process is left.

    Children that outlived their killed parent are ended; another starter at work is waited for, ``patience``
    seconds in all. ``what`` names the process in messages.

    Raises:
        SourceError: a process of before, or another starter, still holds it; the hint names them.
    """
    descriptor = _lock(path, what=what, patience=patience)
    try:
        # With the lock in our hands these can only be children that have closed every file, lock included.
        for process in _family(path, None):
            send(process, signal.SIGKILL)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f"starter {os.getpid()}\n".encode())
        yield Claim(path, descriptor)
    finally:
        # Only our copy: the lock stays for as long as a process that inherited it lives.
        os.close(descriptor)


def _lock(path: Path, *, what: str, patience: float) -> int:
    deadline = time.monotonic() + patience
    # A killed PostgreSQL's children notice by themselves; most are gone before this.
    violence = time.monotonic() + 0.5
    while True:
        descriptor = try_lock(path)
        if descriptor is not None:
            return descriptor
        if time.monotonic() > violence and running(path) is None:
            _end_leftovers(path)
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in members_of(path)) or "unknown"
            raise SourceError(f"another {what} of the same folder is still there", hint=f"its processes: {pids}")
        time.sleep(POLL)


def _end_leftovers(path: Path) -> None:
    found = members_of(path)
    starter = re.match(r"starter (\d+)", _read(path))
    if starter is None or int(starter[1]) not in {process.pid for process in found}:
        for process in found:
            send(process, signal.SIGKILL)


def recorded(path: Path) -> Process | None:
    """The process that introduced itself in the claim's file, alive or not."""
    # The last one: a server that lost the race for its port is started once more under the same claim.
    introductions = re.findall(r"^(proc|ps) (.+)\n", _read(path), re.MULTILINE)
    if not introductions:
        return None
    how, text = introductions[-1]
    if how == "proc":
        return from_stat(text).process
    pid, *started = text.split()
    return Process(pid=int(pid), started=" ".join(started))


def running(path: Path) -> Process | None:
    """The living process of the claim at ``path``; reads only."""
    process = recorded(path)
    return process if process is not None and process.alive() else None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def stop(path: Path, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
    """End the process of the claim at ``path`` and everything that it started; True if there was anything.

    ``steps`` are the signals for the process itself, each with the seconds that it gets to obey. Whatever is
    left then is killed, and so are children that outlive it. A starter that is at work holds the claim, too:
    callers see to it that there is none.

    Raises:
        SourceError: something belongs to another user, or survives SIGKILL.
    """
    leader = running(path)
    family = _family(path, leader)
    if leader is not None:
        for number, patience in steps:
            # Again and again: it may start children until its last moment.
            family |= _family(path, leader)
            send(leader, number)
            if wait_until(lambda: not leader.alive(), patience):
                break
        family |= _family(path, leader)
    if not family:
        return False
    # PostgreSQL's children end by themselves, a moment after it.
    if not wait_until(lambda: not _living(family), 0.5 if leader else 0.0):
        for process in _living(family):
            send(process, signal.SIGKILL)
    if not wait_until(lambda: not _living(family), 10.0):
        pids = ", ".join(str(process.pid) for process in _living(family))
        raise SourceError(f"processes that can't be ended: {pids}")
    return True


def _family(path: Path, leader: Process | None) -> frozenset[Process]:
    found = members_of(path) | (group_of(leader) if leader is not None else frozenset())
    return frozenset(process for process in found if process.pid != os.getpid())


def _living(family: frozenset[Process]) -> list[Process]:
    return [process for process in family if process.alive()]
