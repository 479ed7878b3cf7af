"""``queue move``: what waits changes queue, each exactly once, as it is; killed at every step, and run again."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sitegenctl.domain.queue.task import LiveTask, Publication, TaskState
from sitegenctl.operations.failpoints import Checkpoint
from sitegenctl.session import Session
from tests.moving.conftest import Run
from tests.moving.test_crashes import alone, run_script
from tests.rq_world import RqWorld
from tests.world import World, eventually

WAYS = [("celery", "rq"), ("rq", "celery")]
REPOSITORY = Path(__file__).parents[2]

both_ways = pytest.mark.parametrize(("source", "destination"), WAYS, ids=["celery-rq", "rq-celery"])


def move(source: str, destination: str, *options: str) -> tuple[str, ...]:
    return ("queue", "move", "--from", source, "--to", destination, *options)


def publish(world: World, backend: str, *publications: Publication) -> None:
    async def work(session: Session) -> object:
        return await session.queue_of(backend).publish(publications)

    assert world.with_session(work) == {}


def task(order_id: int, *, number: int = 1, resume: bool = True) -> Publication:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Publication(
        task_id=f"task-{order_id}-{number}", order_id=order_id, resume=resume, actor="ana@crm", enqueued_at=at
    )


def waiting(world: World) -> dict[str, list[LiveTask]]:
    """The tasks in either queue, in the order of delivery."""

    async def work(session: Session) -> dict[str, list[LiveTask]]:
        return {
            backend: sorted((await session.queue_of(backend).read()).tasks, key=lambda each: each.position or 0)
            for backend in ("celery", "rq")
        }

    return world.with_session(work)


def ids(tasks: list[LiveTask]) -> list[str]:
    return [each.task_id for each in tasks]


def facts(tasks: list[LiveTask]) -> dict[str, tuple[object, ...]]:
    return {each.task_id: (each.order_id, each.actor, each.enqueued_at, each.attempt) for each in tasks}


def some_orders(world: World, backend: str) -> None:
    """Three that wait, one twice, one that nobody knows, one for a cancelled order."""
    for order_id in (1, 2, 3):
        world.order(order_id, "GENERATING")
    world.order(4, "CANCELLED")
    tasks = (task(1), task(2), task(99), task(3, resume=False), task(4), task(2, number=2))
    publish(world, backend, *tasks)


EVERYTHING = ["task-1-1", "task-2-1", "task-99-1", "task-3-1", "task-4-1", "task-2-2"]


@both_ways
def test_what_waits_changes_queue_in_its_order_and_as_it_is(
    world: World, run: Run, source: str, destination: str
) -> None:
    some_orders(world, source)
    before = waiting(world)[source]
    code, told = run(*move(source, destination, "--dry-run"))
    assert (code, ids(waiting(world)[source])) == (0, EVERYTHING)
    code, told = run(*move(source, destination))
    assert code == 0, told
    assert {row["outcome"] for row in told["outcomes"].values()} == {"done"}
    after = waiting(world)
    assert after[source] == []
    assert sorted(ids(after[destination])) == sorted(EVERYTHING)
    # A second task of its order goes with the first.
    alone = [each for each in EVERYTHING if not each.startswith("task-2")]
    assert [each for each in ids(after[destination]) if each in alone] == alone
    assert facts(after[destination]) == facts(before)
    for order_id in (1, 3):
        (row,) = world.log(order_id)
        details = json.loads(row["details"])
        assert (row["step"], details["to"], details["task_id"]) == ("OPERATOR_MOVE", destination, f"task-{order_id}-1")
    assert run(*move(source, destination))[1]["outcomes"] == {}


@both_ways
def test_it_is_run_as_it_was_published(
    world: World, run: Run, source: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other queue's worker takes it: nothing of it is resumed that was not to be."""
    world.order(1, "GENERATING", files=8)
    publish(world, source, task(1, resume=False))
    assert run(*move(source, destination))[0] == 0
    monkeypatch.setenv("SITEGENCTL_BACKEND", destination)
    world.worker("-c", "1")
    eventually(lambda: world.status(1) == "REVIEW")
    assert world.steps(1)[1] == "START"
    # A moment later its worker says that it is done with it.
    eventually(lambda: waiting(world) == {"celery": [], "rq": []})


