"""The reference worker on Celery, as real processes: from BUILDING to a site on disk, and failures on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.worker.celery_app import retry_delay
from tests.support import processes
from tests.support.faults import condition
from tests.support.world import QUEUE, TASK, World, eventually

REPOSITORY = Path(__file__).parents[2]


def result(world: World, task_id: str) -> dict[str, object]:
    with world.redis() as client:
        raw = client.get(f"celery-task-meta-{task_id}")
        return json.loads(raw) if raw else {}


def task_of(world: World) -> str:
    return str(json.loads(world.log()[0]["details"])["task_id"])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_enqueue_wait_follows_the_log_to_a_site_on_disk(world: World) -> None:
    world.order(42)
    world.worker()
    process = world.run("enqueue", "42", "--wait")
    assert process.returncode == 0, process.stderr
    assert "SUCCESS" in process.stdout
    assert process.stdout.splitlines()[-1].startswith("42  generated  BUILDING → REVIEW")
    assert world.status() == "REVIEW"
    assert {"index.html", "404.html", "sitemap.xml", "robots.txt"} <= set(world.site_files())
    task_id = task_of(world)
    eventually(lambda: result(world, task_id).get("status") == "SUCCESS")
    with world.redis() as client:
        assert 0 < client.ttl(f"celery-task-meta-{task_id}") <= 24 * 3600
        eventually(lambda: not client.hlen("unacked"))


def test_a_failing_generation_is_retried_and_then_fails(world: World) -> None:
    world.order(42)
    world.worker(generator="broken", environ={"SITEGENCTL_RETRY_BASE": "0.2s"})
    process = world.run("enqueue", "42", "--wait", "-o", "json")
    assert process.returncode == 1
    (outcome,) = json.loads(process.stdout)["data"]["outcomes"]
    assert (outcome["outcome"], "oven is cold" in outcome["reason"]) == ("failed", True)
    assert world.status() == "GENERATING"
    assert world.steps().count("ERROR") == 4
    assert world.steps()[-1] == "ERROR"
    assert [json.loads(row["details"])["attempt"] for row in world.log() if row["step"] == "ERROR"] == [1, 2, 3, 4]
    assert eventually(lambda: result(world, task_of(world)))["status"] == "FAILURE"
    assert condition(world, grace="0s") is Condition.FAILED
    notes = world.sql("SELECT admin_notes FROM site_orders")[0][0]
    assert notes == "Generation Failed: RuntimeError: the oven is cold (no retry left)"


def test_while_a_retry_is_due_the_order_is_retrying(world: World) -> None:
    world.order(42)
    world.worker(generator="broken", environ={"SITEGENCTL_RETRY_BASE": "60s"})
    world.enqueue(42)
    eventually(lambda: world.steps()[-1:] == ["ERROR"])
    eventually(lambda: condition(world, grace="0s") is Condition.RETRYING)


@pytest.mark.parametrize("stage", ["in the generator", "between two steps"])
def test_a_run_over_the_soft_limit_is_logged_and_retried(world: World, stage: str) -> None:
    world.order(42, "GENERATING")
    if stage == "in the generator":
        world.worker(generator="hanging")
    else:
        world.worker("--pace", "30s")
    world.publish(42, soft_time_limit=1)
    eventually(lambda: world.steps()[-1:] == ["ERROR"])
    assert world.log()[-1]["message"].startswith("it took longer than 1 s (attempt 1, retry in ")
    eventually(lambda: condition(world, grace="0s") is Condition.RETRYING)


def test_the_task_of_a_killed_child_is_redelivered(world: World) -> None:
    world.order(42)
    worker = world.worker("-c", "1", generator="gated")
    world.enqueue(42)
    eventually((world.folder / "started").exists)
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: world.steps().count("RESUME") == 1)
    assert world.site_files() == []
    world.gate.touch()
    eventually(lambda: world.status() == "REVIEW")
    assert len(world.site_files()) == 6


def test_the_task_of_a_killed_worker_is_orphaned(world: World) -> None:
    world.order(42)
    worker = world.worker("--pace", "30s")
    world.enqueue(42)
    eventually(lambda: "START" in world.steps())  # that row says that the run takes the run lock
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    eventually(lambda: condition(world) is Condition.ORPHANED)
    process = world.run("inspect", "42", "-o", "json")
    order = json.loads(process.stdout)["data"]
    assert (order["condition"], order["tasks"][0]["state"]) == ("orphaned", TaskState.ORPHANED)
    assert order["evidence"][-1] == "no worker that responds has it; its run takes a run lock, and that is free"


def test_waiting_ends_when_the_worker_is_killed(world: World) -> None:
    world.order(42)
    worker = world.worker("--pace", "30s")
    with processes.start(
        *("-m", "sitegenctl", "enqueue", "42", "--wait"), stdout=subprocess.PIPE, text=True
    ) as waiting:
        eventually(lambda: "START" in world.steps())
        os.killpg(worker.pid, signal.SIGKILL)
        stdout, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1
    assert stdout.splitlines()[-2:] == [
        "42  failed  its task is orphaned: its worker no longer exists",
        "hint: sitegenctl inspect 42",
    ]


def test_ctrl_c_while_waiting_reports_the_order_as_enqueued(world: World) -> None:
    world.order(42)
    world.worker("--pace", "30s")
    with processes.start(
        *("-m", "sitegenctl", "enqueue", "42", "--wait"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        eventually(lambda: condition(world) is Condition.RUNNING)
        waiting.send_signal(signal.SIGINT)
        stdout, stderr = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    *_, outcome, undo = stdout.splitlines()
    assert outcome.startswith("42  enqueued  BUILDING → GENERATING  task ")
    assert undo.startswith("to undo it: sitegenctl undo ")
    assert "stopped waiting; the orders stay enqueued" in stderr


def test_a_paused_worker_that_holds_the_run_lock_is_running(world: World) -> None:
    world.order(42)
    worker = world.worker("--pace", "30s")
    world.enqueue(42)
    eventually(lambda: "START" in world.steps())
    os.kill(worker.pid, signal.SIGSTOP)
    assert condition(world) is Condition.RUNNING
    os.kill(worker.pid, signal.SIGCONT)


def test_two_tasks_for_one_order_generate_one_site(world: World) -> None:
    world.order(42, "GENERATING")
    world.worker("-c", "2", generator="gated")
    first = world.publish(42)
    eventually((world.folder / "started").exists)
    second = world.publish(42)
    gave_way = eventually(lambda: result(world, second).get("status") == "SUCCESS" and result(world, second))
    assert "gave way" in gave_way["result"]["message"]
    world.gate.touch()
    eventually(lambda: result(world, first).get("status") == "SUCCESS")
    assert world.status() == "REVIEW"
    assert world.steps().count("SUCCESS") == 1
    assert len(world.sql("SELECT 1 FROM site_deliverables WHERE type = 'BRIEFING'")) == 1


def test_the_app_runs_with_the_celery_command(world: World) -> None:
    world.order(42)
    log = (world.folder / "celery.log").open("wb")
    with log:
        command = [sys.executable, "-m", "celery", "-A", "sitegenctl.worker.celery_app", "worker", "-c", "1"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        world.enqueue(42)
        eventually(lambda: world.status() == "REVIEW")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_worker_configuration_matches_the_contract(world: World) -> None:
    from sitegenctl.worker.celery_app import make_app

    app = make_app(world.settings())
    conf, task = app.conf, app.tasks[TASK]
    assert (task.max_retries, task.time_limit, task.soft_time_limit) == (3, 600, 540)
    assert task.acks_late
    assert task.reject_on_worker_lost
    assert (conf.worker_prefetch_multiplier, conf.worker_concurrency, conf.result_expires) == (1, 2, 86400)
    assert (conf.task_serializer, list(conf.accept_content), conf.worker_send_task_events) == ("json", ["json"], True)
    queues = app.amqp.queues.consume_from
    assert [(name, queue.exchange.name, queue.routing_key) for name, queue in queues.items()] == [(QUEUE, QUEUE, QUEUE)]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retries_are_spaced_exponentially_with_jitter(retries: int) -> None:
    least, most = retry_delay(60, retries, 0.0), retry_delay(60, retries, 1.0)
    assert (least, most) == (30 * 2**retries, 60 * 2**retries)


def test_a_worker_with_the_deployed_pins_generates_an_order(world: World) -> None:
    """The worker runs celery 5.3.4 with redis 4.6.0 in an environment of its own."""
    python = REPOSITORY / ".venv-deployed" / "bin" / "python"
    assert python.exists(), "make .venv-deployed/.installed"
    versions = "import celery, redis, sqlalchemy, asyncpg; print(celery.__version__, redis.__version__)"
    pins = subprocess.run([python, "-c", versions], capture_output=True, text=True, check=True)
    assert pins.stdout.split() == ["5.3.4", "4.6.0"]
    world.order(42)
    world.worker(python=str(python))
    process = world.run("enqueue", "42", "--wait")
    assert process.returncode == 0, process.stdout + process.stderr
    assert world.status() == "REVIEW"
