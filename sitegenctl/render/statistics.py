"""Statistics as JSON, as rows and as text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.statistics.failure_reasons import essence
from sitegenctl.domain.statistics.statistics import Durations, Reason, Statistics
from sitegenctl.render.output import row_of
from sitegenctl.render.table import Column, Line, Screen, coloured, table
from sitegenctl.render.text import hanging, iso, neutralise, wrap

#: Columns of CSV; each row is an hour in which a run ended.
STATISTICS_COLUMNS = ("hour", "succeeded", "failed", "skipped", "success_rate")

_REASON_KEYS = ("reason", "count", "orders", "last_at", "example", "example_order")

#: Maximum number of reasons and days in the text; JSON has all of them.
REASONS_SHOWN = 10
DAYS_SHOWN = 31

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)

#: Maximum width of a plot.
_PLOT_WIDTH = 72
_LABEL = 12

#: Up to this number of days, the calendar has a line for each hour.
_FEW_DAYS = 2


_HEIGHTS = " ▁▂▃▄▅▆▇█"
_LENGTHS = " ▏▎▍▌▋▊▉█"


def count_words(counts: RunCounts) -> str:
    """The runs that tried to generate a site."""
    return f"{counts.succeeded} generated, {counts.failed} failed"


def counts_data(counts: RunCounts) -> dict[str, Any]:
    """The runs by outcome for the envelope."""
    return {**asdict(counts), "success_rate": counts.success_rate}


def statistics_data(stats: Statistics) -> dict[str, Any]:
    """The statistics for the envelope; times are by the log's clock, durations in seconds."""
    busiest = stats.busiest_hour
    return {
        "since": iso(stats.since),
        "until": iso(stats.until),
        "seconds": stats.length.total_seconds(),
        "runs": {**counts_data(stats.runs), "cut_short": stats.cut_short, "untimed": stats.untimed},
        "orders": stats.orders,
        "throughput": {
            "per_hour": stats.per(_HOUR),
            "per_day": stats.per(_DAY),
            "busiest_hour": {"hour": iso(busiest[0]), **counts_data(busiest[1])} if busiest else None,
        },
        "durations": {
            "succeeded": asdict(stats.generated) if stats.generated else None,
            "failed": asdict(stats.failures) if stats.failures else None,
            "stages": {stage: asdict(durations) for stage, durations in stats.stages.items()},
        },
        "failed_in": dict(stats.failed_in),
        "reasons": [row_of(reason, _REASON_KEYS, reason=reason.text) for reason in stats.reasons],
        "by_day": [{"day": day.isoformat(), **counts_data(counts)} for day, counts in stats.by_day().items()],
        "by_hour_of_day": [{"hour": hour, **counts_data(counts)} for hour, counts in enumerate(stats.by_hour_of_day())],
        "by_hour": statistics_rows(stats),
    }


def statistics_rows(stats: Statistics) -> list[dict[str, Any]]:
    """A row for each hour in which a run ended, oldest first."""
    return [{"hour": iso(hour), **counts_data(counts)} for hour, counts in stats.hours.items()]


def statistics_text(stats: Statistics, screen: Screen) -> str:
    """The statistics as text."""
    lines = [*wrap(f"{window_words(stats)}, on the log's clock", screen.width), ""]
    lines += _labelled("runs", run_words(stats), screen)
    if not stats.hours:
        return "\n".join(lines) + "\n"
    lines += _labelled("throughput", throughput_words(stats), screen)
    width = max(min(screen.width, _PLOT_WIDTH + _LABEL) - _LABEL, 10)
    span, spans = stats.in_spans(width)
    lines += [
        f"{'':{_LABEL}}{sparkline([counts.ended for counts in spans])}".rstrip(),
        f"{'':{_LABEL}}one mark is {describe_age(span)}",
    ]
    parts = ["\n".join(lines), "", _duration_table(stats, screen)]
    if stats.reasons:
        parts += ["", _reason_table(stats, screen)]
    parts += ["", _calendar(stats, screen), "", _hours_of_day(stats, screen)]
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


def window_words(stats: Statistics) -> str:
    """The length of the window, its beginning and its end."""
    return f"{describe_age(stats.length)}, from {stats.since:%Y-%m-%d %H:%M} to {stats.until:%Y-%m-%d %H:%M}"


def throughput_words(stats: Statistics) -> str:
    """The sites generated per hour and day, and the busiest hour."""
    words = [f"{number_words(stats.per(_HOUR))} an hour"]
    if stats.length >= _DAY:
        words.append(f"{number_words(stats.per(_DAY))} a day")
    if stats.busiest_hour is not None:
        hour, counts = stats.busiest_hour
        words.append(f"at most {counts.ended} runs in an hour ({hour:%Y-%m-%d %H:00})")
    return ", ".join(words)


def rate_words(counts: RunCounts) -> str:
    """The success rate, never rounded to 100% where a run failed."""
    if counts.success_rate is None:
        return "-"
    percent = counts.success_rate * 100
    if counts.failed:
        percent = min(percent, 99.9)
    return f"{percent:.1f}%".replace(".0%", "%")


def reason_words(reason: Reason) -> str:
    """The reason; that of a single run in the words of its message."""
    return essence(reason.example) or reason.text if reason.count == 1 else reason.text


