"""What can be said on the command line, read off the app itself: commands, their options, and what each takes.

Completions and the manual page are made of it, so that they can't tell anything else than ``--help`` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from typer.main import get_command

from sitegenctl.cli.app import make_app
from sitegenctl.cli.options import GLOBAL_PANEL
from sitegenctl.domain.orders.order import OrderStatus


class Kind(StrEnum):
    """Values that only the moment knows; the words are those of the completion scripts."""

    ORDERS = "@orders"
    CONTEXTS = "@contexts"
    FILES = "@files"
    DIRECTORIES = "@directories"


#: What values are called in a usage line, and what they can be.
_BY_METAVAR: dict[str, Kind | tuple[str, ...]] = {
    "ORDER": Kind.ORDERS,
    "CONTEXT": Kind.CONTEXTS,
    "FILE": Kind.FILES,
    "DIR": Kind.DIRECTORIES,
    "STATUS": tuple(status.lower() for status in OrderStatus),
    "BACKEND": ("celery", "rq"),
    "THEME": ("dark", "light", "monochrome"),
}


@dataclass(frozen=True, kw_only=True)
class Value:
    """What an option or argument takes: its name in a usage line, and what it can be; nothing if anything goes."""

    name: str
    among: Kind | tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option under all its names, the opposite's too; ``value`` is None for a switch."""

    names: tuple[str, ...]
    help: str
    value: Value | None = None
    is_global: bool = False

    @property
    def needs_value(self) -> bool:
        """Whether the next word is its value: one in brackets may be left out."""
        return self.value is not None and not self.value.name.startswith("[TIME")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An argument, which may be left out or repeated."""

    value: Value
    required: bool
    repeated: bool


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command or group; ``path`` are the words that lead to it, none for the program itself."""

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...] = ()
    commands: tuple[Command, ...] = field(default=())

    @property
    def name(self) -> str:
        """The words that lead to it, as one text."""
        return " ".join(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of its help."""
        return self.help.partition("\n\n")[0]

    def everything(self) -> Iterator[Command]:
        """This one and all below it."""
        yield self
        for each in self.commands:
            yield from each.everything()


def grammar() -> Command:
    """The whole command line. Imports every command's module."""
    return _command(get_command(make_app()), ())


def _command(command: Any, path: tuple[str, ...]) -> Command:
    options = tuple(_option(each) for each in command.params if each.param_type_name == "option" and not each.hidden)
    return Command(
        path=path,
        help=_plain(command.help),
        options=(*options, Option(names=("--help", "-h"), help="Show this message and exit.", is_global=True)),
        arguments=tuple(_argument(each) for each in command.params if each.param_type_name == "argument"),
        commands=tuple(_command(each, (*path, name)) for name, each in getattr(command, "commands", {}).items()),
    )


def _option(parameter: Any) -> Option:
    names = (*sorted(parameter.opts, key=len, reverse=True), *parameter.secondary_opts)
    return Option(
        names=names,
        help=_plain(parameter.help),
        value=None if parameter.is_flag else _value(parameter),
        is_global=parameter.rich_help_panel == GLOBAL_PANEL,
    )


def _argument(parameter: Any) -> Argument:
    return Argument(value=_value(parameter), required=parameter.required, repeated=parameter.nargs == -1)


def _value(parameter: Any) -> Value:
    choices = tuple(map(str, getattr(parameter.type, "choices", ())))
    name = parameter.metavar or ("|".join(choices) if choices else _type_name(parameter))
    if not choices and "|" in name:
        choices = tuple(name.split("|"))
    return Value(name=name, among=choices or _BY_METAVAR.get(name, ()))


def _type_name(parameter: Any) -> str:
    kind = str(parameter.type.name)
    return "N" if kind.startswith("integer") else kind.upper()


def _plain(text: str | None) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))
