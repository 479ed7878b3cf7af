"""Sources that did not answer, or not fully: what comes of a report that does without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.health.backend_texts import BackendTexts
from sitegenctl.render.order import in_context
from sitegenctl.render.output import Report

_EXIT_CODE = 3

_DOCTOR = "sitegenctl doctor tells what mends it"


def degraded(
    report: Report, unanswered: Mapping[Source, str], terms: BackendTexts, *, context: str | None = None
) -> Report:
    """The report with an error for each of these sources, which makes it exit 3: it says what it can."""
    if not unanswered:
        return report
    hints = {Source.WORKERS: f"{terms.silence}; {terms.patience}"}
    errors: list[dict[str, str | None]] = [
        {"message": message, "hint": in_context(hints.get(source, _DOCTOR), context), "source": str(source)}
        for source, message in unanswered.items()
    ]
    return replace(report, errors=errors, exit_code=_EXIT_CODE)
