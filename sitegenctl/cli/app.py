"""The app, and how every command line ends: an error is one line, a hint and the right exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_command

from sitegenctl import __version__
from sitegenctl.cli.help import HelpCommand, HelpGroup, help_width, meant, meant_error
from sitegenctl.cli.options import adapt, examples
from sitegenctl.cli.terminal import forget_exported_size, print_interrupted
from sitegenctl.errors import OutputLost, UsageProblem
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import write_failure
from sitegenctl.streams import deciding

_LOOK, _FIX, _AUTOMATE, _SET_UP = "Look", "Fix", "Automate", "Set up"

#: Every command, in the order of the help: its module, which has a function or group of its name, and its group.
COMMANDS = {
    "status": ("inspect", _LOOK),
    "inspect": ("inspect", _LOOK),
    "logs": ("logs", _LOOK),
    "history": ("history", _LOOK),
    "events": ("events", _LOOK),
    "stats": ("stats", _LOOK),
    "live": ("live", _LOOK),
    "enqueue": ("enqueue", _FIX),
    "start-stuck": ("retry", _FIX),
    "retry-failed": ("retry", _FIX),
    "reset": ("reset", _FIX),
    "reset-empty": ("reset", _FIX),
    "cancel": ("cancel", _FIX),
    "undo": ("undo", _FIX),
    "repair": ("repair", _FIX),
    "trash": ("trash", _FIX),
    "queue": ("queue", _FIX),
    "maintain": ("maintain", _AUTOMATE),
    "metrics": ("metrics", _AUTOMATE),
    "doctor": ("doctor", _AUTOMATE),
    "config": ("config", _SET_UP),
    "demo": ("demo", _SET_UP),
    "worker": ("worker", _SET_UP),
    "completion": ("completion", _SET_UP),
}

# Typer does not export the base class of its usage errors.
_TyperUsageError: Any = typer.BadParameter.__base__

_OPTIONS_WITH_VALUE = {"--context", "--env-file", "--output", "-o", "--timeout"}


class _Root(HelpGroup):
    """Has its commands in the order of ``COMMANDS``, and answers a near miss with the right command."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and (remedy := meant(args)) is not None:
            raise meant_error(f"no such command '{args[0]}'", remedy, ctx)
        return super().resolve_command(ctx, args)


def make_program(words: Sequence[str] = ()) -> Any:
    """The program with the command that these arguments run, or with all commands if they run none.

    Importing all of them makes every command start half as fast.
    """
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            # The first word that is neither an option nor the value of a global option.
            return _program((word,) if word in COMMANDS else tuple(COMMANDS))
        is_value = not is_value and word in _OPTIONS_WITH_VALUE
    return _program(tuple(COMMANDS))


@cache
def _program(commands: Sequence[str]) -> Any:
    app = typer.Typer(
        name="sitegenctl",
        help="Find stuck orders and fix them safely.",
        cls=_Root,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        # `completion` prints the script; Typer's options would only lengthen the help.
        add_completion=False,
    )
    for name in commands:
        module, panel = COMMANDS[name]
        added = getattr(import_module(f"sitegenctl.cli.commands.{module}"), name.replace("-", "_"))
        if isinstance(added, typer.Typer):
            app.add_typer(added, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel, cls=HelpCommand)(adapt(added))
    app.callback(invoke_without_command=True)(adapt(_root))
    return get_command(app)


@examples(
    ("status", "What is wrong, and how to fix it"),
    ("inspect 28", "Where is order 28, and why"),
    ("live", "Watch everything on one screen"),
    ("demo tour", "Try it without a system of your own"),
)
def _root(
    ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    if version:
        typer.echo(f"sitegenctl {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    _ignore_unusable_home()
    # Whether JSON is wanted, read from a command line that could not be parsed.
    as_json = re.search(r"(^| )(-o|--output)[ =]?json( |$)", " ".join(arguments)) is not None
    try:
        for stream in (sys.stdout, sys.stderr):
            # A stream with a narrow encoding shows escapes instead of failing. Tests may replace streams.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        forget_exported_size()
        try:
            words = _read_words(arguments)
            program = make_program(words)
            code = program(words, prog_name="sitegenctl", standalone_mode=False, terminal_width=help_width()) or 0
            with deciding(code):
                sys.stdout.flush()
            if code == 130:
                # Typer turned Ctrl-C into an exit code.
                print_interrupted()
            return int(code)
        except (KeyboardInterrupt, typer.Abort):
            print_interrupted()
            return 130
        except UsageProblem as exc:
            return write_failure(exc, hint_text(exc.hint), "", as_json=as_json)
        except _TyperUsageError as exc:
            if type(exc).__name__ == "NoArgsIsHelpError":
                print(exc.ctx.get_help())
                return 0
            problem, hint = _usage_problem(exc)
            command = exc.ctx.command_path.partition(" ")[2] if exc.ctx else ""
            return write_failure(UsageProblem(problem), hint, command, as_json=as_json)
    except OutputLost as exc:
        # Also one that reporting an error raised.
        if not exc.reader_left:
            print(f"error: {exc.message}", file=sys.stderr)
        return exc.exit_code


def _ignore_unusable_home() -> None:
    """Let an account whose home can't be entered have none: asyncpg fails if it can't search for its files there."""
    try:
        os.stat(os.path.expanduser("~/.config"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        os.environ["HOME"] = os.devnull


def _read_words(arguments: Sequence[str]) -> list[str]:
    """Give a bare ``--watch`` its interval: Typer has no options with an optional value.

    Raises ``UsageProblem`` for bytes that are not text: neither PostgreSQL nor Redis can be asked for them.
    """
    words = list(arguments)
    for place, word in enumerate(words):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"{word!r} is not valid UTF-8") from None
        if word == "--watch" and not re.fullmatch(r"[0-9.]+(ms|s|m|h|d)?", "".join(words[place + 1 : place + 2])):
            words[place] = "--watch=2s"
    return words


def _usage_problem(exc: Any) -> tuple[str, str]:
    """The message and the hint for a usage error of Typer."""
    # `enqueue -1` is meant as an order.
    if re.fullmatch(r"-\d+", name := getattr(exc, "option_name", "")):
        return f"{name} is not an order number", "orders look like 42 or 40-45"
    message = str(exc.format_message()).rstrip(".")
    path = exc.ctx.command_path if exc.ctx else "sitegenctl"
    return message[:1].lower() + message[1:], f"{path} --help"
