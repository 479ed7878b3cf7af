"""Updates keep the user's place, and the layout fits any size."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.live_view import live, many_orders
from tests.support.world import World


async def test_cursor_marks_and_scroll_survive_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sitegenctl.operations.live_state.SLOW", 0.5)  # waiting orders are read every ten seconds
    await asyncio.to_thread(many_orders, world, 200)
    async with live(world, size=(120, 30)) as view:
        await view.type("customer")
        await view.press("enter")
        await view.until(lambda: len(view.listed) == 200)
        await view.press("space", *["pagedown"] * 4, "space", "up")
        key, marked = view.table.key, view.marked
        place = view.listed.index(int(str(key))) - round(view.table.scroll_offset.y)
        await view.until(lambda: view.detail is not None and view.detail.order_id == key)

        def change() -> None:
            # Twenty more below, some above it gone, and two faults.
            world.sql(
                "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at,"
                " updated_at) SELECT n, 'Customer ' || n, '', 'PAID', 1, timezone('utc', now()), timezone('utc', now())"
                " FROM generate_series(201, 220) n"
            )
            world.sql("DELETE FROM site_orders WHERE id BETWEEN 2 AND 20")
            world.sql("UPDATE site_orders SET status = 'GENERATING' WHERE id IN (100, 150)")

        await asyncio.to_thread(change)
        await view.until(lambda: len(view.listed) == 201)
        await view.until(lambda: view.listed[:2] == [100, 150])
        assert view.table.key == key
        assert view.marked == marked
        assert view.listed.index(int(str(key))) - round(view.table.scroll_offset.y) == place
        assert view.filter.value == "customer"
        assert view.detail is not None
        assert view.detail.order_id == key
        # The order under the cursor disappears: the cursor stays near it, and a missing order is never selected.
        await asyncio.to_thread(world.sql, "DELETE FROM site_orders WHERE id = $1", key)
        await view.until(lambda: key not in view.listed)
        assert view.table.key in view.listed
        assert key not in view.orders.selected


async def test_open_order_keeps_its_scroll_position(world: World) -> None:
    def some() -> None:
        world.order(42, "GENERATING", steps=["START", *["WRITE_PROGRESS"] * 80], name="Ana")
        world.order(41, "BUILDING")

    await asyncio.to_thread(some)
    async with live(world, size=(80, 24)) as view:
        await view.go_to(42)
        await view.press("enter")
        pane = view.orders.query_one("OrderDetailPane")
        await view.until(lambda: pane.has_focus and pane.max_scroll_y > 30)
        await view.press("pagedown", "pagedown")
        await view.until(lambda: pane.scroll_offset.y > 10)
        await view.pilot.wait_for_animation()
        before = pane.scroll_offset.y
        await asyncio.to_thread(world.sql, "UPDATE site_orders SET customer_email = 'new@example.com' WHERE id = 42")
        detail = view.detail
        await view.until(lambda: view.detail is not detail)
        await asyncio.to_thread(world.sql, "DELETE FROM site_orders WHERE id = 99")
        assert (pane.scroll_offset.y, pane.has_focus, view.orders.has_class("-open")) == (before, True, True)
        await view.press("escape")
        assert view.table.has_focus


async def test_scrolling_loads_more_orders(world: World) -> None:
    await asyncio.to_thread(many_orders, world, 1700)
    async with live(world) as view:
        await view.sees("500 of 1,700 orders")
        await view.press("end")
        await view.until(lambda: len(view.listed) == 1000)
        assert view.table.key == 500  # the cursor is where it was
        await view.press("end")
        await view.until(lambda: len(view.listed) == 1500)
        await view.press("end")
        await view.until(lambda: len(view.listed) == 1700)
        await view.press("end")
        await view.sees("1,700 orders", "Customer 1700")
        assert (view.table.key, view.listed) == (1700, list(range(1, 1701)))
        # Another order starts with the first page.
        await view.press("home", "greater_than_sign")
        await view.until(lambda: len(view.listed) == 500)
        await view.type("customer 1699")
        await view.until(lambda: view.listed == [1699])


async def test_ages_grow_between_polls(world: World) -> None:
    ahead = timedelta(0)
    await asyncio.to_thread(world.order, 42, "GENERATING", age="3 hours")
    async with live(world, now=lambda: datetime.now(UTC) + ahead) as view:
        await view.until(lambda: view.listed == [42])
        assert " 3h " in view.rows_of("table")[0]
        ahead = timedelta(hours=2)
        await view.until(lambda: " 5h " in view.rows_of("table")[0])
        await view.sees("2h old")  # the age of the data


SIZES = [(200, 60), (120, 40), (80, 24), (60, 20), (40, 12), (20, 6), (1, 1)]
# Keys are pressed at three sizes only: that takes long.
KEYED = [(200, 60), (60, 20), (1, 1)]


async def test_any_terminal_size_works(world: World) -> None:
    def some() -> None:
        world.order(42, "GENERATING", steps=["START", "ERROR"], name="Ana")
        world.order(41, "BUILDING", name="Bea")
        world.publish(41)

    await asyncio.to_thread(some)
    async with live(world) as view:
        await view.go_to(42)
        for width, height in [*SIZES, SIZES[0]]:
            await view.pilot.resize_terminal(width, height)
            await view.until(lambda size=(width, height): tuple(view.app.size) == size)  # type: ignore[misc]
            await view.pilot.pause()
            assert len(view.lines) == height
            assert view.table.key == 42
            if (width, height) >= (40, 12):
                await view.sees("42", "failed")
            if (width, height) in KEYED:
                await view.press(*"23451", "question_mark", "escape", "R", "escape", "enter", "escape")
                assert view.dialog is None
        assert view.listed == [42, 41]


async def test_layout_by_terminal_size(world: World) -> None:
    def some() -> None:
        world.order(42, "GENERATING", steps=["START", "ERROR"])
        world.order(41, "GENERATING")
        world.order(40, "BUILDING")

    await asyncio.to_thread(some)
    async with live(world, size=(200, 60)) as view:
        await view.go_to(42)
        await view.sees(
            "✗ no worker is alive; 3 orders need attention   1 failed  1 interrupted  1 unstarted   0 running"
        )
        for size, columns, beside, facets in (
            ((200, 60), ["order", "condition▼", "status", "age", "business", "why"], True, True),
            ((120, 40), ["order", "condition▼", "age", "business", "why"], True, False),
            ((80, 24), ["order", "condition▼", "age", "business", "why"], False, False),
            ((40, 15), ["order", "condition▼", "business"], False, False),
            ((60, 20), ["order", "condition▼", "age", "business"], False, False),
        ):
            await view.pilot.resize_terminal(*size)
            await view.until(lambda size=size: tuple(view.app.size) == size)  # type: ignore[misc]
            await view.pilot.pause()
            (heading,) = (line for line in view.lines if "condition▼" in line)
            assert [word for word in heading.split() if word in columns] == columns
            assert bool(view.orders.query_one("OrderDetailPane").region.width) is beside
            assert bool(view.orders.query_one("Facets").region.width) is facets
            await view.press("enter")
            await view.sees("42 FAILED", "fix it: would be retried")
            await view.press("escape")
        # No word is cut in two.
        await view.sees("✗ no worker is alive; 3 orders need attention   1 failed …")
        # Beside the list, the details can be hidden.
        await view.pilot.resize_terminal(120, 40)
        await view.sees("42 FAILED")
        await view.press("d")
        await view.until(lambda: "42 FAILED" not in view.text)
        await view.press("d")
        await view.sees("42 FAILED")
