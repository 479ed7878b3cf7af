from __future__ import annotations

import json

import pytest

from tests.support.commands import Console
from tests.support.world import QUEUE, World

EVERY_INSPECT = [["inspect"], ["inspect", "orders"], ["inspect", "42"], ["inspect", "queue"]]

HOSTILE_TIMES = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00", "9999-12-31T23:59:59"]


def waiting(world: World, **headers: object) -> None:
    """Change the headers of the message that is next."""
    with world.redis() as client:
        message = json.loads(client.rpop(QUEUE))
        message["headers"] |= headers
        client.rpush(QUEUE, json.dumps(message))


@pytest.mark.parametrize("order_id", [2**63, 0, -1, 10**40])
def test_a_number_that_no_order_can_have_blinds_nothing(world: World, console: Console, order_id: int) -> None:
    world.order(42, steps=["START", "ERROR"])
    task_id = world.publish(order_id)
    (order,) = console.data("inspect", "orders")["orders"]
    assert (order["order_id"], order["condition"]) == (42, "unstarted")
    assert console.data("inspect")["depth"]["queued"]["count"] == 1
    assert console.data("inspect", "42")["condition"] == "unstarted"
    (task,) = console.data("inspect", "queue")["tasks"]
    assert (task["task_id"], task["order_id"], task["foreign"]) == (task_id, None, None)
    assert "names no order" in console.text("inspect", "queue")
    assert console.data("inspect", "task", task_id)["order_id"] is None


def test_the_order_that_a_result_names_may_be_none_either(world: World, console: Console) -> None:
    with world.redis() as client:
        client.set("celery-task-meta-abc", json.dumps({"status": "SUCCESS", "result": {"order_id": 10**40}}))
    assert console.data("inspect", "task", "abc")["order_id"] is None


@pytest.mark.parametrize("time", HOSTILE_TIMES)
@pytest.mark.parametrize("header", ["eta", "sitegenctl_enqueued_at"])
def test_a_time_at_the_end_of_the_calendar_breaks_nothing(
    world: World, console: Console, header: str, time: str
) -> None:
    world.order(42, "GENERATING")
    task_id = world.publish(42)
    waiting(world, **{header: time})
    assert console.data("inspect", "42")["condition"] in ("queued", "scheduled")
    for command in (*EVERY_INSPECT, ["inspect", "task", task_id]):
        console.data(*command)
        console.text(*command)


@pytest.mark.parametrize("score", [1e30, -1e30, float("inf"), float("-inf")])
def test_a_time_of_delivery_that_is_none_breaks_nothing(world: World, console: Console, score: float) -> None:
    world.order(42, "GENERATING")
    task_id = world.publish(42)
    world.deliver()
    with world.redis() as client:
        (tag,) = client.hkeys("unacked")
        client.zadd("unacked_index", {tag: score})
    for command in (["inspect", "42"], ["inspect", "task", task_id]):
        console.data(*command)
        console.text(*command)
    assert console.data("inspect", "task", task_id)["delivered_at"] is None


@pytest.mark.parametrize("time", HOSTILE_TIMES)
def test_a_result_dated_at_the_calendars_end_is_handled(world: World, console: Console, time: str) -> None:
    world.order(42, "GENERATING")
    task_id = world.publish(42)
    with world.redis() as client:
        client.set(f"celery-task-meta-{task_id}", json.dumps({"status": "RETRY", "date_done": time}))
    for command in (["inspect", "42"], ["inspect", "task", task_id]):
        console.data(*command)
        console.text(*command)


ODD_TIMESTAMPS = ["infinity", "-infinity", "200000-01-01", "4000-01-01 BC", "9999-12-31 23:59:59", "0001-01-01"]


@pytest.mark.parametrize("time", ODD_TIMESTAMPS)
def test_an_order_with_odd_timestamps_is_listed_with_the_others(world: World, console: Console, time: str) -> None:
    world.order(41, "PAID")
    world.order(42, steps=["START", "ERROR"])
    world.order(43, "DELIVERED", files=8)
    world.sql(f"UPDATE site_orders SET updated_at = '{time}', created_at = '{time}' WHERE id > 41")  # noqa: S608
    world.sql(f"UPDATE site_orders SET onboarding_completed_at = '{time}'")  # noqa: S608
    assert console.data("inspect")["by_condition"].keys() == {"waiting", "unstarted", "done"}

    def ids(*arguments: str) -> list[int]:
        return [order["order_id"] for order in console.data("inspect", "orders", *arguments)["orders"]]

    # What is no time of day stands at the end, as where there is none.
    assert ids("--sort", "created") == ids("--sort", "created", "--reverse") == [41, 42, 43]
    # The log of 42 has usable times.
    assert ids("--sort", "updated") == [42, 41, 43]
    assert ids("--sort", "updated", "--reverse") == [41, 42, 43]
    assert ids() == [42, 41, 43]
    assert ids("--sort", "status") == [41, 42, 43]
    shown = console.data("inspect", "42")
    assert (shown["condition"], shown["updated_at"], shown["created_at"], shown["onboarding_completed_at"]) == (
        "unstarted",
        None,
        None,
        None,
    )
    console.text("inspect", "42")


