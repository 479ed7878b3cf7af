"""How generation went, as JSON, as rows and on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.statistics.failure_reasons import essence
from sitegenctl.domain.statistics.statistics import Durations, Reason, Statistics
from sitegenctl.render.plot import bar, sparkline
from sitegenctl.render.table import Column, Line, Screen, coloured, table
from sitegenctl.render.text import hanging, iso, neutralise, wrap

#: The rows of CSV and NDJSON: one for each hour in which a run ended.
STATISTICS_COLUMNS = ("hour", "succeeded", "failed", "skipped", "success_rate")

#: Reasons and days that a screen shows; JSON has all of them.
REASONS_SHOWN = 10
DAYS_SHOWN = 31

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)

#: Plots are no wider than this, even where nothing says how wide the screen is.
_PLOT_WIDTH = 72
_LABEL = 12

#: Of a window of one day or two the days say little: then there is a line for each hour.
_FEW_DAYS = 2


def statistics_data(seen: Statistics) -> dict[str, Any]:
    """The statistics as the envelope has them; times are on the log's own clock, durations in seconds."""
    busiest = seen.busiest_hour
    return {
        "since": iso(seen.since),
        "until": iso(seen.until),
        "seconds": seen.length.total_seconds(),
        "runs": {**_tally(seen.runs), "cut_short": seen.cut_short, "untimed": seen.untimed},
        "orders": seen.orders,
        "throughput": {
            "per_hour": seen.per(_HOUR),
            "per_day": seen.per(_DAY),
            "busiest_hour": {"hour": iso(busiest[0]), **_tally(busiest[1])} if busiest else None,
        },
        "durations": {
            "succeeded": asdict(seen.generated) if seen.generated else None,
            "failed": asdict(seen.failures) if seen.failures else None,
            "stages": {stage: asdict(durations) for stage, durations in seen.stages.items()},
        },
        "failed_in": dict(seen.failed_in),
        "reasons": [
            {
                "reason": reason.text,
                "count": reason.count,
                "orders": reason.orders,
                "last_at": iso(reason.last_at),
                "example": reason.example,
                "example_order": reason.example_order,
            }
            for reason in seen.reasons
        ],
        "by_day": [{"day": day.isoformat(), **_tally(tally)} for day, tally in seen.by_day().items()],
        "by_hour_of_day": [{"hour": hour, **_tally(tally)} for hour, tally in enumerate(seen.by_hour_of_day())],
        "by_hour": statistics_rows(seen),
    }


def statistics_rows(seen: Statistics) -> list[dict[str, Any]]:
    """A row for each hour in which a run ended, the oldest first."""
    return [{"hour": iso(hour), **_tally(tally)} for hour, tally in seen.hours.items()]


def statistics_text(seen: Statistics, screen: Screen) -> str:
    """The statistics for people; the first lines say how it went."""
    lines = [*wrap(f"{window_words(seen)}, on the log's clock", screen.width), ""]
    lines += _labelled("runs", run_words(seen), screen)
    if not seen.hours:
        return "\n".join(lines) + "\n"
    lines += _labelled("throughput", throughput_words(seen), screen)
    width = max(min(screen.width, _PLOT_WIDTH + _LABEL) - _LABEL, 10)
    span, spans = seen.in_spans(width)
    lines += [
        f"{'':{_LABEL}}{sparkline([tally.ended for tally in spans])}".rstrip(),
        f"{'':{_LABEL}}one mark is {describe_age(span)}",
    ]
    parts = ["\n".join(lines), "", _duration_table(seen, screen)]
    if seen.reasons:
        parts += ["", _reason_table(seen, screen)]
    parts += ["", _calendar(seen, screen), "", _clock_face(seen, screen)]
    return "\n".join(part.rstrip("\n") for part in parts) + "\n"


def window_words(seen: Statistics) -> str:
    """From when to when, and how long that is."""
    return f"{describe_age(seen.length)}, from {seen.since:%Y-%m-%d %H:%M} to {seen.until:%Y-%m-%d %H:%M}"


def throughput_words(seen: Statistics) -> str:
    """How many sites were generated in an hour and a day, and the most that ended in one hour."""
    words = [f"{number_words(seen.per(_HOUR))} an hour"]
    if seen.length >= _DAY:
        words.append(f"{number_words(seen.per(_DAY))} a day")
    if seen.busiest_hour is not None:
        hour, tally = seen.busiest_hour
        words.append(f"at most {tally.ended} runs in an hour ({hour:%Y-%m-%d %H:00})")
    return ", ".join(words)


def rate_words(tally: RunCounts) -> str:
    """The part that succeeded, never rounded to all while one failed."""
    if tally.success_rate is None:
        return "-"
    percent = tally.success_rate * 100
    if tally.failed:
        percent = min(percent, 99.9)
    return f"{percent:.1f}%".replace(".0%", "%")


def reason_words(reason: Reason) -> str:
    """Why: in its own words where there is one of a kind, which has nothing to fold."""
    return essence(reason.example) or reason.text if reason.count == 1 else reason.text


