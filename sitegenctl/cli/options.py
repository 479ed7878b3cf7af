"""Options that commands share, and ``adapt``, which makes a function a command of Typer.

Global options may precede or follow the command; the last one wins. Imports only typer and pure modules, so that
``--help`` stays fast.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from typer.main import get_click_type

from sitegenctl.cli import complete, signals
from sitegenctl.cli.help import GLOBAL_OPTIONS, HelpCommand, HelpGroup
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.remedy import Hint
from sitegenctl.errors import Declined, OutputLost, Refused, SitegenError, UsageProblem
from sitegenctl.extras import install_hint, missing_extra
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import Report, write, write_failure
from sitegenctl.render.text import neutralise
from sitegenctl.streams import use_utf8

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.diagnosis.listing import OrderQuery


class Output(StrEnum):
    """Format of the data on stdout."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


def option(*names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """An option whose default is not shown, unless ``show_default`` is given."""
    return typer.Option(*names, help=help, metavar=metavar, **{"show_default": False, **more})


def number(*names: str, help: str, **more: Any) -> Any:
    """An integer option that refuses what only Python reads as a number, such as ``1_000``."""
    made = option(*names, help=help, **{"metavar": "N", **more})
    # Typer does not export the class of its integers.
    kind: Any = copy(get_click_type(annotation=int, parameter_info=made))
    read = kind.convert

    def convert(value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value):
            kind.fail(f"{value!r} is not a valid integer.", param, ctx)
        return read(value, param, ctx)

    kind.convert = convert
    made.click_type = kind
    return made


_PANEL = {"rich_help_panel": GLOBAL_OPTIONS}

_GLOBALS: dict[str, Any] = {
    "context": Annotated[
        str | None,
        option("--context", metavar="CONTEXT", help="Use this context.", autocompletion=complete.contexts, **_PANEL),
    ],
    "env_file": Annotated[
        Path | None,
        option(
            "--env-file", metavar="FILE", help="Use the settings in this .env.", autocompletion=complete.files, **_PANEL
        ),
    ],
    "output": Annotated[
        Output | None,
        option("--output", "-o", metavar="FORMAT", help="table (default), json, ndjson or csv.", **_PANEL),
    ],
    "bom": Annotated[bool | None, option("--bom", help="Start CSV with a byte order mark (Excel).", **_PANEL)],
    "yes": Annotated[bool | None, option("--yes", "-y", help="Do not ask for confirmation.", **_PANEL)],
    "read_only": Annotated[bool | None, option("--read-only", help="Refuse every change.", **_PANEL)],
    "timeout": Annotated[
        str | None, option("--timeout", metavar="TIME", help="Time limit for each source (default 5s).", **_PANEL)
    ],
    "verbose": Annotated[bool | None, option("--verbose", "-v", help="Show more.", **_PANEL)],
}

_SETTINGS = ("context", "env_file", "read_only", "timeout")

OrderArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ORDERS]...",
        help="Order numbers and ranges, such as 42 50-60.",
        autocompletion=complete.orders,
        show_default=False,
    ),
]
FromFile = Annotated[
    Path | None,
    option(
        "--from",
        metavar="FILE",
        help="Read order numbers from a file; - is stdin.",
        autocompletion=complete.files,
        allow_dash=True,
    ),
]
Conditions = Annotated[
    list[Condition] | None,
    option("--condition", "-C", metavar="CONDITION", help="Only orders in this condition; repeatable."),
]
Statuses = Annotated[
    list[str] | None,
    option(
        "--status",
        "-S",
        metavar="STATUS",
        help="Only orders with this status; repeatable.",
        autocompletion=complete.statuses,
    ),
]
Search = Annotated[
    str | None,
    option("--search", metavar="TEXT", help="Only orders whose customer, e-mail, business or number matches."),
]
Force = Annotated[bool, option("--force", help="Include orders changed within the grace period.")]
Terminate = Annotated[bool, option("--terminate", help="Stop running tasks too.")]
Limit = Annotated[int | None, number("--limit", min=1, help="Process at most N orders.")]
OlderThan = Annotated[
    str | None, option("--older-than", metavar="TIME", help="Only orders unchanged for at least TIME.")
]
NoEnqueue = Annotated[bool, option("--no-enqueue", help="Leave the orders BUILDING, without a task.")]
MaxAttempts = Annotated[
    int, number("--max-attempts", min=1, max=1000, help="Attempts per order, including the first.", show_default=True)
]
WatchInterval = Annotated[str | None, option("--watch", metavar="[TIME]", help="Refresh every TIME (default 2s).")]
Backend = Annotated[
    str | None,
    option("--backend", metavar="BACKEND", help="celery or rq (default celery).", autocompletion=complete.backends),
]
DryRun = Annotated[bool, option("--dry-run", help="Show the plan and change nothing.")]


