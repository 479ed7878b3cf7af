"""``--help``, the README and the runbooks agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from sitegenctl.cli.app import make_app
from sitegenctl.domain.health.registry import CHECKS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def everything(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all commands below it, with the words that lead to each."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from everything(below, (*path, name))


PROGRAM = get_command(make_app())
COMMANDS = dict(everything(PROGRAM))


def options(command: Any) -> list[Any]:
    return [each for each in command.params if each.param_type_name == "option"]


def names(option: Any) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def test_help_lines_are_short() -> None:
    lines = [(path, command.get_short_help_str(1000)) for path, command in COMMANDS.items() if path]
    lines += [(path, each.help) for path, command in COMMANDS.items() for each in command.params if each.help]
    assert [(path, line) for path, line in lines if len(line.split()) > 10 or not line.endswith(".")] == []


# --- commands in documents -------------------------------------------------------------------------------------------

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
def test_commands_in_documents_exist(document: Path) -> None:
    shared = {name for option in options(PROGRAM) for name in names(option)}
    for line in _commands(document.read_text()):
        command = _command_of(line)
        assert command is not None, f"no such command: {line}"
        given = set(re.findall(r"(?<=[\s\[(|])--?[a-z][a-z-]*", re.sub(r"(['\"]).*?\1|  # .*|\|.*", "", line)))
        known = {name for option in options(command) for name in names(option)} | shared | {"--help", "-h"}
        assert given <= known, (line, given - known)


def _command_of(line: str) -> Any:
    """The command that a line runs; None if there is none of that name."""
    at: Any = PROGRAM
    takes_value = {
        name
        for command in COMMANDS.values()
        for option in options(command)
        if not option.is_flag and option.name != "watch"
        for name in names(option)
    }
    pending = False
    for word in line.split()[1:]:
        if pending or word.startswith(("-", "[")):
            pending = not pending and word in takes_value
            continue
        below = getattr(at, "commands", {})
        name = next(iter(word.split("|")))
        if not below or word == "…":
            return at
        if name not in below:
            return below.get("ORDER") if at is not PROGRAM else None
        at = below[name]
    return at


def test_the_readme_has_every_option() -> None:
    """Each is in the section of its command, or where it says what holds for all of a kind."""
    sections = re.split(r"^##+ ", README, flags=re.MULTILINE)
    shared = "".join(text for text in sections if text.startswith(("Everywhere", "Changing orders")))
    missing = []
    for path, command in COMMANDS.items():
        if not path:
            continue
        (own,) = [text for text in sections if re.match(rf"`{path[0]}[` ]", text)]
        for option in options(command):
            pattern = "|".join(map(re.escape, names(option)))
            if not re.search(rf"(?<![\w-])({pattern})(?![\w-])", own + shared):
                missing.append(f"{' '.join(path)} {option.opts[0]}")
    assert missing == []


# --- doctor's checks -------------------------------------------------------------------------------------------------


def test_doctor_document_lists_every_check() -> None:
    rows = [
        f"| {check.name} | {'yes' if check.quick else ''} | {', '.join(check.backends or ())} | {check.description} |"
        for check in CHECKS
    ]
    document = (ROOT / "docs" / "doctor.md").read_text().splitlines()
    assert [line for line in document if line.startswith("| ")][1:] == rows


# --- the runbook in both languages ------------------------------------------------------------------------------------

RUNBOOKS = [(ROOT / "docs" / name).read_text() for name in ("runbook.md", "runbook.pt-BR.md")]


def test_both_runbooks_have_equal_sections_and_commands() -> None:
    english, portuguese = (_skeleton(text) for text in RUNBOOKS)
    assert english == portuguese
    assert len(english) > 10


def _skeleton(text: str) -> list[tuple[str, list[str], int]]:
    """Return the heading level, the commands and the number of cases of every section."""
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
