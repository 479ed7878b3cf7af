"""``cancel``, ``repair`` and ``queue pause|resume|purge``, also with real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from sitegenctl.domain.health.orders import BEAT_TASK
from sitegenctl.domain.plans.plan import OperationResult, OutcomeKind
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.planner import Selection
from sitegenctl.operations.repair_planner import RepairPlanner
from sitegenctl.session import Session
from tests.support.commands import Run, kinds
from tests.support.terminal import on_terminal
from tests.support.world import World, eventually

SLOW = {"SITEGENCTL_PACE": "30s"}


def details(world: World, order_id: int = 42) -> dict[str, object]:
    row = world.log(order_id)[-1]
    return {"step": row["step"], **json.loads(row["details"])}


def test_cancelled_order_stays_on_hold_until_enqueued(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    old = world.publish(42)
    code, report = run("cancel", "42")
    assert (code, kinds(report), world.queued()) == (0, {42: "done"}, [])
    assert (world.status(), details(world)["withdrawn"]) == ("BUILDING", [old])
    assert run("inspect", "42")[1]["data"]["condition"] == "held"
    assert kinds(run("start-stuck")[1]) == {42: "skipped"}
    assert kinds(run("cancel", "42")[1]) == {42: "skipped"}
    assert kinds(run("enqueue", "42")[1]) == {42: "done"}


def test_cancel_accepts_only_statuses_that_nothing_generates(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    assert run("cancel", "42", "--to", "delivered")[0] == 2
    run("cancel", "42", "--to", "onboarding-pending")
    assert world.status() == "ONBOARDING_PENDING"


def test_cancel_warns_if_beat_will_start_the_order_again(world: World, run: Run) -> None:
    for order_id in (42, 43, 44):
        world.order(order_id, "GENERATING")
    world.sql("UPDATE site_orders SET onboarding_completed_at = updated_at WHERE id <> 44")
    (note,) = run("cancel", "42")[1]["data"]["notes"]
    assert "--to ONBOARDING_PENDING" in note
    evidence = run("inspect", "42")[1]["data"]["evidence"]
    assert any("beat will start it again" in text for text in evidence)
    assert run("cancel", "43", "--to", "paid")[1]["data"]["notes"] == []
    assert run("cancel", "44")[1]["data"]["notes"] == []  # beat takes no order without that date


@pytest.mark.parametrize("status", ["BUILDING", "CANCELLED", "PAID", "ONBOARDING_PENDING"])
def test_order_on_hold_can_be_enqueued(world: World, run: Run, status: str) -> None:
    world.order(42, "GENERATING")
    world.publish(42)
    assert run("cancel", "42", "--to", status.lower())[0] == 0
    assert (world.status(), run("inspect", "42")[1]["data"]["condition"]) == (status, "held")
    assert kinds(run("enqueue", "42")[1]) == {42: "done"}
    assert (world.status(), len(world.queued())) == ("GENERATING", 1)


def test_task_of_an_order_committed_after_planning_stays(world: World) -> None:
    world.publish(77)

    async def commit_before_applying(session: Session) -> OperationResult:
        plan = await RepairPlanner().plan_all(session, Selection(order_ids=[77]))
        assert plan.steps
        await asyncio.to_thread(world.order, 77, "GENERATING")
        return await execute_plan(session, plan)

    (outcome,) = world.with_session(commit_before_applying).outcomes
    assert (outcome.outcome, len(world.queued())) == (OutcomeKind.SKIPPED, 1)


def test_a_running_task_is_stopped_only_with_terminate(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    world.worker("-c", "1", environ=SLOW)
    task = world.publish(42)
    eventually(lambda: "START" in world.steps())
    code, report = run("cancel", "42")
    assert (code, kinds(report), world.status()) == (4, {42: "refused"}, "GENERATING")
    assert report["errors"][0]["hint"] == "--terminate stops a running task"
    code, report = run("cancel", "42", "--terminate")
    assert (code, kinds(report), world.status()) == (0, {42: "done"}, "BUILDING")
    with world.redis() as client:
        assert client.hlen("unacked") == 0
    assert world.queued() == []
    assert run("inspect", "task", task)[1]["data"].get("state") is None
    # The worker lives and takes the next.
    world.order(43)
    run("enqueue", "43")
    eventually(lambda: "START" in world.steps(43))


def test_task_reserved_by_a_worker_is_revoked(world: World, run: Run) -> None:
    world.worker("-c", "1", environ=SLOW)
    world.order(42, "GENERATING")
    world.publish(42, countdown=3600)
    eventually(lambda: run("inspect", "42")[1]["data"]["condition"] == "scheduled")
    assert kinds(run("cancel", "42")[1]) == {42: "done"}
    assert run("inspect", "42")[1]["data"]["condition"] == "held"
    assert run("inspect", "queue")[1]["data"]["total"] == 0


def test_task_of_a_killed_worker_is_requeued_and_runs_again(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    worker = world.worker("-c", "1", environ=SLOW)
    task = world.publish(42)
    eventually(lambda: "START" in world.steps())
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    eventually(lambda: run("inspect", "42")[1]["data"]["condition"] == "orphaned")
    assert kinds(run("repair")[1]) == {42: "done"}
    assert world.queued_ids() == [task]
    assert kinds(run("repair")[1]) == {}
    world.worker("-c", "1")
    eventually(lambda: world.status() == "REVIEW")
    assert (world.steps().count("SUCCESS"), world.queued()) == (1, [])


def test_tasks_of_a_silent_worker_are_not_orphaned(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    worker = world.worker("-c", "1", environ=SLOW)
    world.publish(42)
    eventually(lambda: "START" in world.steps())
    os.killpg(worker.pid, signal.SIGSTOP)
    try:
        code, report = run("repair", "--timeout", "1s")
        assert (code, kinds(report)) == (0, {})
    finally:
        os.killpg(worker.pid, signal.SIGCONT)
    assert world.queued() == []


def test_one_of_two_tasks_is_left(world: World, run: Run) -> None:
    world.order(42, "GENERATING")
    first = world.publish(42)
    second = world.publish(42)
    for option in ("--condition", "--only"):
        assert kinds(run("repair", option, "ghost")[1]) == {}
        assert kinds(run("repair", option, "duplicated", "--dry-run")[1]) == {42: "done"}
        assert kinds(run("repair", option, "duplicated", "--status", "review", "--dry-run")[1]) == {}
    assert world.run("repair", "42", "--condition", "duplicated").returncode == 2
    assert "'failed' is not one of" in world.run("repair", "--condition", "failed").stderr
    assert kinds(run("repair", "--condition", "ghost", "--only", "duplicated")[1]) == {42: "done"}
    assert world.queued_ids() == [first]
    assert (details(world)["step"], details(world)["withdrawn"]) == ("OPERATOR_REPAIR", [second])


def test_ghosts_are_revoked_and_their_orders_stay(world: World, run: Run) -> None:
    world.order(1, "REVIEW", files=8)
    world.order(2, "CANCELLED")
    for order_id in (1, 2, 3):
        world.publish(order_id)
    # Order 3 is not there (yet): its message has no date, so that only a person may say that it never will be.
    code, report = run("repair")
    assert (code, kinds(report)) == (0, dict.fromkeys((1, 2), "done"))
    code, report = run("repair", "3")
    assert (code, kinds(report), world.queued()) == (0, {3: "done"}, [])
    assert (world.status(1), world.status(2), len(world.site_files(1))) == ("REVIEW", "CANCELLED", 8)
    assert details(world, 1)["step"] == "OPERATOR_REPAIR"


def test_cancelled_order_with_a_cut_off_run_can_be_enqueued(world: World, run: Run) -> None:
    world.order(42, "GENERATING", steps=["START"], age="3 minutes")
    world.publish(42)
    assert kinds(run("cancel", "42")[1]) == {42: "done"}
    assert run("inspect", "42")[1]["data"]["condition"] == "held"
    assert kinds(run("enqueue", "42")[1]) == {42: "done"}


# --- the queue ------------------------------------------------------------------------------------------------


def test_a_paused_worker_takes_nothing_until_it_is_resumed(world: World, run: Run) -> None:
    assert world.run("queue", "pause").stdout == "no worker responds to remote control: nothing to do\n"
    world.worker("-c", "1")
    for command in ("pause", "resume"):
        code, report = run("queue", command, "--dry-run", "--read-only")
        assert (code, report["data"]["dry_run"], len(report["data"]["workers"])) == (0, True, 1)
    assert world.run("queue", "pause", "--dry-run").stdout.startswith("would be paused: 1 of 1 workers on site_gen")
    assert len(run("inspect", "workers")[1]["data"]["workers"][0]["queues"]) == 1
    code, report = run("queue", "pause")
    assert (code, [row["outcome"] for row in report["data"]["workers"]]) == (0, ["done"])
    assert "a worker that starts or restarts consumes again" in world.run("queue", "pause").stdout
    world.order(42)
    run("enqueue", "42")
    assert run("inspect", "workers")[1]["data"]["workers"][0]["queues"] == []
    assert len(world.queued()) == 1
    run("queue", "resume")
    eventually(lambda: world.status() == "REVIEW")


def test_purge_holds_orders_and_spares_tasks_at_workers(world: World, run: Run) -> None:
    world.worker("-c", "1", environ=SLOW)
    world.order(1, "GENERATING")
    world.publish(1)
    eventually(lambda: "START" in world.steps(1))
    run("queue", "pause")
    for order_id in (2, 3):
        world.order(order_id, "GENERATING")
        world.publish(order_id)
    world.publish(0, task=BEAT_TASK)
    code, report = run("queue", "purge")
    assert (code, kinds(report)) == (0, {2: "done", 3: "done"})
    assert any("1 running" in note for note in report["data"]["notes"])
    assert [message["headers"]["task"] for message in world.queued()] == [BEAT_TASK]
    assert [world.status(n) for n in (1, 2, 3)] == ["GENERATING", "BUILDING", "BUILDING"]
    assert kinds(run("start-stuck")[1]) == {2: "skipped", 3: "skipped"}


@pytest.mark.parametrize(("answer", "left"), [("site_generation", 0), ("yes", 1), ("", 1)])
def test_purge_asks_for_the_name_of_the_queue(world: World, answer: str, left: int) -> None:
    world.order(42, "GENERATING")
    world.publish(42)
    process = on_terminal("queue", "purge", answers=[("site_generation", answer)])
    assert process.returncode == 0
    assert ("nothing was changed" in process.stdout) == bool(left)
    assert len(world.queued()) == left


def test_without_a_terminal_a_purge_needs_yes(world: World) -> None:
    world.order(42, "GENERATING")
    world.publish(42)
    assert world.run("queue", "purge").returncode == 2
    assert len(world.queued()) == 1


@pytest.mark.parametrize("backend", ["celery", "rq"])
@pytest.mark.parametrize("answer", ["n", "no", "", "\x04"])
def test_answering_no_changes_nothing_and_succeeds(world: World, answer: str) -> None:
    world.order(42, "REVIEW", files=8)
    for command in (
        ["reset", "42"],
        ["reset", "--status", "review"],
        ["cancel", "42", "--to", "cancelled"],
        ["repair"],
    ):
        if command == ["repair"]:
            world.order(43, "GENERATING")
        elif command[0] == "cancel":
            world.publish(42)
        process = on_terminal(*command, answers=[("[y/N]", answer)])
        assert (process.returncode, process.stdout.splitlines()[-1]) == (0, "nothing was changed"), command
    as_json = on_terminal("repair", "-o", "json", answers=[("[y/N]", answer)])
    assert '"ok": true' in as_json.stdout
    assert (world.status(), world.steps(), world.steps(43)) == ("REVIEW", [], [])


def test_ctrl_c_at_the_confirmation_changes_nothing(world: World) -> None:
    world.order(42, "REVIEW", files=8)
    process = on_terminal("reset", "42", answers=[("[y/N]", signal.SIGINT)])
    assert process.returncode == 130
    assert (world.status(), world.steps()) == ("REVIEW", [])


# --- what happens between the claim and the rest ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["reset", "cancel"])
def test_site_finished_meanwhile_is_not_moved(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The worker finishes the order just after it was claimed."""
    world.order(42, "GENERATING", steps=["START"], files=8)
    world.publish(42)

    def finish(checkpoint: Failpoint) -> None:
        if checkpoint is Failpoint.APPLIED:
            with ThreadPoolExecutor(1) as thread:  # a loop runs in this one
                thread.submit(_finish, world).result()

    monkeypatch.setattr(failpoints, "reached", finish)
    code, report = run(command, "42")
    assert (code, report["outcomes"][42]["outcome"]) == (1, "failed")
    assert "ended by itself" in report["outcomes"][42]["reason"]
    assert (world.status(), len(world.site_files()), world.queued()) == ("REVIEW", 8, [])


