"""Every action from its key to what is then in the database and in Redis."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sitegenctl.adapters.postgres_orders import PostgresOrders
from sitegenctl.tui.screens.action import ActionScreen
from sitegenctl.tui.widgets.live_table import LiveTable
from tests.tui.live import Live, live, off
from tests.world import World


def failed(world: World, number: int) -> None:
    world.order(number, "GENERATING", steps=["START", "ERROR"])


def unstarted(world: World, number: int) -> None:
    world.order(number, "BUILDING")


def interrupted(world: World, number: int) -> None:
    world.order(number, "GENERATING")


def empty(world: World, number: int) -> None:
    world.order(number, "GENERATING", steps=["START", "PHASE_1_START"], files=2)


def hollow(world: World, number: int) -> None:
    world.order(number, "REVIEW", steps=["START", "SUCCESS"], files=2)


def held(world: World, number: int) -> None:
    world.order(number, "BUILDING", steps=["OPERATOR_CANCEL"])


def duplicated(world: World, number: int) -> None:
    queued(world, number)
    world.publish(number)


def ghost(world: World, number: int) -> None:
    world.order(number, "CANCELLED")
    world.publish(number)


def queued(world: World, number: int) -> None:
    world.order(number, "GENERATING")
    world.publish(number)


def orphaned(world: World, number: int) -> None:
    queued(world, number)
    world.deliver()


def journals(world: World, order_id: int = 42) -> list[tuple[str, str]]:
    """The journal's rows: what was done, by which command."""
    rows = [row for row in world.log(order_id) if row["step"].startswith("OPERATOR_") and row["details"]]
    return [(row["step"], json.loads(row["details"])["command"]) for row in rows]


def orders_queued(world: World) -> list[int]:
    return [json.loads(message["headers"]["argsrepr"])[0] for message in world.queued()]


async def done(view: Live) -> str:
    """Wait for the end of what is being done; returns what is told of it."""
    await view.until(lambda: view.dialog is None or view.dialog._result is not None)
    return view.told("title")


#: What ``m`` does in each condition; orphaned first, since any task that is in the queue by then would be delivered.
MENDED: Sequence[tuple[Callable[[World, int], None], str]] = (
    (orphaned, "repair"),
    (failed, "retry"),
    (unstarted, "start"),
    (interrupted, "repair"),
    (held, "enqueue"),
    (empty, "reset"),
    (hollow, "reset"),
    (duplicated, "repair"),
    (ghost, "repair"),
)


async def test_m_and_y_mend_each_condition(world: World) -> None:
    def some() -> None:
        for number, (trouble, _) in enumerate(MENDED, 1):
            trouble(world, number)
        world.order(20, "DELIVERED", files=8)  # so that it is the right directory in which one is hollow

    await off(some)
    async with live(world) as view:
        for number, (trouble, action) in enumerate(MENDED, 1):
            await view.go_to(number)
            await view.sees(f"{number} {trouble.__name__.upper()}", f" m  {action} it")
            await view.act("m", f"{action} order {number}? 1 would be")
            await view.press("y")
            assert (await done(view)).startswith("1 ")
            await view.press("escape")
            await view.until(lambda: view.dialog is None)
            # The view shows it by itself.
            await view.sees(f"{number} {'CANCELLED' if trouble is ghost else 'QUEUED'}")
            status = await off(world.status, number)
            assert status == ("CANCELLED" if trouble is ghost else "GENERATING")
            assert {command for _, command in await off(journals, world, number)} == {f"live: {action}"}
    # Each has one task, and the ghost's is gone.
    assert sorted(await off(orders_queued, world)) == list(range(1, len(MENDED)))


#: Key, what is wrong, the question's words, what its row says, the journal's step, and tasks in the queue then.
KEYED: Sequence[tuple[str, Callable[[World, int], None], str, str, str, str, int]] = (
    ("e", unstarted, "enqueue", "enqueued", "BUILDING → GENERATING", "OPERATOR_ENQUEUE", 1),
    ("s", unstarted, "start", "started", "BUILDING → GENERATING", "OPERATOR_ENQUEUE", 1),
    ("t", failed, "retry", "retried", "", "OPERATOR_ENQUEUE", 1),
    ("p", interrupted, "repair", "repaired", "", "OPERATOR_REPAIR", 1),
    ("R", failed, "reset", "reset", "", "OPERATOR_RESET", 1),
    ("C", queued, "cancel", "cancelled", "GENERATING → BUILDING", "OPERATOR_CANCEL", 0),
)


