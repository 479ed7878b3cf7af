"""How somebody likes the live view: read from the settings file, and what is no good told in one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sitegenctl.errors import UsageProblem
from sitegenctl.tui.keys import ACTION_KEYS, DEFAULT_KEYS, KEYS, VIEW_KEYS
from sitegenctl.tui.preferences import Preferences, interval_of, known_theme, read_preferences


def read(tmp_path: Path, text: str) -> Preferences:
    path = tmp_path / "live.toml"
    path.write_text(text)
    return read_preferences({"SITEGENCTL_CONFIG": str(path)})


def test_without_a_file_all_is_as_it_comes(tmp_path: Path) -> None:
    assert read_preferences({"SITEGENCTL_CONFIG": str(tmp_path / "none.toml")}) == Preferences()
    assert Preferences().interval == 1.0


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    text = '[live]\ntheme = "light"\ninterval = "2s"\n[live.keys]\nreset = "ctrl+r"\nfix = "f2,M"\n'
    assert read(tmp_path, text) == Preferences(theme="light", interval=2.0, keys={"reset": "ctrl+r", "fix": "f2,M"})


def test_keys_may_be_exchanged(tmp_path: Path) -> None:
    assert read(tmp_path, '[live.keys]\nenqueue = "s"\nstart = "e"\n').keys == {"enqueue": "s", "start": "e"}


def test_keys_are_written_as_they_are_on_the_keyboard_or_by_their_names(tmp_path: Path) -> None:
    written = read(tmp_path, '[live.keys]\nmark = "%"\nlook = "f5, z"\nhelp = "question_mark"\nreset = "X"\n')
    assert written.keymap == {"mark": "percent_sign", "look": "f5,z", "help": "question_mark", "reset": "X"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("live = 3", "live must be a table, [live]", None),
        ("[live]\ntheme = 'pink'", "there is no theme 'pink'", "dark, light, monochrome"),
        ("[live]\ntheme = ['dark']", "there is no theme ['dark']", "dark, light, monochrome"),
        ("[live]\ninterval = 'soon'", "interval: 'soon' is not a duration", None),
        ("[live]\ninterval = 2", "interval: 2 has no unit", "7d, 90s or 5m"),
        ("[live]\ninterval = '100ms'", "interval must be from 200ms to 1h", None),
        ("[live]\ninterval = '2h'", "interval must be from 200ms to 1h", None),
        ("[live]\ninterval = -1", "interval: -1 is not a duration", None),
        ("[live]\ninterval = true", "interval: True is not a duration", None),
        ("[live]\ncolour = 'red'", "unknown setting 'colour'", "theme, interval, keys"),
        ("[live]\nkeys = 'q'", "keys must be a table, [live.keys]", None),
        ("[live.keys]\nfly = 'f'", "nothing is called 'fly'", "fix, enqueue"),
        ("[live.keys]\nreset = ''", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = '  '", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 7", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 'q'", "q would be both reset and quit", None),
        ("[live.keys]\nreset = '/'", "slash would be both filter and reset", None),
        ("[live.keys]\nreset = 'slash'", "slash would be both filter and reset", None),
        ("[live.keys]\nreset = 'f5'", "f5 would be both reset and look", None),
        # The list of orders has this one, and no one else would ever hear of it.
        ("[live.keys]\nreset = 'G'", "G would be both last and reset", None),
        ("[live.keys]\nfix = 'enter'", "enter would be both open and fix", None),
        ("[live.keys]\nreset = 'x,,y'", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = ','", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 'x,m'", "m would be both fix and reset", None),
        ("[live.keys]\nreset = 'x'\ncancel = 'x'", "x would be both reset and cancel", None),
    ],
)
def test_what_is_no_good_is_one_line_that_says_where(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageProblem) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert str(tmp_path / "live.toml") in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_a_flag_is_named_as_what_is_wrong() -> None:
    with pytest.raises(UsageProblem, match=r"^--interval: interval must be from 200ms to 1h$"):
        interval_of("1ms", "--interval")
    with pytest.raises(UsageProblem, match=r"^--theme: there is no theme 'x'$"):
        known_theme("x", "--theme")
    assert (interval_of("200ms", ""), interval_of("1h", "")) == (0.2, 3600.0)
    assert known_theme("nord", "") == "nord"  # Textual's own


def test_what_destroys_is_a_capital_and_nothing_else_is() -> None:
    capitals = {binding.id for binding in ACTION_KEYS if binding.key.isupper()}
    assert capitals == {"reset", "cancel"}
    assert all(binding.tooltip and binding.id for binding in KEYS if binding.key not in ("f5", "ctrl+c"))
    assert VIEW_KEYS == ("1", "2", "3", "4", "5")
    assert len(set(DEFAULT_KEYS.values())) == len(DEFAULT_KEYS)
