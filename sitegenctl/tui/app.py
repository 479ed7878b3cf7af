"""The live view's app: it routes data from the service to the widgets, and their messages to service and actions."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual import actions
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.plans.fix import fix_obstacle
from sitegenctl.render.text import neutralise
from sitegenctl.tui.frame import Header, KeyBar, Summary, ViewTabs
from sitegenctl.tui.preferences import APP_KEYS, DEFAULT_KEYS, KEYS, Preferences
from sitegenctl.tui.service import DetailReady, EventsReceived, LiveService, ServiceFailed, SnapshotReady, ViewData
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.views.orders import OrdersView
from sitegenctl.tui.views.view import LogEntry, View, ViewContext
from sitegenctl.tui.widgets.look import THEMES, show_text, warn

if TYPE_CHECKING:
    from textual.driver import Driver

    from sitegenctl.operations.live_state import LiveSnapshot
    from sitegenctl.tui.screens.action import ActionScreen

#: Number of events to keep.
_MAX_EVENTS = 5000

#: Do not redraw ages when new data has just been drawn.
_JUST_DRAWN = timedelta(seconds=0.9)

#: Finished orders are hollow or not; their files are counted only when the plan is made.
_MAYBE_HOLLOW = (Condition.DONE, Condition.HOLLOW)


class LiveApp(App[int]):
    """``now`` is the clock; ``service`` is replaced by tests."""

    CSS_PATH = "style.tcss"
    TITLE = "sitegenctl"
    # Textual declares these as instance attributes.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (150, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (24, "-medium"), (40, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = list(APP_KEYS)

    def __init__(
        self,
        settings: Settings,
        preferences: Preferences,
        *,
        may_act: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        service: type[LiveService] = LiveService,
    ) -> None:
        super().__init__()
        self._preferences = preferences
        self._keys = {**DEFAULT_KEYS, **preferences.keys}
        self._may_act = may_act and not settings.read_only
        self._now = now
        self.service = service(settings, self.post_message, OrdersView.FIRST_PAGE, interval=preferences.interval)
        context = ViewContext(settings=settings, service=self.service, keys=self._keys, may_act=self._may_act)
        self.views: dict[str, View[Any]] = {view.NAME: view(context) for view in VIEWS}
        self.orders = next(view for view in self.views.values() if isinstance(view, OrdersView))
        self._settings = settings
        self._action_screen: ActionScreen | None = None
        self._header = Header(context=settings.context, production=settings.is_production, read_only=not self._may_act)
        self._summary = Summary()
        self._tabs = ViewTabs()
        self._data: ViewData | None = None
        self._events: deque[LogEntry] = deque(maxlen=_MAX_EVENTS)
        self._event_count = 0
        #: Why the view ended, if it failed.
        self.failure: BaseException | None = None

    def get_driver_class(self) -> type[Driver]:
        driver = super().get_driver_class()
        if driver.__name__ != "LinuxDriver":
            return driver
        from sitegenctl.tui.terminal_driver import TerminalDriver

        return TerminalDriver

    def compose(self) -> Iterator[Widget]:
        yield self._header
        yield Static(id="banner", markup=False)
        yield self._summary
        yield self._tabs
        with ContentSwitcher(initial=VIEWS[0].NAME, id="views"):
            yield from self.views.values()
        yield KeyBar()

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self._preferences.theme or "dark"
        self.set_keymap(self._preferences.keymap)
        self.view.focus()
        self.service.start()
        self.set_interval(1.0, self._tick)

    def on_unmount(self) -> None:
        self.service.stop()

    # --- data from the service ----------------------------------------------------------------------------

    @property
    def live(self) -> LiveSnapshot | None:
        """The last snapshot."""
        return self._data.live if self._data is not None else None

    def on_snapshot_ready(self, message: SnapshotReady) -> None:
        if not self.is_running:
            # Widgets are removed before the last message arrives.
            return
        is_first, self._data = self._data is None, message.data
        live = message.data.live
        self._header.now, self._header.live = self._now(), live
        self._summary.live = live
        self._tabs.counts = {name: view.count(live) for name, view in self.views.items()}
        self._show_banner(live)
        self._update_view()
        if is_first:
            self.refresh_bindings()

    def on_detail_ready(self, message: DetailReady) -> None:
        if self.is_running and self._data is not None:
            self._data = replace(self._data, detail=message.detail)
            self._update_view()

    def on_events_received(self, message: EventsReceived) -> None:
        if not self.is_running:
            return
        for item in message.events:
            self._event_count += 1
            self._events.append(LogEntry(number=self._event_count, at=self._now(), item=item))
        self.view.events = self._events

    def on_service_failed(self, message: ServiceFailed) -> None:
        self.failure = message.error
        self.exit(1)

    def _fatal_error(self) -> None:
        # The command reports the error in one line; Textual would print a traceback.
        self.failure = self.failure or self._exception
        self._close_messages_no_wait()

    def _show_banner(self, live: LiveSnapshot) -> None:
        problems = [f"{source}: {error}" for source, error in live.errors.items()]
        if problems and live.is_stale:
            problems.append("showing old data; retrying")
        banner = self.query_one("#banner", Static)
        show_text(banner, neutralise("  ·  ".join(problems)))
        banner.set_class(bool(problems), "-shown")

    def _tick(self) -> None:
        if not self.screen_stack or not self.is_running:
            return
        now = self._now()
        if self.live is None or now - self.live.taken_at >= _JUST_DRAWN:
            self._header.now = self.view.now = now

    # --- views --------------------------------------------------------------------------------------------

    @property
    def view(self) -> View[Any]:
        """The view that is shown."""
        return self.views[self._tabs.current]

    def _update_view(self) -> None:
        view = self.view
        view.now = self._now()
        view.data = self._data
        self._dim_fix()

    def action_view(self, name: str) -> None:
        self.query_one("#views", ContentSwitcher).current = name
        self._tabs.current = name
        view = self.view
        view.focus()
        view.events = self._events
        self._update_view()
        view.reload()
        self.service.request.worker_details = view.WORKER_DETAILS
        if view.WORKER_DETAILS:
            self.service.poll_now()
        self.refresh_bindings()

    def action_filter(self) -> None:
        if not self.view.open_filter():
            self.action_view(self.orders.NAME)
            self.orders.open_filter()

    def action_leave(self) -> None:
        if not self.view.leave():
            self.action_view(VIEWS[0].NAME)

    def action_refresh(self) -> None:
        self.service.poll_now()
        self.view.reload()

    # --- messages from the views --------------------------------------------------------------------------

    def on_view_order_opened(self, message: View.OrderOpened) -> None:
        self.action_view(self.orders.NAME)
        self.orders.search(message.order_id)

    def on_orders_view_query_changed(self, message: OrdersView.QueryChanged) -> None:
        self.service.request.query = message.query
        self.service.request_changed()

    def on_orders_view_order_highlighted(self, message: OrdersView.OrderHighlighted) -> None:
        self.service.request.order_id = message.order_id
        self.service.request_changed()

    def on_orders_view_selection_changed(self) -> None:
        self._dim_fix()

    # --- actions ------------------------------------------------------------------------------------------

    def action_act(self, name: str) -> None:
        """Show the plan of an action for the selected orders, or why there is none."""
        from sitegenctl.tui.screens.action import ACTIONS, ActionScreen

        order_ids = self.view.selected
        if name == "fix" and (obstacle := self._fix_obstacle()) is not None:
            warn(self, f"no fix: {obstacle}")
        elif self.live is not None and self.live.is_stale:
            warn(self, f"not now: {'; '.join(self.live.errors.values())}")
        elif order_ids:
            self._action_screen = ActionScreen(
                ACTIONS[name], order_ids, self.service, self._settings, operation=self.view.operation
            )
            self.push_screen(self._action_screen, partial(self._after_action, name))

    def _after_action(self, name: str, has_changed: bool | None) -> None:
        if has_changed:
            if name == "fix" and self.orders.table.marked:
                self.orders.go_to_fault(datetime.now(UTC))
            self.orders.mark(())
            self.service.poll_now()

    def _fix_obstacle(self) -> str | None:
        """The reason if a fix would change nothing; None if it would, or if that is not known yet."""
        live = self.live
        if live is None or live.is_stale:
            return None
        order_ids, detail = self.orders.selected, self.orders.pane.detail
        if detail is not None and order_ids == [detail.order_id]:
            return detail.fix_obstacle
        selected = frozenset(order_ids)
        rows = [row for row in self.orders.table.rows if row.order_id in selected]
        if not rows or any(row.verdict.condition in _MAYBE_HOLLOW for row in rows):
            return None
        # Waiting and cancelled orders are listed, but they are not in the snapshot.
        orders = {row.order_id: row.order for row in rows if row.order is not None}
        return fix_obstacle(replace(live.snapshot, orders=orders), order_ids)

    def _dim_fix(self) -> None:
        """Dim the fix key if it would change nothing."""
        is_useless = self._may_act and self._fix_obstacle() is not None
        self.query_one(KeyBar).dimmed = frozenset({"fix"} if is_useless else ())

    @property
    def _is_acting(self) -> bool:
        return self._action_screen is not None and self._action_screen.is_busy

    # --- keys and commands --------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "act":
            return self._may_act
        # In a browser there is no shell to suspend to.
        return not (action == "suspend" and self.is_web)

    def action_help(self) -> None:
        from sitegenctl.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen([binding for binding in KEYS if self._is_available(binding)], self._keys))

    def _is_available(self, binding: Binding) -> bool:
        """Whether a key does something in this session, in some view."""
        namespace, action, parameters = actions.parse(binding.action)
        nodes: Sequence[DOMNode] = [self] if namespace == "app" or binding in APP_KEYS else [*self.views.values()]
        return all(node.check_action(action, parameters) for node in nodes)

    def get_system_commands(self, screen: Screen[object]) -> Iterator[SystemCommand]:
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.id in DEFAULT_KEYS:
                run = partial(self.run_action, binding.action, default_namespace=active.node)
                yield SystemCommand(binding.description.capitalize(), binding.tooltip, run)
        for theme in THEMES:
            yield SystemCommand(
                f"Theme: {theme.name}", "Change the colours", partial(setattr, self, "theme", theme.name)
            )

    async def action_quit(self) -> None:
        """Quit; an action under way completes its current batch first."""
        if self._action_screen is not None and self._action_screen.is_busy:
            self._action_screen.action_leave()
            warn(self, "completing the current batch; quit again afterwards")
        else:
            self.exit(0)

    async def action_interrupt(self) -> None:
        """Copy the selected text, or else quit."""
        focused = self.focused
        selected = (focused.selected_text if isinstance(focused, Input) else None) or self.screen.get_selected_text()
        if selected:
            self.copy_to_clipboard(selected)
        else:
            await self.action_quit()

    def action_suspend(self) -> None:
        if self._is_acting:
            # Rows are locked, and others wait for them.
            warn(self, "cannot suspend while an action is running")
        elif os.getsid(0) == os.getpgrp():
            warn(self, "cannot suspend: no shell could resume this process")
        else:
            # Stop the whole job: a parent process must not keep the terminal.
            os.killpg(os.getpgrp(), signal.SIGTSTP)
