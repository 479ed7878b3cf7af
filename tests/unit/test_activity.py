"""The filter of the history in the live view."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sitegenctl.domain.statistics.activity import (
    ActivityFilter,
    ActivityKind,
    ActivityOutcome,
    ActivityText,
    parse_activity_filter,
)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", ActivityText()),
        ("ana souza", ActivityText(only=ActivityFilter(search="ana souza"))),
        ("kind:run k:m", ActivityText(only=ActivityFilter(kinds=frozenset({*ActivityKind} - {ActivityKind.OPERATOR})))),
        ("outcome:FAILED", ActivityText(only=ActivityFilter(outcomes=frozenset({ActivityOutcome.FAILED})))),
        ("by:ana order:42 order:7", ActivityText(only=ActivityFilter(by="ana", orders=frozenset({7, 42})))),
        ("age<2h", ActivityText(since=timedelta(hours=2))),
        ("age<", ActivityText(problem="age needs a time, as in age<2h")),
        ("order:x outcome:late", ActivityText(problem="no order is 'x'")),
        ("by:", ActivityText()),
    ],
)  # fmt: skip
def test_filter_is_parsed(text: str, parsed: ActivityText) -> None:
    assert parse_activity_filter(text) == parsed
