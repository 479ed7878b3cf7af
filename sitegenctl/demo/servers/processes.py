"""Processes of this machine: recognised again, run, signalled, awaited.

A process is its pid and its start time, never the pid alone: after a reboot, or simply later, another process
may have the number. Which process belongs to which part of the stack is left to ``claims``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sitegenctl.errors import SourceError

POLL: Final = 0.02
"""Seconds between two looks at something that is awaited."""

# Until the parent asks, the kernel keeps a dead child's pid; this is where it asks.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of this machine to run a process under."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, and no later one that got the same number: ``started`` is the kernel's start time of it."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether it still runs; a zombie doesn't."""
        child = _children.get(self.pid)
        if child is not None and child.poll() is not None:
            del _children[self.pid]
        seen = look(self.pid)
        return seen is not None and seen.process == self and not seen.zombie


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """What the kernel says about a pid now."""

    process: Process
    group: int
    zombie: bool


def look(pid: int) -> Sighting | None:
    """Who has this pid now; None when nobody has."""
    if has_proc():
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            # A process that we may not even look at is none of ours.
            return None
        return from_stat(stat)
    return look_with_ps(pid)


def look_with_ps(pid: int) -> Sighting | None:
    """The same as ``look`` where there is no ``/proc``, as on macOS."""
    answer = _ps("-o", "stat=,pgid=,lstart=", "-p", str(pid)).split(maxsplit=2)
    if len(answer) < 3:
        return None
    process = Process(pid=pid, started=" ".join(answer[2].split()))
    return Sighting(process=process, group=int(answer[1]), zombie=answer[0].startswith("Z"))


def from_stat(stat: str) -> Sighting:
    """What a line of ``/proc/<pid>/stat`` says."""
    # proc(5): the command's name stands in parentheses and may itself hold some; field 3 follows the last one.
    head, _, tail = stat.rpartition(")")
    fields = tail.split()
    process = Process(pid=int(head.split(" ", 1)[0]), started=fields[19])
    # A dead first thread whose others still run has its files and ports yet.
    zombie = fields[0] in "ZX" and int(fields[17]) <= 1
    return Sighting(process=process, group=int(fields[2]), zombie=zombie)


def has_proc() -> bool:
    """Whether the kernel shows its processes as files; macOS does not."""
    return os.path.exists("/proc/self/stat")


def _ps(*arguments: str) -> str:
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return _output("ps", *arguments, env=env)


def _output(*argv: str, env: Mapping[str, str] | None = None) -> str:
    try:
        # Fixed programs of the system, no shell.
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, env=env, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def start_detached(
    argv: Sequence[str],
    *,
    stdout: int,
    stderr: int,
    keep: int,
    cwd: Path,
    env: Mapping[str, str],
    account: Account | None,
) -> Process:
    """Start ``argv`` in a session of its own, with the descriptor ``keep`` inherited.

    Raises:
        SourceError: it can't be executed.
    """
    try:
        child = subprocess.Popen(  # noqa: S603 - the callers' own programs, and no text of a user's
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=(keep,),
            cwd=cwd,
            env=env,
            **_under(account),
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise SourceError(f"a process can't be started: {exc}") from exc
    _children[child.pid] = child
    # Even a dead child stays visible until its parent has asked for it.
    seen = look(child.pid)
    if seen is None:
        raise SourceError(f"process {child.pid} can't be seen after it was started")
    return seen.process


def run_to_end(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    account: Account | None = None,
    timeout: float,
    keep: tuple[int, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``argv`` and return its exit code and what it printed, stderr included.

    Raises:
        SourceError: it can't be executed, or takes longer than ``timeout`` seconds.
    """
    try:
        return subprocess.run(  # noqa: S603 - the callers' own programs, and no text of a user's
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            pass_fds=keep,
            cwd="/",
            env=env,
            **_under(account),
        )
    except subprocess.TimeoutExpired as exc:
        raise SourceError(f"{argv[0]} did not end within {timeout:.0f} s") from exc
    except (OSError, subprocess.SubprocessError) as exc:
        raise SourceError(f"{argv[0]} can't be run: {exc}") from exc


def _under(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": [], "umask": 0o077}


def members_of(path: Path) -> frozenset[Process]:
    """Every living process that holds the lock on ``path``, or was started with ``mark_of(path)``."""
    wanted = os.path.realpath(path)
    if not has_proc():
        # Who has it open for reading and writing; whoever only reads it is none of them.
        pids = [int(pid) for pid in re.findall(r"^p(\d+)\nf\d+\nau$", _lsof(wanted), re.MULTILINE)]
    else:
        pids = [pid for pid in _pids() if _has_locked(pid, wanted) or _has_mark(pid, path)]
    seen = (look(pid) for pid in pids)
    return frozenset(sighting.process for sighting in seen if sighting is not None and not sighting.zombie)


def _lsof(path: str) -> str:
    return _output("lsof", "-F", "pfa", "--", path)


def mark_of(path: Path) -> dict[str, str]:
    """A variable by which a process's children are known even where they have closed every file they inherited."""
    return {"SITEGENCTL_STARTED_BY": os.path.realpath(path)}


def _has_mark(pid: int, path: Path) -> bool:
    ((name, value),) = mark_of(path).items()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(f"{name}={value}") in variables


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _has_locked(pid: int, wanted: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            # Links only: to follow one could block on a dead network drive.
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in (wanted, f"{wanted} (deleted)"):
                    # proc(5): there is a line "lock:" for every lock that this open file holds.
                    return "lock:" in Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
    return False


def group_of(leader: Process) -> frozenset[Process]:
    """The living processes of the group that this process leads, itself included."""
    # Only while the leader still has its number: afterwards a stranger's group could have it.
    seen = look(leader.pid)
    if seen is None or seen.process != leader or seen.group != leader.pid:
        return frozenset()
    if has_proc():
        members = [sighting for pid in _pids() if (sighting := look(pid))]
    else:
        pids = [int(pid) for pid in _ps("-A", "-o", "pid=").split()]
        members = [sighting for pid in pids if (sighting := look_with_ps(pid))]
    return frozenset(it.process for it in members if it.group == leader.pid and not it.zombie)


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process, if it is still there.

    Raises:
        SourceError: it belongs to another user.
    """
    if not process.alive():
        return
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as exc:
        raise SourceError(f"process {process.pid} belongs to another user and can't be stopped") from exc


def wait_until(condition: Callable[[], bool], patience: float) -> bool:
    """Whether the condition has come true within ``patience`` seconds; looked at least once."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True
