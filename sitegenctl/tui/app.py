"""The live view: what is heard from backstage goes to the widgets, what an operator wants goes to the operations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, Static

from sitegenctl.config.settings import Settings
from sitegenctl.domain.queue.event import Event
from sitegenctl.errors import SitegenError
from sitegenctl.render.text import neutralise
from sitegenctl.tui.commands import commands
from sitegenctl.tui.controller import ActionController, Busy, complain
from sitegenctl.tui.keys import ACTION_KEYS, DEFAULT_KEYS, KEYS, VIEW_KEYS
from sitegenctl.tui.preferences import Preferences
from sitegenctl.tui.service import DetailReady, EventsHeard, Failed, LiveService, SnapshotReady
from sitegenctl.tui.theme import THEMES
from sitegenctl.tui.views import rows as views
from sitegenctl.tui.views.doctor import DoctorView
from sitegenctl.tui.views.orders import OrdersView
from sitegenctl.tui.views.rows import Heard
from sitegenctl.tui.widgets.header import Header
from sitegenctl.tui.widgets.key_bar import KeyBar
from sitegenctl.tui.widgets.live_table import Cell, LiveTable
from sitegenctl.tui.widgets.summary import Summary
from sitegenctl.tui.widgets.tabs import VIEWS, ViewTabs

if TYPE_CHECKING:
    from textual.driver import Driver

    from sitegenctl.domain.health.check import CheckUp
    from sitegenctl.operations.live_state import LiveSnapshot

#: Events that can be scrolled back to.
_EVENTS_KEPT = 5000

_JUST_NOW = timedelta(seconds=0.9)

_CHANGES = frozenset(binding.id for binding in ACTION_KEYS if binding.id is not None)


class LiveApp(App[int]):
    """Where ``settings`` say; ``now`` is the clock, and ``backstage`` who looks, for tests."""

    CSS_PATH = "style.tcss"
    TITLE = "sitegenctl"
    ENABLE_COMMAND_PALETTE = True
    # Textual's own declarations are of the instance.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-normal"), (150, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (24, "-medium"), (40, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = list(KEYS)

    def __init__(
        self,
        settings: Settings,
        preferences: Preferences,
        *,
        may_act: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        backstage: type[LiveService] = LiveService,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._preferences = preferences
        self._may_act = may_act and not settings.read_only
        self._now = now
        self._orders = OrdersView(
            keys={**DEFAULT_KEYS, **preferences.keys},
            selector=settings.selector,
            may_act=self._may_act,
            id="orders",
        )
        self._backstage = backstage(settings, self.post_message, self._orders.asked, interval=preferences.interval)
        self._doing = ActionController(self, self._orders, self._backstage, settings)
        self._header = Header(context=settings.context, production=settings.is_production, read_only=not self._may_act)
        self._summary = Summary()
        self._tabs = ViewTabs(VIEW_KEYS)
        self._picture: LiveSnapshot | None = None
        self._events: deque[Heard] = deque(maxlen=_EVENTS_KEPT)
        self._heard = 0
        self._told = ""
        self._check_up: CheckUp | None = None
        self._checked_at: datetime | None = None
        self._checks = False
        self.failure: BaseException | None = None

    def get_driver_class(self) -> type[Driver]:
        """Textual's for this platform; for a terminal, one that bears its going."""
        driver = super().get_driver_class()
        if driver.__name__ != "LinuxDriver":
            return driver
        from sitegenctl.tui.terminal_driver import TerminalDriver

        return TerminalDriver

    def compose(self) -> Iterator[Widget]:
        """The line at the top, the summary, the views, and the keys."""
        yield self._header
        yield Static(id="banner", markup=False)
        yield self._summary
        yield self._tabs
        with ContentSwitcher(initial=VIEWS[0], id="views"):
            yield self._orders
            yield LiveTable(
                views.QUEUE_COLUMNS, views.queue_key, self._queue_cells, nothing="the queue is empty", id="queue"
            )
            yield LiveTable(
                views.WORKER_COLUMNS,
                lambda each: each.key,
                self._worker_cells,
                nothing="no worker responds",
                id="workers",
            )
            yield LiveTable(
                views.EVENT_COLUMNS,
                lambda each: each.number,
                views.event_cells,
                nothing="nothing heard yet",
                id="events",
            )
            yield DoctorView(selector=self._settings.selector, id="doctor")
        yield KeyBar()

    def on_mount(self) -> None:
        """Begin to look."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self._preferences.theme or "dark"
        self.set_keymap(self._preferences.keymap)
        self._orders.table.focus()
        self._backstage.start()
        self.set_interval(1.0, self._tick)

    def on_unmount(self) -> None:
        """Leave; a server that keeps somebody waiting is not waited for."""
        self._backstage.stop()

    # --- what is heard ------------------------------------------------------------------------------------

    def on_snapshot_ready(self, message: SnapshotReady) -> None:
        """There is a new picture."""
        if not self.is_running:
            # It comes while the view is being left, and its parts go before it does.
            return
        picture = message.picture
        is_first, self._picture = self._picture is None, picture
        now = self._now()
        self._header.now, self._header.picture = now, picture
        self._summary.show(picture)
        self._orders.tick(now)
        self._orders.show(picture, message.page, message.query)
        if message.detail is not None:
            self._orders.show_detail(message.detail, self._heard_of(message.detail.order_id))
        self._show_banner(picture)
        self._show_view()
        self._show_keys()
        self._tabs.counts = views.counts(picture)
        if is_first:
            self.refresh_bindings()

    def on_detail_ready(self, message: DetailReady) -> None:
        """There is news of the order that is looked at."""
        if not self.is_running:
            return
        self._orders.show_detail(message.detail, self._heard_of(message.detail.order_id))
        self._show_keys()

    def on_events_heard(self, message: EventsHeard) -> None:
        """Events have come in."""
        if not self.is_running:
            return
        for what in message.events:
            self._heard += 1
            self._events.append(Heard(number=self._heard, at=self._now(), what=what))
        if self._view == "events":
            self._show_view()

    def on_failed(self, message: Failed) -> None:
        """It can't go on: whoever started it says why."""
        self.failure = message.error
        self.exit(1)

    def _fatal_error(self) -> None:
        # Textual would print a traceback; whoever started it tells of the failure in one line.
        self.failure = self.failure or self._exception
        self._close_messages_no_wait()

    def _heard_of(self, order_id: int) -> Sequence[Event]:
        return [
            heard.what for heard in self._events if isinstance(heard.what, Event) and heard.what.order_id == order_id
        ]

    def _show_banner(self, picture: LiveSnapshot) -> None:
        banner = self.query_one("#banner", Static)
        told = [f"{source}: {why}" for source, why in picture.unanswered.items()]
        if told and picture.is_kept:
            told.append("what is shown is old; trying again")
        text = neutralise("  ·  ".join(told))
        if text != self._told:
            self._told = text
            banner.update(text)
            banner.set_class(bool(told), "-shown")

    def _tick(self) -> None:
        if not self.screen_stack or not self.is_running:
            return
        now = self._now()
        if self._view == "doctor":
            self._tell_when_checked()
        if self._picture is not None and now - self._picture.taken_at < _JUST_NOW:
            # What has just been looked at has just been drawn.
            return
        self._header.now = now
        if self._view == "orders":
            self._orders.tick(now)
        elif self._view in ("queue", "workers"):
            self.query_one(f"#{self._view}", LiveTable).redraw()

    # --- views --------------------------------------------------------------------------------------------

    @property
    def _view(self) -> str:
        return self.query_one("#views", ContentSwitcher).current or VIEWS[0]

    def action_view(self, view: str) -> None:
        """Show another view."""
        self.query_one("#views", ContentSwitcher).current = view
        self._tabs.current = view
        (self._orders.table if view == "orders" else self.query_one(f"#{view}")).focus()
        self._backstage.wanted.workers = view == "workers"
        if view == "workers":
            self._backstage.look_now()
        if view == "doctor":
            self._check()
        self._show_view()
        self.refresh_bindings()

    def _show_view(self) -> None:
        picture = self._picture
        view = self._view
        if view == "orders" or picture is None:
            return
        if view == "doctor":
            self.query_one(DoctorView).show(self._check_up)
            return
        table = self.query_one(f"#{view}", LiveTable)
        if view == "queue":
            table.show(views.queue_rows(picture.snapshot))
        elif view == "workers":
            table.show(views.processes(picture.roster) if picture.roster is not None else [])
        else:
            table.show([*reversed(self._events)])

    def _queue_cells(self, item: views.QueueItem) -> Sequence[Cell]:
        assert self._picture is not None  # noqa: S101 - it has the rows
        return views.queue_cells(item, self._picture.snapshot, self._now())

    def _worker_cells(self, process: views.Process) -> Sequence[Cell]:
        assert self._picture is not None  # noqa: S101 - it has the rows
        return views.worker_cells(process, self._picture.snapshot, self._settings.queue, self._now())

    @work(group="doctor")
    async def _check(self) -> None:
        from sitegenctl.tui.views.doctor_check import check_up_of

        if self._checks:
            return
        self._checks = True
        self._tell_when_checked()
        try:
            self._check_up = await self._backstage.ask(check_up_of)
            self._checked_at = self._now()
        except SitegenError as exc:
            complain(self, exc.message)
        self._checks = False
        self._tell_when_checked()
        self._show_view()

    def _tell_when_checked(self) -> None:
        age = max(self._now() - self._checked_at, timedelta(0)) if self._checked_at is not None else None
        key = self._preferences.keys.get("look", DEFAULT_KEYS["look"])
        self.query_one(DoctorView).tell_when(age, checks=self._checks, key=key)

    def _show_keys(self) -> None:
        """Dim the key of the fix where it would change nothing."""
        obstacle = self._doing.fix_obstacle(self._picture) if self._may_act else None
        self.query_one(KeyBar).dimmed = frozenset({"fix"} if obstacle else ())

    # --- the list of orders -------------------------------------------------------------------------------

    def on_orders_view_query_changed(self, message: OrdersView.QueryChanged) -> None:
        """Other orders are wanted."""
        self._backstage.wanted.query = message.query
        self._backstage.show_other()

    def on_orders_view_order_chosen(self, message: OrdersView.OrderChosen) -> None:
        """Another order is looked at."""
        self._backstage.wanted.order_id = message.order_id
        self._backstage.show_other()
        if message.order_id is None:
            self._orders.show_detail(None, ())

    def on_orders_view_marked(self) -> None:
        """Other orders are meant."""
        self._show_keys()

    def on_live_table_opened(self, message: LiveTable.Opened) -> None:
        """From another view, go to the order of the row."""
        row = message.table.row
        order_id = getattr(row, "order_id", None) or getattr(getattr(row, "task", None), "order_id", None)
        order_id = order_id or getattr(getattr(row, "what", None), "order_id", None)
        if order_id is not None:
            self.action_view("orders")
            self._orders.search(order_id)

    def action_filter(self) -> None:
        """Type a filter."""
        self.action_view("orders")
        self._orders.open_filter()

    def action_mark(self) -> None:
        """Mark the order under the cursor."""
        self._orders.toggle_mark()

    def action_mark_all(self) -> None:
        """Mark all orders listed."""
        self._orders.mark_all()

    def action_sort(self, step: int) -> None:
        """Sort by another column, or with 0 the other way round."""
        if step:
            self._orders.sort_by_next(step)
        else:
            self._orders.sort_by(self._orders.asked.sort)

    def action_toggle_detail(self) -> None:
        """Show or hide the order beside the list."""
        self._orders.toggle_class("-hidden")

    def action_leave(self) -> None:
        """Leave what is open; from another view go back to the orders."""
        if self._view != "orders":
            self.action_view("orders")
        else:
            self._orders.leave()

    def action_look(self) -> None:
        """Look again now; in the doctor's view, check again."""
        self._backstage.look_now()
        if self._view == "doctor":
            self._check()

    # --- what is done -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something here."""
        if action in ("act", "fix"):
            return self._may_act and self._view == "orders" and not self.screen.is_modal
        if action in ("open_folder", "suspend") and self.is_web:
            # It would be the server's screen, or the server itself.
            return False
        if action in ("mark", "mark_all", "sort", "toggle_detail", "copy_id", "open_site", "open_folder"):
            return self._view == "orders"
        return True

    def action_act(self, name: str) -> None:
        """Show an action's plan for the orders meant."""
        self._doing.act(name, self._picture)

    def action_fix(self) -> None:
        """Show the plan that fixes each of the orders meant by its own condition."""
        self._doing.fix(self._picture)

    def action_copy_id(self) -> None:
        """Copy the orders' numbers."""
        self._doing.copy_numbers()

    def action_open_site(self) -> None:
        """Open the order's site in a browser."""
        self._doing.open_site()

    def action_open_folder(self) -> None:
        """Open the folder of the order's files."""
        self._doing.open_folder()

    def action_help(self) -> None:
        """Show the keys, as they are."""
        from sitegenctl.tui.screens.help import HelpScreen, known_keys

        hidden = set[str]() if self._may_act else {*_CHANGES}
        if self.is_web:
            hidden |= {"open_folder", "suspend"}
        self.push_screen(HelpScreen(known_keys({**DEFAULT_KEYS, **self._preferences.keys}, without=hidden)))

    async def action_quit(self) -> None:
        """Leave; orders that are being moved are first moved to the end of their chunk."""
        if isinstance(self.screen, Busy) and self.screen.is_busy:
            self.screen.action_leave()
            complain(self, "finishing the chunk in hand; quit again then")
            return
        self.exit(0)

    async def action_stop(self) -> None:
        """Ctrl-C leaves, as it does every command; where text is selected it is copied."""
        box = self.focused
        chosen = (box.selected_text if isinstance(box, Input) else None) or self.screen.get_selected_text()
        if chosen:
            self.copy_to_clipboard(chosen)
        else:
            await self.action_quit()

    def action_suspend(self) -> None:
        """Go back to the shell."""
        self._doing.suspend()

    def get_system_commands(self, screen: Screen[object]) -> Iterator[SystemCommand]:
        """What the palette offers."""
        return commands(self)