@dataclass(frozen=True, kw_only=True)
class OrderSelector:
    """The options that select orders, as one parameter of a command."""

    orders: OrderArguments = None
    source: FromFile = None
    condition: Conditions = None
    status: Statuses = None
    search: Search = None

    def choice(self, *, required: bool = False) -> list[int] | OrderQuery | None:
        """The selected orders: numbers, or a query for all that match; None if no option is given.

        Raises ``UsageProblem`` if both are given, and if none is given although one is ``required``.
        """
        from sitegenctl.cli.order_selection import MAX_ORDERS, read_order_ids, read_statuses

        by_number = bool(self.orders) or self.source is not None
        by_kind = bool(self.condition or self.status) or self.search is not None
        if by_number and by_kind:
            raise UsageProblem("order numbers cannot be combined with --condition, --status or --search")
        if by_kind:
            from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy

            return OrderQuery(
                filter=OrderFilter(statuses=read_statuses(self.status), search=self.search),
                conditions=frozenset(self.condition or ()),
                sort=SortBy.ID,
                limit=MAX_ORDERS,
            )
        return read_order_ids(self.orders, self.source) if by_number or required else None


#: The largest number of rows or pages that an option takes.
MAX_ROWS = 1_000_000


def span(name: str, text: str) -> timedelta:
    """Read a duration such as ``90s`` or ``2h`` from an option. Raises ``UsageProblem``."""
    from sitegenctl.config.settings import bad_value, parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise bad_value(name, exc) from exc


# A site that was reset by mistake can be restored from the trash for at least this long.
_SHORTEST_KEEP = timedelta(hours=1)


def trash_age(name: str, text: str) -> timedelta:
    """Read how long sites stay in the trash from an option. Raises ``UsageProblem``."""
    keep = span(name, text)
    if keep < _SHORTEST_KEEP:
        raise UsageProblem(
            f"{name} {text} is too short: the trash may hold the only copy of a site", hint="keep it for 1h or longer"
        )
    return keep


@dataclass(kw_only=True)
class Invocation:
    """One run of a command: its name and the global options.

    A command that a timer runs sets ``is_recurring``: without a terminal, it repeats no warning of its last run.
    """

    command: str
    options: Mapping[str, Any]
    output: Output
    verbose: bool
    agreed: bool
    is_recurring: bool = False
    _warned: set[str] = field(default_factory=set)
    _settings: Settings | None = None

    def hint_text(self, hint: Hint | None) -> str | None:
        """A hint as one line. A command in it has the same ``--context`` or ``--env-file`` as this one."""
        from sitegenctl.config.settings import Settings

        settings = self._settings or Settings(context=self.options["context"], env_file=self.options["env_file"])
        return hint_text(hint, settings.selector)

    def require_writable(self) -> None:
        """Raise ``Refused`` if ``--read-only`` is given."""
        if self.options["read_only"]:
            raise Refused(f"{self.command} makes changes, and --read-only is set")

    def write(
        self,
        data: Any,
        text: Callable[[], str],
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        columns: Sequence[str] = (),
        exit_code: int = 0,
    ) -> int:
        """Write data in the output format, ``text`` being the table; ``rows`` default to the data as one row."""
        rows = [data] if rows is None else rows
        report = Report(command=self.command, data=data, rows=rows, columns=columns, text=text, exit_code=exit_code)
        return write(report, self.output)

    def settings(self, **flags: Any) -> Settings:
        """Resolve the settings; ``flags`` are the options of this command that are settings."""
        from sitegenctl.config.settings import load_settings

        settings = load_settings({**{name: self.options[name] for name in _SETTINGS}, **flags})
        self._settings = settings
        warnings = tuple(each for each in settings.warnings if each not in self._warned)
        self._warned.update(warnings)
        if self.is_recurring and not sys.stderr.isatty():
            from sitegenctl.adapters.system.report_memory import new_warnings
            from sitegenctl.config.file import state_dir

            warnings = new_warnings(state_dir(os.environ), settings.selector or "", warnings)
        for warning in warnings:
            print(f"warning: {neutralise(warning)}", file=sys.stderr)
        return settings


F = TypeVar("F", bound=Callable[..., Any])


