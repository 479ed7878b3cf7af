"""What processes on this machine hold in memory, as Linux tells in ``/proc``.

A worker's name ends with the host that it runs on; of processes elsewhere, or in another container, nothing is known.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection

_PYTHON = (b"python", b"celery")


def local_memory(host: str, pids: Collection[int]) -> dict[int, int]:
    """The resident memory of these processes in bytes, if ``host`` is this one; those that are gone are left out.

    A process that isn't Python's is another that has got the number: a container has numbers of its own.
    """
    if host != socket.gethostname():
        return {}
    held: dict[int, int] = {}
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
        held[pid] = resident * os.sysconf("SC_PAGE_SIZE")
    return held
