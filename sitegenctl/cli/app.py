"""The app, and how every command line ends: an error is one line, a hint and the right exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from sitegenctl import __version__
from sitegenctl.cli.failure import report_failure
from sitegenctl.cli.options import with_globals
from sitegenctl.cli.terminal import print_interrupted
from sitegenctl.errors import OutputLost, UsageProblem
from sitegenctl.streams import deciding

_INSPECT, _CHANGE, _SET_UP = "Inspect", "Change orders", "Run and set up"

#: Every command, in the order of the help: its module, and its panel in the help.
COMMANDS = {
    "live": ("live", _INSPECT),
    "inspect": ("inspect", _INSPECT),
    "logs": ("logs", _INSPECT),
    "events": ("events", _INSPECT),
    "stats": ("stats", _INSPECT),
    "doctor": ("doctor", _INSPECT),
    "metrics": ("metrics", _INSPECT),
    "enqueue": ("enqueue", _CHANGE),
    "repair": ("repair", _CHANGE),
    "retry-failed": ("retry", _CHANGE),
    "start-stuck": ("retry", _CHANGE),
    "reset": ("reset", _CHANGE),
    "reset-empty": ("reset", _CHANGE),
    "cancel": ("cancel", _CHANGE),
    "maintain": ("maintain", _CHANGE),
    "queue": ("queue", _CHANGE),
    "worker": ("worker", _SET_UP),
    "demo": ("demo", _SET_UP),
    "config": ("config", _SET_UP),
    "completion": ("completion", _SET_UP),
}

# Typer does not export the base class of its usage errors.
_TyperUsageError: Any = typer.BadParameter.__base__

_OPTIONS_WITH_VALUE = {"--context", "--env-file", "--output", "-o", "--timeout"}


def make_app(words: Sequence[str] = ()) -> typer.Typer:
    """The app with the command that these arguments run, or with all commands if they run none.

    Importing all of them makes every command start half as fast.
    """
    app = typer.Typer(
        name="sitegenctl",
        help="Find stuck orders and fix them safely.",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        # `completion` prints the script; Typer's options would only lengthen the help.
        add_completion=False,
    )
    name = _command_name(words)
    for module in dict.fromkeys(module for module, _ in ([COMMANDS[name]] if name in COMMANDS else COMMANDS.values())):
        import_module(f"sitegenctl.cli.commands.{module}").register(app)
    added: list[Any] = [*app.registered_commands, *app.registered_groups]
    for each in added:
        _, each.rich_help_panel = COMMANDS[each.name]
    app.callback(invoke_without_command=True)(with_globals(_root))
    return app


def _command_name(words: Sequence[str]) -> str | None:
    """The first word that is neither an option nor the value of a global option."""
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            return word
        is_value = not is_value and word in _OPTIONS_WITH_VALUE
    return None


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
    try:
        return _run(_with_watch_interval(arguments))
    except OutputLost as exc:
        if not exc.reader_left:
            print(f"error: {exc.message}", file=sys.stderr)
        return exc.exit_code


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A stream with a narrow encoding shows escapes instead of failing. Tests may replace streams.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        _require_text(arguments)
        code = make_app(arguments)(list(arguments), prog_name="sitegenctl", standalone_mode=False) or 0
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
        return report_failure(exc, "", as_json=_wants_json(arguments))
    except _TyperUsageError as exc:
        if type(exc).__name__ == "NoArgsIsHelpError":
            print(exc.ctx.get_help())
            return 0
        command = exc.ctx.command_path.partition(" ")[2] if exc.ctx else ""
        return report_failure(_usage_problem(exc), command, as_json=_wants_json(arguments))


def _with_watch_interval(arguments: Sequence[str]) -> list[str]:
    """Give a bare ``--watch`` its interval: Typer has no options with an optional value."""
    given = list(arguments)
    for place, word in enumerate(given):
        following = given[place + 1] if place + 1 < len(given) else ""
        if word == "--watch" and not re.fullmatch(r"[\d.]+(ms|s|m|h|d)?", following):
            given[place] = "--watch=2s"
    return given


def _require_text(arguments: Sequence[str]) -> None:
    """Raise ``UsageProblem`` for bytes that are not text: neither PostgreSQL nor Redis can be asked for them."""
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"{word!r} is not valid UTF-8") from None


def _usage_problem(exc: Any) -> UsageProblem:
    # `enqueue -1` is meant as an order.
    if re.fullmatch(r"-\d+", name := getattr(exc, "option_name", "")):
        return UsageProblem(f"{name} is not an order number", hint="orders look like 42 or 40-45")
    message = str(exc.format_message()).rstrip(".")
    path = exc.ctx.command_path if exc.ctx else "sitegenctl"
    return UsageProblem(message[:1].lower() + message[1:], hint=f"{path} --help")


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether JSON is wanted, read from a command line that could not be parsed."""
    return re.search(r"(^| )(-o|--output)[ =]?json( |$)", " ".join(arguments)) is not None
