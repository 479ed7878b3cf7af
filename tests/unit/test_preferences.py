from __future__ import annotations

from pathlib import Path

import pytest

from sitegenctl.errors import UsageProblem
from sitegenctl.tui.preferences import (
    APP_KEYS,
    DEFAULT_KEYS,
    KEYS,
    Preferences,
    parse_interval,
    parse_theme,
    read_preferences,
)
from sitegenctl.tui.views import VIEWS


def read(tmp_path: Path, text: str) -> Preferences:
    path = tmp_path / "live.toml"
    path.write_text(text)
    return read_preferences({"SITEGENCTL_CONFIG": str(path)})


def test_defaults_without_a_file(tmp_path: Path) -> None:
    assert read_preferences({"SITEGENCTL_CONFIG": str(tmp_path / "none.toml")}) == Preferences()
    assert Preferences().interval == 1.0


def test_all_settings(tmp_path: Path) -> None:
    text = '[live]\ntheme = "light"\ninterval = "2s"\n[live.keys]\nreset = "ctrl+r"\nfix = "f2,M"\n'
    assert read(tmp_path, text) == Preferences(theme="light", interval=2.0, keys={"reset": "ctrl+r", "fix": "f2,M"})


def test_keys_may_be_swapped(tmp_path: Path) -> None:
    assert read(tmp_path, '[live.keys]\nenqueue = "s"\nstart = "e"\n').keys == {"enqueue": "s", "start": "e"}


def test_keys_by_character_or_name(tmp_path: Path) -> None:
    written = read(tmp_path, '[live.keys]\nmark = "%"\nlook = "f5, z"\nhelp = "question_mark"\nreset = "X"\n')
    assert written.keymap == {"mark": "percent_sign", "look": "f5,z", "help": "question_mark", "reset": "X"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("live = 3", "live must be a table, [live]", None),
        ("[live]\ntheme = 'pink'", "unknown theme 'pink'", "dark, light, monochrome"),
        ("[live]\ntheme = ['dark']", "unknown theme ['dark']", "dark, light, monochrome"),
        ("[live]\ninterval = 'soon'", "interval: 'soon' is not a duration", None),
        ("[live]\ninterval = 2", "interval: 2 has no unit", "7d, 90s or 5m"),
        ("[live]\ninterval = '100ms'", "interval must be from 200ms to 1h", None),
        ("[live]\ninterval = '2h'", "interval must be from 200ms to 1h", None),
        ("[live]\ninterval = -1", "interval: -1 is not a duration", None),
        ("[live]\ninterval = true", "interval: True is not a duration", None),
        ("[live]\ncolour = 'red'", "unknown setting 'colour'", "theme, interval, keys"),
        ("[live]\nkeys = 'q'", "keys must be a table, [live.keys]", None),
        ("[live.keys]\nfly = 'f'", "unknown key name 'fly'", "fix, enqueue"),
        ("[live.keys]\nreset = ''", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = '  '", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 7", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 'q'", "q is assigned to both reset and quit", None),
        ("[live.keys]\nreset = '/'", "slash is assigned to both filter and reset", None),
        ("[live.keys]\nreset = 'slash'", "slash is assigned to both filter and reset", None),
        ("[live.keys]\nreset = 'f5'", "f5 is assigned to both reset and look", None),
        # Keys of the table, which handles them first.
        ("[live.keys]\nreset = 'G'", "G is assigned to both last and reset", None),
        ("[live.keys]\nfix = 'enter'", "enter is assigned to both open and fix", None),
        ("[live.keys]\nreset = 'x,,y'", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = ','", "reset must be a key such as ctrl+r", None),
        ("[live.keys]\nreset = 'x,m'", "m is assigned to both fix and reset", None),
        ("[live.keys]\nreset = 'x'\ncancel = 'x'", "x is assigned to both reset and cancel", None),
    ],
)
def test_invalid_settings(tmp_path: Path, text: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageProblem) as caught:
        read(tmp_path, text)
    assert message in caught.value.message
    assert str(tmp_path / "live.toml") in caught.value.message
    assert "\n" not in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_errors_name_the_option() -> None:
    with pytest.raises(UsageProblem, match=r"^--interval: interval must be from 200ms to 1h$"):
        parse_interval("1ms", "--interval")
    with pytest.raises(UsageProblem, match=r"^--theme: unknown theme 'x'$"):
        parse_theme("x", "--theme")
    assert (parse_interval("200ms", ""), parse_interval("1h", "")) == (0.2, 3600.0)
    assert parse_theme("nord", "") == "nord"  # Textual's own


def test_only_destructive_actions_have_capital_letters() -> None:
    capitals = {binding.id for binding in KEYS if binding.action.startswith("app.act") and binding.key.isupper()}
    assert capitals == {"reset", "cancel", "undo"}
    assert all(binding.tooltip and binding.id for binding in KEYS if binding.key not in ("f5", "ctrl+c"))


def test_views_have_number_keys_in_their_order() -> None:
    numbers = [(binding.key, binding.id) for binding in APP_KEYS if binding.action.startswith("view(")]
    assert numbers == [(str(number), view.NAME) for number, view in enumerate(VIEWS, 1)]
    assert numbers[0] == ("1", "orders")


def test_no_key_has_two_meanings() -> None:
    assert len(set(DEFAULT_KEYS.values())) == len(DEFAULT_KEYS)
