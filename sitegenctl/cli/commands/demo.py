"""``demo up|down|status|tour``: the embedded stack, to try everything on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import signals
from sitegenctl.cli.options import Backend, Invocation, command

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.demo.stack import PartState, Stack, StackState
    from sitegenctl.demo.tour import Toured
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.domain.plans.result import Outcome

Orders = Annotated[int, typer.Option("--orders", min=1, help="How many sample orders.")]
Seed = Annotated[int, typer.Option("--seed", help="Another number makes other samples.")]
_WHERE_THE_DEMO_IS = ("SITEGENCTL_DATA_DIR", "XDG_DATA_HOME", "HOME")

Pace = Annotated[str, typer.Option("--pace", metavar="TIME", help="The worker's pause after each step.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="A private Redis, PostgreSQL and worker with sample orders.", no_args_is_help=True)
    command(group, "up")(up)
    command(group, "down")(down)
    command(group, "status")(status)
    command(group, "tour")(tour)
    app.add_typer(group, name="demo")


def up(call: Invocation, backend: Backend = None, orders: Orders = 60, seed: Seed = 42, pace: Pace = "0.3s") -> int:
    """Start the stack in the background; harmless when it is up."""
    call.require_writable()
    state = _up(call, _stack(call, backend), _Samples(orders=orders, seed=seed), pace, keep=True)
    print("the demo is up; try: sitegenctl --context demo inspect", file=sys.stderr)
    return _write_status(call, state)


def down(
    call: Invocation,
    keep_sites: Annotated[bool, typer.Option("--keep-sites", help="Leave the generated sites.")] = False,
) -> int:
    """Stop the stack and remove its data."""
    from sitegenctl.render.output import Report, write

    call.require_writable()
    stopped = list(_stack(call).down(keep_sites=keep_sites, progress=_progress))
    said = f"stopped {', '.join(stopped)}\n" if stopped else "the demo was not up\n"
    data = {"stopped": stopped}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: said), call.output)


def status(call: Invocation) -> int:
    """Show what is up; exit 3 when something is not."""
    from sitegenctl.errors import SourceError

    state = _stack(call).status()
    if state is None:
        raise SourceError("the demo is not up", hint="sitegenctl demo up")
    return _write_status(call, state)


def tour(call: Invocation, backend: Backend = None, orders: Orders = 60, seed: Seed = 42, pace: Pace = "0.1s") -> int:
    """Generate order 42 before your eyes, then watch the rest live; in the end everything it started is stopped."""
    from sitegenctl.cli.commands.live import open_live
    from sitegenctl.cli.terminal import can_draw, is_interactive
    from sitegenctl.demo.servers.lock import only_tour

    call.require_writable()
    stack = _stack(call, backend)
    with only_tour(stack.root.parent):
        try:
            stays = stack.is_kept() or is_interactive()
            _up(call, stack, _Samples(orders=orders, seed=seed), pace, keep=False)
            settings = _show_tour(stack, stays=stays)
            if can_draw() and _wants_live():
                open_live(settings)
        finally:
            # A stack that somebody has asked for by `up`, before or meanwhile, is theirs.
            if not stack.is_kept():
                with _undisturbed():
                    stack.down(keep_sites=True, progress=_progress)
                _progress("Everything is stopped")
    return 0


def _show_tour(stack: Stack, *, stays: bool) -> Settings:
    from sitegenctl.config.settings import load_settings
    from sitegenctl.demo.tour import tour as show

    # The demo's own settings and no others: the worker doesn't know of this shell's either.
    environ = {name: os.environ[name] for name in _WHERE_THE_DEMO_IS if name in os.environ}
    settings = load_settings({"context": "demo"}, {**environ, "SITEGENCTL_CONFIG": os.devnull})
    toured = signals.run(show(stack, settings, _Guide()))
    print(f"\norder {toured.order_id} is in REVIEW; its site has {toured.files} files:")
    print(f"  {toured.folder}/index.html")
    _next_steps(toured, stays=stays)
    return settings


def _stack(call: Invocation, backend: str | None = None) -> Stack:
    from sitegenctl.demo.stack import Stack, default_root
    from sitegenctl.session import require_backend

    def is_ready(state: StackState) -> bool:
        from sitegenctl.demo.tour import worker_answers

        return worker_answers(_stack_settings(state))

    if backend is None:
        return Stack(root=default_root(), worker_ready=is_ready)
    # What can't be had is told before anything starts.
    require_backend(call.settings(backend=backend))
    return Stack(root=default_root(), backend=backend, worker_ready=is_ready)


def _stack_settings(state: StackState) -> Settings:
    from sitegenctl.config.settings import load_settings

    flags = {
        "database_url": state.database_url,
        "redis_url": state.redis_url,
        "backend": state.backend,
        "timeout": "2s",
    }
    return load_settings(flags, {"SITEGENCTL_CONFIG": os.devnull})


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Which sample orders a stack gets when it is seeded."""

    orders: int
    seed: int

    def check(self, stack: Stack) -> None:
        """Raise ``UsageProblem`` for a number that can't be, and say so where it comes too late."""
        from sitegenctl.demo.samples.plan import plan_samples
        from sitegenctl.demo.tour import samples_of

        plan_samples(self.orders, self.seed)
        there = samples_of(stack)
        if there is None:
            return
        orders, seed, backend = there
        if there != (self.orders, self.seed, stack.backend or backend):
            found = f"{orders} orders of seed {seed} on {backend}"
            _progress(f"note: {found} are there already; sitegenctl demo down first")

    def write(self, state: StackState) -> None:
        """Seed the stack."""
        from sitegenctl.demo.tour import seed

        seed(state, orders=self.orders, seed_number=self.seed)


