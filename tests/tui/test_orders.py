"""The list of orders: filter, facets, sorting, marks, moving."""

from __future__ import annotations

import asyncio

import pytest
from textual.widgets import OptionList

from sitegenctl.operations.live_state import LOG_ROWS
from tests.support.live_view import live, many_orders, status
from tests.support.world import World


def some_orders(world: World) -> None:
    world.order(1, "GENERATING", steps=["START", "ERROR"], name="Xaver", age="3 hours")
    world.order(2, "BUILDING", name="Bea", age="2 hours")
    world.order(3, "REVIEW", name="Cid", age="10 minutes", files=8, steps=["START", "SUCCESS"])
    world.order(4, "PAID", name="Dea 100%", age="1 minutes", onboarding="missing")
    world.order(5, "CANCELLED", name="Eva", age="9 hours")


async def test_filtering_while_typing(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        assert view.listed == [1, 2, 4, 3, 5]  # faults first, in the order of the conditions
        await view.type("padaria cid")
        assert view.filter.has_focus
        await view.until(lambda: view.listed == [3])
        for typed, order_ids in (
            ("condition:failed", [1]),
            ("condition:f condition:unst", [1, 2]),
            ("status:review", [3]),
            ("s:paid s:canc", [4, 5]),
            ("age>1h", [1, 2, 5]),
            ("age<1h", [4, 3]),
            ("age>1h age<4h bea", [2]),
            ("%", [4]),
            ("4", [4]),
            ("_", []),
        ):
            view.filter.value = typed
            await view.until(lambda order_ids=order_ids: view.listed == order_ids)  # type: ignore[misc]
        await view.sees("no matching orders")


async def test_incomplete_filter_is_explained_and_hides_nothing(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.type("age>")
        await view.sees("age needs a time, as in age>10m")
        await view.press("1", "h")
        await view.until(lambda: view.listed == [1, 2, 5])
        assert "age needs" not in view.text
        await view.type("condition:zzz")
        await view.sees("no condition begins with 'zzz'")
        await view.until(lambda: len(view.listed) == 5)


async def test_enter_keeps_and_escape_clears_the_filter(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.type("xaver")
        await view.until(lambda: view.listed == [1])
        await view.press("enter")
        await view.until(lambda: view.table.has_focus)
        await view.until(lambda: view.filter.display)
        # Letters are keys again.
        await view.press("space")
        assert view.marked == {1}
        await view.press("slash", "escape")
        assert (view.table.has_focus, view.filter.value) == (True, "xaver")
        await view.press("escape")
        await view.until(lambda: not view.filter.display)
        await view.until(lambda: len(view.listed) == 5)


@pytest.mark.parametrize("by_key", [True, False], ids=["key", "click"])
async def test_facets_toggle_filter_words(world: World, by_key: bool) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world, size=(200, 60)) as view:
        facets = view.orders.query_one("Facets", OptionList)
        shown = {option.id: str(option.prompt).split() for option in facets.options if option.id}
        assert shown["condition:failed"] == ["failed", "1"]
        assert shown["status:review"] == ["review", "1"]
        assert list(shown)[:2] == ["condition:failed", "condition:unstarted"]  # faults first
        assert "condition:running" not in shown

        async def choose(word: str) -> None:
            place = facets.get_option_index(word)
            if by_key:
                facets.focus()
                facets.highlighted = place
                await view.press("enter")
            else:
                lines = (await view.sees("────────")).splitlines()
                (at,) = (y for y, line in enumerate(lines) if line[:24].strip("● ").startswith(word.split(":")[1]))
                await view.pilot.click(offset=(4, at))

        await choose("condition:failed")
        await view.until(lambda: view.listed == [1])
        assert view.filter.value == "condition:failed"
        await view.until(lambda: "●" in str(facets.get_option("condition:failed").prompt))
        await choose("condition:unstarted")
        await view.until(lambda: view.listed == [1, 2])
        await choose("condition:failed")
        await view.until(lambda: view.listed == [2])
        await choose("condition:unstarted")
        await view.until(lambda: len(view.listed) == 5)
        assert not view.filter.display


async def test_sorting_by_key(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world, size=(200, 60)) as view:
        await view.sees("condition▼")
        for key, heading, order_ids, text in (
            ("greater_than_sign", "status▼", [4, 2, 1, 3, 5], "by status"),
            ("greater_than_sign", "age▼", [4, 3, 2, 1, 5], "by age"),
            ("greater_than_sign", "due▼", [1, 2, 3, 4, 5], "by due date"),
            ("greater_than_sign", "business▼", [4, 2, 3, 5, 1], "by name"),
            ("backslash", "business▲", [1, 5, 3, 2, 4], "by name, reversed"),
            ("less_than_sign", "due▼", [1, 2, 3, 4, 5], "by due date"),
            ("less_than_sign", "age▼", [4, 3, 2, 1, 5], "by age"),
            ("backslash", "age▲", [5, 1, 2, 3, 4], "by age, reversed"),
            ("greater_than_sign", "due▼", [1, 2, 3, 4, 5], "by due date"),
            ("greater_than_sign", "business▼", [4, 2, 3, 5, 1], "by name"),
            ("greater_than_sign", "order▼", [1, 2, 3, 4, 5], "by number"),
            ("less_than_sign", "business▼", [4, 2, 3, 5, 1], "by name"),
        ):
            await view.press(key)
            await view.until(lambda order_ids=order_ids: view.listed == order_ids)  # type: ignore[misc]
            await view.sees(heading)
            assert text in status(view)


async def test_sorting_by_mouse(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:

        async def click(heading: str) -> None:
            place = next(
                (line.index(heading), y) for y, line in enumerate(view.lines) if "order" in line and heading in line
            )
            await view.pilot.click(offset=place)

        await click("business")
        await view.until(lambda: view.listed == [4, 2, 3, 5, 1])
        await click("business")
        await view.until(lambda: view.listed == [1, 5, 3, 2, 4])
        await view.sees("business▲")
        await click("condition")
        await view.until(lambda: view.listed == [1, 2, 4, 3, 5])
        # The last column cannot be sorted.
        await click("why")
        await view.pilot.pause()
        assert "by condition" in status(view)


async def test_marking_orders(world: World) -> None:
    await asyncio.to_thread(some_orders, world)
    async with live(world) as view:
        await view.press("space", "space")
        assert (view.marked, view.table.key) == ({1, 2}, 4)
        await view.sees("2 marked")
        assert sum(line.lstrip().startswith("●") for line in view.rows_of("table")) == 2
        await view.press("up", "space")
        assert view.marked == {1}
        await view.press("a")
        assert view.marked == {1, 2, 3, 4, 5}
        await view.press("a")
        assert view.marked == set()
        await view.press("space", "escape")
        assert view.marked == set()
        assert "marked" not in status(view)
        # A mark on a hidden order does not count: the action would be unseen.
        await view.press("a")
        await view.type("xaver")
        await view.until(lambda: view.listed == [1])
        assert view.orders.selected == [1]


async def test_moving_by_keys_in_a_long_list(world: World) -> None:
    await asyncio.to_thread(many_orders, world, 60)
    moves = [
        ("down", 1),
        ("j", 2),
        ("down k", 2),
        ("end", 59),
        ("down", 59),
        ("home", 0),
        ("up", 0),
        ("G", 59),
        ("g", 0),
    ]
    async with live(world) as view:
        for keys, index in moves:
            await view.press(*keys.split())
            key = 1 + index
            assert view.table.key == key
            await view.sees(f"Customer {key}")
            await view.until(lambda key=key: view.detail is not None and view.detail.order_id == key)  # type: ignore[misc]


async def test_moving_by_pages_and_by_mouse(world: World) -> None:
    await asyncio.to_thread(many_orders, world, 60)
    async with live(world, size=(120, 24)) as view:
        height = view.table.size.height - 2
        await view.press("pagedown")
        assert view.table.key == 1 + height
        await view.press("ctrl+u")
        assert view.table.key == 1
        await view.pilot.click("#table", offset=(5, 4))
        assert view.table.key == 4
        await view.pilot.click("#table", offset=(5, 5), times=2)
        await view.until(lambda: view.orders.has_class("-open"))
        await view.press("escape")
        assert not view.orders.has_class("-open")


async def test_detail_says_how_many_rows_it_leaves_out(world: World) -> None:
    steps = ["START", *["WRITE_PROGRESS"] * 250]
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=steps)
    async with live(world, size=(120, 36)) as view:
        await view.go_to(42)
        await view.until(lambda: view.detail is not None and view.detail.rows_left_out == len(steps) - LOG_ROWS)
        await view.press("enter", "end")
        await view.sees(f"{len(steps) - LOG_ROWS} earlier rows")
