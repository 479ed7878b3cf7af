"""What the action keys do: decide whether there is a plan to show for the selected orders, and show it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from textual.app import App

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.plans.fix import fix_obstacle
from sitegenctl.tui.actions import ACTIONS, FIX
from sitegenctl.tui.service import LiveService
from sitegenctl.tui.texts import warn
from sitegenctl.tui.views.orders import OrdersView

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot
    from sitegenctl.tui.screens.action import ActionScreen

#: Finished orders are hollow or not; their files are counted only when the plan is made.
_MAYBE_HOLLOW = (Condition.DONE, Condition.HOLLOW)


class ActionController:
    """Shows plans over ``app`` for the orders selected in ``orders``."""

    def __init__(self, app: App[int], orders: OrdersView, service: LiveService, settings: Settings) -> None:
        self._app = app
        self._orders = orders
        self._service = service
        self._settings = settings
        self._screen: ActionScreen | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an action is being executed."""
        return self._screen is not None and self._screen.is_busy

    def interrupt(self) -> bool:
        """Interrupt the action that is being executed; False if there is none."""
        if self._screen is None or not self._screen.is_busy:
            return False
        self._screen.action_leave()
        return True

    def act(self, name: str, live: LiveSnapshot | None) -> None:
        """Show the plan of an action, or why there is none."""
        from sitegenctl.tui.screens.action import ActionScreen

        action, order_ids = ACTIONS[name], self._orders.selected
        if action is FIX and (obstacle := self.fix_obstacle(live)) is not None:
            warn(self._app, f"no fix: {obstacle}")
        elif live is not None and live.is_stale:
            warn(self._app, f"not now: {'; '.join(live.errors.values())}")
        elif order_ids:
            self._screen = ActionScreen(action, order_ids, self._service, self._settings)
            self._app.push_screen(self._screen, self._after_fix if action is FIX else self._after_action)

    def fix_obstacle(self, live: LiveSnapshot | None) -> str | None:
        """The reason if a fix would change nothing; None if it would, or if that is not known yet."""
        if live is None or live.is_stale:
            return None
        order_ids, detail = self._orders.selected, self._orders.pane.detail
        if detail is not None and order_ids == [detail.order_id]:
            return detail.fix_obstacle
        selected = frozenset(order_ids)
        rows = [row for row in self._orders.table.rows if row.order_id in selected]
        if not rows or any(row.verdict.condition in _MAYBE_HOLLOW for row in rows):
            return None
        # Waiting and cancelled orders are listed, but they are not in the snapshot.
        orders = {row.order_id: row.order for row in rows if row.order is not None}
        return fix_obstacle(replace(live.snapshot, orders=orders), order_ids)

    def _after_action(self, has_changed: bool | None) -> None:
        if has_changed:
            self._orders.mark(())
            self._service.poll_now()

    def _after_fix(self, has_changed: bool | None) -> None:
        if has_changed and self._orders.table.marked:
            self._orders.go_to_fault(datetime.now(UTC))
        self._after_action(has_changed)
