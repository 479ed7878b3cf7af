"""The completion scripts of four shells: what is known beforehand as tables, and each shell's own way through them.

They start nothing for commands, options and fixed values. For orders and contexts they ask ``sitegenctl _complete``
(``candidates.py``), which is over in a moment or says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from sitegenctl.cli.command_tree import Command, Kind, Option

#: What ``inspect 42`` is inside; nobody types it.
_UNTYPED = "ORDER"

#: A word and what it is for.
Described = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class _Tables:
    commands: Mapping[str, Sequence[Described]]
    options: Mapping[str, Sequence[Described]]
    values: Mapping[str, str]  # by "path option", with "*" for any path
    takes: Sequence[str]


def script(shell: str, root: Command) -> str:
    """The script for ``bash``, ``zsh``, ``fish`` or ``powershell``."""
    fill = {"bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell}[shell]
    text = (files("sitegenctl.cli") / "shells" / shell).read_text(encoding="utf-8")
    for place, content in fill(_tables(root)).items():
        text = text.replace(f"@{place}@", content)
    return text


def _tables(root: Command) -> _Tables:
    everything = list(root.everything())
    return _Tables(
        commands={
            each.name: [(below.path[-1], below.summary) for below in each.commands if below.path[-1] != _UNTYPED]
            for each in everything
            if each.commands
        },
        options={
            each.name: [(name, option.help) for option in each.options for name in option.names] for each in everything
        },
        values=_values(everything),
        takes=_takes(everything),
    )


def _takes(everything: Iterable[Command]) -> list[str]:
    """The options whose value is the next word: a shell has to know before it knows the command."""
    switches: set[str] = set()
    takes: dict[str, None] = {}
    for each in everything:
        for option in each.options:
            if option.needs_value:
                takes.update(dict.fromkeys(option.names))
            else:
                switches.update(option.names)
    if both := switches & set(takes):
        raise ValueError(f"a switch in one command, and with a value in another: {both}")
    return list(takes)


def _values(everything: Sequence[Command]) -> dict[str, str]:
    found: dict[str, dict[str, str]] = {}
    for each in everything:
        for option in each.options:
            if option.needs_value:
                for name in option.names:
                    found.setdefault(name, {})[each.name] = _among(option)
    values: dict[str, str] = {}
    for name, by_path in found.items():
        if len(set(by_path.values())) == 1:
            values[f"* {name}"] = next(iter(by_path.values()))
        else:
            values.update({f"{path} {name}": among for path, among in by_path.items()})
    for each in everything:
        for argument in each.arguments:
            # The group takes what its nameless command takes; that takes one and no more.
            path = each.name.removesuffix(f" {_UNTYPED}")
            values[f"{path} "] = _words(argument.value.among)
    return {place: among for place, among in values.items() if among}


def _among(option: Option) -> str:
    return _words(option.value.among) if option.value else ""


def _words(among: Kind | Sequence[str]) -> str:
    return among.value if isinstance(among, Kind) else " ".join(among)


def _bash(tables: _Tables) -> dict[str, str]:
    def names(described: Iterable[Described]) -> str:
        return "echo " + _quoted(" ".join(name for name, _ in described))

    return {
        "COMMANDS": _cases(tables.commands, names),
        "OPTIONS": _cases(tables.options, names),
        "VALUES": _value_cases(tables.values),
        "TAKES": " | ".join(tables.takes),
    }


def _zsh(tables: _Tables) -> dict[str, str]:
    def lines(described: Iterable[Described]) -> str:
        # A colon ends the name.
        return "print -rl --" + "".join(
            " \\\n        " + _quoted(f"{name}:" + about.replace("\\", "\\\\").replace(":", "\\:"))
            for name, about in described
        )

    return {
        "COMMANDS": _cases(tables.commands, lines),
        "OPTIONS": _cases(tables.options, lines),
        "VALUES": _value_cases(tables.values),
        "TAKES": " | ".join(tables.takes),
    }


def _cases(table: Mapping[str, Sequence[Described]], said: Callable[[Sequence[Described]], str]) -> str:
    return "\n".join(f"    {_quoted(path)}) {said(described)} ;;" for path, described in table.items())


def _value_cases(values: Mapping[str, str]) -> str:
    cases: dict[str, list[str]] = {}
    for place, among in values.items():
        cases.setdefault(among, []).append(
            "*" + _quoted(place.removeprefix("*")) if place.startswith("*") else _quoted(place)
        )
    return "\n".join(f"    {' | '.join(places)}) echo {_quoted(among)} ;;" for among, places in cases.items())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(tables: _Tables) -> dict[str, str]:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def cases(table: Mapping[str, Sequence[Described]]) -> str:
        return "\n".join(
            f"        case {quoted(path)}\n            printf '%s\\t%s\\n'"
            + "".join(f" \\\n                {quoted(name)} {quoted(about)}" for name, about in described)
            for path, described in table.items()
        )

    def value_cases() -> str:
        return "\n".join(
            f"        case {quoted(place)}\n            echo {quoted(among)}" for place, among in tables.values.items()
        )

    return {
        "COMMANDS": cases(tables.commands),
        "OPTIONS": cases(tables.options),
        "VALUES": value_cases(),
        "TAKES": " ".join(tables.takes),
    }


def _powershell(tables: _Tables) -> dict[str, str]:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def rows(table: Mapping[str, Sequence[Described]]) -> str:
        return "\n".join(
            f"        {quoted(path)} = @(\n"
            + "\n".join(f'            ({quoted(name)} + "`t" + {quoted(about)})' for name, about in described)
            + "\n        )"
            for path, described in table.items()
        )

    return {
        "COMMANDS": rows(tables.commands),
        "OPTIONS": rows(tables.options),
        "VALUES": "\n".join(f"        {quoted(place)} = {quoted(among)}" for place, among in tables.values.items()),
        "TAKES": ", ".join(map(quoted, tables.takes)),
    }
