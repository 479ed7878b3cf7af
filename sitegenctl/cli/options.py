"""Options that commands share, and what makes a function a command.

Global options may stand before the command or after it: each command takes them too, and the one nearer to
the end wins. Imports typer and errors only, so that ``--help`` stays fast.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Callable
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_click_type
from typer.models import OptionInfo

# Pure and without dependencies: importing them doesn't slow --help.
from sitegenctl.cli import complete, signals
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.errors import SitegenError

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.diagnosis.remedy import Hint


class Output(StrEnum):
    """How data is written to stdout."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


#: The command that runs, as it names itself in the envelope: failures have to, wherever they come from.
running: ContextVar[str] = ContextVar("running", default="")

#: Under what the help shows the options that every command has.
GLOBAL_PANEL = "Global options"

_GLOBALS: dict[str, Any] = {
    "context": Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="CONTEXT",
            help="Use this context from the settings file.",
            autocompletion=complete.contexts,
            rich_help_panel=GLOBAL_PANEL,
        ),
    ],
    "env_file": Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="Read the settings from this .env file.",
            autocompletion=complete.files,
            rich_help_panel=GLOBAL_PANEL,
        ),
    ],
    "output": Annotated[
        Output | None,
        typer.Option("--output", "-o", help="How to write data to stdout.", rich_help_panel=GLOBAL_PANEL),
    ],
    "yes": Annotated[
        bool | None, typer.Option("--yes", "-y", help="Don't ask.", rich_help_panel=GLOBAL_PANEL, show_default=False)
    ],
    "read_only": Annotated[
        bool | None,
        typer.Option(
            "--read-only",
            help="Refuse to change anything; PostgreSQL refuses too.",
            rich_help_panel=GLOBAL_PANEL,
            show_default=False,
        ),
    ],
    "timeout": Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="How long a source may take to answer (5s).",
            rich_help_panel=GLOBAL_PANEL,
        ),
    ],
    "verbose": Annotated[
        bool | None,
        typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=GLOBAL_PANEL, show_default=False),
    ],
}

_SETTINGS = ("context", "env_file", "read_only", "timeout")

OrderArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ORDER",
        help="Order numbers and ranges, such as 42 50-60.",
        autocompletion=complete.orders,
        show_default=False,
    ),
]
FromFile = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Read order numbers from a file; - is stdin.",
        autocompletion=complete.files,
        show_default=False,
        allow_dash=True,
    ),
]
Conditions = Annotated[
    list[Condition] | None,
    typer.Option("--condition", "-C", help="Only orders in this condition; may be repeated.", show_default=False),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        "-S",
        metavar="STATUS",
        help="Only orders with this status; repeatable.",
        autocompletion=complete.statuses,
    ),
]
Search = Annotated[
    str | None, typer.Option("--search", metavar="TEXT", help="In customer, e-mail, business; or the number.")
]
Force = Annotated[bool, typer.Option("--force", help="Also an order that moved a moment ago.")]
Terminate = Annotated[bool, typer.Option("--terminate", help="Stop running tasks too.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="So many orders at most.", show_default=False)
]
OlderThan = Annotated[
    str | None, typer.Option("--older-than", metavar="TIME", help="Only orders that have been still for so long.")
]
NoEnqueue = Annotated[
    bool, typer.Option("--no-enqueue", help="Leave them BUILDING, without a task, but not held.", show_default=False)
]
LiveState = Annotated[
    str | None,
    typer.Option("--watch", metavar="[TIME]", help="Draw it anew every 2s, or as often as said."),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="BACKEND",
        help="celery or rq (default celery).",
        autocompletion=complete.backends,
        show_default=False,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


#: A longer age is a slip of the finger, and may be beyond what PostgreSQL counts back.
OLDEST = timedelta(days=36500)

#: More rows or pages than that nobody looks at, and PostgreSQL counts no further than 19 digits.
MANY = 1_000_000


def last_rows(text: str) -> Any:
    """The option for how many rows of a log to show; its help is this text."""
    return typer.Option("--last", min=0, max=MANY, metavar="N", help=text, show_default=False)


def age(option: str, text: str) -> timedelta:
    """Read an option's age, as ``span`` does. Raises ``UsageProblem`` also for more than a century."""
    from sitegenctl.errors import UsageProblem

    found = span(option, text)
    if found > OLDEST:
        raise UsageProblem(f"{option}: {text} is more than {OLDEST.days} days")
    return found


def span(option: str, text: str) -> timedelta:
    """Read an option's span of time, such as ``90s`` or ``2h``. Raises ``UsageProblem``, which names the option."""
    from sitegenctl.config.settings import bad_value, parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise bad_value(option, exc) from exc


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of one command: its name and the global options, from wherever they stood."""

    command: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> Output:
        """How data is to be written."""
        # An older Typer keeps the bare word in the context.
        return Output(self.options.get("output") or Output.TABLE)

    @property
    def verbose(self) -> bool:
        """Whether to say more."""
        return bool(self.options.get("verbose"))

    @property
    def agreed(self) -> bool:
        """Whether ``--yes`` has answered every question."""
        return bool(self.options.get("yes"))

    def hint_text(self, hint: Hint | None) -> str | None:
        """The hint of an error in one line; a command in it names the system that the options name."""
        from sitegenctl.config.settings import system_option
        from sitegenctl.render.command import hint_text

        return hint_text(hint, system_option(self.options.get("context"), self.options.get("env_file")))

    def require_writable(self) -> None:
        """Refuse where nothing may be changed. Raises ``Refused``."""
        from sitegenctl.errors import Refused

        if self.options.get("read_only"):
            raise Refused(f"{self.command} changes something, and this is --read-only")

    def settings(self, **flags: Any) -> Settings:
        """Resolve the settings; ``flags`` are those of this command alone."""
        from sitegenctl.config.settings import load_settings

        shared = {name: self.options.get(name) for name in _SETTINGS}
        settings = load_settings({**shared, **flags})
        warn(settings)
        return settings


def warn(settings: Settings) -> None:
    """Say what there is to warn of in where the settings are from."""
    for warning in settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def command(
    app: typer.Typer, name: str, *, service: Callable[[dict[str, Any]], bool] = lambda _: False, **typer_options: Any
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a function ``(call: Invocation, …) -> exit code`` a command that takes the global options too.

    ``service`` decides by its options whether the command runs until it is stopped, which is then no failure.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
        for hint in hints.values():
            _require_ascii_digits(hint)
        own = list(signature.parameters.values())[1:]

        @wraps(function)
        def run(ctx: typer.Context, **given: Any) -> int:
            for key in _GLOBALS:
                given.pop(key)
            # `inspect 42` is one command, whatever it is called inside.
            path = ctx.command_path.partition(" ")[2].removesuffix(" ORDER")
            running.set(path)
            options = gathered(ctx)
            call = Invocation(command=path, options=options)
            try:
                return signals.stoppable(lambda: function(call, **given), service=service(given))
            except SitegenError as exc:
                exc.hint = call.hint_text(exc.hint)
                raise

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
                *(p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in own),
                *_global_parameters(),
            ],
            return_annotation=int,
        )
        run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
        app.command(name, **typer_options)(run)
        return function

    return register


def _require_ascii_digits(hint: Any) -> None:
    """Have an option for a whole number refuse what only Python reads as one, such as ``1_000``."""
    for option in getattr(hint, "__metadata__", ()):
        kinds = typing.get_args(hint.__origin__) or (hint.__origin__,)
        if int not in kinds or not isinstance(option, OptionInfo) or option.click_type is not None:
            continue
        kind: Any = copy(get_click_type(annotation=int, parameter_info=option))
        read = kind.convert

        def convert(value: Any, param: Any, ctx: Any, *, kind: Any = kind, read: Any = read) -> Any:
            if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value):
                kind.fail(f"{value!r} is not a valid integer.", param, ctx)
            return read(value, param, ctx)

        kind.convert = convert
        option.click_type = kind


def gathered(ctx: typer.Context) -> dict[str, Any]:
    """The global options from wherever they stood: of several, the one nearest to the end."""
    options: dict[str, Any] = dict.fromkeys(_GLOBALS)
    where: Any = ctx
    while where is not None:
        for key in _GLOBALS:
            if options[key] is None:
                options[key] = where.params.get(key)
        where = where.parent
    return options


def with_globals(function: Callable[..., None]) -> Callable[..., None]:
    """Give a group's callback the global options, for the commands below it to gather."""
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)

    @wraps(function)
    def run(**given: Any) -> None:
        for key in _GLOBALS:
            given.pop(key)
        function(**given)

    own = [
        p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()
    ]
    run.__signature__ = inspect.Signature([*own, *_global_parameters()])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return run


def _global_parameters() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _GLOBALS.items()
    ]
