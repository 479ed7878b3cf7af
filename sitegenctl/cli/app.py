"""The entry point: the app, and how every failure ends: one line, a hint, the right exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from sitegenctl import __version__
from sitegenctl.cli.options import running, with_globals
from sitegenctl.cli.terminal import say_interrupted
from sitegenctl.errors import OutputLost, SitegenError, UsageProblem
from sitegenctl.streams import deciding

#: The modules of the commands, in the order in which the help shows them, and the commands that each has.
COMMANDS = {
    "live": ("live",),
    "enqueue": ("enqueue",),
    "reset": ("reset", "reset-empty"),
    "retry": ("retry-failed", "start-stuck"),
    "cancel": ("cancel",),
    "repair": ("repair",),
    "maintain": ("maintain",),
    "queue": ("queue",),
    "inspect": ("inspect",),
    "logs": ("logs",),
    "events": ("events",),
    "stats": ("stats",),
    "metrics": ("metrics",),
    "doctor": ("doctor",),
    "worker": ("worker",),
    "demo": ("demo",),
    "config": ("config",),
    "completion": ("completion",),
}

_HELP = "Where each order really is, and why; and how to move it on."

# Typer's own usage errors: their class isn't public under a name of its own.
_TyperUsageError: Any = typer.BadParameter.__base__


def make_app(words: Collection[str] = ()) -> typer.Typer:
    """The app with the commands that are among these words, or with all of them if there is none.

    Typer looks at every option of every command that it is given: with all of them a command takes half as long
    again to start.
    """
    app = typer.Typer(
        name="sitegenctl",
        help=_HELP,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        # Its options would import every command; `completion` prints the script instead.
        add_completion=False,
    )
    meant = [module for module, names in COMMANDS.items() if not set(words).isdisjoint(names)]
    for module in meant or COMMANDS:
        import_module(f"sitegenctl.cli.commands.{module}").register(app)
    app.callback(invoke_without_command=True)(with_globals(_root))
    return app


def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"sitegenctl {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Never raises."""
    try:
        return _run(arguments)
    except OutputLost as exc:
        if not exc.reader_left:
            print(f"error: {exc.message}", file=sys.stderr)
        return exc.exit_code


def _run(arguments: Sequence[str]) -> int:
    _write_anything(sys.stdout)
    _write_anything(sys.stderr)
    running.set("")
    arguments = _with_watch_interval(arguments)
    try:
        _require_text(arguments)
        code = _invoke(arguments)
        with deciding(code):
            sys.stdout.flush()
        if code == 130:
            # Typer has turned the Ctrl-C into an exit code; a command that reported by itself has said so.
            say_interrupted()
        return int(code)
    except OutputLost:
        raise
    except SitegenError as exc:
        return _report(exc, running.get(), arguments)
    except _TyperUsageError as exc:
        if type(exc).__name__ == "NoArgsIsHelpError":
            print(exc.ctx.get_help())
            return 0
        return _report(_usage_problem(exc), _path(exc), arguments)
    except (KeyboardInterrupt, typer.Abort):
        say_interrupted()
        return 130
    except Exception as exc:  # noqa: BLE001 - here the process ends; a traceback is not for users
        return _unexpected(exc, arguments)


def _invoke(arguments: Sequence[str]) -> int:
    try:
        return make_app(arguments)(list(arguments), prog_name="sitegenctl", standalone_mode=False) or 0
    except _TyperUsageError as exc:
        # A word that is a command's name may have been the value of an option.
        if not exc.format_message().startswith("No such command") or not arguments:
            raise
    return make_app()(list(arguments), prog_name="sitegenctl", standalone_mode=False) or 0


def _with_watch_interval(arguments: Sequence[str]) -> list[str]:
    """Give a bare ``--watch`` its interval: Typer knows no option whose value may be left out."""
    given = list(arguments)
    for place, word in enumerate(given):
        following = given[place + 1] if place + 1 < len(given) else ""
        if word == "--watch" and not re.fullmatch(r"[\d.]+(ms|s|m|h|d)?", following):
            return [*given[:place], "--watch=2s", *given[place + 1 :]]
    return given


def _require_text(arguments: Sequence[str]) -> None:
    """Raise ``UsageProblem`` for what neither PostgreSQL nor Redis could be asked for: bytes that are no text."""
    for word in arguments:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageProblem(f"{word!r} is not valid UTF-8") from None


def _unexpected(exc: Exception, arguments: Sequence[str]) -> int:
    if {"-v", "--verbose"} & set(arguments):
        raise exc
    # Not the exception's own text, which may hold anything, a password out of a URL too.
    problem = SitegenError(
        f"something unexpected happened ({type(exc).__name__})", hint="-v shows what and where; please report it"
    )
    return _report(problem, running.get(), arguments)


def _write_anything(stream: Any) -> None:
    """Let a stream of a narrow encoding show what it can't encode as it can, instead of failing."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _usage_problem(exc: Any) -> UsageProblem:
    message = str(exc.format_message()).rstrip(".")
    # `enqueue -1` is no attempt at an option.
    if number := re.fullmatch(r"No such option: (-\d+).*", message):
        return UsageProblem(f"{number[1]} is not an order number", hint="orders look like 42 or 40-45")
    path = exc.ctx.command_path if exc.ctx else "sitegenctl"
    return UsageProblem(message[:1].lower() + message[1:], hint=f"{path} --help")


def _path(exc: Any) -> str:
    return exc.ctx.command_path.partition(" ")[2] if exc.ctx else ""


def _report(exc: SitegenError, command: str, arguments: Sequence[str]) -> int:
    from sitegenctl.render.command import hint_text
    from sitegenctl.render.output import error_lines, write_failure

    exc.hint = hint_text(exc.hint)
    for line in error_lines(exc.message, exc.hint):
        print(line, file=sys.stderr)
    if _wants_json(arguments):
        with deciding(exc.exit_code):
            write_failure(command, exc.exit_code, [error_entry(exc)], sys.stdout)
            sys.stdout.flush()
    return exc.exit_code


def error_entry(exc: SitegenError) -> dict[str, str | None]:
    """The error as the JSON envelope has it."""
    from sitegenctl.render.command import hint_text

    return {"message": exc.message, "hint": hint_text(exc.hint), "source": exc.source}


def _wants_json(arguments: Sequence[str]) -> bool:
    # The command line may be the very thing that is wrong, so this can't wait until it is parsed.
    joined = " ".join(arguments)
    return re.search(r"(^| )(-o|--output)[ =]?json( |$)", joined) is not None
