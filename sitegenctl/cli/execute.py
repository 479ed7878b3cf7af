"""Run a command that changes orders: plan, show, confirm, execute with a progress bar, report."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sitegenctl.cli import signals
from sitegenctl.cli.options import Invocation, Output
from sitegenctl.cli.terminal import width
from sitegenctl.errors import Declined, Refused, UsageProblem
from sitegenctl.render.output import write

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.diagnosis.listing import OrderQuery
    from sitegenctl.domain.plans.plan import OperationResult, Plan
    from sitegenctl.operations.planner import Planner
    from sitegenctl.session import Session

# Orders of a plan that are listed before the question; --dry-run lists all.
_MAX_LISTED = 20

# Seconds before a spinner or a progress bar is shown.
SPINNER_DELAY = 1.0

# Seconds between checks for an interrupt while waiting for an answer.
_POLL_INTERVAL = 0.2


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How one run of a command goes; ``done`` is the past participle for what it does to an order.

    ``limit`` is the maximum number of orders changed. ``by_kind`` is set where finished orders may be reset and orders
    were selected by condition, status or search: ``--yes`` does not confirm many of those. ``keep_all`` keeps the
    outcome of each completed order, however many there are. ``journal_as`` is the command as the journal records it.
    """

    done: str
    dry_run: bool = False
    asks: bool = True
    limit: int | None = None
    by_kind: bool = False
    keep_all: bool = False
    journal_as: str | None = None


async def run_mutation(
    call: Invocation,
    planner: Planner,
    choice: list[int] | OrderQuery | None,
    options: RunOptions,
    follow: Callable[[Invocation, Session, OperationResult], Awaitable[OperationResult]] | None = None,
) -> int:
    """Plan for the chosen orders, execute the plan, ``follow`` what it began and report it; returns the exit code."""
    async with mutating_session(call, options) as session:
        result = await execute(call, session, planner, choice, options)
        if follow is not None and not result.interrupted:
            result = await follow(call, session, result)
    return report(call, result, options.done)


def require_writable(call: Invocation, *, dry_run: bool, **flags: Any) -> Settings:
    """The settings of a command that changes orders. Raises ``Refused`` if they are read-only."""
    settings = call.settings(**flags)
    if settings.read_only and not dry_run:
        raise Refused(f"{call.command} changes orders, and --read-only is set", hint="--dry-run shows what it would do")
    return settings


@asynccontextmanager
async def mutating_session(call: Invocation, options: RunOptions) -> AsyncIterator[Session]:
    """A session on a writable database. Raises ``Refused`` or ``SourceError`` where nothing can be changed."""
    from sitegenctl.session import open_session

    settings = require_writable(call, dry_run=options.dry_run)
    async with open_session(settings, options.journal_as or call.command) as session:
        await session.orders.require_writable()
        yield session


async def execute(
    call: Invocation, session: Session, planner: Planner, choice: list[int] | OrderQuery | None, options: RunOptions
) -> OperationResult:
    """Plan and execute, batch by batch unless the plan must be confirmed first."""
    from sitegenctl.operations.execute import execute_batches, predict_batches
    from sitegenctl.operations.planner import Selection
    from sitegenctl.render.outcomes import LISTED

    selection = None
    if isinstance(choice, list):
        selection = Selection(order_ids=choice)
    elif choice is not None:
        from sitegenctl.operations.listing import choose_orders

        with progress():
            selection = Selection(order_ids=await choose_orders(session, choice), named=False)
    if options.asks and not options.dry_run and (options.by_kind or not call.agreed):
        with progress():
            plan = await planner.plan_all(session, selection)
        return await confirm_and_execute(call, session, plan.limited(options.limit), options)
    async with aclosing(planner.batches(session, selection)) as batches:
        if options.dry_run:
            with progress():
                return await predict_batches(session, batches, limit=options.limit)
        with progress():
            first = await anext(batches)
        keep_all = options.keep_all or call.verbose or call.output is not Output.TABLE
        with progress(options.done, len(first.order_ids) + len(first.remaining)) as advance:
            return await execute_batches(
                session, first, batches, limit=options.limit, keep_done=None if keep_all else LISTED, progress=advance
            )