def _finish(world: World) -> None:
    with world.redis() as client:
        client.delete("site_generation")
    world.sql("UPDATE site_orders SET status = 'REVIEW'")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'SUCCESS', 'made')")


def test_orphan_whose_log_grew_is_not_requeued(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "GENERATING", steps=["START"])
    world.publish(42)
    world.deliver()

    def go_on(checkpoint: Failpoint) -> None:
        if checkpoint is Failpoint.RECHECKED:
            row = "INSERT INTO site_generation_logs (order_id, step, message) VALUES (42, 'WRITE_FILES', 'it lives')"
            with ThreadPoolExecutor(1) as thread:
                thread.submit(world.sql, row).result()

    monkeypatch.setattr(failpoints, "reached", go_on)
    assert kinds(run("repair")[1]) == {42: "skipped"}
    assert world.queued() == []


def test_maintenance_waits_with_a_recently_changed_orphan(world: World, run: Run) -> None:
    world.order(42, "GENERATING", age="20 seconds")
    world.publish(42)
    world.deliver()
    assert run("maintain")[1]["data"]["quiet"] is True
    assert world.queued() == []
    assert kinds(run("repair")[1]) == {42: "done"}


@pytest.mark.parametrize("steps", [[], ["START"]])
def test_only_worker_dead_requeues_a_possibly_running_task(world: World, run: Run, steps: list[str]) -> None:
    world.order(42, "GENERATING", steps=steps, age="20 minutes")
    world.publish(42)
    world.deliver(ago=300)
    seen = run("inspect", "42")[1]["data"]
    assert (seen["condition"], seen["tasks"][0]["state"]) == ("unknown", "unaccounted")
    assert seen["until"] is not None
    for command in (["repair"], ["maintain"]):
        run(*command)
        assert world.queued() == []
    code, report = run("repair", "42")
    assert (code, kinds(report)) == (4, {42: "refused"})
    code, report = run("repair", "42", "--worker-dead")
    assert (code, kinds(report), len(world.queued())) == (0, {42: "done"}, 1)
    assert details(world, 42)["command"] == "repair --worker-dead"


