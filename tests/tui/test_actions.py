"""Actions, from the key to the changes in PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.tui.frame import KeyBar
from sitegenctl.tui.screens.action import ActionScreen
from sitegenctl.tui.widgets.live_table import LiveTable
from tests.support.fake_worker import FakeWorker, request
from tests.support.live_view import Live, live
from tests.support.world import World

#: Facts of an order in each situation, for ``World.order``.
FACTS: Mapping[str, Mapping[str, Any]] = {
    "failed": {"status": "GENERATING", "steps": ["START", "ERROR"]},
    "unstarted": {"status": "BUILDING"},
    "interrupted": {"status": "GENERATING"},
    "empty": {"status": "GENERATING", "steps": ["START", "PHASE_1_START"], "files": 2},
    "hollow": {"status": "REVIEW", "steps": ["START", "SUCCESS"], "files": 2},
    "held": {"status": "BUILDING", "steps": ["OPERATOR_CANCEL"]},
    "duplicated": {"status": "GENERATING"},
    "ghost": {"status": "CANCELLED"},
    "queued": {"status": "GENERATING"},
    "orphaned": {"status": "GENERATING"},
    "exhausted": {"status": "GENERATING", "steps": ["START", "ERROR"] * 3},
    "not due": {"status": "GENERATING", "steps": ["START", "ERROR"] * 2, "age": "150 seconds"},
    "settling": {"status": "GENERATING", "age": "10 seconds"},
    "blocked": {"status": "GENERATING", "onboarding": "missing"},
    "finished": {"status": "REVIEW", "steps": ["START", "SUCCESS"], "files": 8},
    "waiting": {"status": "PAID", "onboarding": "missing"},
    "cancelled": {"status": "CANCELLED"},
    "possibly running": {"status": "GENERATING", "steps": ["START"], "age": "3 minutes", "files": 8},
}
#: Numbers of messages that are published for it.
MESSAGES = {"duplicated": 2, "ghost": 1, "queued": 1, "orphaned": 1}


def add(world: World, situation: str, *order_ids: int) -> None:
    """Add orders in this situation."""
    for order_id in order_ids:
        world.order(order_id, **FACTS[situation])
        task_ids = [world.publish(order_id) for _ in range(MESSAGES.get(situation, 0))]
        if situation == "orphaned":
            # A run that took the run lock, which is free: its worker is dead.
            world.deliver()
            world.sql(
                "INSERT INTO site_generation_logs (order_id, step, message, details)"
                " VALUES ($1, 'START', 'START', $2::json)",
                order_id,
                json.dumps({"task_id": task_ids[0], "run_lock": True}),
            )


def journals(world: World, order_id: int = 42) -> list[tuple[str, str]]:
    """Step and command of the order's journal rows."""
    rows = [row for row in world.log(order_id) if row["step"].startswith("OPERATOR_") and row["details"]]
    return [(row["step"], json.loads(row["details"])["command"]) for row in rows]


def orders_queued(world: World) -> list[int]:
    return [json.loads(message["headers"]["argsrepr"])[0] for message in world.queued()]


async def done(view: Live) -> str:
    """Wait until the plan is executed; returns the title of the result."""
    await view.until(lambda: view.dialog is None or view.dialog.result is not None)
    return view.part("title")


#: What ``m`` does in each condition; orphaned first: delivering takes whatever is in the queue.
FIXED: Mapping[str, str] = {
    "orphaned": "repaired",
    "failed": "retried",
    "unstarted": "started",
    "interrupted": "repaired",
    "empty": "reset; 2 files to the trash",
    "hollow": "reset; 2 files to the trash",
    "duplicated": "repaired",
    "ghost": "repaired",
}


def each_fault(world: World) -> None:
    """Add an order with each fault, numbered as in ``FIXED``, and a delivered one."""
    for number, situation in enumerate(FIXED, 1):
        add(world, situation, number)
    # Without a finished site, files would count as unknown: it could be the wrong directory.
    world.order(20, "DELIVERED", files=8)


