"""The doctor's checks, and all that is known of the one under the cursor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from rich.text import Text
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Static

from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.render.command import hint_text
from sitegenctl.render.text import neutralise
from sitegenctl.tui.theme import palette
from sitegenctl.tui.views.rows import DOCTOR_COLUMNS, check_cells
from sitegenctl.tui.widgets.live_table import LiveTable

_URGENT = (CheckStatus.FAILED, CheckStatus.WARNING, CheckStatus.UNCHECKED, CheckStatus.OK)


class DoctorView(Vertical):
    """A list, and below it the check that is looked at with the command that mends it, to be read in full."""

    DEFAULT_CSS = """
    DoctorView > #check { height: auto; max-height: 12; padding: 0 2; background: $surface; }
    DoctorView > #checked { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, *, selector: str | None, id: str | None = None) -> None:
        super().__init__(id=id)
        self._selector = selector
        self._table: LiveTable[Check] = LiveTable(
            DOCTOR_COLUMNS,
            lambda check: check.name,
            lambda check: check_cells(check, selector),
            nothing="not checked yet",
        )
        self._told = ""

    def compose(self) -> Iterator[Widget]:
        """The list, the check below it, and when it was."""
        yield self._table
        yield Static(id="check", markup=False)
        yield Static(id="checked", markup=False)

    def focus(self, scroll_visible: bool = True) -> DoctorView:
        """The list has the keys."""
        self._table.focus(scroll_visible)
        return self

    def show(self, found: CheckUp | None) -> None:
        """Show a check-up; None is one that is being made."""
        is_first = found is not None and not self._table.rows
        self._table.show(found.checks if found is not None else [])
        if found is not None and is_first:
            # What needs somebody is looked at first.
            self._table.go_to(min(found.checks, key=_urgency).name)
        self._tell()

    def tell_when(self, age: timedelta | None, *, checks: bool, key: str) -> None:
        """Say how old the check-up is, None without one, whether there is a new one coming, and what makes one."""
        parts = [f"checked {describe_age(age)} ago"] if age is not None else []
        parts.append("checking …" if checks else f"{key} checks again")
        told = "  ·  ".join(parts)
        if told != self._told:
            self._told = told
            self.query_one("#checked", Static).update(told)

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        """Another check is looked at."""
        event.stop()
        self._tell()

    def _tell(self) -> None:
        check = self._table.row
        text = Text()
        if check is not None:
            colours = palette(self.app)
            text = Text("\n").join(Text(neutralise(each)) for each in check.evidence)
            if check.remedy is not None:
                remedy = hint_text(check.remedy, self._selector) or ""
                colour = colours["error" if check.status is CheckStatus.FAILED else "warning"]
                text.append(f"\n→ {neutralise(remedy)}", colour)
        self.query_one("#check", Static).update(text)


def _urgency(check: Check) -> int:
    return _URGENT.index(check.status)
