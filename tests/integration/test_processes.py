"""Memory of worker processes: local ones only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.queue.worker import WorkerRoster
from sitegenctl.session import Session
from tests.support.world import World, eventually

HERE = socket.gethostname()

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="read from /proc on Linux")


def test_memory_of_this_process() -> None:
    held = local_memory(HERE, [os.getpid()])
    assert held.keys() == {os.getpid()}
    assert 10_000_000 < held[os.getpid()] < 10_000_000_000


def test_other_host_is_unknown() -> None:
    assert local_memory(f"not-{HERE}", [os.getpid()]) == {}
    assert local_memory("", [os.getpid()]) == {}


def test_missing_processes_are_left_out() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert local_memory(HERE, [gone.pid, -1, 0, 2**40, os.getpid()]).keys() == {os.getpid()}


def test_reused_pid_of_another_program_is_left_out() -> None:
    """Containers number their processes separately: the pid may belong to another process on this host."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        eventually(lambda: Path(f"/proc/{other.pid}/cmdline").read_bytes().startswith(b"sleep"))
        assert local_memory(HERE, [other.pid]) == {}
    finally:
        other.kill()
        other.wait()


def test_worker_details_include_process_memory(world: World) -> None:
    world.order(42)
    worker = world.worker("-c", "2", generator="gated")
    world.enqueue(42)
    eventually((world.folder / "started").exists)

    async def ask(session: Session) -> WorkerRoster:
        return await session.queue.worker_details()

    (worker_record,) = world.with_session(ask).workers
    (running,) = worker_record.active
    assert (running.order_id, running.started_at is not None) == (42, True)
    assert running.pid in worker_record.processes
    assert len(worker_record.processes) == 2
    assert worker_record.memory.keys() == {worker_record.pid, *worker_record.processes}
    assert all(held > 1_000_000 for held in worker_record.memory.values())
    assert worker_record.pid == worker.pid
    (world.sites_dir.parent / "gate").touch()
    eventually(lambda: world.status() == "REVIEW")