def brief(seconds: float) -> str:
    """A short duration: ``120ms``, ``3.1s``, ``1m 5s``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else describe_age(timedelta(seconds=round(seconds)))


def run_words(stats: Statistics) -> str:
    """The runs by outcome."""
    runs = stats.runs
    if not stats.hours:
        return "none ended"
    words = [count_words(runs)]
    if runs.success_rate is not None:
        words[0] += f" ({rate_words(runs)} success), of {stats.orders} {'order' if stats.orders == 1 else 'orders'}"
    if runs.skipped:
        words.append(f"{runs.skipped} skipped")
    if stats.cut_short:
        words.append(f"{stats.cut_short} cut short")
    if stats.untimed:
        words.append(f"{stats.untimed} without a known beginning")
    return "; ".join(words)


def duration_rows(stats: Statistics) -> list[tuple[str, Durations]]:
    """The durations of runs and of their stages, by name."""
    rows = [("generated", stats.generated), *stats.stages.items(), ("failed", stats.failures)]
    return [(name, durations) for name, durations in rows if durations is not None]


def stage_words(stats: Statistics) -> str:
    """The stages in which runs failed."""
    return ", ".join(f"{count} while {stage}" for stage, count in stats.failed_in.items())


def _duration_table(stats: Statistics, screen: Screen) -> str:
    headings = {"runs": 55, "p50": 0, "p95": 0, "p99": 45, "longest": 0, "mean": 65}
    columns = [Column(heading="duration")]
    columns += [Column(heading=name, number=True, from_width=width) for name, width in headings.items()]
    lines = []
    for name, durations in duration_rows(stats):
        taken = (durations.p50, durations.p95, durations.p99, durations.longest, durations.mean)
        lines.append(
            Line(
                cells=[f"  {name}" if name in stats.stages else name, str(durations.count), *map(brief, taken)],
                severity=Severity.FAULT if durations is stats.failures else Severity.OK,
            )
        )
    return table(columns, lines, screen)


def _reason_table(stats: Statistics, screen: Screen) -> str:
    columns = [
        Column(heading="failed", number=True),
        Column(heading="orders", number=True),
        Column(heading="last", from_width=60),
        Column(heading="why", may_shrink=True, most=sys.maxsize),
    ]
    lines = []
    for reason in stats.reasons[:REASONS_SHOWN]:
        last = f"{reason.last_at:%m-%d %H:%M}" if reason.last_at else "-"
        lines.append(Line(cells=[str(reason.count), str(reason.orders), last, reason_words(reason)]))
    text = table(columns, lines, screen)
    if (more := len(stats.reasons) - REASONS_SHOWN) > 0:
        text += f"and {more} more reasons: -o json\n"
    if stats.failed_in:
        text += "\n" + "\n".join(_labelled("failed", neutralise(stage_words(stats)), screen)) + "\n"
    return text


def _calendar(stats: Statistics, screen: Screen) -> str:
    days = stats.by_day()
    if len(days) <= _FEW_DAYS:
        labelled = [(f"{hour:%m-%d %H:00}", counts) for hour, counts in stats.hours.items()]
    else:
        labelled = [(f"{day:%Y-%m-%d}", counts) for day, counts in days.items()]
    shown = labelled[-DAYS_SHOWN:]
    most = max(counts.ended for _, counts in shown)
    numbers = [max(len(str(getattr(counts, name))) for _, counts in shown) for name in ("succeeded", "failed")]
    width = max(min(screen.width, _PLOT_WIDTH + _LABEL) - _LABEL - sum(numbers) - 12, 4)
    lines = []
    if len(labelled) > len(shown):
        lines.append(f"the last {len(shown)} of {len(labelled)} days:")
    for label, counts in shown:
        whole = bar(counts.ended, most, width)
        failed = min(len(whole), max(round(width * counts.failed / most), 1)) if counts.failed and most else 0
        drawn = whole[: len(whole) - failed] + coloured(
            ("█" if screen.colour else "░") * failed, Severity.FAULT, screen
        ) * bool(failed)
        fails = f"{counts.failed:>{numbers[1]}}" if counts.failed else " " * numbers[1]
        rate = rate_words(counts) if counts.ended else ""
        lines.append(f"{label:<{_LABEL}}{counts.succeeded:>{numbers[0]}} {fails}  {rate:>6}  {drawn}".rstrip())
    return "\n".join(lines)


def _hours_of_day(stats: Statistics, screen: Screen) -> str:
    wide = 2 if screen.width >= _LABEL + 48 else 1
    marks = "".join(mark * wide for mark in sparkline([counts.ended for counts in stats.by_hour_of_day()]))
    hours = "".join(f"{hour:<{3 * wide}}" for hour in range(0, 24, 3))
    return f"{'by the hour':<{_LABEL}}{marks}".rstrip() + f"\n{'':{_LABEL}}{hours}".rstrip()


def _labelled(label: str, words: str, screen: Screen) -> Sequence[str]:
    return hanging(f"{label:<{_LABEL}}", words, screen.width)


def number_words(value: float | None) -> str:
    """A rate with its significant digits."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def sparkline(values: Sequence[float], *, most: float | None = None) -> str:
    """A character for each value by its height; only 0 is invisible."""
    top = max([most or 0.0, *values])
    return "".join(_HEIGHTS[max(round(value / top * 8), 1)] if value > 0 else " " for value in values)


def bar(value: float, most: float, width: int) -> str:
    """A bar of up to ``width`` columns; only 0 is invisible."""
    if value <= 0 or most <= 0:
        return ""
    eighths = max(round(min(value / most, 1.0) * width * 8), 1)
    return _LENGTHS[8] * (eighths // 8) + _LENGTHS[eighths % 8].strip()
