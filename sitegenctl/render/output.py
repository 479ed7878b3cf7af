"""Write a report to stdout as JSON, NDJSON, CSV or text, and its errors to stderr."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import RUN_DOCTOR, Hint
from sitegenctl.domain.plans.plan import envelope
from sitegenctl.errors import SitegenError
from sitegenctl.render.command import hint_text
from sitegenctl.render.text import neutralise
from sitegenctl.streams import deciding, use_utf8

if TYPE_CHECKING:
    from sitegenctl.domain.health.system import BackendTexts


@dataclass(frozen=True, kw_only=True)
class Report:
    """The output of a command in every format.

    ``data`` is that of the JSON envelope, ``rows`` are those of NDJSON and CSV; ``columns`` are needed where there may
    be no row. ``text`` renders it for people, including the errors if ``text_has_errors``. ``unanswered`` has the
    sources that did not respond fully, each with the reason; ``hints`` what to do about some of them.
    """

    command: str
    data: Any
    rows: Sequence[Mapping[str, Any]]
    text: Callable[[], str]
    columns: Sequence[str] = ()
    exit_code: int = 0
    errors: Sequence[dict[str, str | None]] = field(default_factory=tuple)
    text_has_errors: bool = False
    unanswered: Mapping[Source, str] = field(default_factory=dict)
    hints: Mapping[Source, Hint] = field(default_factory=dict)


def write(
    report: Report, output: str, stream: TextIO | None = None, *, heading: bool = True, one_line: bool = False
) -> int:
    """Write the report in this format, and its errors to stderr. Returns the exit code.

    CSV gets its ``heading``; an envelope may be written on ``one_line``.

    Raises ``OutputLost`` with that exit code.
    """
    stream = stream or sys.stdout
    with deciding(report.exit_code):
        try:
            if output == "json":
                data = envelope(report.command, exit_code=report.exit_code, data=report.data, errors=report.errors)
                _write_json(data, stream, one_line=one_line)
            elif output == "ndjson":
                for row in report.rows:
                    stream.write(to_json(row) + "\n")
            elif output == "csv":
                _write_csv(report.rows, report.columns, stream, heading=heading)
            else:
                stream.write(report.text())
            stream.flush()
        finally:
            if not (output == "table" and report.text_has_errors):
                for error in report.errors:
                    for line in error_lines(error["message"] or "", error["hint"]):
                        print(line, file=sys.stderr)
    return report.exit_code


def write_failure(exc: SitegenError, hint: str | None, command: str, *, as_json: bool) -> int:
    """Print the error of a command that failed, and its envelope if wanted; returns the exit code."""
    if as_json:
        # The command line may be wrong, so that nothing has set this before.
        use_utf8()
    print(*error_lines(exc.message, hint), sep="\n", file=sys.stderr)
    if as_json:
        errors = [error_data(exc.message, hint, exc.source)]
        with deciding(exc.exit_code):
            _write_json(envelope(command, exit_code=exc.exit_code, data=None, errors=errors), sys.stdout)
            sys.stdout.flush()
    return exc.exit_code


def error_data(message: str, hint: str | None = None, source: str | None = None) -> dict[str, str | None]:
    """An error in the envelope."""
    return {"message": message, "hint": hint, "source": source}


def error_lines(message: str, hint: str | None) -> list[str]:
    """An error as text, with its hint on a second line."""
    lines = [f"error: {neutralise(message)}"]
    if hint:
        lines.append(f"hint: {neutralise(hint)}")
    return lines


def _write_json(value: Any, stream: TextIO, *, one_line: bool = False) -> None:
    stream.write(to_json(value, indent=None if one_line else 2) + "\n")


# Characters beyond ASCII that a terminal may interpret: C1 controls, separators and bidirectional controls.
# Lone surrogates cannot be encoded.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON that is safe in a terminal; such characters occur only in strings, where they are escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], stream: TextIO, *, heading: bool) -> None:
    if not rows and not columns:
        return
    writer = csv.DictWriter(stream, fieldnames=list(columns or rows[0]))
    if heading:
        writer.writeheader()
    for row in rows:
        cells = {key: _cell(value) for key, value in row.items()}
        if stream.isatty():
            # A file gets the exact text; a terminal would interpret it.
            cells = {key: neutralise(value) if isinstance(value, str) else value for key, value in cells.items()}
        writer.writerow(cells)


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet does not evaluate; lists and objects as JSON."""
    if isinstance(value, list | dict | tuple):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return f"'{value}"
    return value


def row_of(value: Any, columns: Iterable[str], **others: Any) -> dict[str, Any]:
    """A row with these columns: each has the value given in ``others``, or the attribute of that name.

    It is None where the value, which may be None, has no such attribute. Times are in ISO format. A column whose name
    ends in ``_seconds`` has the span of time of the name before it.
    """
    row = {}
    for column in columns:
        cell = others[column] if column in others else getattr(value, column.removesuffix("_seconds"), None)
        if isinstance(cell, datetime):
            cell = cell.isoformat()
        row[column] = cell.total_seconds() if isinstance(cell, timedelta) else cell
    return row


def degraded(report: Report, texts: BackendTexts, *, selector: str | None = None) -> Report:
    """The report with an error for each source that did not respond fully, and exit code 3."""
    if not report.unanswered:
        return report
    hints: dict[Source, Hint] = {Source.WORKERS: f"{texts.silence}; {texts.patience}", **report.hints}
    errors = [
        error_data(message, hint_text(hints.get(source, RUN_DOCTOR), selector), str(source))
        for source, message in report.unanswered.items()
    ]
    return replace(report, errors=errors, exit_code=3)
