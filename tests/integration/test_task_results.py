"""Failures that only the result of a task shows: its run has no ERROR row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.operations.live_state import LiveSnapshot, LiveState
from sitegenctl.session import Session
from tests.support.commands import Run, kinds
from tests.support.rq_world import RqWorld
from tests.support.world import Log, World, eventually

both = pytest.mark.parametrize("backend", ["celery", "rq"])

BAD_COLOUR = "ValueError: invalid literal for int() with base 16: ''"

# Celery runs the task three more times; the last run has no row after this.
CUT_SHORT = [("START", 160), ("TEMPLATE_CUSTOMIZE", 159), ("START", 150), ("TEMPLATE_CUSTOMIZE", 149)]


def fail(world: World, task_id: str, tmp_path: Path) -> None:
    """Have the queue's own library run the next task, which raises outside the generator's error handling."""
    if isinstance(world, RqWorld):
        folder = tmp_path / "jobs" / "app" / "workers"
        folder.mkdir(parents=True)
        code = "def generate_site_job(*_, **__):\n    int('', 16)\n"
        (folder / "site_generation_worker.py").write_text(code)
        with world.redis() as client:
            client.hdel(f"rq:job:{task_id}", "retries_left", "retry_intervals")
        worker = world.stock_worker(jobs=tmp_path / "jobs")
        eventually(lambda: world.fetch(task_id).is_failed)
        world.kill(worker)
        return
    with Celery(broker=world.redis_url, backend=world.redis_url, set_as_current=False) as app:
        error = app.backend.prepare_exception(ValueError(BAD_COLOUR.removeprefix("ValueError: ")))
        meta = app.backend._get_result_meta(error, "FAILURE", traceback="Traceback …", request=None)
        with world.redis() as client:
            client.rpop("site_generation")
            client.set(app.backend.get_key_for_task(task_id), app.backend.encode(meta))


def cut_short(world: World, log: Log, order_id: int = 42, *, rows: Sequence[tuple[str, float]] = CUT_SHORT) -> str:
    """Enqueue an order whose run wrote these rows; returns the id of its task."""
    world.order(order_id, "BUILDING", files=8)
    (outcome,) = world.enqueue(order_id).outcomes
    world.sql("UPDATE site_generation_logs SET created_at = created_at - interval '5 minutes'")
    log.rows(order_id, rows)
    world.sql("UPDATE site_orders SET updated_at = updated_at - interval '3 minutes'")
    assert outcome.task_id is not None
    return outcome.task_id


def inspected(run: Run, order_id: int = 42) -> dict[str, Any]:
    _, report = run("inspect", str(order_id))
    data: dict[str, Any] = report["data"]
    return data


@both
def test_a_failure_without_an_error_row_is_failed_with_its_reason(
    world: World, run: Run, log: Log, tmp_path: Path
) -> None:
    fail(world, cut_short(world, log), tmp_path)
    order = inspected(run)
    assert order["condition"] == "failed"
    assert order["remedy"].endswith("; then: sitegenctl retry-failed 42")
    assert order["evidence"][0].startswith("its task failed, without an ERROR row; the next attempt is permitted in")
    assert order["evidence"][1] == BAD_COLOUR
    assert kinds(run("repair", "--dry-run")[1]) == {}

    async def poll(session: Session) -> LiveSnapshot:
        return await LiveState(session).poll()

    live = world.with_session(poll)
    assert live.snapshot.diagnose(42).condition is Condition.FAILED
    assert live.last_hour is not None
    assert (live.last_hour.failed, live.last_hour.succeeded) == (1, 0)
    assert run("inspect")[1]["data"]["last_hour"]["failed"] == 1
    stats = run("stats", "--since", "1h")[1]["data"]
    assert (stats["runs"]["failed"], stats["runs"]["cut_short"]) == (1, 1)
    assert stats["reasons"][0]["example"] == BAD_COLOUR
    for period in (["--since", "1h"], ["--since", "1h", "--until", "0s"]):
        *_, last_run = run("history", "--kind", "run", *period)[1]["data"]["activity"]
        assert (last_run["outcome"], last_run["reason"]) == ("failed", BAD_COLOUR)
    # Two attempts: the next is due after four minutes.
    assert "is due in" in run("retry-failed")[1]["outcomes"][42]["reason"]
    assert kinds(run("retry-failed", "--force", "--match", "invalid literal")[1]) == {42: "done"}


def test_history_without_redis_leaves_such_failures_out(world: World, log: Log, tmp_path: Path) -> None:
    fail(world, cut_short(world, log), tmp_path)
    ran = world.run("history", "--kind", "run", REDIS_URL="redis://127.0.0.1:1/0")
    assert (ran.returncode, "unfinished" in ran.stdout) == (0, True)
    assert ran.stderr.startswith("warning: without the results of tasks, failures that are not logged are left out: ")


@both
def test_a_failure_before_any_row_is_failed_and_counts_as_an_attempt(
    world: World, run: Run, log: Log, tmp_path: Path
) -> None:
    fail(world, cut_short(world, log, rows=[]), tmp_path)
    order = inspected(run)
    assert (order["condition"], order["attempts"]) == ("failed", 1)
    assert BAD_COLOUR in order["evidence"]


@pytest.mark.parametrize("backend", ["rq"])
@pytest.mark.parametrize("rows", [CUT_SHORT, []], ids=["cut short", "no row"])
def test_failure_of_a_job_that_the_backend_published_is_found(
    world: World, run: Run, log: Log, tmp_path: Path, rows: Sequence[tuple[str, float]]
) -> None:
    """No log row has its id: only RQ's list of failed jobs does."""
    world.order(42, "GENERATING", age="10 minutes", files=8)
    log.rows(42, rows)
    fail(world, world.publish(42), tmp_path)
    order = inspected(run)
    assert order["condition"] == "failed"
    assert BAD_COLOUR in order["evidence"]


