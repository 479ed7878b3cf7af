"""The enqueue protocol on real servers, with a crash at every step: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import Publication
from sitegenctl.operations import execute as applying, failpoints as failpoints
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.planner import Selection
from sitegenctl.render.command import hint_text
from sitegenctl.session import Session
from tests.support import processes
from tests.support.faults import condition, held, redis_refusing_from, refusing_redis
from tests.support.world import World, eventually

# Runs `enqueue 42` with a SIGKILL of the process itself where {kill} stands.
_KILLED = """
import asyncio, os, signal, sys
from sitegenctl.adapters.celery.queue import CeleryQueue
publish = CeleryQueue.publish
async def killed(self, publications):
    {body}
CeleryQueue.publish = killed
from sitegenctl.cli.app import run
sys.exit(run(["enqueue", "42"]))
"""
_KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def only(result: OperationResult) -> Outcome:
    (outcome,) = result.outcomes
    return outcome


def journaled_task(world: World, order_id: int = 42) -> str:
    rows = [row for row in world.log(order_id) if row["step"] == "OPERATOR_ENQUEUE"]
    return str(json.loads(rows[-1]["details"])["task_id"])


def killed_process(world: World, body: str) -> None:
    script = _KILLED.format(body=body)
    process = subprocess.run([sys.executable, "-c", script], timeout=60, check=False, capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr


def apply(
    world: World, order_ids: Sequence[int], before: Callable[[Session], object], **flags: object
) -> OperationResult:
    """Plan, let something happen, apply."""

    async def work(session: Session) -> OperationResult:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=order_ids))
        await asyncio.to_thread(before, session)
        return await applying.execute_plan(session, plan)

    return world.with_session(work, **flags)


def test_task_is_published_under_the_journaled_id(world: World) -> None:
    world.order(42)
    outcome = only(world.enqueue(42))
    assert (outcome.outcome, outcome.before, outcome.after) == (OutcomeKind.DONE, "BUILDING", "GENERATING")
    assert world.status() == "GENERATING"
    assert world.queued_ids() == [journaled_task(world)] == [outcome.task_id]


def test_killed_before_the_commit_nothing_has_happened(world: World) -> None:
    world.order(42)
    # The journal's INSERT waits for a lock that this test holds: the process dies inside its transaction.
    world.sql(
        "CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'"
        " LANGUAGE plpgsql"
    )
    world.sql("CREATE TRIGGER wait BEFORE INSERT ON site_generation_logs FOR EACH ROW EXECUTE FUNCTION wait()")
    with held(world, "SELECT pg_advisory_lock(1)"):
        process = processes.start("-m", "sitegenctl", "enqueue", "42")
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: world.sql(waiting))
        process.kill()
        process.wait()
    eventually(lambda: not world.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
    world.sql("DROP TRIGGER wait ON site_generation_logs")
    assert (world.status(), world.steps(), world.queued()) == ("BUILDING", [], [])
    assert only(world.enqueue(42)).outcome is OutcomeKind.DONE


def test_killed_before_publish_the_journal_names_a_missing_task(world: World) -> None:
    world.order(42)
    killed_process(world, _KILL)
    assert (world.status(), world.steps(), world.queued()) == ("GENERATING", ["OPERATOR_ENQUEUE"], [])
    assert journaled_task(world)
    assert condition(world) is Condition.SETTLING
    assert condition(world, grace="0s") is Condition.INTERRUPTED
    assert only(world.enqueue(42)).outcome is OutcomeKind.SKIPPED  # it may still be on its way
    assert only(world.enqueue(42, force=True)).outcome is OutcomeKind.DONE
    assert world.queued_ids() == [journaled_task(world)]


def test_killed_after_the_publish_the_order_is_queued_once(world: World) -> None:
    world.order(42)
    killed_process(world, f"await publish(self, publications); {_KILL}")
    assert world.queued_ids() == [journaled_task(world)]
    assert condition(world) is Condition.QUEUED
    assert only(world.enqueue(42, force=True)).outcome is OutcomeKind.SKIPPED
    assert len(world.queued()) == 1


def test_redis_refusing_writes_is_detected_before_any_change(world: World) -> None:
    world.order(42)
    with refusing_redis(world):
        outcome = only(world.enqueue(42))
    assert (outcome.outcome, outcome.after) == (OutcomeKind.FAILED, None)
    assert "memory" in outcome.reason
    assert (world.status(), world.steps(), world.queued()) == ("BUILDING", [], [])


def test_after_the_first_refusal_nothing_more_is_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "BATCH_SIZE", 1)
    monkeypatch.setattr(applying, "MAX_IN_FLIGHT", 1)
    for order_id in range(1, 6):
        world.order(order_id)
    with redis_refusing_from(world, Failpoint.APPLIED, monkeypatch):
        outcomes = world.enqueue(*range(1, 6)).outcomes
    assert {outcome.outcome for outcome in outcomes} == {OutcomeKind.FAILED}
    assert sum(len(world.steps(order_id)) for order_id in range(1, 6)) == 2  # of the first, and that it was rolled back


def test_refused_publish_rolls_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42)
    with redis_refusing_from(world, Failpoint.APPLIED, monkeypatch):
        outcome = only(world.enqueue(42))
    assert (outcome.outcome, outcome.after) == (OutcomeKind.FAILED, "BUILDING")
    assert "maxmemory" in outcome.reason
    assert world.status() == "BUILDING"
    assert world.steps() == ["OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"]
    assert world.queued() == []
    assert only(world.enqueue(42)).outcome is OutcomeKind.DONE
    assert len(world.queued()) == 1


def test_failed_order_is_failed_again_after_a_rollback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    with redis_refusing_from(world, Failpoint.APPLIED, monkeypatch):
        world.enqueue(42)
    assert condition(world, grace="0s") is Condition.FAILED


def test_failed_rollback_is_reported_and_can_be_repaired(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42)
    world.sql("CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no'; END $$ LANGUAGE plpgsql")
    world.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON site_generation_logs FOR EACH ROW"
        " WHEN (NEW.step = 'OPERATOR_ENQUEUE_FAILED') EXECUTE FUNCTION refuse()"
    )
    with redis_refusing_from(world, Failpoint.APPLIED, monkeypatch):
        outcome = only(world.enqueue(42))
    assert (outcome.outcome, outcome.after) == (OutcomeKind.FAILED, "GENERATING")
    assert "could not be restored" in outcome.reason
    assert hint_text(outcome.hint) == "it is GENERATING without a task; later: sitegenctl enqueue 42"
    assert (world.status(), world.queued()) == ("GENERATING", [])
    assert condition(world, grace="0s") is Condition.INTERRUPTED
    assert only(world.enqueue(42, force=True)).outcome is OutcomeKind.DONE
    assert len(world.queued()) == 1


def test_refused_commit_publishes_nothing(world: World) -> None:
    world.order(42)
    world.sql("CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no'; END $$ LANGUAGE plpgsql")
    world.sql(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON site_generation_logs DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    outcome = only(world.enqueue(42))
    assert outcome.outcome is OutcomeKind.FAILED
    assert (world.status(), world.steps(), world.queued()) == ("BUILDING", [], [])


def test_task_whose_reply_was_lost_is_found(world: World) -> None:
    world.order(42)

    def lose_the_answer(session: Session) -> None:
        publish = session.queue.publish

        async def and_lose(publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
            await publish(publications)
            lost = PublishFailure(reason="the connection was lost", certain=False)
            return {publication.task_id: lost for publication in publications}

        session.queue.publish = and_lose  # type: ignore[method-assign]

    outcome = only(apply(world, [42], lose_the_answer))
    assert outcome.outcome is OutcomeKind.DONE
    assert world.status() == "GENERATING"
    assert world.queued_ids() == [outcome.task_id]


def test_unconfirmed_publish_is_not_rolled_back(world: World) -> None:
    """Redis stops while the task is published and during the check afterwards; then it continues."""
    world.order(42)
    with world.redis() as client:
        redis_pid = client.info("server")["process_id"]

    def stop_redis(session: Session) -> None:
        publish = session.queue.publish

        async def while_it_stands_still(publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
            os.kill(redis_pid, signal.SIGSTOP)
            return await publish(publications)

        session.queue.publish = while_it_stands_still  # type: ignore[method-assign]

    try:
        outcome = only(apply(world, [42], stop_redis, timeout="500ms"))
    finally:
        os.kill(redis_pid, signal.SIGCONT)
    assert outcome.outcome is OutcomeKind.FAILED
    assert "could not confirm that task" in outcome.reason
    assert (world.status(), world.steps()) == ("GENERATING", ["OPERATOR_ENQUEUE"])
    # It had reached Redis all the same, and the order is where it says it is.
    eventually(lambda: world.queued_ids() == [journaled_task(world)])
    assert condition(world) is Condition.QUEUED


def test_order_changed_after_a_refusal_is_not_reported_lost(world: World) -> None:
    world.order(42)

    def refuse_and_finish(session: Session) -> None:
        async def refused(publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
            await asyncio.to_thread(world.sql, "UPDATE site_orders SET status = 'REVIEW'")
            return {p.task_id: PublishFailure(reason="no", certain=True) for p in publications}

        session.queue.publish = refused  # type: ignore[method-assign]

    outcome = only(apply(world, [42], refuse_and_finish))
    assert outcome.outcome is OutcomeKind.FAILED
    assert "GENERATING became REVIEW" in outcome.reason
    assert world.status() == "REVIEW"


def test_task_published_after_planning_is_noticed(world: World) -> None:
    world.order(42)
    outcome = only(apply(world, [42], lambda _: world.publish(42)))
    assert outcome.outcome is OutcomeKind.SKIPPED
    assert world.status() == "BUILDING"
    assert len(world.queued()) == 1


def test_order_cancelled_after_planning_is_skipped_alone(world: World) -> None:
    for order_id in (41, 42, 43):
        world.order(order_id)
    cancel = "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 42"
    result = apply(world, [41, 42, 43], lambda _: world.sql(cancel))
    assert [outcome.outcome for outcome in result.outcomes] == ["done", "skipped", "done"]
    assert "BUILDING became CANCELLED" in result.outcomes[1].reason
    assert len(world.queued()) == 2


def test_concurrent_commands_enqueue_each_order_once(world: World) -> None:
    for order_id in range(1, 13):
        world.order(order_id)
    with ThreadPoolExecutor(4) as pool:
        processes = list(pool.map(lambda _: world.run_process("enqueue", "1-12", "-o", "json"), range(4)))
    outcomes = [json.loads(process.stdout)["data"]["outcomes"] for process in processes]
    done = [o["order_id"] for listed in outcomes for o in listed if o["outcome"] == "done"]
    assert sorted(done) == list(range(1, 13))
    assert {o["outcome"] for listed in outcomes for o in listed} <= {"done", "skipped"}
    orders = sorted(json.loads(message["headers"]["argsrepr"])[0] for message in world.queued())
    assert orders == list(range(1, 13))
