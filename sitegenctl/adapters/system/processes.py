"""Memory of local worker processes, from ``/proc``: psutil would take longer to import than this takes to run."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection

_PYTHON = (b"python", b"celery")


def local_memory(host: str, pids: Collection[int]) -> dict[int, int]:
    """Resident memory by pid, in bytes, if ``host`` is this host; ended processes are left out.

    A process that is not Python is skipped: the pid is from a container with pids of its own, or was reused.
    """
    if host != socket.gethostname():
        return {}
    memory: dict[int, int] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read(4096)
            if not any(word in command for word in _PYTHON):
                continue
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                resident = int(file.read().split()[1])
        except (OSError, ValueError, IndexError):
            continue
        memory[pid] = resident * os.sysconf("SC_PAGE_SIZE")
    return memory
