"""What every command does that moves orders: plan, show, confirm, apply with a progress bar, report."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sitegenctl.cli import signals

if TYPE_CHECKING:
    from sitegenctl.cli.options import Invocation
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.diagnosis.listing import OrderQuery
    from sitegenctl.domain.plans.plan import Plan
    from sitegenctl.domain.plans.result import OperationResult
    from sitegenctl.operations.bulk_plan import BulkPlanner
    from sitegenctl.session import Session

T = TypeVar("T")

# Orders of a plan that are listed before the question; --dry-run lists all.
_SHOWN = 20

# Seconds that something may take before it is shown how far it is.
_UNNOTICED = 1.0

# Seconds after which somebody who answers nothing is looked after again.
_A_MOMENT = 0.2


def changing(call: Invocation, *, dry_run: bool) -> Settings:
    """The settings of a command that changes orders. Raises ``Refused`` where nothing may be changed."""
    from sitegenctl.errors import Refused

    settings = call.settings()
    if settings.read_only and not dry_run:
        raise Refused(
            f"{call.command} changes orders, and this is --read-only", hint="--dry-run shows what it would do"
        )
    return settings


async def chosen(session: Session, choice: list[int] | OrderQuery) -> list[int]:
    """The orders meant, by number."""
    if isinstance(choice, list):
        return choice
    from sitegenctl.operations.listing import choose_orders

    return await planned(
        choose_orders(session.orders, session.queue, session.sites, choice, grace=session.settings.grace)
    )


async def within(session: Session, planning: BulkPlanner, choice: list[int] | OrderQuery | None) -> BulkPlanner:
    """The planning of a command that chooses its orders by itself, as far as it is for the orders meant."""
    if choice is None:
        return planning
    from sitegenctl.operations.bulk_plan import restricted

    return restricted(planning, session.orders, await chosen(session, choice), named=isinstance(choice, list))


def move(
    call: Invocation,
    plan: Callable[[Session], Awaitable[BulkPlanner]],
    *,
    done: str,
    dry_run: bool,
    asks: bool = True,
    files: bool = False,
    limit: int | None = None,
    keep_all: bool = False,
    by_kind: bool = False,
    then: Callable[[Session, OperationResult], Awaitable[OperationResult]] | None = None,
) -> int:
    """All of a command: what is planned is carried out and reported; returns the exit code.

    ``limit`` is how many orders to move at most, ``keep_all`` for who needs the outcomes of orders that went well,
    however many there are. ``by_kind`` is for a command that may reset finished orders, and whose orders are chosen by
    condition, status or search: ``--yes`` does not answer for many of those. ``then`` goes on with what came of it,
    before it is reported. ``carry_out`` has the rest.
    """
    from sitegenctl.session import open_session

    async def moving() -> int:
        settings = changing(call, dry_run=dry_run)
        async with open_session(settings, call.command) as session:
            await session.orders.require_writable()
            result = await _plan_and_carry_out(
                call,
                session,
                await plan(session),
                done=done,
                dry_run=dry_run,
                asks=asks,
                files=files,
                limit=limit,
                keep_all=keep_all,
                by_kind=by_kind,
            )
            if then is not None:
                result = await then(session, result)
        return report(call, result, done=done)

    return signals.run(moving())


async def _plan_and_carry_out(
    call: Invocation,
    session: Session,
    planning: BulkPlanner,
    *,
    done: str,
    dry_run: bool,
    asks: bool,
    files: bool,
    limit: int | None,
    keep_all: bool,
    by_kind: bool,
) -> OperationResult:
    """Make the plan and carry it out, part by part where no question has to be answered first."""
    from sitegenctl.cli.options import Output
    from sitegenctl.operations.execute import apply_parts, preview_parts
    from sitegenctl.render.outcomes import LISTED

    if asks and not dry_run and (by_kind or not call.agreed):
        plan = (await planned(planning)).limited(limit)
        return await carry_out(call, session, plan, done=done, asks=True, dry_run=False, files=files, by_kind=by_kind)
    async with aclosing(planning.parts()) as parts:
        if dry_run:
            return await planned(preview_parts(parts, limit=limit))
        first = await planned(anext(parts))
        listed = keep_all or call.verbose or call.output is not Output.TABLE
        with progress(len(first.order_ids) + len(first.rest), done) as advance:
            return await apply_parts(
                session.orders,
                session.queue,
                session.sites if files else None,
                first,
                parts,
                session.actor,
                limit=limit,
                keep=None if listed else LISTED,
                progress=advance,
            )


async def carry_out(
    call: Invocation,
    session: Session,
    plan: Plan,
    *,
    done: str,
    asks: bool,
    dry_run: bool,
    files: bool = False,
    by_kind: bool = False,
) -> OperationResult:
    """Show the plan, ask, and apply it; a dry run ends before the question.

    ``done`` is the word for what is done to an order; ``files`` says that the plan may move files. ``by_kind`` as in
    ``move``. Raises ``Refused`` where the answer is no, ``UsageProblem`` where there is no terminal.
    """
    from sitegenctl.operations.execute import apply, preview

    if dry_run:
        return preview(plan)
    if asks and plan.steps:
        confirm(call, plan, done, by_kind=by_kind)
    with progress(len(plan.steps), done) as advance:
        return await apply(
            session.orders,
            session.queue,
            session.sites if files else None,
            plan,
            session.actor,
            progress=advance,
        )


def report(call: Invocation, result: OperationResult, *, done: str) -> int:
    """Write what became of each order; returns the exit code."""
    from sitegenctl.cli.terminal import width
    from sitegenctl.render.outcomes import outcomes_report
    from sitegenctl.render.output import write

    selector = call.settings().selector
    found = outcomes_report(result, done=done, verbose=call.verbose, selector=selector, width=width())
    return write(found, call.output)


def confirm(call: Invocation, plan: Plan, done: str, *, by_kind: bool = False) -> None:
    """Show the plan on stderr and ask, unless ``--yes`` answers; many finished orders are reset only by their number.

    Raises ``Refused`` where the answer is another, or where ``--yes`` does not answer and there is no terminal.
    """
    from sitegenctl.cli.terminal import width
    from sitegenctl.errors import Refused
    from sitegenctl.operations.execute import preview
    from sitegenctl.render.outcomes import outcomes_text

    number = plan.number_to_type
    if call.agreed and not (by_kind and number):
        return
    if by_kind and number and not _has_terminal():
        raise Refused(
            f"{number} finished orders would be reset, and their number must be typed on a terminal",
            hint="name the orders: --yes answers only for order numbers, ranges and --from FILE",
        )
    require_terminal(call)
    would, selector = preview(plan), call.settings().selector
    most = None if call.verbose else _SHOWN
    print(
        outcomes_text(would, done=done, selector=selector, most=most, width=width(sys.stderr)), end="", file=sys.stderr
    )
    if number:
        if read_answer(f"{number} finished orders would be {done}. Type {number} to go on: ") != str(number):
            raise Refused("nothing was done")
        return
    ask(f"{len(plan.steps)} {'order' if len(plan.steps) == 1 else 'orders'} would be {done}. Go on?")


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_terminal(call: Invocation) -> None:
    """Raise ``UsageProblem`` where no question can be answered."""
    from sitegenctl.errors import UsageProblem

    if not _has_terminal():
        raise UsageProblem(
            f"{call.command} asks before it acts, and there is no terminal to ask at",
            hint="--dry-run shows the plan, --yes agrees to it",
        )


def ask(question: str) -> None:
    """Ask on stderr, the answer being no unless it is yes. Raises ``Refused`` where it isn't."""
    from sitegenctl.errors import Refused

    if read_answer(f"{question} [y/N] ") not in ("y", "yes"):
        raise Refused("nothing was done")


