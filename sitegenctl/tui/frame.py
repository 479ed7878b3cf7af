"""The lines around the views: header, summary and tabs above them, keys below. They only show data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.reactive import reactive, var
from textual.widget import Widget
from textual.widgets import Input

from sitegenctl.domain.diagnosis.condition import Condition, Severity, Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.overview import describe_faults
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.statistics.throughput import SPAN, merge_bars
from sitegenctl.render.text import fit, neutralise
from sitegenctl.tui.preferences import KEYS
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.widgets.look import palette

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot

#: Names of the sources, each form shorter than the one before. The first form includes latencies.
_FORMS: tuple[Mapping[Source, str], ...] = (
    {Source.DATABASE: "database", Source.BROKER: "redis", Source.WORKERS: "workers", Source.FILES: "files"},
    {Source.DATABASE: "db", Source.BROKER: "redis", Source.WORKERS: "work", Source.FILES: "files"},
    {Source.DATABASE: "d", Source.BROKER: "r", Source.WORKERS: "w", Source.FILES: "f"},
)

#: Spaces around the context's name and before the age.
_SPACES = 3

#: Minimum widths for the word READ-ONLY, and for latencies.
_READ_ONLY_WIDTH, _LATENCY_WIDTH = 50, 110

#: Shorten the names of the sources before the context's name gets shorter than this.
_MIN_NAME = 16

#: Age at which data counts as old.
_OLD = timedelta(seconds=5)

_BLOCKS = "▁▂▃▄▅▆▇█"

#: Minimum width for charts side by side.
_SIDE_BY_SIDE = 90

#: Value of a chart's full height, at least: one task more must not look like a peak.
_MIN_SCALE = 4

#: Minimum widths for the names of all views, and for the numbers of rows.
_NAMES_WIDTH, _COUNTS_WIDTH = 52, 66

#: Ids of the keys that are shown first, however little space there is.
_IMPORTANT = ("quit", "help", "fix", "filter")

#: Ids of the keys in the tabs.
_IN_TABS = [view.NAME for view in VIEWS]

_GAP = 2


class Header(Widget):
    """``context`` is the name of the system; production has a colour of its own."""

    DEFAULT_CSS = """
    Header { height: 1; width: 1fr; background: $panel; }
    """

    live: reactive[LiveSnapshot | None] = reactive(None)
    now: reactive[datetime | None] = reactive(None)

    def __init__(self, *, context: str | None, production: bool, read_only: bool) -> None:
        super().__init__()
        name = neutralise(context) if context else "sitegenctl"
        self._name_text = name.upper() if production else name
        self._name_colour = "error" if production else "primary"
        self._read_only = read_only

    def render(self) -> Text:
        width = self.size.width
        colours = palette(self.app)
        right = self._right(colours)
        # Only the context's name is ever truncated.
        sources, room = Text(), 0
        for form in range(0 if width >= _LATENCY_WIDTH else 1, len(_FORMS)):
            sources = self._sources(form, colours)
            room = width - sources.cell_len - right.cell_len - _SPACES
            if room >= min(cell_len(self._name_text), _MIN_NAME):
                break
        name = Text(
            f" {fit(self._name_text, max(room, 1))} ", f"bold {colours['background']} on {colours[self._name_colour]}"
        )
        gap = width - name.cell_len - sources.cell_len - right.cell_len
        return Text.assemble(name, sources, " " * max(gap, 1), right, no_wrap=True, overflow="ellipsis")

    def _sources(self, form: int, colours: Mapping[str, str]) -> Text:
        text = Text(" " if form < len(_FORMS) - 1 else "")
        for source, name in _FORMS[form].items():
            mark, colour = self._state(source)
            if mark == "●":
                text.append(" ● ", colours[colour]).append(name)
            else:
                text.append(f" {mark} {name}", f"{'bold ' if mark == '✗' else ''}{colours[colour]}")
            latency = self.live.latency.get(source) if self.live is not None and mark == "●" else None
            if latency is not None and form == 0:
                text.append(f" {_latency(latency)}", colours["text-muted"])
        return text

    def _state(self, source: Source) -> tuple[str, str]:
        """The mark of a source, and the name of its colour."""
        live = self.live
        if live is None:
            return "○", "text-muted"
        if source in live.errors:
            return "✗", "error"
        if live.is_stale and source not in live.latency:
            # Not asked, because the source that leads to it did not respond.
            return "○", "text-muted"
        workers = live.snapshot.workers
        if source is Source.WORKERS and workers is not None and not workers.anyone_alive:
            return "✗", "error"
        return "●", "success"

    def _right(self, colours: Mapping[str, str]) -> Text:
        text = Text()
        if self._read_only:
            label = " READ-ONLY " if self.size.width >= _READ_ONLY_WIDTH else " RO "
            text.append(label, f"bold {colours['background']} on {colours['secondary']}").append(" ")
        if self.live is None or self.now is None:
            return text.append("reading … ", colours["text-muted"])
        age = max(timedelta(0), self.now - self.live.taken_at)
        if age >= _OLD or self.live.is_stale:
            return text.append(f"{describe_age(age)} old ", f"bold {colours['warning']}")
        return text.append(f"{describe_age(age)} ", colours["text-muted"])


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


class Summary(Widget):
    """Three lines, or fewer where the style sheet gives it fewer."""

    DEFAULT_CSS = """
    Summary { height: 3; width: 1fr; padding: 0 1; }
    """

    live: var[LiveSnapshot | None] = var(None, init=False)
    text: reactive[Text] = reactive(Text())

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self.watch_live, init=False)

    def on_resize(self) -> None:
        self.watch_live()

    def watch_live(self) -> None:
        colours = palette(self.app)
        if self.live is None:
            self.text = Text("reading database, Redis, workers and files …", colours["text-muted"])
        else:
            lines = [self._state(self.live, colours), *self._charts(self.live, colours)]
            self.text = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def render(self) -> Text:
        return self.text

    def _state(self, live: LiveSnapshot, colours: Mapping[str, str]) -> Text:
        faults = {
            condition: count
            for condition, count in live.by_condition.items()
            if condition.severity is Severity.FAULT and count
        }
        unknown = live.by_condition.get(Condition.UNKNOWN, 0)
        problems = [live.standstill] if live.standstill else []
        problems += [describe_faults(sum(faults.values()))] if faults else []
        text = Text(no_wrap=True, overflow="ellipsis")
        if problems:
            text.append(f"✗ {'; '.join(map(neutralise, problems))}", f"bold {colours['error']}")
        elif unknown:
            text.append(f"? {unknown} {'order' if unknown == 1 else 'orders'} unknown", f"bold {colours['warning']}")
        elif live.errors:
            text.append("? no fault found, but not all sources responded", f"bold {colours['warning']}")
        else:
            text.append("✓ all well", f"bold {colours['success']}")
        details = [(f"{count} {condition}", colours["error"]) for condition, count in faults.items() if problems]
        details = [(f"{'  ' if index else '   '}{detail}", style) for index, (detail, style) in enumerate(details)]
        if live.promises is not None and live.promises.late:
            details.append((f"   {live.promises.late} late", colours["error"]))
        if live.promises is not None and live.promises.will_be_late:
            details.append((f"   {live.promises.will_be_late} will be late", colours["error"]))
        if live.promises is not None and live.promises.due_soon:
            details.append((f"   {live.promises.due_soon} due soon", colours["warning"]))
        details.append((f"   {live.count(TaskState.RUNNING)} running", colours["text-muted"]))
        if (forecast := live.snapshot.forecast) is not None and forecast.empty is not None:
            details.append((f"   {forecast.summary}", colours["text-muted"]))
        if live.last_hour is not None and (rate := live.last_hour.success_rate) is not None:
            details.append((f"   last hour {rate:.0%} ok", colours["text-muted"]))
        return _append_what_fits(text, details, self.size.width)

    def _charts(self, live: LiveSnapshot, colours: Mapping[str, str]) -> list[Text]:
        succeeded, failed = sum(bar.succeeded for bar in live.bars), sum(bar.failed for bar in live.bars)
        minutes = int(len(live.bars) * SPAN.total_seconds() // 60)
        waiting_total = Text(f" {live.count(TaskState.QUEUED, TaskState.RESERVED)} waiting")
        done_total = Text.assemble(
            f" {succeeded} ok",
            (f" {failed} failed" if failed else "", colours["error"]),
            (f" in {minutes}m", colours["text-muted"]),
        )
        width = self.size.width
        side_by_side = width >= _SIDE_BY_SIDE
        room = width - done_total.cell_len - 7
        if side_by_side:
            room = (width - waiting_total.cell_len - done_total.cell_len - 18) // 2
        bars = merge_bars(live.bars, max(10, room))
        # Depths that were computed from the log, not read, are dim.
        depth_styles = [colours["primary"] if bar.observed else colours["text-disabled"] for bar in bars]
        done_styles = [colours["error"] if bar.failed else colours["success"] for bar in bars]
        depth_blocks = _blocks([bar.depth for bar in bars])
        done_blocks = _blocks([bar.succeeded + bar.failed for bar in bars])
        depth_chart = zip(depth_blocks, depth_styles, strict=True)
        done_chart = zip(done_blocks, done_styles, strict=True)
        waiting = Text.assemble(("queue ", colours["text-muted"]), *depth_chart, waiting_total)
        done = Text.assemble(("done  ", colours["text-muted"]), *done_chart, done_total)
        return [Text.assemble(waiting, "    ", done)] if side_by_side else [waiting, done]


def _append_what_fits(text: Text, details: Sequence[tuple[str, str]], width: int) -> Text:
    """Append as many details as fit: a truncated one could be mistaken for another number."""
    for index, (detail, style) in enumerate(details):
        ellipsis = 0 if index == len(details) - 1 else 2
        if text.cell_len + len(detail) + ellipsis > width:
            return text.append(" …", style)
        text.append(detail, style)
    return text


def _blocks(values: Sequence[int]) -> list[str]:
    scale = max(_MIN_SCALE, *values, 0)
    return [_BLOCKS[max(1, round(value / scale * len(_BLOCKS)) - 1) if value else 0] for value in values]


class ViewTabs(Widget):
    """One clickable line. ``counts`` are texts by the name of the view."""

    DEFAULT_CSS = """
    ViewTabs { height: 1; width: 1fr; padding: 0 1; link-style: none; }
    """

    current: reactive[str] = reactive(VIEWS[0].NAME)
    counts: reactive[Mapping[str, str]] = reactive(dict)

    def on_mount(self) -> None:
        self.auto_links = False

    def render(self) -> Text:
        colours = palette(self.app)
        width = self.size.width
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, view in enumerate(VIEWS, 1):
            click = Style(meta={"@click": f"app.view('{view.NAME}')"})
            style = Style(color=colours["foreground"])
            count_style = Style(color=colours["text-muted"])
            if is_current := self.current == view.NAME:
                style = count_style = Style(bold=True, color=colours["background"], bgcolor=colours["primary"])
            name = f"{view.NAME.capitalize()} " if is_current or width >= _NAMES_WIDTH else ""
            text.append(f" {number} {name}", style + click)
            if width >= _COUNTS_WIDTH and (count := self.counts.get(view.NAME)):
                text.append(f"{count} ", count_style + click)
            text.append(" ")
        return text


@dataclass(frozen=True, kw_only=True)
class KeyLabel:
    """A key as shown and by its Textual name, and what it does."""

    name: str
    key: str
    text: str
    id: str = ""
    tooltip: str = ""
    is_common: bool = True

    @property
    def width(self) -> int:
        return cell_len(self.name) + 1 + cell_len(self.text)


class KeyBar(Widget):
    """One clickable line. ``dimmed`` are the ids of keys that would change nothing."""

    ALLOW_SELECT = False

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; width: 1fr; padding: 0 1; background: $panel; }
    """

    dimmed: reactive[frozenset[str]] = reactive(frozenset())
    labels: reactive[tuple[KeyLabel, ...]] = reactive(())

    def on_mount(self) -> None:
        self.auto_links = False
        self.screen.bindings_updated_signal.subscribe(self, self._update)

    def on_resize(self) -> None:
        self._update()

    def _update(self, _: object = None) -> None:
        # Nothing has the focus while the terminal's window has none. Then, and below a plan, keep the keys.
        if self.app.screen is self.screen and (self.screen.focused is not None or not self.labels):
            self.labels = tuple(self._labels())

    def render(self) -> Text:
        colours = palette(self.app)
        text = Text(no_wrap=True)
        for index, label in enumerate(self.labels):
            is_dimmed = label.id in self.dimmed
            style = Style(color=colours["text-disabled"] if is_dimmed else None)
            style += Style(meta={"@click": f"app.simulate_key('{label.key}')", "tooltip": label.tooltip})
            key_style = style if is_dimmed else style + Style(bold=True, color=colours["footer-key-foreground"])
            text.append(" " * _GAP if index else "")
            text.append(label.name, key_style).append(f" {label.text}", style)
        return text

    def _labels(self) -> Iterator[KeyLabel]:
        if isinstance(self.screen.focused, Input):
            # Other keys are text there.
            yield KeyLabel(name="enter", key="enter", text="to the list")
            yield KeyLabel(name="esc", key="escape", text="close")
            return
        active = {
            each.binding.id: KeyLabel(
                name=self.app.get_key_display(each.binding),
                key=each.binding.key,
                text=each.binding.description,
                id=each.binding.id,
                tooltip=each.tooltip,
                is_common=each.binding.show,
            )
            for each in self.screen.active_bindings.values()
            if each.binding.id is not None
        }
        labels = [
            active[binding.id]
            for binding in KEYS
            if binding.id is not None and binding.id in active and binding.id not in _IN_TABS
        ]
        room, chosen = self.size.width + _GAP, set[str]()
        for label in sorted(labels, key=lambda label: (label.id not in _IMPORTANT, not label.is_common)):
            room -= label.width + _GAP
            if room < 0:
                break
            chosen.add(label.id)
        yield from (label for label in labels if label.id in chosen)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.tooltip = event.style.meta.get("tooltip") or None
