"""The program and its documents agree, and the site is built from them without a warning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.cli.app import make_program
from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.health.registry import CHECKS
from tests.support import processes

ROOT = Path(__file__).parents[2]


def everything(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and all commands below it, with the words that lead to each."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from everything(below, (*path, name))


PROGRAM = make_program()
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


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Strictly: a dead link, a missing anchor and a page outside the navigation are errors."""
    process = processes.run("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path), cwd=ROOT)
    assert process.returncode == 0, process.stderr
    commands = (tmp_path / "reference" / "commands" / "index.html").read_text()
    assert [path for path in COMMANDS if f"sitegenctl {' '.join(path)}".strip() not in commands] == []
    configuration = (tmp_path / "reference" / "configuration" / "index.html").read_text()
    assert all(f"<code>{each.name}</code>" in configuration for each in fields(Settings) if "parse" in each.metadata)
    concepts = (tmp_path / "concepts" / "index.html").read_text()
    assert all(f"<code>{condition}</code>" in concepts for condition in Condition)
    checks = (tmp_path / "reference" / "doctor" / "index.html").read_text()
    assert all(f"<td>{check.name}</td>" in checks for check in CHECKS)
    assert all(
        "&lt;!-- " not in page.read_text() and "<!-- " not in page.read_text() for page in tmp_path.rglob("*.html")
    )


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
