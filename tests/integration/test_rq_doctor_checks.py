"""The checks that RQ's own probe measures, each with a system in which it passes and one in which it doesn't."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import zlib
from datetime import timedelta
from pathlib import Path

import pytest

from sitegenctl.domain.health.check import RQ_CHECKS, CheckName, CheckStatus
from sitegenctl.render.command import hint_text
from tests.support.doctor_stage import check_up_of, examine, unproven
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, eventually

OK, WARNING, FAILED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED

#: What is looked at otherwise than with Celery, or is there with RQ alone.
RQ_OWN = (
    CheckName.WORKER,
    CheckName.WORKER_QUEUE,
    CheckName.WORKER_TASK,
    CheckName.LIMITS,
    CheckName.SCHEDULER,
    CheckName.PROGRESS,
    CheckName.SERIALIZATION,
)


@pytest.mark.shows(CheckName.WORKER, OK)
@pytest.mark.shows(CheckName.WORKER_QUEUE, OK)
@pytest.mark.shows(CheckName.WORKER_TASK, OK)
@pytest.mark.shows(CheckName.LIMITS, OK)
@pytest.mark.shows(CheckName.SCHEDULER, OK)
@pytest.mark.shows(CheckName.PROGRESS, OK)
@pytest.mark.shows(CheckName.SERIALIZATION, OK)
def test_a_healthy_system_passes_every_check(rq: RqWorld) -> None:
    rq.order(41, "REVIEW", files=8)
    worker = rq.stock_worker("--with-scheduler")
    with rq.redis() as client:
        eventually(lambda: client.exists(f"rq:scheduler-lock:{QUEUE}"))
    found = check_up_of(rq)
    assert [check.name for check in found.checks] == list(RQ_CHECKS)
    # The tests' Redis keeps nothing; what RQ's probe shares with Celery's is tested there.
    assert {check.name for check in found.checks if check.status is not OK} == {CheckName.PERSISTENCE}
    rq.publish(1, job_timeout=600)
    eventually(lambda: (rq.sites_dir.parent / "begun").exists())
    found = examine(rq)
    assert found[CheckName.LIMITS].evidence == ("1 task with 600 s",)
    # Beside it another system's worker, which is no concern of ours; a queue that is suspended is.
    assert rq.run("queue", "pause").returncode == 0
    assert hint_text(examine(rq)[CheckName.WORKER_QUEUE].remedy) == "sitegenctl queue resume"
    assert rq.run("queue", "resume").returncode == 0
    os.kill(worker.pid, signal.SIGSTOP)
    with rq.redis() as client:
        for member in client.zrange(f"rq:wip:{QUEUE}", 0, -1):
            client.zadd(f"rq:wip:{QUEUE}", {member: 1})
    assert "did not answer" in examine(rq)[CheckName.WORKER].evidence[0]


@pytest.mark.shows(CheckName.WORKER, FAILED)
@pytest.mark.shows(CheckName.SCHEDULER, WARNING)
def test_missing_worker_shows_how_to_start_one(rq: RqWorld) -> None:
    rq.publish(1)
    rq.publish(2)
    rq.deliver()
    before = rq.dumped()
    found = examine(rq)
    assert rq.dumped() == before
    assert found[CheckName.WORKER].status is FAILED
    assert "may be running them" in found[CheckName.WORKER].evidence[0]
    note = "shows them; to start another worker: docker start crm-rq-worker"
    assert hint_text(found[CheckName.WORKER].remedy) == f"sitegenctl inspect queue   ({note})"
    assert found[CheckName.SCHEDULER].status is WARNING
    for name in (CheckName.WORKER_QUEUE, CheckName.WORKER_TASK):
        assert found[name].status is CheckStatus.UNCHECKED


@pytest.mark.shows(CheckName.WORKER_QUEUE, FAILED)
@pytest.mark.shows(CheckName.PROGRESS, FAILED)
@pytest.mark.shows(CheckName.LIMITS, WARNING, FAILED)
@pytest.mark.shows(CheckName.SCHEDULER, FAILED)
@pytest.mark.shows(CheckName.SERIALIZATION, FAILED)
def test_worker_of_another_queue_and_odd_jobs(rq: RqWorld) -> None:
    rq.stock_worker(queues=("other",))
    rq.publish(1)
    found = examine(rq)
    assert found[CheckName.WORKER].status is OK
    assert found[CheckName.WORKER_QUEUE].evidence[1] == "they consume other instead"
    assert (
        hint_text(found[CheckName.WORKER_QUEUE].remedy)
        == f"docker start crm-rq-worker   (with {QUEUE} among its queues)"
    )
    assert found[CheckName.PROGRESS].status is FAILED
    assert (found[CheckName.LIMITS].status, found[CheckName.LIMITS].evidence[0]) == (WARNING, "1 task with 180 s")
    for_ever = rq.publish(2, job_timeout=-1)
    rq.publish(3, due=timedelta(hours=1))
    with rq.redis() as client:
        client.hset(f"rq:job:{for_ever}", "data", zlib.compress(b'["f", null, [], {}]'))
    found = examine(rq)
    assert found[CheckName.LIMITS].status is FAILED
    assert "never ends" in found[CheckName.LIMITS].evidence[-1]
    assert found[CheckName.SCHEDULER].evidence[0].startswith("1 task waits for a time, and nobody")
    assert found[CheckName.SERIALIZATION].status is FAILED
    assert "1 of 3 messages not pickle: JSON (1)" in found[CheckName.SERIALIZATION].evidence[0]
    # The same system, told that the workers read JSON.
    found = examine(rq, rq_serializer="json")
    assert "2 of 3 messages not JSON: pickle (2)" in found[CheckName.SERIALIZATION].evidence[0]


@pytest.mark.shows(CheckName.WORKER_TASK, FAILED)
def test_unimportable_job_is_found_by_its_failures(rq: RqWorld) -> None:
    rq.stock_worker()
    rq.publish(1, task=f"{JOB}_of_old", retry=None)
    assert examine(rq)[CheckName.WORKER_TASK].status is OK  # another's failures say nothing of ours
    with rq.redis() as client:
        eventually(lambda: client.zcard(f"rq:failed:{QUEUE}") == 1)
    found = examine(rq, task=f"{JOB}_of_old")
    assert found[CheckName.WORKER_TASK].status is FAILED
    assert "can't import" in found[CheckName.WORKER_TASK].evidence[0]
    assert "generate_site_job_of_old" in found[CheckName.WORKER_TASK].evidence[1]


def test_what_the_probe_looks_at_is_never_unpickled(rq: RqWorld, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(str(tmp_path / "exploded")))
    task_id = rq.publish(1)
    with rq.redis() as client:
        client.hset(f"rq:job:{task_id}", mapping={"data": zlib.compress(bomb), "meta": bomb, "result": bomb})
    assert examine(rq)[CheckName.SERIALIZATION].status is OK
    assert not (tmp_path / "exploded").exists()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (self.path,)


def test_every_check_is_proven_to_pass_and_to_fail() -> None:
    assert unproven(sys.modules[__name__], RQ_OWN) == {}
