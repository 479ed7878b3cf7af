"""Statistics as one HTML page without scripts or external resources; plots are inline SVG.

Every number of a plot is in a table, too. Untrusted text is neutralised here and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.statistics.failure_reasons import essence
from sitegenctl.domain.statistics.statistics import Reason, Statistics
from sitegenctl.render.statistics import (
    brief,
    count_words,
    duration_rows,
    number_words,
    rate_words,
    reason_words,
    run_words,
    stage_words,
    window_words,
)
from sitegenctl.render.text import neutralise

_WIDTH, _LEFT, _HEIGHT = 920, 44, 190
_TOP, _BOTTOM = 8, 22

#: Maximum number of columns of a plot, of reasons, and of days.
_MAX_COLUMNS = 92

_MAX_REASONS = 25
_MAX_DAYS = 92

_EXAMPLE = 240


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column of a plot, with its tooltip and its label, if any."""

    title: str
    tally: RunCounts
    mark: str | None = None


def statistics_page(stats: Statistics, *, context: str | None, hint: str | None = None) -> str:
    """The page; ``context`` is the name of the system, ``hint`` shows how to list the failed runs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Jinja2 would choose by the name of the file.
    environment = Environment(
        loader=PackageLoader("sitegenctl.render"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"neutralise": neutralise, "brief": brief, "rate": rate_words}
    return environment.get_template("statistics.html").render(**_contents(stats, context), hint=hint) + "\n"


def _contents(stats: Statistics, context: str | None) -> dict[str, Any]:
    span, over_time = _over_time(stats)
    name = f" of {neutralise(context)}" if context else ""
    return {
        "title": f"Site generation{name}: {describe_age(stats.length)}",
        "window": window_words(stats),
        "figures": _figures(stats),
        "runs": run_words(stats).capitalize(),
        "span": describe_age(span),
        "over_time": _plot(over_time) if stats.hours else None,
        "by_hour": _plot(_by_hour(stats)),
        "durations": duration_rows(stats),
        "bars": _bars(stats),
        "reasons": [(reason, reason_words(reason), _example(reason)) for reason in stats.reasons[:_MAX_REASONS]],
        "more_reasons": max(len(stats.reasons) - _MAX_REASONS, 0),
        "failed_in": stage_words(stats),
        "days": list(stats.by_day().items())[-_MAX_DAYS:],
    }


def _figures(stats: Statistics) -> list[tuple[str, str, str]]:
    """The name, value and colour of each key figure."""
    runs = stats.runs
    figures = [
        ("generated", str(runs.succeeded), ""),
        ("failed", str(runs.failed), "bad" if runs.failed else ""),
        ("success", rate_words(runs), ""),
        ("a day", number_words(stats.per(timedelta(days=1))), ""),
    ]
    if stats.generated is not None:
        figures += [("median duration", brief(stats.generated.p50), ""), ("95% within", brief(stats.generated.p95), "")]
    return figures


def _over_time(stats: Statistics) -> tuple[timedelta, list[_Column]]:
    span, spans = stats.in_spans(_MAX_COLUMNS)
    first = stats.since.replace(minute=0, second=0, microsecond=0)
    starts = [first + span * place for place in range(len(spans))]
    # As many labels as fit; the last one must not stick out.
    every = max(-(-len(starts) // 8), 1)
    last = len(starts) - every // 2
    return span, [
        _Column(
            title=f"{start:%Y-%m-%d %H:%M}: {count_words(tally)}",
            tally=tally,
            mark=_moment(start, span) if place % every == 0 and (place < last or every == 1) else None,
        )
        for place, (start, tally) in enumerate(zip(starts, spans, strict=True))
    ]


def _by_hour(stats: Statistics) -> list[_Column]:
    return [
        _Column(title=f"{hour:02}:00 to {hour:02}:59: {count_words(tally)}", tally=tally, mark=f"{hour:02}")
        for hour, tally in enumerate(stats.by_hour_of_day())
    ]


def _plot(columns: Sequence[_Column]) -> dict[str, Any]:
    """The coordinates of a plot of stacked columns."""
    top = _round_up(max((column.tally.ended for column in columns), default=0))
    room = _HEIGHT - _TOP - _BOTTOM
    step = (_WIDTH - _LEFT) / max(len(columns), 1)
    drawn, marks = [], []
    for place, column in enumerate(columns):
        x = _LEFT + step * place
        good, bad = (room * number / top for number in (column.tally.succeeded, column.tally.failed))
        floor = _HEIGHT - _BOTTOM
        parts = [("good", floor - good, good), ("bad", floor - good - bad, bad)]
        drawn.append(
            {
                "title": column.title,
                "x": round(x + step * 0.1, 1),
                "width": round(step * 0.8, 1),
                "parts": [
                    {"tone": tone, "y": round(y, 1), "height": round(height, 1)} for tone, y, height in parts if height
                ],
            }
        )
        if column.mark is not None:
            # Below the middle of a wide column, or from the left edge of a narrow one.
            roomy = step > 30
            marks.append(
                {
                    "label": column.mark,
                    "x": round(x + step / 2 if roomy else x, 1),
                    "anchor": "middle" if roomy else "start",
                }
            )
    lines = [
        {"y": round(_HEIGHT - _BOTTOM - room * part / 2, 1), "label": f"{top * part / 2:g}"}
        for part in (range(3) if top > 1 else (0, 2))
    ]
    return {"width": _WIDTH, "height": _HEIGHT, "left": _LEFT, "columns": drawn, "marks": marks, "lines": lines}


def _bars(stats: Statistics) -> dict[str, Any]:
    rows = [(name, durations) for name, durations in duration_rows(stats) if durations is not stats.failures]
    longest = max((durations.p95 for _, durations in rows), default=0.0) or 1.0
    left = 110
    room = _WIDTH - left
    bars = [
        {
            "name": name,
            "title": f"{name}: half within {brief(durations.p50)}, 95% within {brief(durations.p95)}",
            "y": 26 * place,
            "p50": round(room * durations.p50 / longest, 1),
            "p95": round(room * durations.p95 / longest, 1),
        }
        for place, (name, durations) in enumerate(rows)
    ]
    return {"width": _WIDTH, "height": max(26 * len(rows), 1), "left": left, "bars": bars}


def _example(reason: Reason) -> str:
    """The newest message of this reason, cut; empty if it is the reason itself."""
    example = essence(reason.example)
    if example == reason_words(reason):
        return ""
    return example if len(example) <= _EXAMPLE else example[: _EXAMPLE - 1] + "…"


def _moment(at: datetime, span: timedelta) -> str:
    return f"{at:%b %d}" if span >= timedelta(hours=3) else f"{at:%b %d %H:%M}"


def _round_up(number: int) -> int:
    """The next round number whose half is round, too."""
    if number <= 1:
        return 1
    size = int(10 ** (len(str(number)) - 1))
    steps = (2, 4, 6, 8, 10) if size == 1 else (1, 2, 3, 4, 5, 6, 8, 10)
    return next(top for step in steps if (top := step * size) >= number)
