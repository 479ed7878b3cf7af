"""The line at the top: which system this is, whether its sources answer, and how old the picture is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

#: How the sources are named: what an operator calls them.
_NAMES = {
    Source.DATABASE: ("database", "db"),
    Source.BROKER: ("redis", "redis"),
    Source.WORKERS: ("workers", "work"),
    Source.FILES: ("files", "files"),
}

#: The same in ever less room; latencies are told with the first alone.
_FORMS: Sequence[Callable[[Source], str]] = (
    lambda source: _NAMES[source][0],
    lambda source: _NAMES[source][1],
    lambda source: _NAMES[source][1][0],
)

#: Columns before and behind the context's name, and before the age at least.
_AROUND = 3

#: Below so many columns what nobody may do is told by two letters.
_NARROW = 50

#: So much of a context's name is worth names that are shorter.
_PLACE = 16

#: A picture of this age is old: something holds it up.
OLD = timedelta(seconds=5)

#: From so many columns on there is room for all of it.
_ROOMY = 110


class Header(Widget):
    """``context`` is the system's name; a production's is in a colour of its own."""

    DEFAULT_CSS = """
    Header { height: 1; width: 1fr; background: $panel; }
    """

    picture: reactive[LiveSnapshot | None] = reactive(None)
    now: reactive[datetime | None] = reactive(None)

    def __init__(self, *, context: str | None, production: bool, read_only: bool) -> None:
        super().__init__()
        self._place = neutralise(context) if context else "sitegenctl"
        self._production = production
        self._read_only = read_only

    def render(self) -> Text:
        """Draw it in as much room as there is."""
        width = self.size.width
        colours = palette(self.app)
        right = self._right(colours)
        # What is told of the sources and of the age is never cut off; the context's name is, where it is long.
        lights, room = Text(), 0
        for form in range(0 if width >= _ROOMY else 1, len(_FORMS)):
            lights = self._lights(form, colours)
            room = width - lights.cell_len - right.cell_len - _AROUND
            if room >= min(cell_len(self._place), _PLACE):
                break
        place = fit(self._place.upper() if self._production else self._place, max(room, 1))
        named = Text(
            f" {place} ", f"bold {colours['background']} on {colours['error' if self._production else 'primary']}"
        )
        gap = width - named.cell_len - lights.cell_len - right.cell_len
        return Text.assemble(named, lights, " " * max(gap, 1), right, no_wrap=True, overflow="ellipsis")

    def _lights(self, form: int, colours: Mapping[str, str]) -> Text:
        text = Text(" " if form < len(_FORMS) - 1 else "")
        for source in Source:
            self._light(text, source, form, colours)
        return text

    def _light(self, text: Text, source: Source, form: int, colours: Mapping[str, str]) -> None:
        name = _FORMS[form](source)
        if self.picture is None:
            text.append(f" ○ {name}", colours["text-muted"])
        elif source in self.picture.unanswered:
            text.append(f" ✗ {name}", f"bold {colours['error']}")
        elif self.picture.is_kept and source not in self.picture.took:
            # Nobody could ask it: it is reached by way of one that is away.
            text.append(f" ○ {name}", colours["text-muted"])
        elif source is Source.WORKERS and self._has_no_worker(self.picture):
            text.append(f" ✗ {name}", f"bold {colours['error']}")
        else:
            text.append(" ● ", colours["success"])
            text.append(name)
            took = self.picture.took.get(source)
            if took is not None and form == 0:
                text.append(f" {_latency(took)}", colours["text-muted"])

    def _has_no_worker(self, picture: LiveSnapshot) -> bool:
        workers = picture.snapshot.workers
        return workers is not None and not workers.anyone_alive

    def _right(self, colours: Mapping[str, str]) -> Text:
        text = Text()
        if self._read_only:
            roomy = self.size.width >= _NARROW
            text.append(" READ-ONLY " if roomy else " RO ", f"bold {colours['background']} on {colours['secondary']}")
            text.append(" ")
        if self.picture is None:
            return text.append("looking… ", colours["text-muted"])
        stale = self.age >= OLD or self.picture.is_kept
        words = f"{describe_age(self.age)} {'old ' if stale else ''}"
        return text.append(words, f"bold {colours['warning']}" if stale else colours["text-muted"])

    @property
    def age(self) -> timedelta:
        """How old the picture is."""
        if self.picture is None or self.now is None:
            return timedelta(0)
        return max(timedelta(0), self.now - self.picture.taken_at)


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"
