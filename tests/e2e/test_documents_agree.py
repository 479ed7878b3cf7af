"""``--help``, the completions and the README tell the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from sitegenctl.cli.app import make_app
from sitegenctl.cli.command_tree import Command, grammar

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def root() -> Command:
    return grammar()


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


# --- what the documents tell to type ----------------------------------------------------------------------------------

DOCUMENTS = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + list((ROOT / "docs").rglob("*.md")), key=str
)


def _commands(text: str) -> list[str]:
    """Every command line of sitegenctl in blocks and in inline code."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(sitegenctl [^`\n]*)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [match[1] for line in lines if (match := re.match(r"\s*(?:\$ )?(sitegenctl .*)", line))]
    return [*found, *inline]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_whatever_a_document_tells_to_type_exists(document: Path, root: Command) -> None:
    for line in _commands(document.read_text()):
        known = _said(line, root)
        assert known is not None, f"no such command: {line}"
        options = set(re.findall(r"(?<=[\s\[(|])--?[a-z][a-z-]*", re.sub(r"(['\"]).*?\1|  # .*|\|.*", "", line)))
        names = {name for option in (*known.options, *root.options) for name in option.names}
        assert options <= names, (line, options - names)


def _said(line: str, root: Command) -> Command | None:
    """The command that a line is of; None if there is none of that name."""
    at = root
    takes = {
        name
        for command in root.everything()
        for option in command.options
        if option.needs_value
        for name in option.names
    }
    pending = False
    for word in line.split()[1:]:
        if pending or word.startswith(("-", "[")):
            pending = not pending and word in takes
            continue
        below = {each.path[-1]: each for each in at.commands}
        name = next(iter(word.split("|")))
        if not below or word == "…":
            return at
        if name not in below:
            return below.get("ORDER") if at.path else None
        at = below[name]
    return at


def test_the_readme_has_every_option(root: Command) -> None:
    """Each is in the section of its command, or where it says what holds for all of a kind."""
    sections = re.split(r"^##+ ", README, flags=re.MULTILINE)
    shared = "".join(text for text in sections if text.startswith(("Everywhere", "Moving orders")))
    untold = []
    for command in root.everything():
        if not command.path:
            continue
        (own,) = [text for text in sections if re.match(rf"`{command.path[0]}[` ]", text)]
        for option in command.options:
            names = "|".join(map(re.escape, option.names))
            if not re.search(rf"(?<![\w-])({names})(?![\w-])", own + shared) and "--help" not in option.names:
                untold.append(f"{command.name} {option.names[0]}")
    assert untold == []


# --- the runbook in both languages ------------------------------------------------------------------------------------

RUNBOOKS = [(ROOT / "docs" / name).read_text() for name in ("runbook.md", "runbook.pt-BR.md")]


def test_both_runbooks_have_the_same_sections_and_tell_to_type_the_same() -> None:
    english, portuguese = (_skeleton(text) for text in RUNBOOKS)
    assert english == portuguese
    assert len(english) > 10


def _skeleton(text: str) -> list[tuple[str, list[str], int]]:
    """Of every section the level of its heading, what it has one type, and how many cases it tells apart."""
    found = []
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE)[1:]:
        typed = [
            line
            for block in re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()
        ]
        inline = sorted(re.findall(r"`((?:sitegenctl|docker|ps) [^`]*)`", section))
        cases = len(re.findall(r"^(?:- \*|\| \d)", section, re.MULTILINE))
        found.append((section.partition(" ")[0], [*typed, *inline], cases))
    return found
