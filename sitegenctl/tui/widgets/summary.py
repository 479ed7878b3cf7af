"""The state of the system in one line, and the last minutes in two small charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.reactive import reactive, var
from textual.widget import Widget

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.overview import describe_faults
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.statistics.throughput import SPAN, merge_bars
from sitegenctl.render.text import neutralise
from sitegenctl.tui.theme import palette

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot

_BLOCKS = "▁▂▃▄▅▆▇█"

#: Minimum width for charts side by side.
_SIDE_BY_SIDE = 90

#: Value of a chart's full height, at least: one task more must not look like a peak.
_MIN_SCALE = 4


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
        details.append((f"   {live.count(TaskState.RUNNING)} running", colours["text-muted"]))
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