async def test_m_and_y_fix_each_condition(world: World) -> None:
    await asyncio.to_thread(each_fault, world)
    async with live(world) as view:
        for number, (situation, text) in enumerate(FIXED.items(), 1):
            verb = text.partition(";")[0]
            is_ghost = situation == "ghost"
            await view.go_to(number)
            await view.sees(f"{number} {situation.upper()}", f" m  fix it: would be {verb}")
            await view.act("m", f"fix order {number}? 1 would be fixed")
            (row,) = view.outcomes
            assert row.startswith(f"{number} | would be {verb} | ")
            await view.press("y")
            assert await done(view) == "1 fixed", view.outcomes
            await view.press("escape")
            await view.until(lambda: view.dialog is None)
            await view.sees(f"{number} {'CANCELLED' if is_ghost else 'QUEUED'}")
            assert await asyncio.to_thread(world.status, number) == ("CANCELLED" if is_ghost else "GENERATING")
            assert {command for _, command in await asyncio.to_thread(journals, world, number)} == {"live: fix"}
    # Each has one task, and the ghost's is gone.
    assert sorted(await asyncio.to_thread(orders_queued, world)) == list(range(1, len(FIXED)))


#: Key, situation, action, past participle, text of the row, journal step, and messages afterwards.
KEYED: Sequence[tuple[str, str, str, str, str, str, int]] = (
    ("e", "unstarted", "enqueue", "enqueued", "BUILDING → GENERATING", "OPERATOR_ENQUEUE", 1),
    ("s", "unstarted", "start", "started", "BUILDING → GENERATING", "OPERATOR_ENQUEUE", 1),
    ("t", "failed", "retry", "retried", "", "OPERATOR_ENQUEUE", 1),
    ("p", "interrupted", "repair", "repaired", "", "OPERATOR_REPAIR", 1),
    ("R", "failed", "reset", "reset", "", "OPERATOR_RESET", 1),
    ("C", "queued", "cancel", "cancelled", "GENERATING → BUILDING", "OPERATOR_CANCEL", 0),
)


async def test_each_key_shows_and_executes_its_plan(world: World) -> None:
    def some() -> None:
        for number, (_, situation, *_) in enumerate(KEYED, 1):
            add(world, situation, number)

    await asyncio.to_thread(some)
    async with live(world) as view:
        for number, (key, _, action, participle, text, step, messages) in enumerate(KEYED, 1):
            before = len(await asyncio.to_thread(world.log, number))
            await view.go_to(number)
            await view.act(key, f"{action} order {number}? 1 would be {participle}")
            (row,) = view.outcomes
            assert row.startswith(f"{number} | would be ")
            assert text in row
            # The plan alone changes nothing.
            assert len(await asyncio.to_thread(world.log, number)) == before
            await view.press("y")
            assert (await done(view)).startswith("1 ")
            (row,) = view.outcomes
            assert "would be" not in row
            await view.press("y")  # now it closes the screen
            await view.until(lambda: view.dialog is None)
            assert await asyncio.to_thread(journals, world, number) == [(step, f"live: {action}")]
            assert (await asyncio.to_thread(orders_queued, world)).count(number) == messages


async def test_undo_reverses_the_last_operation_of_each_order(world: World) -> None:
    def operated() -> None:
        for number, situation in enumerate(("finished", "queued", "unstarted", "interrupted", "failed"), 1):
            add(world, situation, number)
        commands = ("reset 1", "cancel 2", "enqueue 3", "repair 4")
        assert [world.run(*command.split(), "--yes").returncode for command in commands] == [0, 0, 0, 0]

    await asyncio.to_thread(operated)
    async with live(world) as view:
        await view.until(lambda: sorted(view.listed) == [1, 2, 3, 4, 5])
        await view.press("a")
        await view.act("U", "undo 5 orders? 3 would be undone, 2 left alone")
        rows = [re.sub("[0-9a-f]{8}", "#", row.partition(" | ")[2]) for row in sorted(view.outcomes)]
        assert rows == [
            "would be undone | GENERATING → REVIEW  task # revoked; 8 files from the trash",
            "would be undone | BUILDING → GENERATING  its task published again",
            "would be undone | GENERATING → BUILDING  task # revoked",
            "refused | repair is not undone: it put the order right",
            "skipped | no operation changed it",
        ]
        await view.press("enter")  # it removes tasks
        assert view.dialog is not None
        assert view.dialog.result is None
        await view.press("y")
        assert sorted((await done(view)).split(", ")) == ["1 refused", "1 skipped", "3 undone"]
        await view.press("escape")
    assert [await asyncio.to_thread(world.status, number) for number in range(1, 6)] == [
        *("REVIEW", "GENERATING", "BUILDING", "GENERATING", "GENERATING"),
    ]
    assert len(await asyncio.to_thread(world.site_files, 1)) == 8
    assert sorted(await asyncio.to_thread(orders_queued, world)) == [2, 4]
    assert (await asyncio.to_thread(journals, world, 1))[-1] == ("OPERATOR_UNDO", "live: undo")