@both_ways
def test_what_is_held_for_later_stays_due_when_it_was(world: World, run: Run, source: str, destination: str) -> None:
    world.order(1, "GENERATING")
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    other = RqWorld(database_url=world.database_url, redis_url=world.redis_url, sites_dir=world.sites_dir)
    if source == "celery":
        task_id = world.publish(1, eta=due, retries=2)
    else:
        task_id = other.publish(1, due=due - datetime.now(UTC))
        with world.redis() as client:
            client.hset(f"rq:job:{task_id}", mapping={"sitegenctl_retries": 3, "retries_left": 1})
    assert run(*move(source, destination))[0] == 0
    (found,) = waiting(world)[destination]
    assert (found.task_id, found.order_id, found.attempt, found.state) == (task_id, 1, 3, TaskState.RETRYING)
    assert found.eta is not None
    assert abs(found.eta - due) < timedelta(seconds=2)
    # Who enqueued it is not known, and nobody claims to.
    assert found.actor is None


@both_ways
def test_what_workers_hold_foreign_messages_and_orphans_stay_and_are_said(
    world: World, run: Run, source: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = world
    if source == "rq":
        system = RqWorld(database_url=world.database_url, redis_url=world.redis_url, sites_dir=world.sites_dir)
    for order_id in (1, 2, 3):
        world.order(order_id, "GENERATING")
    folder = world.sites_dir.parent
    environ = {"SITEGENCTL_GENERATOR": "tests.generators:gated", "PYTHONPATH": str(REPOSITORY)}
    running = system.publish(1)
    monkeypatch.setenv("SITEGENCTL_BACKEND", source)
    try:
        system.worker("-c", "1", environ=environ, cwd=folder)
        eventually((folder / "started").exists)
        orphan = system.publish(3)
        # Longer ago than a run lasts.
        system.deliver(**({"late": 1200.0} if source == "rq" else {}))
        system.publish(7, task="app.other")
        queued = system.publish(2)
        code, told = run(*move(source, destination))
        assert code == 0, told
        assert set(told["outcomes"]) == {2}
        notes = "\n".join(told["data"]["notes"])
        assert "1 running" in notes
        assert f"1 message that belongs to no order stays in the queue of {source}" in notes
        assert "1 orphaned" in notes
        found = waiting(world)
        assert ids(found[destination]) == [queued]
        assert {running, orphan} <= set(ids(found[source]))
    finally:
        (folder / "gate").touch()
        if system is not world:
            system.close()


@both_ways
@pytest.mark.parametrize("at", [Checkpoint.LOOKED, Checkpoint.CLAIMED, Checkpoint.MOVED], ids=str)
def test_killed_at_a_step_and_run_again_each_is_there_exactly_once(
    world: World, run: Run, source: str, destination: str, at: Checkpoint
) -> None:
    some_orders(world, source)
    killed = run_script(world, move(source, destination), at.value)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = waiting(world)
    everywhere = Counter(ids(after["celery"]) + ids(after["rq"]))
    assert everywhere == Counter(EVERYTHING)
    code, told = alone(run, *move(source, destination))
    assert code == 0, told
    after = waiting(world)
    assert (after[source], sorted(ids(after[destination]))) == ([], sorted(EVERYTHING))


@both_ways
def test_what_a_worker_takes_in_between_is_its_own(
    world: World, source: str, destination: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    some_orders(world, source)
    taken = _taking(world, source)
    _at(monkeypatch, Checkpoint.CLAIMED, taken)
    code, told = run(*move(source, destination))
    assert code == 1
    assert (told["outcomes"][1]["outcome"], "waits no longer" in told["outcomes"][1]["reason"]) == ("failed", True)
    assert world.steps(1) == ["OPERATOR_MOVE", "OPERATOR_MOVE_FAILED"]
    after = waiting(world)
    assert "task-1-1" not in ids(after[destination])
    assert sorted([*ids(after[destination]), "task-1-1"]) == sorted(EVERYTHING)


@both_ways
def test_an_order_that_has_a_task_there_gets_no_second(world: World, run: Run, source: str, destination: str) -> None:
    world.order(1, "GENERATING")
    publish(world, source, task(1))
    publish(world, destination, task(1, number=2))
    code, told = run(*move(source, destination))
    assert (code, told["outcomes"][1]["outcome"]) == (0, "skipped")
    assert told["outcomes"][1]["reason"].startswith(f"it has a task in {destination} already: task task-1-2")
    assert {backend: ids(tasks) for backend, tasks in waiting(world).items()} == {
        source: ["task-1-1"],
        destination: ["task-1-2"],
    }


def test_only_a_move_that_moves_something_asks_for_another_setting(world: World) -> None:
    world.order(1, "GENERATING")
    publish(world, "celery", task(1))
    for moved in (True, False):
        told = world.run(*move("celery", "rq", "--yes"))
        assert (told.returncode, "set backend to rq" in told.stdout + told.stderr) == (0, moved)


@both_ways
def test_where_it_was_nobody_takes_it_for_lost(
    world: World, run: Run, source: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    world.order(1, "GENERATING")
    world.order(2, "BUILDING")
    publish(world, source, task(1), task(2))
    assert run(*move(source, destination))[0] == 0
    there, here = {"SITEGENCTL_BACKEND": source}, {"SITEGENCTL_BACKEND": destination}
    for command in (["maintain"], ["repair"], ["start-stuck"], ["reset-empty"], ["enqueue", "1", "2"], ["reset", "1"]):
        run(*command, **there)
    _, told = run("inspect", "orders", **there)
    found = {row["order_id"]: (row["condition"], row["remedy"]) for row in told["data"]["orders"]}
    assert found == dict.fromkeys((1, 2), ("unknown", f"look with backend {destination}"))
    assert {backend: len(tasks) for backend, tasks in waiting(world).items()} == {source: 0, destination: 2}
    _, told = run("inspect", "orders", **here)
    assert {row["condition"] for row in told["data"]["orders"]} == {"queued"}


@both_ways
def test_a_move_that_was_cut_short_is_not_taken_for_lost_where_it_went(
    world: World, run: Run, source: str, destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with the journal written and nothing moved: the other queue still has it all."""
    monkeypatch.setenv("SITEGENCTL_GRACE", "0s")
    for order_id in (1, 2):
        world.order(order_id, "GENERATING")
    publish(world, source, task(1), task(2))
    killed = run_script(world, move(source, destination), Checkpoint.CLAIMED.value)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    here = {"SITEGENCTL_BACKEND": destination}
    eventually(lambda: run("maintain", **here)[0] != 6)
    for command in (["repair"], ["reset-empty"], ["retry-failed"], ["enqueue", "1", "2", "--force"], ["reset", "1"]):
        run(*command, **here)
    _, told = run("inspect", "orders", **here)
    found = {row["order_id"]: (row["condition"], row["remedy"]) for row in told["data"]["orders"]}
    assert found == dict.fromkeys((1, 2), ("unknown", f"look with backend {source}"))
    assert {backend: len(tasks) for backend, tasks in waiting(world).items()} == {source: 2, destination: 0}
    # Its own command ends what it has begun, and then a loss is a loss.
    assert alone(run, *move(source, destination))[0] == 0
    assert {backend: len(tasks) for backend, tasks in waiting(world).items()} == {source: 0, destination: 2}
    with world.redis() as client:
        client.delete("site_generation", "rq:queue:site_generation")
    _, told = run("inspect", "orders", **here)
    assert {row["condition"] for row in told["data"]["orders"]} == {"interrupted"}


def test_only_one_of_it_and_of_maintenance_at_a_time(world: World, run: Run) -> None:
    async def meanwhile(session: Session) -> int:
        async with session.orders.maintenance():
            return world.run(*move("celery", "rq", "--yes")).returncode

    assert world.with_session(meanwhile) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (move("celery", "celery"), "--from and --to are both celery"),
        (move("celery", "sidekiq"), "--to: 'sidekiq' is not a backend"),
    ],
)
def test_a_way_that_leads_nowhere_is_a_usage_error(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, told = run(*arguments)
    assert (code, told["errors"][0]["message"]) == (2, said)


def test_what_redis_refuses_stays_where_it_was(world: World, run: Run) -> None:
    some_orders(world, "celery")
    with world.redis() as client:
        client.set("rq:queue:site_generation", "no list")
        code, told = run(*move("celery", "rq"))
        assert code == 3 or {row["outcome"] for row in told["outcomes"].values()} == {"failed"}
        client.delete("rq:queue:site_generation")
    assert sorted(ids(waiting(world)["celery"])) == sorted(EVERYTHING)


def _taking(world: World, backend: str) -> Callable[[], None]:
    def take() -> None:
        with world.redis() as client:
            if backend == "celery":
                client.rpop("site_generation")
            else:
                client.lpop("rq:queue:site_generation")

    return take


def _at(monkeypatch: pytest.MonkeyPatch, at: Checkpoint, happens: Callable[[], None]) -> None:
    from sitegenctl.operations import failpoints as failpoints

    def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is at:
            with suppress(StopIteration):
                happens()

    monkeypatch.setattr(failpoints, "reached", reached)
