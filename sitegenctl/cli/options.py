"""Options that commands share, and ``command``, which makes a function a command.

Global options may precede or follow the command; the last one wins. Imports only typer and pure modules, so that
``--help`` stays fast.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.main import get_click_type
from typer.models import OptionInfo

from sitegenctl.cli import complete, signals
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.errors import OutputLost, SitegenError

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.diagnosis.listing import OrderQuery
    from sitegenctl.domain.diagnosis.remedy import Hint


class Output(StrEnum):
    """Format of the data on stdout."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


def option(*names: str, help: str, metavar: str | None = None, **more: Any) -> Any:
    """An option whose default is not shown, unless ``show_default`` is given."""
    return typer.Option(*names, help=help, metavar=metavar, **{"show_default": False, **more})


def _global(*names: str, help: str, **more: Any) -> Any:
    return option(*names, help=help, rich_help_panel="Global options", **more)


_GLOBALS: dict[str, Any] = {
    "context": Annotated[
        str | None,
        _global("--context", metavar="CONTEXT", help="Use this context.", autocompletion=complete.contexts),
    ],
    "env_file": Annotated[
        Path | None,
        _global("--env-file", metavar="FILE", help="Use the settings in this .env.", autocompletion=complete.files),
    ],
    "output": Annotated[Output | None, _global("--output", "-o", help="Output format.")],
    "yes": Annotated[bool | None, _global("--yes", "-y", help="Do not ask for confirmation.")],
    "read_only": Annotated[bool | None, _global("--read-only", help="Refuse every change.")],
    "timeout": Annotated[
        str | None, _global("--timeout", metavar="TIME", help="Time limit for each source (default 5s).")
    ],
    "verbose": Annotated[bool | None, _global("--verbose", "-v", help="Show more.")],
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
Limit = Annotated[int | None, option("--limit", min=1, metavar="N", help="Process at most N orders.")]
OlderThan = Annotated[
    str | None, option("--older-than", metavar="TIME", help="Only orders unchanged for at least TIME.")
]
NoEnqueue = Annotated[bool, option("--no-enqueue", help="Leave the orders BUILDING, without a task.")]
MaxAttempts = Annotated[
    int,
    option(
        "--max-attempts",
        min=1,
        max=1000,
        metavar="N",
        help="Attempts per order, including the first.",
        show_default=True,
    ),
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

    def choice(self) -> list[int] | OrderQuery | None:
        """The selected orders: numbers, or a query for all that match; None if no option is given.

        Raises ``UsageProblem`` if both are given.
        """
        from sitegenctl.cli.order_selection import MAX_ORDERS, read_order_ids, read_statuses
        from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy
        from sitegenctl.errors import UsageProblem

        by_number = bool(self.orders) or self.source is not None
        by_kind = bool(self.condition or self.status) or self.search is not None
        if by_number and by_kind:
            raise UsageProblem("order numbers cannot be combined with --condition, --status or --search")
        if by_number:
            return read_order_ids(self.orders, self.source)
        if not by_kind:
            return None
        return OrderQuery(
            filter=OrderFilter(statuses=read_statuses(self.status), search=self.search),
            conditions=frozenset(self.condition or ()),
            sort=SortBy.ID,
            limit=MAX_ORDERS,
        )

    def required_choice(self) -> list[int] | OrderQuery:
        """The selected orders. Raises ``UsageProblem`` if no option is given."""
        from sitegenctl.cli.order_selection import read_order_ids

        choice = self.choice()
        return read_order_ids((), None) if choice is None else choice


#: The longest age that an option takes. PostgreSQL cannot subtract much longer ones.
OLDEST = timedelta(days=36500)

#: The largest number of rows or pages that an option takes.
MAX_ROWS = 1_000_000


def last_rows(help: str) -> Any:
    """The ``--last`` option, with this help."""
    return option("--last", min=0, max=MAX_ROWS, metavar="N", help=help)


def age(name: str, text: str) -> timedelta:
    """Read an age from an option. Raises ``UsageProblem``, also for more than a century."""
    from sitegenctl.errors import UsageProblem

    value = span(name, text)
    if value > OLDEST:
        raise UsageProblem(f"{name}: {text} is more than {OLDEST.days} days")
    return value


def span(name: str, text: str) -> timedelta:
    """Read a duration such as ``90s`` or ``2h`` from an option. Raises ``UsageProblem``."""
    from sitegenctl.config.settings import bad_value, parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise bad_value(name, exc) from exc


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One run of a command: its name and the global options."""

    command: str
    options: Mapping[str, Any]

    @property
    def output(self) -> Output:
        """Format of the data on stdout."""
        # The context of the group above may hold the plain word.
        return Output(self.options["output"] or Output.TABLE)

    @property
    def verbose(self) -> bool:
        """Whether ``--verbose`` is given."""
        return bool(self.options["verbose"])

    @property
    def agreed(self) -> bool:
        """Whether ``--yes`` is given."""
        return bool(self.options["yes"])

    def hint_text(self, hint: Hint | None) -> str | None:
        """A hint as one line. A command in it has the same ``--context`` or ``--env-file`` as this one."""
        from sitegenctl.config.settings import system_option
        from sitegenctl.render.command import hint_text

        return hint_text(hint, system_option(self.options["context"], self.options["env_file"]))

    def require_writable(self) -> None:
        """Raise ``Refused`` if ``--read-only`` is given."""
        from sitegenctl.errors import Refused

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
        from sitegenctl.render.output import Report, write

        rows = [data] if rows is None else rows
        report = Report(command=self.command, data=data, rows=rows, columns=columns, text=text, exit_code=exit_code)
        return write(report, self.output)

    def settings(self, **flags: Any) -> Settings:
        """Resolve the settings; ``flags`` are the options of this command that are settings."""
        from sitegenctl.config.settings import load_settings

        settings = load_settings({**{name: self.options[name] for name in _SETTINGS}, **flags})
        warn(settings)
        return settings


def warn(settings: Settings) -> None:
    """Print the warnings about the files that the settings come from."""
    for warning in settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def command(
    app: typer.Typer, name: str, *, service: Callable[[dict[str, Any]], bool] = lambda _: False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a function ``(call: Invocation, …) -> exit code`` a command with the global options.

    A parameter whose type is a dataclass, such as ``OrderSelector``, stands for the options that are its fields.
    ``service`` decides by the options whether the command runs until it is stopped, which then is no failure.
    """

    def register(function: Callable[..., int]) -> Callable[..., int]:
        parameters, bundles = _parameters(function)

        @wraps(function)
        def run(ctx: typer.Context, **given: Any) -> int:
            given = {key: value for key, value in given.items() if key not in _GLOBALS}
            for key, bundle in bundles.items():
                given[key] = bundle(**{field.name: given.pop(field.name) for field in dataclasses.fields(bundle)})
            return invoke(ctx, lambda call: function(call, **given), service=service(given))

        _sign(run, [_parameter("ctx", typer.Context, inspect.Parameter.empty), *parameters[1:]])
        app.command(name)(run)
        return function

    return register


def invoke(ctx: typer.Context, function: Callable[[Invocation], int], *, service: bool = False) -> int:
    """Run a command's function, and report its failure; returns the exit code."""
    # `inspect 42` runs the command ORDER of the group inspect.
    path = ctx.command_path.partition(" ")[2].removesuffix(" ORDER")
    call = Invocation(command=path, options=global_options(ctx))
    try:
        return signals.stoppable(lambda: function(call), service=service)
    except OutputLost:
        raise
    except SitegenError as exc:
        failure = exc
    except Exception as exc:
        if call.verbose:
            raise
        # Without the exception's own text, which may contain a password.
        failure = SitegenError(
            f"unexpected error ({type(exc).__name__})", hint="-v shows the traceback; please report it"
        )
    from sitegenctl.cli.failure import report_failure

    failure.hint = call.hint_text(failure.hint)
    return report_failure(failure, call.command, as_json=call.output is Output.JSON)


def with_globals(function: Callable[..., None]) -> Callable[..., None]:
    """Give the callback of a group the global options, which ``global_options`` collects."""

    @wraps(function)
    def run(**given: Any) -> None:
        function(**{key: value for key, value in given.items() if key not in _GLOBALS})

    _sign(run, _parameters(function)[0])
    return run


def group(app: typer.Typer, name: str, help: str) -> typer.Typer:
    """Add a group of commands that has no action of its own."""
    added = typer.Typer(help=help, no_args_is_help=True)
    added.callback()(with_globals(lambda: None))
    app.add_typer(added, name=name)
    return added


def global_options(ctx: typer.Context) -> dict[str, Any]:
    """The global options of a command and of the groups above it; the innermost wins."""
    return {name: complete.innermost(ctx, name) for name in _GLOBALS}


def _parameters(function: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, type]]:
    """The parameters of a function with its bundles expanded, and the bundles by parameter name."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, type] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if dataclasses.is_dataclass(hint) and hint is not Invocation:
            bundles[parameter.name] = typing.cast("type", hint)
            below = typing.get_type_hints(hint, include_extras=True)
            parameters += [
                _parameter(field.name, below[field.name], field.default) for field in dataclasses.fields(hint)
            ]
        else:
            parameters.append(_parameter(parameter.name, hint, parameter.default))
    return parameters, bundles


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    _require_ascii_digits(hint)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _sign(run: Any, parameters: list[inspect.Parameter]) -> None:
    """Give a function these parameters and the global options, as Typer reads them."""
    shared = [_parameter(name, hint, None) for name, hint in _GLOBALS.items()]
    run.__signature__ = inspect.Signature([*parameters, *shared])
    run.__annotations__ = {each.name: each.annotation for each in run.__signature__.parameters.values()}


def _require_ascii_digits(hint: Any) -> None:
    """Make an integer option refuse what only Python reads as a number, such as ``1_000``."""
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
