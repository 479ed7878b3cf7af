"""Rows of a stream: one at a time, for the screen or exact as JSON.

Tables, which need all their rows, are ``table.py``'s; documents ``output.py``'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sitegenctl.render.output import to_json

#: Below so many columns a line leaves out what can be spared.
NARROW = 60


def json_line(row: Mapping[str, Any]) -> str:
    """The row as a line of NDJSON, every text exact."""
    line = to_json(row)
    try:
        line.encode()
    except UnicodeEncodeError:
        # JSON can carry a lone surrogate, UTF-8 can't: escaped it is the same text.
        return json.dumps(row)
    return line
