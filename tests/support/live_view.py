"""Drive the live view with keys and clicks, over real servers, and read its screen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from textual.pilot import Pilot
from textual.widgets import Input, Static

from sitegenctl.domain.diagnosis.listing import ListedOrder
from sitegenctl.operations.live_state import OrderDetail
from sitegenctl.tui.app import LiveApp
from sitegenctl.tui.preferences import Preferences
from sitegenctl.tui.screens.action import ActionScreen
from sitegenctl.tui.views.orders import OrdersView
from sitegenctl.tui.widgets.live_table import LiveTable
from tests.support.world import World

T = TypeVar("T")

PATIENCE = 60.0

#: The shortest poll interval: tests wait for polls.
QUICK = 0.2


async def eventually(condition: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Wait until the condition returns something true, and return that; fail after the time limit."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {condition}")
        await asyncio.sleep(0.02)


@dataclass
class Live:
    """A running live view."""

    app: LiveApp
    pilot: Pilot[int]

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[str]:
        """The lines of the screen."""
        screen = self.app.screen
        # Includes what is below a modal screen.
        return [strip.text.rstrip() for strip in screen._compositor.render_strips(self.app.size)]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def sees(self, *texts: str, patience: float = PATIENCE) -> str:
        """Wait until all texts are on the screen at once, and return the screen."""
        deadline = time.monotonic() + patience
        while missing := [each for each in texts if each not in self.text]:
            assert time.monotonic() < deadline, f"not on the screen: {missing}\n{self.text}"
            await asyncio.sleep(0.05)  # each read draws the whole screen
        return self.text

    async def until(self, condition: Callable[[], T], *, patience: float = PATIENCE) -> T:
        """Wait for a condition; a failure shows the screen."""
        try:
            return await eventually(condition, patience=patience)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.text}") from None

    @property
    def orders(self) -> OrdersView:
        return self.app.query_one(OrdersView)

    @property
    def detail(self) -> OrderDetail | None:
        """The order whose details are shown."""
        return self.orders.pane.detail

    @property
    def table(self) -> LiveTable[ListedOrder]:
        return self.orders.table

    @property
    def listed(self) -> list[int]:
        """The listed orders."""
        return [row.order_id for row in self.table.rows]

    @property
    def marked(self) -> set[int]:
        return {key for key in self.table.marked if isinstance(key, int)}

    @property
    def banner(self) -> str:
        """Text of the banner, or nothing if it is hidden."""
        shown = self.app.screen_stack[0].query_one("#banner", Static)
        return str(shown.render()) if shown.display else ""

    @property
    def filter(self) -> Input:
        return self.orders.query_one("#filter", Input)

    def rows_of(self, view: str) -> list[str]:
        """The lines of a view's table on the screen, without its headings."""
        region = self.app.query_one(f"#{view}").region
        return [line for line in self.lines[region.y + 1 : region.bottom] if line.strip()]

    @property
    def dialog(self) -> ActionScreen | None:
        return self.app.screen if isinstance(self.app.screen, ActionScreen) else None

    def part(self, part: str) -> str:
        """Text of a part of the dialog: title, notes or keys."""
        return str(self.app.screen.query_one(f"#{part}", Static).render())

    @property
    def outcomes(self) -> list[str]:
        """Rows of the dialog: order, word and details."""
        assert self.dialog is not None
        table = self.dialog.query_one("#outcomes", LiveTable)
        return [" | ".join(cell.text for cell in table.cells_of(row)) for row in table.rows]

    # --- doing --------------------------------------------------------------------------------------------

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """Replace the filter."""
        await self.pilot.press("slash")
        self.filter.value = ""
        await self.pilot.press(*text)

    async def go_to(self, order_id: int) -> None:
        """Move the cursor to an order, and wait for its details."""
        await self.until(lambda: order_id in self.listed)
        self.table.go_to(order_id)
        await self.until(lambda: self.detail is not None and self.detail.order_id == order_id)

    async def act(self, key: str, title: str) -> None:
        """Press the key of an action, and wait for its plan."""
        await self.press(key)
        await self.until(lambda: self.dialog is not None and title in self.part("title"))


@contextlib.asynccontextmanager
async def live(
    world: World,
    *,
    size: tuple[int, int] = (120, 40),
    keys: Mapping[str, str] | None = None,
    theme: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    waits: bool = True,
    may_act: bool = True,
    **flags: Any,
) -> AsyncIterator[Live]:
    """Run the live view, and wait for its first data."""
    app = LiveApp(
        world.settings(**flags),
        Preferences(interval=QUICK, keys=keys or {}, theme=theme),
        now=now,
        may_act=may_act,
    )
    async with app.run_test(size=size, notifications=True) as pilot:
        view = Live(app=app, pilot=pilot)
        if waits:
            await view.until(lambda: not view.orders.is_loading and "reading" not in view.text)
            await pilot.pause()
        yield view


def status(view: Live) -> str:
    return str(view.orders.query_one("#status").render())


def many_orders(world: World, count: int, status: str = "PAID") -> None:
    """Add ``count`` orders at once."""
    world.sql(
        "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)"
        " SELECT n, 'Customer ' || n, 'c@example.com', $2::text::siteorderstatus, 1,"
        "        timezone('utc', now()), timezone('utc', now()) - interval '3 hours'"
        "   FROM generate_series(1, $1::int) n",
        count,
        status,
    )
