"""The checks that RQ's own probe measures, each with a system in which it passes and one in which it doesn't."""

from __future__ import annotations

import os
import signal
import sys
import zlib
from datetime import timedelta

import pytest

from sitegenctl.domain.health.check import CheckStatus
from sitegenctl.domain.health.messages import MessageFacts
from sitegenctl.domain.health.registry import checks_of
from sitegenctl.domain.health.workers import QueueActivity, WorkersFacts
from sitegenctl.render.command import hint_text
from tests.support.doctor_stage import check_up_of, examine, expect, unproven
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, eventually

OK, WARNING, FAILED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED

#: The checks whose facts RQ's own probe measures.
OWN = [
    check.name
    for check in checks_of("rq")
    if {types[0] for types, _ in check.parameters.values()} & {WorkersFacts, MessageFacts, QueueActivity}
]


@pytest.mark.shows(OK, *OWN)
def test_healthy_system_passes_every_check(rq: RqWorld) -> None:
    rq.order(41, "REVIEW", files=8)
    worker = rq.stock_worker("--with-scheduler")
    with rq.redis() as client:
        eventually(lambda: client.exists(f"rq:scheduler-lock:{QUEUE}"))
    checkup = check_up_of(rq)
    assert [check.name for check in checkup.checks] == [check.name for check in checks_of("rq")]
    # The tests' Redis has no persistence; what RQ's probe shares with Celery's is tested there.
    assert {check.name for check in checkup.checks if check.status is not OK} == {"redis persistence"}
    rq.publish(1, job_timeout=600)
    eventually(lambda: (rq.folder / "begun").exists())
    expect(examine(rq)["time limits"], OK, "1 task with 600 s")
    assert rq.run("queue", "pause").returncode == 0
    assert hint_text(examine(rq)["worker queue"].remedy) == "sitegenctl queue resume"
    assert rq.run("queue", "resume").returncode == 0
    os.kill(worker.pid, signal.SIGSTOP)
    with rq.redis() as client:
        for member in client.zrange(f"rq:wip:{QUEUE}", 0, -1):
            client.zadd(f"rq:wip:{QUEUE}", {member: 1})
    expect(examine(rq)["worker"], FAILED, "did not respond")


@pytest.mark.shows(FAILED, "worker")
@pytest.mark.shows(WARNING, "scheduler")
def test_no_worker_is_reported_with_how_to_start_one(rq: RqWorld) -> None:
    rq.publish(1)
    rq.publish(2)
    rq.deliver()
    before = rq.dumped()
    checks = examine(rq)
    assert rq.dumped() == before
    expect(checks["worker"], FAILED, "may be running them")
    remedy = "inspect queue shows these tasks; to start another worker: docker start crm-rq-worker"
    assert hint_text(checks["worker"].remedy) == remedy
    expect(checks["scheduler"], WARNING)
    for name in ("worker queue", "worker task"):
        expect(checks[name], CheckStatus.UNCHECKED)


@pytest.mark.shows(FAILED, "worker queue", "queue progress", "time limits", "scheduler", "serialization")
@pytest.mark.shows(WARNING, "time limits")
def test_worker_of_another_queue_and_odd_jobs(rq: RqWorld) -> None:
    rq.stock_worker(queues=("other",))
    rq.publish(1)
    checks = examine(rq)
    expect(checks["worker"], OK)
    expect(checks["worker queue"], FAILED, "no worker consumes", "they consume other instead")
    remedy = f"docker start crm-rq-worker   (with {QUEUE} among its queues)"
    assert hint_text(checks["worker queue"].remedy) == remedy
    expect(checks["queue progress"], FAILED)
    expect(checks["time limits"], WARNING, "1 task with 180 s")
    endless = rq.publish(2, job_timeout=-1)
    rq.publish(3, due=timedelta(hours=1))
    with rq.redis() as client:
        client.hset(f"rq:job:{endless}", "data", zlib.compress(b'["f", null, [], {}]'))
    checks = examine(rq)
    expect(checks["time limits"], FAILED)
    assert "never ends" in checks["time limits"].evidence[-1]
    expect(checks["scheduler"], FAILED, "1 task is due later, and no worker enqueues them then")
    expect(checks["serialization"], FAILED, "1 of 3 messages not pickle: JSON (1)")
    # The same system with workers that read JSON.
    expect(examine(rq, rq_serializer="json")["serialization"], FAILED, "2 of 3 messages not JSON: pickle (2)")


@pytest.mark.shows(FAILED, "worker task")
def test_failed_imports_of_the_job(rq: RqWorld) -> None:
    rq.stock_worker()
    rq.publish(1, task=f"{JOB}_of_old", retry=None)
    expect(examine(rq)["worker task"], OK)  # failures of another job do not matter
    with rq.redis() as client:
        eventually(lambda: client.zcard(f"rq:failed:{QUEUE}") == 1)
    checks = examine(rq, task=f"{JOB}_of_old")
    expect(checks["worker task"], FAILED, "can't import", "generate_site_job_of_old")


def test_every_check_is_proven_to_pass_and_to_fail() -> None:
    assert unproven(sys.modules[__name__], OWN) == {}
