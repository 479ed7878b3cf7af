"""Reporting the failure of a whole command on stderr, and in the JSON envelope."""

from __future__ import annotations

import sys

from sitegenctl.errors import SitegenError
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import error_data, error_lines, write_failure
from sitegenctl.streams import deciding


def report_failure(exc: SitegenError, command: str, *, as_json: bool) -> int:
    """Print the error, and the envelope if wanted; returns the exit code."""
    hint = hint_text(exc.hint)
    print(*error_lines(exc.message, hint), sep="\n", file=sys.stderr)
    if as_json:
        entry = error_data(exc.message, hint, exc.source)
        with deciding(exc.exit_code):
            write_failure(command, exc.exit_code, [entry], sys.stdout)
            sys.stdout.flush()
    return exc.exit_code