def read_answer(question: str) -> str:
    """The answer to a question put on stderr, in lower case; Ctrl-C and SIGTERM interrupt at once."""
    try:
        with signals.outside_the_loop():
            print(question, end="", file=sys.stderr, flush=True)
            # A Ctrl-C in the moment before a read begins would not end it.
            while not select.select([sys.stdin], [], [], _A_MOMENT)[0]:
                pass
            return sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        print(file=sys.stderr)  # what comes next stands in a line of its own
        raise
    except OSError:
        return ""  # the terminal has gone


@contextmanager
def progress(total: int, done: str) -> Iterator[Callable[[int], None] | None]:
    """A bar with rate and remaining time on stderr, once it has taken a second, and only on a terminal."""
    with _later(lambda: _bar(total, done)) as advance:
        yield advance


async def planned(planning: Awaitable[T], doing: str = "planning…") -> T:
    """The plan, as soon as it is made; a spinner on stderr tells that it takes a while, and what is being done."""
    with _later(lambda: _spinner(doing)):
        return await planning


@contextmanager
def _later(make: Callable[[], Any]) -> Iterator[Callable[[int], None] | None]:
    """Show on stderr what ``make`` makes (of rich's) when it has taken a while, and only on a terminal.

    It appears by a timer: what is waited for may be the very first thing. Yields how it is told how far it is.
    """
    if not sys.stderr.isatty():
        yield None
        return
    shown = None
    through = 0

    def show() -> None:
        nonlocal shown
        shown = make()
        shown.update(shown.task_ids[0], completed=through)
        shown.start()

    def advance(to: int) -> None:
        nonlocal through
        through = to
        if shown is not None:
            shown.update(shown.task_ids[0], completed=to)

    timer = asyncio.get_running_loop().call_later(_UNNOTICED, show)
    try:
        yield advance
    finally:
        timer.cancel()
        if shown is not None:
            shown.stop()


def _spinner(doing: str):  # type: ignore[no-untyped-def]  # rich is imported when it is needed
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    spinner = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    spinner.add_task(doing, total=None)
    return spinner


def _bar(total: int, done: str):  # type: ignore[no-untyped-def]  # rich is imported when it is needed
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        """Orders a second."""

        def render(self, task):  # type: ignore[no-untyped-def]
            return Text(f"{task.speed:.0f}/s" if task.speed else "")

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(done, total=total)
    return bar
