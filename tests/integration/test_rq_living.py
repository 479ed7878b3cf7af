"""Real workers of RQ's that take no run lock, in situations in which they do not answer, while ``repair`` runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support.processes import Running
from tests.support.rq_world import RqWorld, descendants
from tests.support.world import QUEUE, eventually

JOBS = Path(__file__).parents[1] / "support" / "rq_jobs"


@dataclass
class LivingWorld(RqWorld):
    """A system with a Redis of its own, which can be restarted and closed to clients."""

    persistence: bool = field(kw_only=True)

    def restart_redis(self) -> None:
        assert PrivateRedis(self.folder / "redis").stop()
        assert PrivateRedis(self.folder / "redis", persistence=self.persistence).start().url == self.redis_url

    def running_worker(self, order_id: int = 42) -> Running:
        """A worker in the middle of a generation, beside another that waits for work."""
        self.order(order_id, "GENERATING")
        worker = self.stock_worker(jobs=JOBS)
        self.publish(order_id)
        eventually(lambda: self.runs()["began"] == 1)
        eventually(lambda: "running" in self.condition())
        self.stock_worker(jobs=JOBS)
        return worker

    def runs(self) -> Counter[str]:
        """How many runs began, ended and overlapped with another."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "runs").read_text().splitlines()
            return Counter(line.split()[0] for line in lines)
        return Counter()

    def condition(self) -> str:
        """What ``inspect`` says of the order."""
        return self.run("inspect", "42").stdout.lower()

    def finish(self) -> None:
        """Let generations end."""
        self.gate.touch()

    @contextmanager
    def repairing(self) -> Iterator[Repairs]:
        """Run ``repair --yes`` again and again, as often as once a second."""
        repairs = Repairs(self)
        thread = threading.Thread(target=repairs.run)
        thread.start()
        try:
            yield repairs
        finally:
            repairs.ended.set()
            thread.join()
        assert repairs.unexpected == []


class Repairs:
    """What ``repair`` did, run by run."""

    def __init__(self, world: LivingWorld) -> None:
        self._world = world
        self._done: list[subprocess.CompletedProcess[str]] = []
        self.unexpected: list[subprocess.CompletedProcess[str]] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(1 if self._done else 0):
            process = self._world.run_process("repair", "--yes")
            # Redis may be away, and orders may be refused; anything else would be no repair.
            if process.returncode not in (0, 3, 4):
                self.unexpected.append(process)
            self._done.append(process)

    def wait_for(self, count: int) -> list[subprocess.CompletedProcess[str]]:
        """A number of runs that begin from now on."""
        # One may be under way.
        first = len(self._done) + 1
        eventually(lambda: len(self._done) >= first + count, patience=120)
        return self._done[first : first + count]


@pytest.fixture
def persistence() -> bool:
    return False


@pytest.fixture
def world(
    database_url: str, sites_dir: Path, tmp_path: Path, persistence: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LivingWorld]:
    folder = tmp_path / "redis"
    url = PrivateRedis(folder, persistence=persistence).start().url
    system = LivingWorld(database_url=database_url, redis_url=url, sites_dir=sites_dir, persistence=persistence)
    system.configure(monkeypatch)
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    yield system
    system.finish()
    system.close()
    PrivateRedis(folder).stop()


def signal_all(worker: Running, number: signal.Signals) -> None:
    """Pause the worker and its children, as a paused container does."""
    for pid in descendants(worker.pid):
        os.kill(pid, number)


@contextmanager
def paused(world: LivingWorld, worker: Running) -> Iterator[None]:
    signal_all(worker, signal.SIGSTOP)
    world.overdue()
    yield
    signal_all(worker, signal.SIGCONT)


@contextmanager
def paused_without_connections(world: LivingWorld, worker: Running) -> Iterator[None]:
    signal_all(worker, signal.SIGSTOP)
    with world.redis() as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    world.overdue()
    yield
    signal_all(worker, signal.SIGCONT)


@contextmanager
def worker_paused_alone(world: LivingWorld, worker: Running) -> Iterator[None]:
    os.kill(worker.pid, signal.SIGSTOP)
    world.overdue()
    yield
    os.kill(worker.pid, signal.SIGCONT)


@contextmanager
def warm_shutdown(world: LivingWorld, worker: Running) -> Iterator[None]:
    worker.terminate()
    yield


