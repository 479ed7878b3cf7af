"""Writing to stdout: the JSON envelope, NDJSON, CSV or a text for people; and errors to stderr."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from sitegenctl.domain.result import envelope
from sitegenctl.render.text import neutralise


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command has to say, in every form it can be asked for.

    ``data`` is the envelope's data; ``rows`` are the lines of NDJSON and CSV; ``text`` writes it for people, with
    ``text_tells_errors`` the errors too.
    """

    command: str
    data: Any
    rows: Sequence[Mapping[str, Any]]
    text: Callable[[], str]
    exit_code: int = 0
    errors: Sequence[dict[str, str | None]] = field(default_factory=tuple)
    text_tells_errors: bool = False


def write(report: Report, output: str, stream: TextIO | None = None) -> int:
    """Write the report in the form asked for; errors that came with it go to stderr. Returns its exit code."""
    stream = stream or sys.stdout
    if output == "json":
        _write_json(
            envelope(report.command, exit_code=report.exit_code, data=report.data, errors=report.errors), stream
        )
    elif output == "ndjson":
        for row in report.rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    elif output == "csv":
        _write_csv(report.rows, stream)
    else:
        stream.write(report.text())
    stream.flush()
    if output == "table" and report.text_tells_errors:
        return report.exit_code
    for error in report.errors:
        for line in error_lines(error["message"] or "", error["hint"]):
            print(line, file=sys.stderr)
    return report.exit_code


def write_failure(command: str, exit_code: int, errors: Sequence[dict[str, str | None]], stream: TextIO) -> None:
    """Write the envelope of a command that could not do anything."""
    _write_json(envelope(command, exit_code=exit_code, data=None, errors=errors), stream)


def error_lines(message: str, hint: str | None) -> list[str]:
    """An error as people read it: one line, and one for the hint."""
    lines = [f"error: {neutralise(message)}"]
    if hint:
        lines.append(f"hint: {neutralise(hint)}")
    return lines


def _write_json(value: Any, stream: TextIO) -> None:
    json.dump(value, stream, ensure_ascii=False, indent=2)
    stream.write("\n")


def _write_csv(rows: Sequence[Mapping[str, Any]], stream: TextIO) -> None:
    if not rows:
        return
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})


def _cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; lists and objects as JSON."""
    if isinstance(value, list | dict | tuple):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
