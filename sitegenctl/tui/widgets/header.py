"""The first line: name of the system, state of its sources, and age of the data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.render.text import fit, neutralise
from sitegenctl.tui.theme import palette

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
