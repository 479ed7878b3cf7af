"""``--help``, the completions, the manual page and the README tell the same."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from sitegenctl.cli.grammar import Command, grammar
from sitegenctl.cli.main import make_app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "man" / "sitegenctl.1"
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def root() -> Command:
    return grammar()


def test_the_manual_page_is_what_make_man_writes() -> None:
    assert PAGE.read_text() == runpy.run_path(str(ROOT / "docs" / "man.py"))["page"](), "make man"


def test_the_manual_page_is_well_formed() -> None:
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "error", str(PAGE)]
    elif shutil.which("groff"):
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", "-rLL=100n", str(PAGE)]
    else:
        pytest.skip("there is neither mandoc nor groff on this machine")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_manual_page_has_every_command_and_option(root: Command) -> None:
    sections = re.split(r"^\.S[SH] ", PAGE.read_text().replace("\\-", "-"), flags=re.MULTILINE)
    everywhere = next(text for text in sections if text.startswith("GLOBAL OPTIONS"))
    for command in root.everything():
        heading = " ".join(word for word in command.path if word != "ORDER")
        told = [text for text in sections if re.match(rf"{re.escape(heading)}( [^a-z]|$)", text)] if heading else []
        for option in command.options:
            place = everywhere if option.is_global or not heading else "".join(told)
            assert all(f"\\fB{name}\\fR" in place for name in option.names), (command.name, option.names)


def test_help_shows_what_the_grammar_knows(
    root: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    program = get_command(make_app())
    for command in root.everything():
        program([*command.path, "--help"], standalone_mode=False)
        shown = capsys.readouterr().out
        # The names stand before whatever is said of them.
        rows = re.findall(r"^│ (?:\*  )? *((?:--?[A-Za-z][a-z-]* +)+)", shown, re.MULTILINE)
        names = {name for option in command.options for name in option.names}
        assert names == set(" ".join(rows).split()), command.name
        assert all(each.path[-1] in shown for each in command.commands)