@pytest.mark.parametrize("backend", ["rq"])
def test_failed_job_from_before_the_last_change_does_not_decide(world: World, run: Run, tmp_path: Path) -> None:
    world.order(42, "GENERATING", age="10 minutes", files=8)
    fail(world, world.publish(42), tmp_path)
    world.sql("UPDATE site_orders SET updated_at = timezone('utc', now()) WHERE id = 42")
    assert inspected(run)["condition"] == "settling"


def test_live_remembers_the_task_that_the_backend_published(world: World, log: Log, tmp_path: Path) -> None:
    """No log row has its id: only its message did."""
    world.order(42, "GENERATING", age="10 minutes", files=8)
    task_id = world.publish(42)
    log.rows(42, CUT_SHORT)

    async def poll_twice(session: Session) -> LiveSnapshot:
        state = LiveState(session)
        await state.poll()
        fail(world, task_id, tmp_path)
        return await state.poll()

    live = world.with_session(poll_twice, grace="1s")
    assert live.snapshot.diagnose(42).condition is Condition.FAILED
    assert BAD_COLOUR in live.snapshot.diagnose(42).evidence


@pytest.mark.parametrize("backend", ["rq"])
def test_live_does_not_read_the_list_of_failed_jobs_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "GENERATING", age="10 minutes", files=8)

    async def poll(session: Session) -> int:
        state, asked, failed = LiveState(session), [], session.queue.failed
        monkeypatch.setattr(session.queue, "failed", lambda order_ids: asked.append(order_ids) or failed(order_ids))
        for _ in range(3):
            await state.poll()
        return len(asked)

    assert world.with_session(poll) == 1


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["a", 7]}}, "KeyError: a, 7"),
        ({"status": "FAILURE", "result": {"exc_type": "KeyError"}}, "KeyError: None"),
        ({"status": "FAILURE", "result": ["odd"], "traceback": "Traceback\n  x\nOSError: full\n"}, "OSError: full"),
        ({"status": "FAILURE", "result": 7}, "its task failed without a reason"),
        ({"status": "SUCCESS", "result": {"success": False, "error": "no template"}}, "no template"),
        ({"status": "SUCCESS", "result": {"success": False}}, "its task failed without a reason"),
        ({"status": "SUCCESS", "result": {"success": True}}, None),
        ({"status": "SUCCESS", "result": None}, None),
        ({"status": "REVOKED", "result": {"exc_type": "TaskRevokedError", "exc_message": ["x"]}}, None),
        ({"status": "RETRY", "result": {"exc_type": "ValueError", "exc_message": ["x"]}}, None),
    ],
)
def test_only_a_final_failure_decides(
    world: World, run: Run, log: Log, result: dict[str, Any], reason: str | None
) -> None:
    task_id = cut_short(world, log, rows=[])
    with world.redis() as client:
        client.rpop("site_generation")
        client.set(f"celery-task-meta-{task_id}", json.dumps(result))
    order = inspected(run)
    assert order["condition"] == ("failed" if reason else "interrupted")
    assert (reason in order["evidence"]) is (reason is not None)


def test_a_failure_of_an_earlier_task_does_not_decide(world: World, run: Run, log: Log, tmp_path: Path) -> None:
    """The backend has published another task since, whose id no row has."""
    task_id = cut_short(world, log)
    with world.redis() as client:
        client.rpop("site_generation")
        meta = {"status": "FAILURE", "date_done": "2026-01-01T00:00:00+00:00", "result": None}
        client.set(f"celery-task-meta-{task_id}", json.dumps(meta))
    assert inspected(run)["condition"] == "unknown"  # its run may still be going