def brief(seconds: float) -> str:
    """A duration in so few characters as it can be read in: ``120ms``, ``3.1s``, ``1m 5s``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else describe_age(timedelta(seconds=round(seconds)))


def run_words(seen: Statistics) -> str:
    """How many runs ended in which way."""
    runs = seen.runs
    if not seen.hours:
        return "none ended"
    told = [f"{runs.succeeded} generated, {runs.failed} failed"]
    if runs.success_rate is not None:
        told[0] += f" ({rate_words(runs)} success), of {seen.orders} {'order' if seen.orders == 1 else 'orders'}"
    if runs.skipped:
        told.append(f"{runs.skipped} skipped")
    if seen.cut_short:
        told.append(f"{seen.cut_short} cut short")
    if seen.untimed:
        told.append(f"{seen.untimed} without a known beginning")
    return "; ".join(told)


def _duration_table(seen: Statistics, screen: Screen) -> str:
    headings = {"runs": 55, "p50": 0, "p95": 0, "p99": 45, "longest": 0, "mean": 65}
    columns = [Column(heading="duration")]
    columns += [Column(heading=name, number=True, from_width=width) for name, width in headings.items()]

    def line(name: str, durations: Durations, severity: Severity = Severity.OK) -> Line:
        taken = (durations.p50, durations.p95, durations.p99, durations.longest, durations.mean)
        return Line(cells=[name, str(durations.count), *map(brief, taken)], severity=severity)

    lines = [line("generated", seen.generated)] if seen.generated else []
    lines += [line(f"  {stage}", durations) for stage, durations in seen.stages.items()]
    if seen.failures:
        lines.append(line("failed", seen.failures, Severity.FAULT))
    return table(columns, lines, screen)


def _reason_table(seen: Statistics, screen: Screen) -> str:
    columns = [
        Column(heading="failed", number=True),
        Column(heading="orders", number=True),
        Column(heading="last", from_width=60),
        Column(heading="why", may_shrink=True),
    ]
    lines = [
        Line(
            cells=[
                str(reason.count),
                str(reason.orders),
                f"{reason.last_at:%m-%d %H:%M}" if reason.last_at else "-",
                reason_words(reason),
            ]
        )
        for reason in seen.reasons[:REASONS_SHOWN]
    ]
    told = table(columns, lines, screen)
    if (more := len(seen.reasons) - REASONS_SHOWN) > 0:
        told += f"and {more} more reasons: -o json\n"
    if seen.failed_in:
        stages = ", ".join(f"{count} while {stage}" for stage, count in seen.failed_in.items())
        told += "\n" + "\n".join(_labelled("failed", neutralise(stages), screen)) + "\n"
    return told


def _calendar(seen: Statistics, screen: Screen) -> str:
    days = seen.by_day()
    if len(days) <= _FEW_DAYS:
        labelled = [(f"{hour:%m-%d %H:00}", tally) for hour, tally in seen.hours.items()]
    else:
        labelled = [(f"{day:%Y-%m-%d}", tally) for day, tally in days.items()]
    shown = labelled[-DAYS_SHOWN:]
    most = max(tally.ended for _, tally in shown)
    numbers = [max(len(str(getattr(tally, name))) for _, tally in shown) for name in ("succeeded", "failed")]
    width = max(min(screen.width, _PLOT_WIDTH + _LABEL) - _LABEL - sum(numbers) - 12, 4)
    lines = []
    if len(labelled) > len(shown):
        lines.append(f"the last {len(shown)} of {len(labelled)} days:")
    for label, tally in shown:
        whole = bar(tally.ended, most, width)
        failed = min(len(whole), max(round(width * tally.failed / most), 1)) if tally.failed and most else 0
        drawn = whole[: len(whole) - failed] + coloured(
            ("█" if screen.colour else "░") * failed, Severity.FAULT, screen
        ) * bool(failed)
        fails = f"{tally.failed:>{numbers[1]}}" if tally.failed else " " * numbers[1]
        rate = rate_words(tally) if tally.ended else ""
        lines.append(f"{label:<{_LABEL}}{tally.succeeded:>{numbers[0]}} {fails}  {rate:>6}  {drawn}".rstrip())
    return "\n".join(lines)


def _clock_face(seen: Statistics, screen: Screen) -> str:
    wide = 2 if screen.width >= _LABEL + 48 else 1
    marks = "".join(mark * wide for mark in sparkline([tally.ended for tally in seen.by_hour_of_day()]))
    hours = "".join(f"{hour:<{3 * wide}}" for hour in range(0, 24, 3))
    return f"{'by the hour':<{_LABEL}}{marks}".rstrip() + f"\n{'':{_LABEL}}{hours}".rstrip()


def _labelled(label: str, words: str, screen: Screen) -> Sequence[str]:
    return hanging(f"{label:<{_LABEL}}", words, screen.width)


def _tally(tally: RunCounts) -> dict[str, Any]:
    return {
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "success_rate": tally.success_rate,
    }


def number_words(value: float | None) -> str:
    """A rate in as many digits as say something."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"