async def test_undo_reverses_an_operation_of_the_history(world: World) -> None:
    def operated() -> str:
        add(world, "unstarted", 1, 2)
        add(world, "finished", 3)
        world.order(4, "BUILDING", steps=["OPERATOR_CANCEL"])  # of an older release: it has no id
        return str(json.loads(world.run("enqueue", "1", "2", "--yes", "-o", "json").stdout)["data"]["operation"])

    operation = await asyncio.to_thread(operated)
    async with live(world) as view:
        await view.press("6")
        await view.sees("enqueue")
        await view.act("U", f"undo {operation} of 2 orders? 2 would be undone")
        await view.press("y")
        assert await done(view) == "2 undone"
        await view.press("escape")
        await view.until(lambda: view.dialog is None)
        # The cursor is on the newest row: the undo itself.
        await view.sees("live: undo")
        await view.press("end")
        await view.act("U", "of 2 orders: nothing to do")
        assert [row.partition(" | ")[2] for row in view.outcomes] == ["refused | an undo is not undone"] * 2
        for keys, title, outcome in (
            (("home",), "undo order 3: nothing to do", "3 | skipped | no operation changed it"),
            (("down",), "undo order 4: nothing to do", "4 | refused | the release that did it gave operations no id"),
        ):
            await view.press("escape", *keys)
            await view.act("U", title)
            assert view.outcomes == [outcome]
    assert [await asyncio.to_thread(world.status, number) for number in (1, 2)] == ["BUILDING", "BUILDING"]
    assert await asyncio.to_thread(orders_queued, world) == []


async def test_closing_a_plan_changes_nothing(world: World) -> None:
    await asyncio.to_thread(add, world, "failed", 42)
    before = await asyncio.to_thread(world.steps)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for key in ("escape", "n", "q"):
            await view.act("R", "reset order 42?")
            await view.press(key)
            await view.until(lambda: view.dialog is None)
            assert view.app.is_running
    assert (await asyncio.to_thread(world.steps), await asyncio.to_thread(world.queued_ids)) == (before, [])


