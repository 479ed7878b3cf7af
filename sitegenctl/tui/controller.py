"""What keys do with the orders meant: those that are marked, else the one under the cursor.

What changes them is shown as a plan by a screen of its own; here it is decided which plan, and whether there is one.
"""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from textual.app import App

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.plans.fix import fix_obstacle
from sitegenctl.render.text import neutralise
from sitegenctl.tui.actions import ACTIONS
from sitegenctl.tui.service import LiveService
from sitegenctl.tui.views.orders import OrdersView

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot


#: Conditions of finished orders whose files are counted only when the fix is planned.
_MAYBE_HOLLOW = (Condition.DONE, Condition.HOLLOW)


@runtime_checkable
class Busy(Protocol):
    """A screen that must not be left in the middle of what it does."""

    @property
    def is_busy(self) -> bool:
        """Whether it is at it."""
        ...

    def action_leave(self) -> None:
        """End it in good order."""
        ...


def complain(app: App[int], message: str) -> None:
    """Say why something can't be done."""
    app.notify(neutralise(message), severity="warning", markup=False)


class ActionController:
    """Acts for ``app`` on what ``orders`` shows."""

    def __init__(self, app: App[int], orders: OrdersView, backstage: LiveService, settings: Settings) -> None:
        self._app = app
        self._orders = orders
        self._backstage = backstage
        self._settings = settings

    def act(self, name: str, picture: LiveSnapshot | None) -> None:
        """Show an action's plan; not for what is only an old picture."""
        from sitegenctl.tui.screens.action import ActionScreen

        orders = self._orders.meant
        if not orders:
            return
        if picture is not None and picture.is_kept:
            complain(self._app, f"not now: {'; '.join(picture.unanswered.values())}")
            return
        plan = ActionScreen(
            ACTIONS[name], orders, self._backstage, place=self._settings.context, selector=self._settings.selector
        )
        self._app.push_screen(plan, self._has_fixed if name == "fix" else self._has_acted)

    def fix(self, picture: LiveSnapshot | None) -> None:
        """Show the plan that fixes each order by its own condition, or say why it would change nothing."""
        obstacle = self.fix_obstacle(picture)
        if obstacle is None:
            self.act("fix", picture)
        else:
            complain(self._app, f"no fix: {obstacle}")

    def fix_obstacle(self, picture: LiveSnapshot | None) -> str | None:
        """Why a fix would change nothing; None where it would, or where that is not known yet."""
        if picture is None or picture.is_kept:
            return None
        order_ids, detail = self._orders.meant, self._orders.detail
        if detail is not None and order_ids == [detail.order_id]:
            return detail.fix_obstacle
        chosen = frozenset(order_ids)
        listed = [each for each in self._orders.table.rows if each.order_id in chosen]
        if not listed or any(each.verdict.condition in _MAYBE_HOLLOW for each in listed):
            return None
        # Waiting and cancelled orders are in the list, but not in the snapshot.
        orders = {each.order_id: each.order for each in listed if each.order is not None}
        return fix_obstacle(replace(picture.snapshot, orders=orders), order_ids)

    def copy_numbers(self) -> None:
        """Copy the orders' numbers."""
        numbers = " ".join(map(str, self._orders.meant))
        self._app.copy_to_clipboard(numbers)
        self._app.notify(f"copied {numbers[:40]}", markup=False)

    def open_site(self) -> None:
        """Open the order's site in a browser."""
        detail = self._orders.detail
        url = detail.order.site_url if detail is not None and detail.order is not None else None
        if url is None or not url.startswith(("http://", "https://")):
            complain(self._app, "it has no site to open")
        elif self._app.is_web or _has_screen():
            self._app.open_url(url)
        else:
            self._give_instead(url)

    def open_folder(self) -> None:
        """Open the folder of the order's files."""
        row = self._orders.table.row
        base = self._settings.sites_dir
        folder = base / f"project_{row.order_id}" if row is not None and base is not None else None
        if folder is None or folder.is_symlink() or not folder.is_dir():
            complain(self._app, "it has no folder to open")
        elif not _has_screen():
            self._give_instead(str(folder.absolute()))
        else:
            webbrowser.open(folder.absolute().as_uri())

    def suspend(self) -> None:
        """Go back to the shell; not while rows are locked that others wait for."""
        if isinstance(self._app.screen, Busy) and self._app.screen.is_busy:
            complain(self._app, "not while orders are being moved")
        elif os.getsid(0) == os.getpgrp():
            complain(self._app, "no shell has started this one to bring it back")
        else:
            # All of the job: whatever started this must not wait for it in the foreground.
            os.killpg(os.getpgrp(), signal.SIGTSTP)

    def _give_instead(self, address: str) -> None:
        """Give somebody who is on another machine what they can open there."""
        self._app.copy_to_clipboard(address)
        complain(self._app, f"nothing here can open it; copied {address}")

    def _has_acted(self, has: bool | None) -> None:
        if has:
            self._orders.unmark()
            self._backstage.look_now()

    def _has_fixed(self, has: bool | None) -> None:
        if has and self._orders.table.marked:
            self._orders.go_to_fault(datetime.now(UTC))
        self._has_acted(has)


def _has_screen() -> bool:
    """Whether something can be opened beside this terminal: a browser of text would be opened in it."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
