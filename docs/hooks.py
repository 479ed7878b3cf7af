"""Fill in what the documents have from the program: options, conditions, checks, settings.

A line ``<!-- name argument -->`` is replaced by what the function of that name returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from sitegenctl.cli.app import COMMANDS, make_program
from sitegenctl.cli.help import GLOBAL_OPTIONS, examples_of
from sitegenctl.config.settings import SYSTEM_VARIABLES, Settings
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.health.registry import CHECKS

ROOT = Path(__file__).parents[1]


def _table(*heading: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def conditions() -> str:
    """The conditions, in the order in which the first that matches is taken."""
    return _table("condition", "what it means", rows=((f"`{each}`", each.description) for each in Condition))


def checks() -> str:
    """The checks of doctor."""
    return _table(
        *("check", "quick", "backend", "description"),
        rows=(
            (check.name, "yes" if check.quick else "", ", ".join(check.backends or ()), check.description)
            for check in CHECKS
        ),
    )


def settings() -> str:
    """Every setting of a context, its variables and its default."""

    def rows() -> Iterator[tuple[str, ...]]:
        for field in fields(Settings):
            if "description" in field.metadata:
                variables = [f"SITEGENCTL_{field.name.upper()}", SYSTEM_VARIABLES.get(field.name)]
                named = ", ".join(f"`{each}`" for each in variables if each)
                yield f"`{field.name}`", named, _shown(field.default), field.metadata["description"]

    return _table("setting", "variables", "default", "what it is", rows=rows())


def _shown(default: Any) -> str:
    if default is None or default == "":
        return ""
    if isinstance(default, timedelta):
        return f"`{describe_age(default).replace(' ', '')}`"
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`"
    return f"`{default!r}`" if isinstance(default, str) and not default.isprintable() else f"`{default}`"


def commands() -> str:
    """Every command with its usage, options and examples."""
    program = make_program()
    parts = [_page((), program)]
    for name in COMMANDS:
        parts += [_page(path, command) for path, command in _everything(program.commands[name], (name,))]  # type: ignore[attr-defined]
    return "\n\n".join(parts)


def file(name: str) -> str:
    """A document of the top folder; its links lead to pages of the site."""
    text = (ROOT / name).read_text()
    return re.sub(r"\]\(docs/", "](", text)


def _everything(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _everything(below, (*path, name))


def _page(path: tuple[str, ...], command: Any) -> str:
    name = " ".join(path)
    context = command.make_context(f"sitegenctl {name}".strip(), [], resilient_parsing=True)
    lines = [f"## sitegenctl {name}".rstrip() if len(path) < 2 else f"### sitegenctl {name}"]
    lines.append(" ".join((command.help or "").split()))
    usage = " ".join((f"sitegenctl {name}".strip(), *command.collect_usage_pieces(context)))
    lines.append(f"```\n{usage}\n```")
    records = [
        record
        for param in command.get_params(context)
        if (record := param.get_help_record(context)) is not None
        and (not path or getattr(param, "rich_help_panel", None) != GLOBAL_OPTIONS)
    ]
    lines.append(_table("option", "what it does", rows=((f"`{option}`", text) for option, text in records)))
    if examples := [f"# {purpose}\nsitegenctl {line}" for line, purpose in examples_of(command)]:
        lines.append("```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(lines)


PARTS: dict[str, Callable[..., str]] = {each.__name__: each for each in (conditions, checks, settings, commands, file)}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""

    def part(match: re.Match[str]) -> str:
        return PARTS[match[1]](*match[2].split())

    return re.sub(r"^<!-- (\w+)(.*) -->$", part, markdown, flags=re.MULTILINE)
