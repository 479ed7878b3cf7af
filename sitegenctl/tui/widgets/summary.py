"""What is wrong in one line, and how the last minutes went in two small plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.widget import Widget

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.domain.diagnosis.overview import describe_faults
from sitegenctl.domain.statistics.throughput import SPAN, Bar, merge_bars
from sitegenctl.render.text import neutralise
from sitegenctl.tui.theme import palette

if TYPE_CHECKING:
    from sitegenctl.operations.live_state import LiveSnapshot

_BLOCKS = " ▁▂▃▄▅▆▇█"

#: From so many columns on the plots stand side by side.
_BESIDE = 90

#: A plot is as high as so many at least: one task more is no mountain.
_LEAST = 4


class Summary(Widget):
    """Two lines, or one above where there is little room."""

    DEFAULT_CSS = """
    Summary { height: 3; width: 1fr; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._picture: LiveSnapshot | None = None
        self._drawn: Text | None = None

    def show(self, picture: LiveSnapshot) -> None:
        """Show how a picture is."""
        self._picture = picture
        if self._text() != self._drawn:
            self.refresh()

    def render(self) -> Text:
        """Draw the verdict, and below it the plots."""
        self._drawn = self._text()
        return self._drawn

    def _text(self) -> Text:
        colours = palette(self.app)
        picture = self._picture
        if picture is None:
            return Text("looking at database, Redis, workers and files …", colours["text-muted"])
        lines = [self._verdict(picture, colours)]
        width = self.size.width
        ended = sum(bar.succeeded for bar in picture.bars)
        failed = sum(bar.failed for bar in picture.bars)
        waits = Text(f" {picture.waiting} waiting")
        done = Text.assemble(
            f" {ended} ok",
            (f" {failed} failed" if failed else "", colours["error"]),
            (_since(picture), colours["text-muted"]),
        )
        beside = width >= _BESIDE
        room = (width - waits.cell_len - done.cell_len - 18) // 2 if beside else width - done.cell_len - 7
        bars = merge_bars(picture.bars, max(10, room))
        depth = Text.assemble(("queue ", colours["text-muted"]), *_depth(bars, colours), waits)
        done = Text.assemble(("done  ", colours["text-muted"]), *_ended(bars, colours), done)
        lines += [Text.assemble(depth, "    ", done)] if beside else [depth, done]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _verdict(self, picture: LiveSnapshot, colours: Mapping[str, str]) -> Text:
        faults = {
            condition: count
            for condition, count in picture.by_condition.items()
            if condition.severity is Severity.FAULT and count
        }
        unknown = picture.by_condition.get(Condition.UNKNOWN, 0)
        text = Text(no_wrap=True, overflow="ellipsis")
        more: list[tuple[str, str]] = []
        need = [describe_faults(sum(faults.values()))] if faults else []
        if wrong := ([picture.standstill] if picture.standstill else []) + need:
            text.append(f"✗ {'; '.join(map(neutralise, wrong))}", f"bold {colours['error']}")
            for condition, count in faults.items():
                more.append((f"{'  ' if more else '   '}{count} {condition}", colours["error"]))
        elif unknown:
            text.append(f"? {unknown} {'order' if unknown == 1 else 'orders'} unknown", f"bold {colours['warning']}")
        elif picture.unanswered:
            text.append("? nothing wrong is seen, and not all can be seen", f"bold {colours['warning']}")
        else:
            text.append("✓ all well", f"bold {colours['success']}")
        more.append((f"   {picture.running} running", colours["text-muted"]))
        if picture.last_hour is not None and (rate := picture.last_hour.success_rate) is not None:
            more.append((f"   last hour {rate:.0%} ok", colours["text-muted"]))
        return _as_much(text, more, self.size.width)


def _as_much(text: Text, more: Sequence[tuple[str, str]], width: int) -> Text:
    """As much more as there is room for: what is cut in the middle of a word might be taken for another number."""
    for place, (words, style) in enumerate(more):
        is_last = place == len(more) - 1
        if text.cell_len + len(words) + (0 if is_last else 2) > width:
            return text.append(" …", style)
        text.append(words, style)
    return text


def _since(picture: LiveSnapshot) -> str:
    minutes = int(len(picture.bars) * SPAN.total_seconds() // 60)
    return f" in {minutes}m"


def _depth(bars: Sequence[Bar], colours: Mapping[str, str]) -> list[tuple[str, str]]:
    most = max((bar.depth for bar in bars), default=0)
    # What was not seen but told from the log is dim.
    return [(_block(bar.depth, most), colours["primary"] if bar.observed else colours["text-disabled"]) for bar in bars]


def _ended(bars: Sequence[Bar], colours: Mapping[str, str]) -> list[tuple[str, str]]:
    most = max((bar.succeeded + bar.failed for bar in bars), default=0)
    return [
        (_block(bar.succeeded + bar.failed, most), colours["error"] if bar.failed else colours["success"])
        for bar in bars
    ]


def _block(value: int, most: int) -> str:
    most = max(most, _LEAST)
    if not value:
        return _BLOCKS[1]
    return _BLOCKS[max(2, round(value / most * (len(_BLOCKS) - 1)))]
