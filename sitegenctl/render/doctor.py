"""The results of the doctor as text and as data."""

from __future__ import annotations

from collections.abc import Iterator

from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import Report, error_data, row_of
from sitegenctl.render.text import neutralise, wrap

_MARKS = {CheckStatus.OK: "✓", CheckStatus.WARNING: "!", CheckStatus.FAILED: "✗", CheckStatus.UNCHECKED: "?"}
# Green, yellow, red and dim, which every terminal has.
_COLOURS = {CheckStatus.OK: "32", CheckStatus.WARNING: "33", CheckStatus.FAILED: "31", CheckStatus.UNCHECKED: "2"}

CHECK_COLUMNS = ("name", "status", "evidence", "remedy", "source")

#: In a narrower terminal the evidence goes below the name.
_TWO_COLUMNS = 60


def doctor_report(check_up: CheckUp, command: str, *, width: int, colour: bool, selector: str | None = None) -> Report:
    """Report a check-up; ``width`` in columns. Commands get the ``selector`` of the system that was checked."""
    rows = [
        row_of(check, CHECK_COLUMNS, evidence=list(check.evidence), remedy=hint_text(check.remedy, selector))
        for check in check_up.checks
    ]
    errors = [
        error_data(check.evidence[0], hint_text(check.remedy, selector), str(check.source))
        for check in check_up.checks
        if check.unreachable
    ]
    return Report(
        command=command,
        data={"summary": check_up.summary, "checks": rows},
        rows=rows,
        text=lambda: doctor_text(check_up, width=width, colour=colour, selector=selector),
        exit_code=check_up.exit_code,
        errors=errors,
    )


def doctor_text(check_up: CheckUp, *, width: int, colour: bool, selector: str | None = None) -> str:
    """The checklist below a summary."""
    worst = CheckStatus.FAILED if check_up.exit_code else CheckStatus.OK
    lines = [_painted(line, worst, colour) for line in wrap(check_up.summary, width)]
    column = max((len(check.name) for check in check_up.checks), default=0) if width >= _TWO_COLUMNS else 0
    for check in check_up.checks:
        lines += _check_lines(check, width, column, colour, selector)
    return "\n".join(lines) + "\n"


def _check_lines(check: Check, width: int, column: int, colour: bool, selector: str | None) -> Iterator[str]:
    mark = _painted(f"{_MARKS[check.status]} ", check.status, colour)
    indent = " " * (column + 4) if column else "    "
    room = max(width - len(indent), 16)
    evidence = [line for text in check.evidence for line in wrap(neutralise(text), room)]
    if column:
        first = evidence.pop(0) if evidence else ""
        yield f"{mark}{check.name:<{column}}  {first}".rstrip()
    else:
        yield f"{mark}{check.name}"
    for line in evidence:
        yield f"{indent}{line}"
    if check.remedy:
        # Not wrapped, so that it can be copied as one command.
        remedy = neutralise(hint_text(check.remedy, selector) or "")
        yield f"{indent}{_painted(f'→ {remedy}', check.status, colour)}"


def _painted(text: str, status: CheckStatus, colour: bool) -> str:
    return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if colour else text