@pytest.mark.parametrize("time", ODD_TIMESTAMPS)
def test_a_log_row_with_an_odd_timestamp_is_shown(world: World, console: Console, time: str) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    world.sql(f"UPDATE site_generation_logs SET created_at = '{time}' WHERE step = 'ERROR'")  # noqa: S608
    result = console.data("inspect", "42")
    assert (result["condition"], [(row["step"], row["at"] is None) for row in result["log"]]) == (
        "failed",
        [("START", False), ("ERROR", True)],
    )
    console.text("inspect", "42")
    assert len(console.text("logs", "42").splitlines()) == 2
    assert console.data("inspect")["by_condition"].keys() == {"failed"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE site_orders SET updated_at = timezone('utc', now()) + interval '3 hours'",
        "UPDATE site_orders SET onboarding_completed_at = timezone('utc', now()) + interval '3 hours'",
        "UPDATE site_generation_logs SET created_at = localtimestamp + interval '3 hours'",
    ],
    ids=["updated", "onboarding", "log"],
)
def test_a_timestamp_in_the_future_hides_no_fault(world: World, console: Console, statement: str) -> None:
    """A writer with a wrong clock or time zone does not affect the rows of others."""
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    world.sql(statement)
    assert console.data("inspect", "42")["condition"] == "failed"
    world.sql("UPDATE site_orders SET status = 'BUILDING'")
    text = console.text("inspect", "42")
    assert "UNSTARTED" in text
    assert "ready for 3h" in text


def test_with_all_timestamps_in_the_future_ages_are_unknown(world: World, console: Console) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"])
    world.sql("UPDATE site_orders SET updated_at = timezone('utc', now()) + interval '3 hours'")
    world.sql("UPDATE site_generation_logs SET created_at = localtimestamp + interval '3 hours'")
    assert console.data("inspect", "42")["condition"] == "failed"


def test_a_clock_that_is_a_little_ahead_is_taken_for_now(world: World, console: Console) -> None:
    world.order(42, "GENERATING")
    world.sql("UPDATE site_orders SET updated_at = timezone('utc', now()) + interval '30 seconds'")
    assert console.data("inspect", "42")["evidence"] == ["GENERATING without a live task, but it changed 0s ago"]


@pytest.fixture
def refunded(world: World) -> World:
    world.order(1, "DELIVERED", files=8)
    world.order(2)
    world.order(42)
    world.order(50, "DELIVERED", files=8)
    world.sql("ALTER TYPE siteorderstatus ADD VALUE 'REFUNDED' BEFORE 'BUILDING'")
    world.sql("UPDATE site_orders SET status = 'REFUNDED' WHERE id = 42")
    return world


REFUNDED = "status REFUNDED is not known to this release"


@pytest.mark.usefixtures("refunded")
def test_an_unknown_status_is_shown_by_its_name(console: Console) -> None:
    result = console.data("inspect", "42")
    assert (result["status"], result["condition"], result["evidence"], result["remedy"]) == (
        "REFUNDED",
        "unknown",
        [REFUNDED],
        None,
    )
    text = console.text("inspect", "42")
    assert "UNKNOWN  REFUNDED" in text
    assert "NULL" not in text
    assert "site_orders.status" not in text


@pytest.mark.parametrize("with_task", [False, True])
def test_overview_and_lists_agree_on_a_status_that_is_not_known(
    refunded: World, console: Console, with_task: bool
) -> None:
    world = refunded
    if with_task:
        world.publish(42)
    overview = console.data("inspect")
    assert overview["by_status"] == {"DELIVERED": 2, "BUILDING": 1, "REFUNDED": 1}
    counts = {condition: entry["count"] for condition, entry in overview["by_condition"].items()}
    assert counts == {"unknown": 1, "unstarted": 1, "done": 2}
    assert "1 REFUNDED" in console.text("inspect")

    def ids(*arguments: str) -> list[int]:
        return [order["order_id"] for order in console.data("inspect", "orders", *arguments)["orders"]]

    assert ids() == [2, 42, 1, 50]  # a fault, an order that needs attention, and those that are well
    assert ids("--reverse") == [50, 1, 42, 2]
    assert ids("--sort", "status") == [2, 50, 1, 42]
    assert ids("--sort", "status", "--reverse") == [1, 50, 2, 42]
    assert ids("--condition", "unknown") == [42]
    assert console.data("inspect", "orders")["total"] == 4


@pytest.mark.parametrize(
    "command", [["enqueue", "42"], ["reset", "42", "--yes"], ["cancel", "42", "--yes"]], ids=" ".join
)
@pytest.mark.parametrize("with_task", [False, True])
def test_nothing_is_done_with_a_status_that_is_not_known(
    refunded: World, console: Console, command: list[str], with_task: bool
) -> None:
    world = refunded
    if with_task:
        world.publish(42)
    before = world.queued_ids()
    code, stdout, stderr = console(*command, "-o", "json")
    (outcome,) = json.loads(stdout)["data"]["outcomes"]
    assert (code, outcome["outcome"], outcome["reason"]) == (4, "refused", REFUNDED)
    assert "site_orders.status" not in stderr
    assert (world.status(), world.queued_ids(), world.steps()) == ("REFUNDED", before, [])


@pytest.mark.parametrize("status", [None, "REFUNDED"])
def test_a_purge_leaves_it_too(refunded: World, console: Console, status: str | None) -> None:
    world = refunded
    world.sql("UPDATE site_orders SET status = $1::text::siteorderstatus WHERE id = 42", status)
    task_id = world.publish(42)
    code, stdout, _ = console("queue", "purge", "--yes", "-o", "json")
    (outcome,) = json.loads(stdout)["data"]["outcomes"]
    assert (code, outcome["outcome"]) == (0, "refused")
    assert world.queued_ids() == [task_id]
