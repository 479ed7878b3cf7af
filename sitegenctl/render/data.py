"""Values as rows of the JSON envelope and of CSV."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.render.text import iso, seconds


def row_of(value: Any, columns: Iterable[str], **others: Any) -> dict[str, Any]:
    """A row with these columns: each has the value given in ``others``, or the attribute of that name.

    It is None where the value, which may be None, has no such attribute. Times are in ISO format. A column whose name
    ends in ``_seconds`` has the span of time of the name before it.
    """
    return {
        column: _plain(others[column] if column in others else getattr(value, column.removesuffix("_seconds"), None))
        for column in columns
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return seconds(value)
    return value