async def test_enter_does_not_execute_destructive_plans(world: World) -> None:
    await asyncio.to_thread(add, world, "failed", 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for key, title in (("R", "reset order 42?"), ("C", "cancel order 42?")):
            await view.act(key, title)
            await view.press("enter")
            await view.pilot.pause()
            assert "would be" in view.part("title") or "nothing" in view.part("title")
            await view.press("escape")
            await view.until(lambda: view.dialog is None)
        assert await asyncio.to_thread(journals, world) == []
        await view.act("t", "retry order 42?")
        await view.press("enter")
        assert await done(view) == "1 retried"
        await view.press("enter")
        await view.until(lambda: view.dialog is None)
    assert await asyncio.to_thread(orders_queued, world) == [42]


async def test_options_are_shown_and_change_the_plan(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START", "ERROR"], age="10 seconds")
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        await view.act("R", "reset order 42: nothing to do")
        assert "t stop running tasks: no" in view.part("keys")
        assert "f force: no" in view.part("keys")
        assert " y " not in view.part("keys")
        await view.press("f")
        await view.until(lambda: "1 would be reset" in view.part("title"))
        assert "f force: yes" in view.part("keys")
        await view.press("t")
        await view.until(lambda: "running tasks: yes" in view.part("keys") and "1 would" in view.part("title"))
        await view.press("f")
        await view.until(lambda: "nothing to do" in view.part("title"))
        await view.press("y")  # nothing to do: it closes
        await view.until(lambda: view.dialog is None)
        # Start has neither option.
        await view.act("s", "start order 42")
        assert "force" not in view.part("keys")
    assert await asyncio.to_thread(journals, world) == []


async def test_many_orders_with_an_outcome_each(world: World) -> None:
    def some() -> None:
        for number in (1, 2, 3):
            world.order(number, "BUILDING", name=f"N{number}")
        world.order(4, "CANCELLED")
        world.order(5, "BUILDING", onboarding="missing")
        world.publish(3)

    await asyncio.to_thread(some)
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 5)
        await view.press("a")
        await view.act("e", "enqueue 5 orders? 2 would be enqueued, 3 left alone")
        await view.press("y")
        assert await done(view) == "2 enqueued, 1 skipped, 2 refused"
        words = {row.split(" | ")[0]: row.split(" | ")[1] for row in view.outcomes}
        assert words == {"1": "enqueued", "2": "enqueued", "3": "skipped", "4": "refused", "5": "refused"}
        assert "hint:" in view.part("notes")
        await view.press("escape")
        await view.until(lambda: view.dialog is None)
        assert view.marked == set()  # the same action is not repeated by accident
    assert sorted(await asyncio.to_thread(orders_queued, world)) == [1, 2, 3]


async def test_fixing_with_the_mouse(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START", "ERROR"])
    async with live(world) as view:

        async def click(text: str) -> None:
            lines = (await view.sees(text)).splitlines()
            (row,) = (row for row, line in enumerate(lines) if text in line)
            await view.pilot.click(offset=(lines[row].index(text) + 1, row))

        await view.go_to(42)
        await click(" m  fix it: would be")
        await view.sees("fix order 42?", "y fix")
        await click("esc close")
        await view.until(lambda: view.dialog is None)
        await view.act("t", "retry order 42?")
        await click("force: no")
        await view.sees("force: yes", "y retry")
        await click("y retry")
        await view.sees("1 retried")
        await click("esc close")
        await view.until(lambda: view.dialog is None)
    assert len(await asyncio.to_thread(world.queued_ids)) == 1


@pytest.mark.parametrize("size", [(80, 24), (40, 15)])
async def test_long_plan_does_not_hide_its_keys(world: World, size: tuple[int, int]) -> None:
    def some() -> None:
        many_unstarted(world, 40)
        world.order(41, onboarding="missing")

    await asyncio.to_thread(some)
    async with live(world, size=size) as view:
        await view.until(lambda: len(view.listed) == 41)
        await view.press("a", "e")
        await view.sees("41 orders? 40 would", "y enqueue", "esc close", "hint: ")
        # A truncated row is shown in full below the list.
        assert view.dialog is not None
        table = view.dialog.query_one("#outcomes", LiveTable)
        await view.press("end")
        await view.until(lambda: table.row is table.rows[-1])
        await view.sees("y enqueue")
        table.go_to(41)
        await view.until(lambda: "has no onboarding" in view.text + view.part("notes"))
        await view.sees("y enqueue")


async def test_marked_orders_are_fixed_by_their_conditions(world: World) -> None:
    """Finished and healthy orders among them are not changed."""
    spent, healthy, whole = 30, 31, range(40, 60)

    def many() -> None:
        each_fault(world)
        add(world, "exhausted", spent)
        add(world, "held", healthy)
        add(world, "finished", *whole)

    await asyncio.to_thread(many)
    before = {number: await asyncio.to_thread(world.steps, number) for number in (20, spent, healthy, *whole)}
    async with live(world, size=(120, 30)) as view:
        await view.type("age<10h")
        await view.press("enter", "less_than_sign")
        await view.until(lambda: len(view.listed) == len(FIXED) + len(before))
        sorted_by = view.orders.order_query.sort
        await view.press("a")
        await view.act("m", f"fix 31 orders? {len(FIXED)} would be fixed, 1 left alone, 22 not affected")
        rows = {int(row.split(" | ")[0]): row for row in view.outcomes}
        assert rows.keys() == {*range(1, len(FIXED) + 1), spent}
        for number, text in enumerate(FIXED.values(), 1):
            assert rows[number].startswith(f"{number} | would be {text.partition(';')[0]} | ")
        assert "3 of 3" in rows[spent]
        await view.press("enter")  # it resets orders: Enter does nothing
        await view.pilot.pause()
        assert view.dialog is not None
        assert not view.dialog.is_busy
        await view.press("y")
        assert await done(view) == f"{len(FIXED)} fixed, 1 skipped"
        await view.press("escape")
        await view.until(lambda: view.dialog is None)
        assert view.marked == set()
        # The remaining fault is in view; filter and sort order are unchanged.
        await view.until(lambda: view.table.key == spent)
        await view.sees(f"{spent} FAILED", "no fix: attempts exhausted (3 of 3)")
        assert (view.filter.value, view.orders.order_query.sort) == ("age<10h", sorted_by)
    assert {number: await asyncio.to_thread(world.steps, number) for number in before} == before
    assert sorted(await asyncio.to_thread(orders_queued, world)) == list(range(1, len(FIXED)))


async def test_first_remaining_fault_is_scrolled_to(world: World) -> None:
    def many() -> None:
        many_unstarted(world, 60)
        world.order(100, "GENERATING", onboarding="missing")

    await asyncio.to_thread(many)
    async with live(world, size=(80, 24)) as view:
        await view.until(lambda: len(view.listed) == 61)
        await view.press("greater_than_sign")  # the remaining fault is not at the top
        await view.until(lambda: not view.orders.is_loading)
        await view.press("a")
        await view.act("m", "fix 61 orders? 60 would be fixed, 1 left alone")
        await view.press("y")
        await done(view)
        await view.press("escape")
        await view.until(lambda: view.dialog is None and view.table.key == 100)
        await view.until(lambda: any(row.split()[:1] == ["100"] for row in view.rows_of("table")))


async def test_cursor_stays_on_a_fixed_order(world: World) -> None:
    await asyncio.to_thread(add, world, "failed", 1, 2, 3)
    async with live(world) as view:
        await view.go_to(2)
        await view.act("m", "fix order 2?")
        await view.press("enter")
        await done(view)
        await view.press("escape")
        await view.sees("2 QUEUED")
        assert view.table.key == 2


#: Situations in which a fix would change nothing, and the reasons that are shown.
NOT_FIXED: Mapping[str, str] = {
    "exhausted": "attempts exhausted (3 of 3)",
    "not due": "the next is due in",
    "settling": "it changed a moment ago",
    "blocked": "has no onboarding",
    "possibly running": "unknown until",
    "queued": "it is queued, and needs no fix",
    "held": "it is on hold; enqueue starts it again",
    "finished": "it is done, and needs no fix",
    "waiting": "it is waiting, and needs no fix",
    "cancelled": "it is cancelled, and needs no fix",
}


@pytest.mark.parametrize("situation", NOT_FIXED)
async def test_reason_why_nothing_is_fixed(world: World, situation: str) -> None:
    reason = NOT_FIXED[situation]
    await asyncio.to_thread(add, world, situation, 42)
    async with live(world) as view:
        await view.go_to(42)
        assert "fix it" not in view.text
        bar = view.app.query_one(KeyBar)
        await view.until(lambda: bar.dimmed == {"fix"})
        # For the order under the cursor, then for the marked one.
        for keys in (["m"], ["space", "m"]):
            view.app.clear_notifications()
            await view.press(*keys)
            await view.sees(reason)
            assert view.dialog is None
            await view.until(lambda: any(reason in note.message for note in view.app._notifications))
    assert await asyncio.to_thread(journals, world) == [] or situation == "held"


#: Orders whose tasks all run, by status and number of tasks: only ``--terminate`` could stop them.
RUNNING = (
    ("CANCELLED", 1, "when it ends, it sets the order to REVIEW"),
    ("REVIEW", 1, "it runs until it ends"),
    ("GENERATING", 2, "running"),
)


@pytest.mark.parametrize(("status", "tasks", "why"), RUNNING, ids=["cancelled", "finished", "duplicated"])
async def test_running_tasks_are_not_fixed(world: World, status: str, tasks: int, why: str) -> None:
    def run() -> list[dict[str, Any]]:
        world.order(42, status, files=8)
        ids = []
        for _ in range(tasks):
            ids.append(world.publish(42))
            world.deliver()
        return [{**request(task_id, 42), "worker_pid": 4711 + place} for place, task_id in enumerate(ids)]

    active = await asyncio.to_thread(run)
    stats = {"pool": {"max-concurrency": 4, "processes": [4711, 4712]}}
    with FakeWorker(world, {"active": active, "stats": stats}):
        async with live(world) as view:
            await view.go_to(42)
            await view.sees("42 DUPLICATED" if tasks == 2 else "42 GHOST", "no fix: ")
            assert "fix it" not in view.text
            await view.press("m")
            await view.until(lambda: any(why in note.message for note in view.app._notifications))
            assert view.dialog is None
    assert await asyncio.to_thread(journals, world) == []


@pytest.mark.parametrize(("number", "asks"), [(5, False), (6, True), (47, True)])
async def test_resetting_finished_orders_asks_for_their_number(world: World, number: int, asks: bool) -> None:
    await asyncio.to_thread(add, world, "finished", *range(1, number + 1))
    await asyncio.to_thread(add, world, "failed", 90)
    async with live(world, size=(80, 24)) as view:
        await view.until(lambda: len(view.listed) == number + 1)
        await view.press("a")
        await view.act("R", f"reset {number + 1} orders? {number + 1} would be reset")
        question = f"Type {number} to reset {number} finished orders:"
        await view.sees("Type " if asks else "y reset")
        assert (question in view.text) is asks
        if asks:
            await view.press("y")
            await view.press("enter")
            await view.press(*str(number + 1), "enter")  # the number of all orders
            await view.sees(f"{number + 1} is not {number}, nothing was changed")
            assert view.dialog is not None
            assert not view.dialog.is_busy
            await view.press("down", "pagedown")  # the list can still be scrolled
            await view.until(lambda: view.dialog.query_one("#outcomes", LiveTable).key != 90)  # type: ignore[union-attr]
            assert await asyncio.to_thread(journals, world, 90) == []
            await view.press(*str(number), "enter")
        else:
            await view.press("y")
        assert await done(view) == f"{number + 1} reset"
    assert len(await asyncio.to_thread(orders_queued, world)) == number + 1


async def test_closing_the_question_changes_nothing(world: World) -> None:
    await asyncio.to_thread(add, world, "finished", *range(1, 8))
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 7)
        await view.press("a")
        for key in ("n", "q", "escape"):
            await view.act("R", "reset 7 orders?")
            await view.sees("Type 7 to reset 7 finished orders:")
            await view.press(key)
            await view.until(lambda: view.dialog is None)
        await view.act("R", "reset 7 orders?")
        await view.press("f")  # a key here, not text
        await view.until(lambda: "force: yes" in view.part("keys"))
        await view.press("escape")
    assert await asyncio.to_thread(orders_queued, world) == []


async def test_order_modified_after_the_plan_is_not_changed(world: World) -> None:
    await asyncio.to_thread(add, world, "failed", 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        await view.act("R", "reset order 42? 1")
        await asyncio.to_thread(world.sql, "UPDATE site_orders SET status = 'CANCELLED' WHERE id = 42")
        await view.press("y")
        await done(view)
        (row,) = view.outcomes
        assert "reset |" not in row
    assert (await asyncio.to_thread(world.status), await asyncio.to_thread(journals, world)) == ("CANCELLED", [])


@pytest.mark.parametrize("as_setting", [True, False], ids=["setting", "for this view"])
async def test_read_only_has_no_action_keys(world: World, as_setting: bool) -> None:
    await asyncio.to_thread(add, world, "failed", 42)
    flags: dict[str, Any] = {"read_only": True} if as_setting else {"may_act": False}
    async with live(world, **flags) as view:
        await view.sees("READ-ONLY", "42 FAILED")
        assert "fix it" not in view.text
        assert "fix" not in view.lines[-1]
        await view.press("m", "e", "s", "t", "p", "R", "C")
        await view.pilot.pause()
        assert view.dialog is None
        await view.press("question_mark")
        await view.sees("Keys")
        assert not {"fix", "reset", "cancel", "retry"} & set(view.text.split())
    assert await asyncio.to_thread(journals, world) == []


async def test_action_keys_work_in_the_orders_view_only(world: World) -> None:
    await asyncio.to_thread(add, world, "failed", 42)
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        for number in ("2", "3", "4", "5"):
            await view.press(number, "R", "m")
            await view.pilot.pause()
            assert view.dialog is None
        # In the filter they are letters.
        await view.type("Rm")
        assert (view.filter.value, view.dialog) == ("Rm", None)


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+c"])
async def test_quitting_completes_the_current_batch(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    await asyncio.to_thread(many_unstarted, world, 120)
    begun, goes_on = asyncio.Event(), threading.Event()
    apply = PostgresOrders.apply
    loop = asyncio.get_running_loop()

    async def slow(self: PostgresOrders, steps: Sequence[Any], *rest: Any, **more: Any) -> Any:
        result = await apply(self, steps, *rest, **more)
        loop.call_soon_threadsafe(begun.set)
        await asyncio.to_thread(goes_on.wait, 10)
        return result

    monkeypatch.setattr(PostgresOrders, "apply", slow)
    async with live(world) as view:
        await view.until(lambda: len(view.listed) == 120)
        await view.press("a")
        await view.act("e", "enqueue 120 orders? 120 would be enqueued")
        await view.press("y")
        await asyncio.wait_for(begun.wait(), 10)
        await view.press("ctrl+z")
        await view.sees("cannot suspend while an action is running")
        await view.press(key)
        assert view.app.is_running
        assert "completing the current batch" in view.part("title")
        goes_on.set()
        await done(view)
        assert isinstance(view.app.screen, ActionScreen)
        await view.press(key)
        await view.until(lambda: not view.app.is_running)
    generating = await asyncio.to_thread(world.sql, "SELECT id FROM site_orders WHERE status = 'GENERATING'")
    assert sorted(row["id"] for row in generating) == sorted(await asyncio.to_thread(orders_queued, world))


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