def service(runs_on: Callable[[Mapping[str, Any]], bool]) -> Callable[[F], F]:
    """Mark a command that, with some options, runs until it is stopped: stopping it is then no failure.

    A mark, because a signal can arrive before the first statement of the command.
    """

    def mark(function: F) -> F:
        function.runs_on = runs_on  # type: ignore[attr-defined]
        return function

    return mark


#: Runs until it is stopped if it refreshes.
watchable = service(lambda options: options["watch"] is not None)


def examples(*lines: tuple[str, str]) -> Callable[[F], F]:
    """Give a command its examples: the arguments, and what they are for."""

    def mark(function: F) -> F:
        function.examples = lines  # type: ignore[attr-defined]
        return function

    return mark


def adapt(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function for Typer, with the global options.

    A parameter whose type is a dataclass, such as ``OrderSelector``, stands for the options that are its fields. A
    command takes an ``Invocation`` and returns the exit code, or a coroutine that does; a callback takes none.
    """
    hints = get_type_hints(function, include_extras=True)
    bundles: dict[str, Any] = {}
    parameters: dict[str, tuple[Any, Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if hint is Invocation:
            parameters["ctx"] = typer.Context, inspect.Parameter.empty
        elif is_dataclass(hint):
            bundles[name] = hint
            below = get_type_hints(hint, include_extras=True)
            parameters |= {field.name: (below[field.name], field.default) for field in fields(hint)}
        else:
            parameters[name] = hint, parameter.default
    parameters |= {name: (hint, None) for name, hint in _GLOBALS.items()}

    runs_on: Callable[[Mapping[str, Any]], bool] = getattr(function, "runs_on", lambda _: False)

    @wraps(function)
    def adapted(**given: Any) -> Any:
        given = {name: value for name, value in given.items() if name not in _GLOBALS}
        for name, bundle in bundles.items():
            given[name] = bundle(**{field.name: given.pop(field.name) for field in fields(bundle)})
        if Invocation in hints.values():
            ctx = given.pop("ctx")
            return invoke(ctx, partial(function, **given), is_service=runs_on(given))
        return function(**given)

    signed: Any = adapted
    signed.__annotations__ = {name: hint for name, (hint, _) in parameters.items()}
    signed.__signature__ = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
            for name, (hint, default) in parameters.items()
        ]
    )
    return adapted


def invoke(
    ctx: typer.Context, function: Callable[[Invocation], int | Coroutine[Any, Any, int]], *, is_service: bool
) -> int:
    """Run a command's function, and report its failure; returns the exit code."""
    # The innermost of the command and the groups above it wins.
    options = {name: complete.innermost(ctx, name) for name in _GLOBALS}
    call = Invocation(
        # `inspect 42` runs the command ORDER of the group inspect.
        command=ctx.command_path.partition(" ")[2].removesuffix(" ORDER"),
        options=options,
        # The context of the group above may hold the plain word.
        output=Output(options["output"] or Output.TABLE),
        verbose=bool(options["verbose"]),
        agreed=bool(options["yes"]),
    )
    failure: SitegenError
    try:
        if options["bom"] and call.output is not Output.CSV:
            raise UsageProblem("--bom needs -o csv")
        if call.output is not Output.TABLE:
            use_utf8(bom=bool(options["bom"]))
        signals.handle_stops()
        result = function(call)
        return result if isinstance(result, int) else signals.run(result)
    except signals.Terminated:
        if is_service:
            return 0
        raise
    except OutputLost:
        raise
    except Declined as exc:
        print(exc.message, file=sys.stderr)
        return call.write(None, str, rows=())
    except SitegenError as exc:
        failure = exc
    except Exception as exc:
        if signals.is_stopped():
            if is_service:
                return 0
            raise signals.Terminated from None
        if (extra := missing_extra(exc)) is not None:
            failure = UsageProblem(f"the extra {extra} is not installed", hint=install_hint(extra))
        elif call.verbose:
            raise
        else:
            # Without the exception's own text, which may contain a password.
            failure = SitegenError(
                f"unexpected error ({type(exc).__name__})", hint="-v shows the traceback; please report it"
            )
    return write_failure(failure, call.hint_text(failure.hint), call.command, as_json=call.output is Output.JSON)


def group(help: str, commands: Mapping[str, Callable[..., Any]], shown: Sequence[tuple[str, str]] = ()) -> typer.Typer:
    """A group of commands that has no action of its own, and shows these examples."""
    made = typer.Typer(help=help, no_args_is_help=True, cls=HelpGroup)
    made.callback()(adapt(examples(*shown)(lambda: None)))
    for name, function in commands.items():
        made.command(name, cls=HelpCommand)(adapt(function))
    return made