async def test_each_key_shows_its_plan_and_does_it(world: World) -> None:
    def some() -> None:
        for number, (_, trouble, *_) in enumerate(KEYED, 1):
            trouble(world, number)

    await off(some)
    async with live(world) as view:
        for number, (key, _, verb, done_word, text, step, tasks) in enumerate(KEYED, 1):
            before = len(await off(world.log, number))
            await view.go_to(number)
            await view.act(key, f"{verb} order {number}? 1 would be {done_word}")
            (row,) = view.outcomes
            assert row.startswith(f"{number} | would be ")
            assert text in row
            # Nothing is done by looking.
            assert len(await off(world.log, number)) == before
            await view.press("y")
            assert (await done(view)).startswith("1 ")
            (row,) = view.outcomes
            assert "would be" not in row
            await view.press("y")  # what is done is not done again: the key leaves
            await view.until(lambda: view.dialog is None)
            ((name, command),) = await off(journals, world, number)
            assert (name, command) == (step, f"live: {verb}")
            assert (await off(orders_queued, world)).count(number) == tasks


async def test_leaving_a_plan_does_nothing(world: World) -> None:
    await off(failed, world, 42)
    before = await off(world.steps)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for key in ("escape", "n", "q"):
            await view.act("R", "reset order 42?")
            await view.press(key)
            await view.until(lambda: view.dialog is None)
            assert view.app.is_running
    assert (await off(world.steps), await off(world.queued_ids)) == (before, [])


async def test_enter_does_what_is_safe_and_nothing_that_destroys(world: World) -> None:
    await off(failed, world, 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for key, title in (("R", "reset order 42?"), ("C", "cancel order 42?")):
            await view.act(key, title)
            await view.press("enter")
            await view.pilot.pause()
            assert "would be" in view.told("title") or "nothing" in view.told("title")
            await view.press("escape")
            await view.until(lambda: view.dialog is None)
        assert await off(journals, world) == []
        await view.act("t", "retry order 42?")
        await view.press("enter")
        assert await done(view) == "1 retried"
        await view.press("enter")
        await view.until(lambda: view.dialog is None)
    assert await off(orders_queued, world) == [42]


async def test_choices_are_shown_and_planned_anew(world: World) -> None:
    await off(world.order, 42, "GENERATING", steps=["START", "ERROR"], age="10 seconds")
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        await view.act("R", "reset order 42: nothing to do")
        assert "t stop running tasks: no" in view.told("keys")
        assert "f force: no" in view.told("keys")
        assert " y " not in view.told("keys")
        await view.press("f")
        await view.until(lambda: "1 would be reset" in view.told("title"))
        assert "f force: yes" in view.told("keys")
        await view.press("t")
        await view.until(lambda: "running tasks: yes" in view.told("keys") and "1 would" in view.told("title"))
        await view.press("f")
        await view.until(lambda: "nothing to do" in view.told("title"))
        await view.press("y")  # there is nothing to do: it leaves
        await view.until(lambda: view.dialog is None)
        # Starting knows neither.
        await view.act("s", "start order 42")
        assert "force" not in view.told("keys")
    assert await off(journals, world) == []


async def test_many_at_once_row_by_row_and_what_is_left_alone(world: World) -> None:
    def some() -> None:
        for number in (1, 2, 3):
            world.order(number, "BUILDING", name=f"N{number}")
        world.order(4, "CANCELLED")
        world.order(5, "BUILDING", onboarding="partial")
        world.publish(3)

    await off(some)
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 5)
        await view.press("a")
        await view.act("e", "enqueue 5 orders? 2 would be enqueued, 3 left alone")
        await view.press("y")
        assert await done(view) == "2 enqueued, 2 refused, 1 skipped"
        words = {row.split(" | ")[0]: row.split(" | ")[1] for row in view.outcomes}
        assert words == {"1": "enqueued", "2": "enqueued", "3": "skipped", "4": "refused", "5": "refused"}
        assert "hint:" in view.told("notes")
        await view.press("escape")
        await view.until(lambda: view.dialog is None)
        assert view.marked == set()  # what was done isn't done again by accident
    assert sorted(await off(orders_queued, world)) == [1, 2, 3]


async def test_an_order_is_mended_by_mouse_alone(world: World) -> None:
    await off(world.order, 42, "GENERATING", steps=["START", "ERROR"])
    async with live(world) as view:

        async def click(text: str) -> None:
            (row,) = (row for row, line in enumerate(view.lines) if text in line)
            await view.pilot.click(offset=(view.lines[row].index(text) + 1, row))

        await view.sees(" m  retry it")
        await click(" m  retry it")
        await view.sees("retry order 42?", "f force: no")
        await click("force: no")
        await view.sees("force: yes", "y retry")
        await click("y retry")
        await view.sees("1 retried")
        await click("esc leave")
        await view.until(lambda: view.dialog is None)
    assert len(await off(world.queued_ids)) == 1