async def confirm_and_execute(call: Invocation, session: Session, plan: Plan, options: RunOptions) -> OperationResult:
    """Show a plan, ask, and execute it; a dry run ends before the question.

    Raises ``Declined`` if the answer is no, ``UsageProblem`` without a terminal.
    """
    from sitegenctl.operations.execute import execute_plan, predict

    if options.dry_run:
        return await predict(session, plan)
    if options.asks and plan.steps:
        _confirm(call, plan, options)
    with progress(options.done, len(plan.steps)) as advance:
        return await execute_plan(session, plan, progress=advance)


def report(call: Invocation, result: OperationResult, done: str) -> int:
    """Write the outcome of each order; returns the exit code."""
    from sitegenctl.render.outcomes import outcomes_report

    selector = call.settings().selector
    written = outcomes_report(result, done=done, verbose=call.verbose, selector=selector, width=width())
    return write(written, call.output)


def _confirm(call: Invocation, plan: Plan, options: RunOptions) -> None:
    """Show the plan on stderr and ask, unless ``--yes`` answers.

    Resetting many finished orders requires typing their number. Raises ``Declined`` for any other answer, ``Refused``
    where ``--yes`` does not answer and there is no terminal.
    """
    from sitegenctl.operations.execute import preview
    from sitegenctl.render.outcomes import outcomes_text

    done, number = options.done, plan.number_to_type
    must_type = options.by_kind and number
    if call.agreed and not must_type:
        return
    if must_type and not _has_terminal():
        raise Refused(
            f"{number} finished orders would be reset, and their number must be typed on a terminal",
            hint="name the orders: --yes answers only for order numbers, ranges and --from FILE",
        )
    require_terminal(call)
    text = outcomes_text(
        preview(plan),
        done=done,
        selector=call.settings().selector,
        most=None if call.verbose else _MAX_LISTED,
        width=width(sys.stderr),
    )
    print(text, end="", file=sys.stderr)
    if number:
        is_confirmed = read_answer(f"{number} finished orders would be {done}. Type {number} to continue: ") == str(
            number
        )
    else:
        count = f"{len(plan.steps)} {'order' if len(plan.steps) == 1 else 'orders'}"
        is_confirmed = read_answer(f"{count} would be {done}. Continue? [y/N] ") in ("y", "yes")
    if not is_confirmed:
        raise Declined


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_terminal(call: Invocation) -> None:
    """Raise ``UsageProblem`` where no question can be answered."""
    if not _has_terminal():
        raise UsageProblem(
            f"{call.command} asks for confirmation, and there is no terminal",
            hint="--dry-run shows the plan, --yes confirms it",
        )


def read_answer(question: str) -> str:
    """Ask on stderr; returns the answer in lower case. Ctrl-C and SIGTERM interrupt at once."""
    try:
        with signals.outside_the_loop():
            print(question, end="", file=sys.stderr, flush=True)
            # A Ctrl-C just before a read begins would not end it.
            while not select.select([sys.stdin], [], [], _POLL_INTERVAL)[0]:
                pass
            return sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # end the line of the question
        raise
    except OSError:
        return ""  # the terminal is closed


@contextmanager
def progress(text: str = "planning…", total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """Show a spinner, or a bar with rate and remaining time, on stderr if it is a terminal and the work takes a while.

    Yields the function that advances the bar. It appears by a timer: the first thing awaited may take all the time.
    """
    if not sys.stderr.isatty():
        yield None
        return
    display: Any = None
    completed = 0

    def show() -> None:
        nonlocal display
        display = _display(total)
        display.add_task(text, total=total, completed=completed)
        display.start()

    def advance(to: int) -> None:
        nonlocal completed
        completed = to
        if display is not None:
            display.update(display.task_ids[0], completed=to)

    timer = asyncio.get_running_loop().call_later(SPINNER_DELAY, show)
    try:
        yield advance
    finally:
        timer.cancel()
        if display is not None:
            display.stop()


def _display(total: int | None) -> Any:
    """A progress display of rich, which is imported only when needed."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Orders per second."""

        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    columns: list[ProgressColumn] = [TimeElapsedColumn()]
    if total is not None:
        columns = [BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()]
    text = TextColumn("{task.description}")
    return Progress(SpinnerColumn(), text, *columns, console=Console(stderr=True), transient=True)
