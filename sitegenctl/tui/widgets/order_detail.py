"""Everything about one order: condition, fix, facts, tasks, timeline, and its files as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.containers import VerticalScroll
from textual.reactive import var
from textual.widgets import Static

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.describe import describe_age, describe_files
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import EntryKind, TimelineEntry
from sitegenctl.domain.queue.event import Event
from sitegenctl.render.command import hint_text
from sitegenctl.render.log import MARKS, event_detail, log_severity
from sitegenctl.render.order import order_facts
from sitegenctl.render.text import hanging, neutralise, shorten
from sitegenctl.tui.widgets.look import file_size, palette, progress_bar

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import OrderDetail

_COLOURS = {Severity.FAULT: "error", Severity.UNKNOWN: "warning", Severity.OK: "success"}


class OrderDetailPane(VerticalScroll, can_focus=True):
    """``keys`` are the keys of the bindings by their ids. Set ``now`` and ``events`` before ``detail``."""

    DEFAULT_CSS = """
    OrderDetailPane { padding: 0 1; scrollbar-size-vertical: 1; background: $surface; }
    OrderDetailPane:focus { background: $surface-lighten-1; }
    OrderDetailPane > Static { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    detail: var[OrderDetail | None] = var(None, init=False, always_update=True)

    def __init__(self, *, keys: Mapping[str, str], selector: str | None, may_act: bool) -> None:
        super().__init__()
        self._keys = keys
        self._selector = selector
        self._may_act = may_act
        self._text = Static(markup=False)
        self._text.auto_links = False  # what can be clicked looks like a key
        self._lines: list[Text] = []
        self.events: Sequence[Event] = ()
        self.now: datetime | None = None

    def compose(self) -> Iterator[Static]:
        yield self._text

    def watch_detail(self, old: OrderDetail | None, new: OrderDetail | None) -> None:
        if new is None or old is None or new.order_id != old.order_id:
            self.scroll_home(animate=False)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        lines = [Text("no order", palette(self.app)["text-muted"])]
        if self.detail is not None:
            lines = [*self._draw_order(self.detail, max(20, self.size.width - 3))]
        if lines != self._lines:
            # A new layout redraws the whole screen: an age that changes every second must not cause one.
            has_new_height = len(lines) != len(self._lines)
            self._lines = lines
            self._text.update(Text("\n").join(lines), layout=has_new_height)

    def _draw_order(self, detail: OrderDetail, width: int) -> Iterator[Text]:
        colours = palette(self.app)
        diagnosis, order = detail.verdict, detail.order
        yield Text.assemble(
            (f"{detail.order_id} ", "bold"),
            (diagnosis.condition.upper(), f"bold {colours[_COLOURS[diagnosis.severity]]}"),
            ("" if order is None else f"  {neutralise(order.label or 'NULL')}", colours["text-muted"]),
        )
        if order is not None:
            # Customers typed the name: it gets one line, so that it cannot push the evidence away.
            yield Text(shorten(order.business_name or order.customer_name, width), "bold")
            if diagnosis.condition is Condition.RUNNING and (bar := progress_bar(order)):
                yield Text(bar, colours["primary"])
        for reason in diagnosis.evidence:
            yield from _wrapped("· ", reason, width)
        yield from self._draw_fix(detail, width, colours)
        if detail.problem is not None:
            yield from _wrapped("! ", detail.problem, width, colours["warning"])
        if order is not None:
            yield Text()
            for name, fact in order_facts(order, detail.promise).items():
                for index, line in enumerate(hanging(f"{name:<11}", fact, width)):
                    text = Text(line)
                    if index == 0:
                        text.stylize(colours["text-muted"], 0, len(name))
                    yield text
        yield from self._draw_tasks(detail, width, colours)
        yield from self._draw_timeline(detail, width, colours)
        yield from _draw_files(detail, colours)

    def _draw_fix(self, detail: OrderDetail, width: int, colours: Mapping[str, str]) -> Iterator[Text]:
        if self._may_act and detail.fix is not None:
            key = self._keys["fix"]
            click = Style(meta={"@click": "app.act('fix')"})
            lines = hanging(f" {key}  fix it: ", neutralise(f"would be {detail.fix.description}"), width)
            for index, line in enumerate(lines):
                text = Text(line, click)
                if index == 0:
                    label = Style(bold=True, color=colours["background"], bgcolor=colours["accent"])
                    text.stylize(label + click, 0, len(key) + 2)
                yield text
        elif self._may_act and detail.verdict.severity is not Severity.OK:
            yield from _wrapped("no fix: ", detail.fix_obstacle or "", width, colours["text-muted"])
        remedy = hint_text(detail.verdict.remedy, self._selector)
        if remedy is not None:
            yield from _wrapped("→ ", remedy, width, colours["text-muted"])

    def _draw_tasks(self, detail: OrderDetail, width: int, colours: Mapping[str, str]) -> Iterator[Text]:
        now = self.now or detail.read_at
        yield Text()
        yield _heading(f"{len(detail.tasks) or 'no'} {'task' if len(detail.tasks) == 1 else 'tasks'}", colours)
        for task in detail.tasks:
            place = f" at {task.worker}" if task.worker else ""
            place = f" at position {task.position + 1}" if task.position is not None else place
            orders = {detail.order_id: detail.order} if detail.order is not None else {}
            age_then = Snapshot(taken_at=detail.read_at + detail.clock_offset, orders=orders).age_of(task)
            age = f", {describe_age(age_then + (now - detail.read_at))} old" if age_then is not None else ""
            wait = task.eta - now - detail.clock_offset if task.eta else timedelta(0)
            due = f", due in {describe_age(wait)}" if wait > timedelta(0) else ""
            yield from _wrapped("", f"{task.state}{place}, attempt {task.attempt}{age}{due}", width)
            if detail.forecast is not None and (forecast := detail.forecast.describe(task)) is not None:
                yield from _wrapped("", forecast, width)
            yield from _wrapped("", task.task_id, width, colours["text-muted"])

    def _draw_timeline(self, detail: OrderDetail, width: int, colours: Mapping[str, str]) -> Iterator[Text]:
        yield Text()
        yield _heading("timeline, UTC, newest first", colours)
        events = [
            TimelineEntry(
                at=event.at,
                kind=EntryKind.TASK,
                step=event.type,
                status="error" if event.error else "info",
                message=event_detail(event),
            )
            for event in self.events
        ]
        entries = [*detail.story, *events]
        for entry in sorted(entries, key=lambda entry: entry.at.timestamp() if entry.at else 0, reverse=True):
            mark = MARKS.get(entry.status.lower(), "·" if entry.kind is EntryKind.TASK else " ")
            if entry.kind is EntryKind.JOURNAL:
                mark = "»"
            time = "--:--:--"
            if entry.at is not None:
                is_today = entry.at.date() == detail.read_at.date()
                time = f"{entry.at:%H:%M:%S}" if is_today else f"{entry.at:%m-%d %H:%M}"
            severity = log_severity(entry.status)
            style = colours[_COLOURS[severity]] if severity is not Severity.OK else ""
            prefix = f"{time} {mark} {neutralise(entry.step)} "
            for index, line in enumerate(hanging(prefix, neutralise(entry.message), width)):
                text = Text(line, style)
                if index == 0 and not style:
                    text.stylize(colours["text-muted"], 0, len(time))
                yield text
        if detail.rows_left_out:
            more = f"{detail.rows_left_out} earlier rows; sitegenctl logs {detail.order_id} --last 0 shows them"
            yield from _wrapped("… ", more, width, colours["text-muted"])


def _draw_files(detail: OrderDetail, colours: Mapping[str, str]) -> Iterator[Text]:
    yield Text()
    files = detail.files
    heading = "files unknown" if files is None else "no files"
    if files is not None and (files.count or not files.complete):
        heading = f"{describe_files(files)}, {file_size(files.size)}"
    yield _heading(heading, colours)
    if detail.tree is None:
        return
    previous: list[str] = []
    for entry in detail.tree.entries:
        *folders, name = entry.path.split("/")
        for depth, folder in enumerate(folders):
            if previous[: depth + 1] != folders[: depth + 1]:
                yield Text(f"{'  ' * depth}{neutralise(folder)}/", colours["secondary"])
        previous = folders
        note = file_size(entry.size) if entry.size is not None else "link"
        yield Text.assemble(f"{'  ' * len(folders)}{neutralise(name)}  ", (note, colours["text-muted"]))
    if not detail.tree.complete:
        yield Text("… and more", colours["text-muted"])


def _heading(text: str, colours: Mapping[str, str]) -> Text:
    return Text(text, f"bold {colours['secondary']}")


def _wrapped(prefix: str, text: str, width: int, style: str = "") -> Iterator[Text]:
    for line in hanging(prefix, neutralise(text), width):
        yield Text(line, style)