@pytest.mark.parametrize("size", [(80, 24), (40, 15)])
async def test_a_long_plan_leaves_the_question_and_its_keys_in_sight(world: World, size: tuple[int, int]) -> None:
    def some() -> None:
        many_unstarted(world, 40)
        world.order(41, onboarding="partial")

    await off(some)
    async with live(world, size=size) as view:
        await view.until(lambda: len(view.listed) == 41)
        await view.press("a", "e")
        await view.sees("41 orders? 40 would", "y enqueue", "esc leave", "hint: ")
        # What is cut in the list can be read below it, and the list is walked through.
        assert view.dialog is not None
        table = view.dialog.query_one("#outcomes", LiveTable)
        await view.press("end")
        await view.until(lambda: table.row is table.rows[-1])
        await view.sees("y enqueue")
        table.go_to(41)
        await view.until(lambda: "onboarding is not complete" in view.text + view.told("notes"))
        await view.sees("y enqueue")


async def test_mending_marked_orders_does_what_most_of_them_need(world: World) -> None:
    def some() -> None:
        for number in (1, 2):
            world.order(number, "GENERATING", steps=["START", "ERROR"])
        world.order(3, "BUILDING")

    await off(some)
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 3)
        await view.press("a")
        await view.act("m", "retry 3 orders? 2 would be retried")


async def test_what_nobody_can_mend_says_so(world: World) -> None:
    await off(world.order, 42, "GENERATING", onboarding="missing")
    async with live(world) as view:
        await view.sees("42 BLOCKED")
        await view.press("m")
        await view.sees("nothing here is mended by a command")
        assert view.dialog is None


async def test_an_order_that_moves_under_the_plan_is_not_touched(world: World) -> None:
    await off(failed, world, 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        await view.act("R", "reset order 42? 1")
        await off(world.sql, "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 42")
        await view.press("y")
        await done(view)
        (row,) = view.outcomes
        assert "reset |" not in row
    assert (await off(world.status), await off(journals, world)) == ("CANCELLED", [])


@pytest.mark.parametrize("as_setting", [True, False], ids=["setting", "for this view"])
async def test_read_only_has_no_action_keys(world: World, as_setting: bool) -> None:
    await off(failed, world, 42)
    flags: dict[str, Any] = {"read_only": True} if as_setting else {"may_act": False}
    async with live(world, **flags) as view:
        await view.sees("READ-ONLY", "42 FAILED")
        assert " m  retry it" not in view.text
        assert "mend" not in view.lines[-1]
        await view.press("m", "e", "s", "t", "p", "R", "C")
        await view.pilot.pause()
        assert view.dialog is None
        await view.press("question_mark")
        await view.sees("Keys")
        assert not {"mend", "reset", "cancel", "retry"} & set(view.text.split())
    assert await off(journals, world) == []


async def test_action_keys_belong_to_the_list_of_orders(world: World) -> None:
    await off(failed, world, 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for number in ("2", "3", "4", "5"):
            await view.press(number, "R", "m")
            await view.pilot.pause()
            assert view.dialog is None
        # In a filter they are letters.
        await view.type("Rm")
        assert (view.filter.value, view.dialog) == ("Rm", None)


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+c"])
async def test_leaving_during_an_action_ends_with_the_chunk_in_hand(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Whatever leaves finishes what has begun; nothing is left between the database and the queue."""
    await off(many_unstarted, world, 120)
    begun, goes_on = asyncio.Event(), threading.Event()
    claim = PostgresOrders.claim
    loop = asyncio.get_running_loop()

    async def slow(self: PostgresOrders, steps: Sequence[Any], *rest: Any, **more: Any) -> Any:
        claimed = await claim(self, steps, *rest, **more)
        loop.call_soon_threadsafe(begun.set)
        await asyncio.to_thread(goes_on.wait, 10)
        return claimed

    monkeypatch.setattr(PostgresOrders, "claim", slow)
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 120)
        await view.press("a")
        await view.act("e", "enqueue 120 orders? 120 would be enqueued")
        await view.press("y")
        await asyncio.wait_for(begun.wait(), 10)
        await view.press("ctrl+z")
        await view.sees("not while orders are being moved")
        await view.press(key)
        assert view.app.is_running
        assert "finishing the chunk in hand" in view.told("title")
        goes_on.set()
        await done(view)
        assert isinstance(view.app.screen, ActionScreen)
        await view.press(key)
        await view.until(lambda: not view.app.is_running)
    generating = await off(world.sql, "SELECT id FROM site_orders WHERE status = 'GENERATING'")
    assert sorted(row["id"] for row in generating) == sorted(await off(orders_queued, world))


def many_unstarted(world: World, count: int) -> None:
    for statement in (
        "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)"
        " SELECT n, 'C', 'c@example.com', 'BUILDING', 1, timezone('utc', now()), timezone('utc', now()) - interval '3h'"
        "   FROM generate_series(1, $1::int) n",
        "INSERT INTO site_onboardings (order_id, business_name, business_email, business_phone, niche, primary_city,"
        " state, services, primary_service, is_complete)"
        " SELECT n, 'B', 'b', 'p', 'RESTAURANT', 'c', 's', '[]', 'p', true FROM generate_series(1, $1::int) n",
    ):
        world.sql(statement, count)