def _up(call: Invocation, stack: Stack, samples: _Samples, pace: str, *, keep: bool) -> StackState:
    call.settings(pace=pace)  # a bad value is told before anything starts
    samples.check(stack)
    return stack.up(
        _progress,
        samples.write,
        {
            "SITEGENCTL_PACE": pace,
            # Nobody watches a demo for the minutes that production waits.
            "SITEGENCTL_RETRY_BASE": "5s",
            "SITEGENCTL_SITE_URL_BASE": (stack.root / "sites").as_uri(),
        },
        keep=keep,
    )


def _progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _next_steps(toured: Toured, *, stays: bool) -> None:
    unstarted = " ".join(map(str, toured.unstarted))
    steps = {
        f"sitegenctl --context demo inspect {toured.order_id}": "where an order really is, and why",
        f"sitegenctl --context demo enqueue {unstarted} --wait": "orders that nobody started",
        "sitegenctl --context demo live": "all of it, on a screen that stays open",
        "sitegenctl demo status": "what is running",
    }
    width = max(map(len, steps))
    # Another `up` begins with fresh samples.
    print("\ntry next" + (":" if stays else ", after sitegenctl demo up:"))
    for step, what in steps.items():
        print(f"  {step:<{width}}  {what}")
    sys.stdout.flush()


def _wants_live() -> bool:
    """Whether somebody who has read all that wants to see the live view; the end of input is a no."""
    print("\nSome of the demo's orders have gone wrong, for you to fix: m shows how, y does it, q ends.")
    print("Press Enter for the live view.", flush=True)
    return bool(sys.stdin.readline())


def _write_status(call: Invocation, state: StackState) -> int:
    from sitegenctl.render.output import Report, write

    rows = [_part_row(part) for part in state.parts]
    width = max(len(row["name"]) for row in rows)

    def text() -> str:
        lines = []
        for row in rows:
            light = "up" if row["alive"] else "down"
            lines.append(f"{row['name']:<{width}}  {light:<4}  {row['pid'] or '-':<7}  {row['url'] or '-'}")
        return "\n".join([*lines, f"{'sites':<{width}}  {state.sites}"]) + "\n"

    data = {
        "root": str(state.root),
        "backend": state.backend,
        "seeded": state.seeded,
        "sites": str(state.sites),
        "parts": rows,
    }
    is_up = state.seeded and all(part.alive for part in state.parts)
    return write(
        Report(command=call.command, data=data, rows=rows, text=text, exit_code=0 if is_up else 3), call.output
    )


def _part_row(part: PartState) -> dict[str, Any]:
    from sitegenctl.config.urls import mask_url

    return {
        "name": part.name,
        "alive": part.alive,
        "pid": part.pid if part.alive else None,
        "url": mask_url(part.url) if part.url else None,
        "log": str(part.log),
    }


class _Guide:
    """Shows the tour as lines on stdout."""

    def enqueued(self, outcome: Outcome) -> None:
        print(f"\n$ sitegenctl --context demo enqueue {outcome.order_id} --wait")
        print(f"{outcome.order_id}  enqueued  {outcome.before} → {outcome.after}  task {outcome.task_id}", flush=True)

    def logged(self, row: LogRow) -> None:
        from sitegenctl.cli.terminal import width
        from sitegenctl.render.log import log_lines

        print(*log_lines(row, width=width()), sep="\n", flush=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nothing interrupt the tidying up: an impatient second Ctrl-C would leave servers behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
