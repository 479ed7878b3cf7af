"""The doctor's checks, with all evidence of the one under the cursor below them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime, timedelta

from rich.text import Text
from textual import work
from textual.widget import Widget
from textual.widgets import Static

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.errors import SitegenError
from sitegenctl.render.command import hint_text
from sitegenctl.render.text import neutralise
from sitegenctl.session import Session, doctor_options
from sitegenctl.tui.views.view import View, ViewContext
from sitegenctl.tui.widgets.live_table import Cell, Column, LiveTable
from sitegenctl.tui.widgets.look import palette, show_text, warn

#: How long an idle worker may take to fetch a message.
_FETCH_TIMEOUT = timedelta(seconds=3)

#: In the order of their urgency.
_MARKS = {
    CheckStatus.FAILED: ("✗", Severity.FAULT),
    CheckStatus.WARNING: ("!", Severity.UNKNOWN),
    CheckStatus.UNCHECKED: ("?", Severity.UNKNOWN),
    CheckStatus.OK: ("✓", Severity.OK),
}


class DoctorView(View[Check]):
    """Runs all checks when it is opened and on a manual refresh."""

    NAME = "doctor"
    EMPTY = "not checked yet"
    COLUMNS = (
        Column(heading="", width=1),
        Column(heading="check", width=20),
        Column(heading="evidence", share=3),
        Column(heading="suggested fix", share=2, from_width=100),
    )
    DEFAULT_CSS = """
    DoctorView > #check { height: auto; max-height: 12; padding: 0 2; background: $surface; }
    DoctorView > #checked { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, context: ViewContext) -> None:
        super().__init__(context)
        self._details = Static(id="check", markup=False)
        self._status = Static(id="checked", markup=False)
        self._checked_at: datetime | None = None
        self._is_checking = False

    def compose(self) -> Iterator[Widget]:
        yield self.table
        yield self._details
        yield self._status

    def watch_now(self) -> None:
        age = max(self.now - self._checked_at, timedelta(0)) if self._checked_at is not None else None
        parts = [f"checked {describe_age(age)} ago"] if age is not None else []
        parts.append("checking …" if self._is_checking else f"{self.view_context.keys['look']} checks again")
        show_text(self._status, "  ·  ".join(parts))

    def key(self, row: Check) -> Hashable:
        return row.name

    def cells(self, row: Check) -> Sequence[Cell]:
        mark, severity = _MARKS[row.status]
        return (
            Cell(text=mark, severity=severity),
            Cell(text=row.name, severity=severity),
            Cell(text="; ".join(row.evidence), dim=row.status is CheckStatus.OK),
            Cell(text=self._remedy(row), dim=True),
        )

    def reload(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._check()

    @work(group="doctor")
    async def _check(self) -> None:
        self.watch_now()
        try:
            checks = (await self.view_context.service.ask(_run_checks)).checks
        except SitegenError as exc:
            warn(self.app, exc.message)
        else:
            self._checked_at = self.now
            is_first = not self.table.rows
            self.table.rows = checks
            if is_first:
                self.table.go_to(min(checks, key=lambda check: [*_MARKS].index(check.status)).name)
            self._show_check()
        finally:
            self._is_checking = False
            self.watch_now()

    def on_live_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        event.stop()
        self._show_check()

    def _show_check(self) -> None:
        check = self.table.row
        text = Text()
        if check is not None:
            text = Text("\n").join(Text(neutralise(line)) for line in check.evidence)
            if remedy := self._remedy(check):
                colour = "error" if check.status is CheckStatus.FAILED else "warning"
                text.append(f"\n→ {neutralise(remedy)}", palette(self.app)[colour])
        self._details.update(text)

    def _remedy(self, check: Check) -> str:
        return hint_text(check.remedy, self.view_context.settings.selector) or ""


async def _run_checks(session: Session) -> CheckUp:
    from sitegenctl.operations.doctor import check_up

    return await check_up(session, doctor_options(session.settings, patience=_FETCH_TIMEOUT))
