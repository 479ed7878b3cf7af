"""Everything about the order under the cursor: verdict and remedy, facts, tasks, its story, and its files as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.style import Style
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age, describe_files
from sitegenctl.domain.diagnosis.timeline import EntryKind, TimelineEntry
from sitegenctl.domain.orders.site import SiteTree
from sitegenctl.domain.queue.event import Event
from sitegenctl.render.command import hint_text
from sitegenctl.render.event import event_detail
from sitegenctl.render.log import MARKS, log_severity
from sitegenctl.render.order import order_facts
from sitegenctl.render.text import hanging, neutralise, shorten
from sitegenctl.tui.theme import palette
from sitegenctl.tui.views.rows import progress, size

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import OrderDetail

_COLOURS = {Severity.FAULT: "error", Severity.UNKNOWN: "warning", Severity.OK: "success"}


class OrderDetailPane(VerticalScroll, can_focus=True):
    """``keys`` are what an action's key is called, by its name; the newest of the story is at the top."""

    DEFAULT_CSS = """
    OrderDetailPane { padding: 0 1; scrollbar-size-vertical: 1; background: $surface; }
    OrderDetailPane:focus { background: $surface-lighten-1; }
    OrderDetailPane > Static { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, keys: Mapping[str, str], selector: str | None, may_act: bool) -> None:
        super().__init__()
        self._keys = keys
        self._selector = selector
        self._may_act = may_act
        self._body = Static(markup=False)
        # What can be clicked on is a key already, and looks like one.
        self._body.auto_links = False
        self._detail: OrderDetail | None = None
        self._heard: Sequence[Event] = ()
        self._written: list[Text] = []

    def compose(self) -> Iterator[Static]:
        """All of it is one text, whose lines are as long as there is room for."""
        yield self._body

    @property
    def detail(self) -> OrderDetail | None:
        """What is shown."""
        return self._detail

    def show(self, detail: OrderDetail | None, heard: Sequence[Event] = (), *, now: datetime | None = None) -> None:
        """Show an order, with the events that were heard of it; None shows nothing."""
        is_another = detail is None or self._detail is None or detail.order_id != self._detail.order_id
        self._detail, self._heard = detail, heard
        if is_another:
            self.scroll_home(animate=False)
        self._draw(now)

    def on_resize(self) -> None:
        """Lines are wrapped anew."""
        self._draw(None)

    def _draw(self, now: datetime | None) -> None:
        if self._detail is None:
            self._write([Text("no order", palette(self.app)["text-muted"])])
            return
        width = max(20, self.size.width - 3)
        self._write([*self._lines(self._detail, width, now or self._detail.read_at)])

    def _write(self, lines: list[Text]) -> None:
        if lines != self._written:
            # Textual would lay the whole screen out anew, and draw all of it: for an age that ticks, each second.
            has_moved = len(lines) != len(self._written)
            self._written = lines
            self._body.update(Text("\n").join(lines), layout=has_moved)

    def _lines(self, detail: OrderDetail, width: int, now: datetime) -> Iterator[Text]:
        colours = palette(self.app)
        verdict, order = detail.verdict, detail.order
        yield Text.assemble(
            (f"{detail.order_id} ", "bold"),
            (verdict.condition.upper(), f"bold {colours[_COLOURS[verdict.severity]]}"),
            ("" if order is None else f"  {neutralise(order.label or 'NULL')}", colours["text-muted"]),
        )
        if order is not None:
            # One line of it, whatever somebody typed there: below stands why the order needs somebody.
            yield Text(shorten(order.business_name or order.customer_name, width), "bold")
            if bar := progress(order) if verdict.condition == "running" else "":
                yield Text(bar, colours["primary"])
        for reason in verdict.evidence:
            yield from _wrapped("· ", reason, width)
        yield from self._remedy(detail, width, colours)
        if detail.problem is not None:
            yield from _wrapped("! ", detail.problem, width, colours["warning"])
        if order is not None:
            yield Text()
            for name, fact in order_facts(order).items():
                for line in hanging(f"{name:<11}", fact, width):
                    yield _labelled(line, name, colours)
        yield from self._tasks(detail, width, now, colours)
        yield from self._story(detail, width, colours)
        yield from _tree(detail, colours)

    def _remedy(self, detail: OrderDetail, width: int, colours: Mapping[str, str]) -> Iterator[Text]:
        if self._may_act and detail.fix is not None:
            key, click = self._keys.get("fix", "m"), {"@click": "app.fix"}
            mark = Style(bold=True, color=colours["background"], bgcolor=colours["accent"], meta=click)
            for place, line in enumerate(
                hanging(f" {key}  fix it: ", neutralise(f"would be {detail.fix.description}"), width)
            ):
                text = Text(line, Style(meta=click))
                if place == 0:
                    text.stylize(mark, 0, len(key) + 2)
                yield text
        elif self._may_act and detail.verdict.severity is not Severity.OK:
            yield from _wrapped("no fix: ", detail.fix_obstacle or "", width, colours["text-muted"])
        remedy = hint_text(detail.verdict.remedy, self._selector)
        if remedy is None:
            return
        for line in hanging("→ ", neutralise(remedy), width):
            yield Text(line, colours["text-muted"])

    def _tasks(self, detail: OrderDetail, width: int, now: datetime, colours: Mapping[str, str]) -> Iterator[Text]:
        yield Text()
        yield _heading(f"tasks {len(detail.tasks) or 'none'}", colours)
        for task in detail.tasks:
            where = f" at {task.worker}" if task.worker else ""
            where = f" place {task.position + 1}" if task.position is not None else where
            age = f", {describe_age(now - task.enqueued_at)} old" if task.enqueued_at else ""
            due = f", due in {describe_age(task.eta - now)}" if task.eta and task.eta > now else ""
            yield from _wrapped("", f"{task.state}{where}, attempt {task.attempt}{age}{due}", width)
            yield from _wrapped("", task.task_id, width, colours["text-muted"])

    def _story(self, detail: OrderDetail, width: int, colours: Mapping[str, str]) -> Iterator[Text]:
        yield Text()
        yield _heading("timeline, UTC, newest first", colours)
        heard = [
            TimelineEntry(
                at=event.at,
                kind=EntryKind.TASK,
                step=event.type,
                status="error" if event.error else "info",
                message=event_detail(event),
            )
            for event in self._heard
        ]
        told = sorted([*detail.story, *heard], key=lambda entry: entry.at.timestamp() if entry.at else 0, reverse=True)
        for entry in told:
            mark = MARKS.get(entry.status.lower(), "·" if entry.kind is EntryKind.TASK else " ")
            if entry.kind is EntryKind.JOURNAL:
                mark = "»"
            day = entry.at is not None and entry.at.date() != detail.read_at.date()
            at = "--:--:--" if entry.at is None else f"{entry.at:%m-%d %H:%M}" if day else f"{entry.at:%H:%M:%S}"
            severity = log_severity(entry.status)
            style = colours[_COLOURS[severity]] if severity is not Severity.OK else ""
            prefix = f"{at} {mark} {neutralise(entry.step)} "
            for index, line in enumerate(hanging(prefix, neutralise(entry.message), width)):
                text = Text(line, style)
                if index == 0 and not style:
                    text.stylize(colours["text-muted"], 0, len(at))
                yield text


def _tree(detail: OrderDetail, colours: Mapping[str, str]) -> Iterator[Text]:
    yield Text()
    files = detail.files
    told = "files not known" if files is None else "files none"
    if files is not None and (files.count or not files.complete):
        told = f"{describe_files(files)}, {size(files.size)}"
    yield _heading(told, colours)
    if detail.tree is not None:
        yield from _branches(detail.tree, colours)


def _branches(tree: SiteTree, colours: Mapping[str, str]) -> Iterator[Text]:
    shown: tuple[str, ...] = ()
    for entry in tree.entries:
        *folders, name = entry.path.split("/")
        for depth, folder in enumerate(folders):
            if shown[: depth + 1] != tuple(folders[: depth + 1]):
                yield Text(f"{'  ' * depth}{neutralise(folder)}/", colours["secondary"])
        shown = tuple(folders)
        note = size(entry.size) if entry.size is not None else "a link"
        yield Text.assemble(f"{'  ' * len(folders)}{neutralise(name)}  ", (note, colours["text-muted"]))
    if not tree.complete:
        yield Text("… and more", colours["text-muted"])


def _heading(text: str, colours: Mapping[str, str]) -> Text:
    return Text(text, f"bold {colours['secondary']}")


def _wrapped(prefix: str, text: str, width: int, style: str = "") -> Iterator[Text]:
    for line in hanging(prefix, neutralise(text), width):
        yield Text(line, style)


def _labelled(line: str, name: str, colours: Mapping[str, str]) -> Text:
    text = Text(line)
    if line.startswith(name):
        text.stylize(colours["text-muted"], 0, len(name))
    return text
