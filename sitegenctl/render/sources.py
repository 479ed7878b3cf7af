"""Reports where sources did not respond, or not fully."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR, Hint
from sitegenctl.domain.health.system import BackendTexts
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import Report, error_data

_EXIT_CODE = 3


def degraded(
    report: Report, unanswered: Mapping[Source, str], texts: BackendTexts, *, selector: str | None = None
) -> Report:
    """The report with an error for each of these sources and exit code 3."""
    if not unanswered:
        return report
    hints: dict[Source, Hint] = {Source.WORKERS: f"{texts.silence}; {texts.patience}"}
    errors = [
        error_data(message, hint_text(hints.get(source, RUN_DOCTOR), selector), str(source))
        for source, message in unanswered.items()
    ]
    return replace(report, errors=errors, exit_code=_EXIT_CODE)
