from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sitegenctl.cli.commands.logs import read_since
from sitegenctl.config.settings import DurationError, load_settings, parse_duration
from sitegenctl.errors import UsageProblem


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90), ("2m", 120), ("1.5h", 5400), ("7d", 604800), ("0s", 0), (" 5 m ", 300)],
)
def test_duration_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["7", "0", "2.5", "20260131", " 5 ", 5, 2.5])
def test_number_without_a_unit_is_refused_with_a_hint(text: str | float) -> None:
    with pytest.raises(DurationError, match="has no unit") as caught:
        parse_duration(text)
    assert caught.value.hint == "write 7d, 90s or 5m"


NOT_DURATIONS = ["", "s", "nan", "2 weeks", "-5m", "-1d", "+1d", "1_0s", "٣d", "\uff17d", "1e3s", "1d2h", ".5h", "5.s"]


@pytest.mark.parametrize("text", [*NOT_DURATIONS, "5 weeks", "5M", True])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(DurationError, match="is not a duration"):
        parse_duration(text)


def test_duration_beyond_all_clocks_is_refused() -> None:
    with pytest.raises(DurationError, match="too large"):
        parse_duration("9" * 30 + "d")


@pytest.mark.parametrize("setting", ["grace", "timeout", "pace", "retry_base", "visibility_timeout"])
def test_settings_need_units(setting: str) -> None:
    variable = f"SITEGENCTL_{setting.upper()}"
    with pytest.raises(UsageProblem, match="has no unit") as caught:
        load_settings({}, {variable: "5"})
    assert variable in caught.value.message
    assert caught.value.hint == "write 7d, 90s or 5m"


@pytest.mark.parametrize(("setting", "text"), [("concurrency", "1_0"), ("concurrency", "٣"), ("priority_steps", "0,٣")])
def test_digits_are_ascii(setting: str, text: str) -> None:
    with pytest.raises(UsageProblem, match="is not a"):
        load_settings({}, {f"SITEGENCTL_{setting.upper()}": text})


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", datetime.fromisoformat("2026-01-31T00:00")),
        ("20260131", datetime.fromisoformat("2026-01-31T00:00")),
        ("2026-01-31T08:00", datetime.fromisoformat("2026-01-31T08:00")),
        ("10m", timedelta(minutes=10)),
    ],
)
def test_since_reads_dates_as_dates(text: str, moment: datetime | timedelta) -> None:
    assert read_since(text) == moment


@pytest.mark.parametrize("text", ["", "7", "86400", "2026", "٢٠٢٦-01-31", "2026_0131", "1960-01-01"])
def test_since_rejects_other_text(text: str) -> None:
    with pytest.raises(UsageProblem, match="neither an age such as 10m nor a time"):
        read_since(text)