@contextmanager
def killed_without_its_job(world: LivingWorld, worker: Running) -> Iterator[None]:
    """The same happens to a worker that exits because Redis was unreachable: its job process continues."""
    worker.kill()
    worker.wait()
    world.overdue()
    yield


@contextmanager
def subscription_lost(world: LivingWorld, worker: Running) -> Iterator[None]:
    """The worker continues to consume over its other connection."""
    with world.redis() as client:
        client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        eventually(lambda: not client.pubsub_channels())
        yield
        client.execute_command("ACL", "SETUSER", "default", "allchannels")


@contextmanager
def redis_restarted(world: LivingWorld, worker: Running) -> Iterator[None]:
    world.restart_redis()
    yield


@pytest.mark.parametrize(
    ("situation", "persistence"),
    [
        (paused, False),
        (paused_without_connections, False),
        (worker_paused_alone, False),
        (warm_shutdown, False),
        (killed_without_its_job, False),
        (subscription_lost, False),
        (redis_restarted, False),
        (redis_restarted, True),
    ],
    ids=lambda value: getattr(value, "__name__", "persistent" if value else "forgetful"),
)
def test_order_runs_once_while_its_worker_hangs(world: LivingWorld, situation) -> None:
    worker = world.running_worker()
    with world.repairing() as repairs:
        with situation(world, worker):
            repairs.wait_for(3)
            assert world.runs() == {"began": 1}
            assert world.status() == "GENERATING"
        repairs.wait_for(1)
        world.finish()
        eventually(lambda: world.runs()["ended"] == 1)
        repairs.wait_for(2)
    assert world.runs() == {"began": 1, "ended": 1}
    assert world.status() == "REVIEW"


@pytest.mark.parametrize("how", ["the limit has passed", "the operator knows"])
def test_order_of_a_dead_worker_runs_again(world: LivingWorld, how: str) -> None:
    worker = world.running_worker()
    with world.repairing() as repairs:
        world.kill(worker)
        world.overdue()
        repairs.wait_for(3)
        assert world.runs() == {"began": 1}
        assert "may still be running" in world.condition()
        if how == "the operator knows":
            repaired = world.run("repair", "42", "--worker-dead", "--yes")
            assert repaired.returncode == 0, repaired.stdout + repaired.stderr
        else:
            world.expire()
            world.sql("UPDATE site_generation_logs SET created_at = created_at - interval '1 day'")
        eventually(lambda: world.runs()["began"] == 2)
        repairs.wait_for(2)
        world.finish()
        eventually(lambda: world.runs()["ended"] == 1)
        repairs.wait_for(1)
    assert world.runs() == {"began": 2, "ended": 1}


def test_one_run_of_a_job_queued_twice_stays(world: LivingWorld) -> None:
    """A publisher that tried again, or ``rq requeue``: both workers have the same job."""
    world.running_worker()
    with world.redis() as client:
        (member,) = client.zrange(f"rq:wip:{QUEUE}", 0, -1)
        task_id = member.decode().partition(":")[0]
        client.rpush(f"rq:queue:{QUEUE}", task_id)
    eventually(lambda: world.runs()["began"] == 2)
    eventually(lambda: "duplicated" in world.condition())
    left = world.run("repair", "42", "--yes")
    assert left.returncode != 0
    assert world.runs()["began"] == 2
    repaired = world.run("repair", "42", "--terminate", "--yes")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "running" in world.condition()
    assert "duplicated" not in world.condition()
    with world.repairing() as repairs:
        repairs.wait_for(2)
        world.finish()
        eventually(lambda: world.runs()["ended"] == 1)
        repairs.wait_for(1)
    assert (world.runs()["began"], world.runs()["ended"]) == (2, 1)


def test_copy_of_a_running_job_is_removed(world: LivingWorld) -> None:
    world.order(42, "GENERATING")
    world.stock_worker(jobs=JOBS)
    task_id = world.publish(42)
    eventually(lambda: world.runs()["began"] == 1)
    with world.redis() as client:
        client.rpush(f"rq:queue:{QUEUE}", task_id)
    eventually(lambda: "duplicated" in world.condition())
    repaired = world.run("repair", "42", "--yes")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert world.queued_ids() == []
    world.finish()
    eventually(lambda: world.runs()["ended"] == 1)
    assert world.runs() == {"began": 1, "ended": 1}
