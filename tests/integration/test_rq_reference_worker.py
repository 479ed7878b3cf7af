"""The reference worker on RQ, as real processes: generation, failures, signals and restarts."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from rq import Retry
from rq.job import Job

from sitegenctl.adapters.rq.backend import RqBackend
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.extras import install_hint
from sitegenctl.worker import rq_processes
from tests.support import processes
from tests.support.faults import condition
from tests.support.processes import Running
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, eventually

REPOSITORY = Path(__file__).parents[2]


pytestmark = pytest.mark.parametrize("backend", ["rq"])


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ended(world: RqWorld, job_id: str) -> Job:
    def job() -> Job | None:
        job = world.fetch(job_id)
        return job if job.is_finished or job.is_failed else None

    return eventually(job)


def busy(world: RqWorld, *arguments: str) -> tuple[Running, str]:
    """Start a worker in the middle of a generation, which continues when the file ``gate`` exists."""
    world.order(42, "GENERATING")
    worker = world.worker(*arguments, generator="gated")
    job_id = world.publish(42)
    eventually((world.folder / "started").exists)
    return worker, job_id


def test_enqueue_wait_follows_the_log_to_a_site_on_disk(world: RqWorld) -> None:
    world.order(42)
    world.worker()
    process = world.run("enqueue", "42", "--wait")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1].startswith("42  generated  BUILDING → REVIEW")
    assert {"index.html", "404.html"} <= set(world.site_files())
    job = ended(world, json.loads(world.log()[0]["details"])["task_id"])
    assert job.return_value() == {
        "success": True,
        "skipped": False,
        "order_id": 42,
        "message": "order 42 generated: https://sites.example.com/project_42/",
    }
    with world.redis() as client:
        assert 23 * 3600 < client.ttl(job.key) <= 24 * 3600


def test_only_a_run_that_did_not_begin_is_retried(world: RqWorld) -> None:
    world.order(42, "GENERATING")
    world.order(43, "GENERATING", onboarding="missing")
    world.worker("-c", "1", generator="broken")
    failing = world.publish(42)
    blocked = world.publish(43, retry=Retry(max=1, interval=[1]))
    stranger = world.publish(7, task="os.path.exists", retry=None)
    job = ended(world, failing)
    assert job.is_finished
    assert job.return_value() == {
        "success": False,
        "order_id": 42,
        "error": "RuntimeError: the oven is cold",
        "can_retry": True,
    }
    assert world.steps(42)[-1] == "ERROR"
    assert world.status(42) == "GENERATING"
    notes = world.sql("SELECT admin_notes FROM site_orders WHERE id = 42")[0][0]
    assert notes == "Generation Failed: RuntimeError: the oven is cold (no retry left)"
    assert ended(world, stranger).is_failed
    assert ended(world, blocked).is_failed
    assert [row["message"] for row in world.log(43)] == [
        "order 43 has no onboarding (attempt 1, retry in 1 s)",
        "order 43 has no onboarding (attempt 2, no retry left)",
    ]
    assert condition(world, grace="0s") is Condition.FAILED


@pytest.mark.parametrize("stage", ["in the generator", "between two steps"])
def test_a_run_over_the_time_limit_is_ended_and_logged(world: RqWorld, stage: str) -> None:
    world.order(42, "GENERATING")
    if stage == "in the generator":
        world.worker("-c", "1", generator="hanging")
    else:
        world.worker("-c", "1", "--pace", "30s")
    job = ended(world, world.publish(42, job_timeout=1))
    assert "took longer than" in job.return_value()["error"]
    assert world.steps()[-1] == "ERROR"


def test_on_sigterm_the_worker_finishes_its_job(world: RqWorld) -> None:
    worker, job_id = busy(world)
    worker.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    world.gate.touch()
    assert worker.wait(20) == 0
    assert world.fetch(job_id).is_finished
    assert world.status() == "REVIEW"
    assert world.worker_names() == set()


def test_on_sigquit_the_job_is_abandoned_and_the_order_orphaned(world: RqWorld) -> None:
    worker, job_id = busy(world, "-c", "1")
    horses = [horse for child in children(worker.pid) for horse in children(child)]
    assert len(horses) == 1
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(20) == 0
    eventually(lambda: not any(map(is_alive, horses)))
    assert world.site_files() == []
    world.expire()
    assert condition(world) is Condition.ORPHANED
    assert world.run("repair", "--yes").returncode == 0
    assert world.queued_ids() == [job_id]


def test_without_its_parent_a_worker_ends_after_its_job(world: RqWorld) -> None:
    worker, job_id = busy(world)
    family = children(worker.pid)
    assert len(family) == 3
    worker.kill()
    worker.wait()
    world.gate.touch()
    eventually(lambda: not any(map(is_alive, family)))
    assert world.fetch(job_id).is_finished


def test_a_killed_worker_is_replaced(world: RqWorld) -> None:
    worker = world.worker("-c", "1")
    (name,) = world.worker_names()
    before = int(name.removeprefix("sitegenctl-").partition("@")[0])
    os.kill(before, signal.SIGKILL)
    eventually(lambda: world.worker_names() not in ({name}, set()))
    assert len(children(worker.pid)) == 2  # with the scheduler
    world.order(42)
    world.enqueue(42)
    eventually(lambda: world.status() == "REVIEW")


def test_the_worker_waits_for_redis_and_can_be_stopped(world: RqWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    with processes.start("-m", "sitegenctl", "worker", stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        line = worker.stderr.readline()
        assert "Cannot connect to redis://:***@127.0.0.1:1/0" in line
        assert "Trying again in 2 seconds" in line
        worker.terminate()
        assert worker.wait(20) == 0
        assert worker.stderr.readlines() == []


def test_the_rq_command_runs_our_job_class(world: RqWorld) -> None:
    world.order(42)
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", world.redis_url, "--burst"]
    world.enqueue(42)
    subprocess.run(
        [*command, "--job-class", "sitegenctl.worker.rq_jobs.SiteJob", QUEUE],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert world.status() == "REVIEW"


def test_publisher_and_worker_can_use_json(world: RqWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITEGENCTL_RQ_SERIALIZER", "json")
    world.order(42)
    world.worker("-c", "1")
    outcome = world.enqueue(42).outcomes[0]
    with world.redis() as client:
        raw = client.hget(f"rq:job:{outcome.task_id}", "data")
    assert raw is not None
    assert json.loads(zlib.decompress(raw)) == [JOB, None, [42], {"resume": True}]
    eventually(lambda: world.status() == "REVIEW")


def test_without_rq_the_hint_names_the_package(world: RqWorld, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['rq'] = None\n")
    process = subprocess.run(
        [sys.executable, "-m", "sitegenctl", "worker"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr.splitlines()[1]) == (2, f"hint: {install_hint('rq')}")


@pytest.mark.parametrize("role", ["Scheduler", "Worker 1"])
def test_stop_is_not_lost_while_a_process_starts(world: RqWorld, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Python drops an exception raised in a callback; a second signal would abandon a job."""

    class Callback:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    made: list[rq_processes._Processes] = []
    monkeypatch.setattr(rq_processes._Processes, "run", lambda self: made.append(self) or 0)
    monkeypatch.setattr(rq_processes, "_await_redis", lambda *_: Callback() and None)
    settings = world.settings()
    rq_processes.run_worker(settings, *RqBackend(settings).rq_parts())
    (parent,) = made
    process = multiprocessing.get_context("fork").Process(target=parent._run_role, args=(parent._roles[role], set()))
    process.start()
    try:
        process.join(30)
        assert process.exitcode == 0
    finally:
        process.kill()
    assert world.worker_names() == set()