def test_only_worker_dead_restarts_a_run_that_may_go_on(world: World, run: Run) -> None:
    world.order(42, "GENERATING", steps=["START", "AI_STRATEGY"], age="5 minutes", files=8)
    seen = run("inspect", "42")[1]["data"]
    assert (seen["condition"], seen["until"] is not None) == ("unknown", True)
    for command in (["repair"], ["maintain"], ["reset-empty"], ["reset", "42"], ["enqueue", "42", "--force"]):
        run(*command)
        assert (world.queued(), len(world.site_files())) == ([], 8)
    assert kinds(run("repair", "42", "--worker-dead")[1]) == {42: "done"}
    assert len(world.queued()) == 1


def test_worker_dead_needs_named_orders(world: World) -> None:
    process = world.run("repair", "--worker-dead", "--yes")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("error: --worker-dead needs order numbers")


def test_order_refused_by_the_database_fails_alone(world: World, run: Run) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id)
    world.sql(
        "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$ LANGUAGE plpgsql"
    )
    world.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON site_generation_logs FOR EACH ROW WHEN (NEW.order_id = 2)"
        " EXECUTE FUNCTION refuse()"
    )
    code, report = run("enqueue", "1-3")
    assert (code, kinds(report)) == (1, {1: "done", 2: "failed", 3: "done"})
    assert report["outcomes"][2]["reason"] == "the database refused: not this one"
    assert [world.status(n) for n in (1, 2, 3)] == ["GENERATING", "BUILDING", "GENERATING"]
    assert len(world.queued()) == 2


def test_purge_includes_tasks_that_wait_for_their_eta(world: World, run: Run) -> None:
    world.order(1, "GENERATING")
    world.publish(1, countdown=3600)
    world.order(2, "GENERATING")
    world.publish(2)
    world.deliver()  # the first task: its worker reserves it for an hour
    world.publish(1, countdown=7200)
    _, report = run("queue", "purge")
    assert kinds(report) == {1: "refused", 2: "done"}
    assert any("1 unaccounted" in note for note in report["data"]["notes"])
