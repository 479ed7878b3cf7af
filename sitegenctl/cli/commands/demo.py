"""``demo up|down|status|tour``: the embedded stack, to try everything on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sitegenctl.cli import signals
from sitegenctl.cli.options import Backend, Invocation, group, number, option
from sitegenctl.cli.terminal import can_draw, width
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import SourceError
from sitegenctl.render.command import command_line

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.demo.servers.base import ServerState
    from sitegenctl.demo.stack import Stack, StackState
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.domain.plans.plan import Outcome

Pace = Annotated[str, option("--pace", metavar="TIME", help="Pause of the worker after each step.", show_default=True)]


# A test compares it with the samples, which are slow to import.
_MIN_ORDERS = 47


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """The options for the stack and its sample orders."""

    backend: Backend = None
    orders: Annotated[
        int, number("--orders", help=f"Number of sample orders, at least {_MIN_ORDERS}.", show_default=True)
    ] = 60
    seed: Annotated[int, number("--seed", help="Seed of the sample orders.", show_default=True)] = 42


#: The option that selects the demo.
_SELECTOR = "--context demo"

# The variables that determine the demo's folder.
_LOCATION = ("SITEGENCTL_DATA_DIR", "XDG_DATA_HOME", "HOME")


def up(call: Invocation, samples: SampleOptions, pace: Pace = "0.3s") -> int:
    """Start the demo in the background."""
    call.require_writable()
    state = _up(_stack(samples.backend), samples, pace, keep=True)
    steps = {_line(Command.STATUS): "show what needs attention", **_LATER_STEPS}
    _progress("\n".join(["the demo is up; try next:", *_step_lines(steps)]))
    return _write_status(call, state)


def down(
    call: Invocation, keep_sites: Annotated[bool, option("--keep-sites", help="Keep the generated sites.")] = False
) -> int:
    """Stop the demo and remove its data."""
    call.require_writable()
    stopped = list(_stack().down(keep_sites=keep_sites, progress=_progress))
    text = f"stopped {', '.join(stopped)}\n" if stopped else "the demo is not up\n"
    return call.write({"stopped": stopped}, lambda: text)


def status(call: Invocation) -> int:
    """Show the parts; exit 3 unless all run."""
    state = _stack().status()
    if state is None:
        raise SourceError("the demo is not up", hint=Remedy.run(Command.DEMO_UP))
    return _write_status(call, state)


def tour(call: Invocation, samples: SampleOptions, pace: Pace = "0.1s") -> int:
    """Generate order 42, then show the live view.

    Stops everything that it started at the end.
    """
    from sitegenctl.cli.commands.live import open_live
    from sitegenctl.demo.servers.lock import only_tour

    call.require_writable()
    stack = _stack(samples.backend)
    with only_tour(stack.root.parent):
        try:
            _up(stack, samples, pace, keep=False)
            settings = _show_tour(stack, samples)
            if can_draw() and _confirm_live():
                open_live(settings)
        finally:
            # A `demo up`, before or during the tour, asked for the stack to stay up.
            if not stack.is_kept():
                with _signals_ignored():
                    stack.down(keep_sites=True, progress=_progress)
                _progress("Everything is stopped")
    return 0


def _show_tour(stack: Stack, samples: SampleOptions) -> Settings:
    from sitegenctl.config.settings import load_settings
    from sitegenctl.demo.tour import tour as run_tour

    # Without the settings of this shell, as for the worker.
    environ = {name: os.environ[name] for name in _LOCATION if name in os.environ}
    settings = load_settings({"context": "demo"}, {**environ, "SITEGENCTL_CONFIG": os.devnull})
    result = signals.run(run_tour(stack, settings, _show_progress))
    print(f"\norder 42 is in REVIEW; its site has {result.files} files:")
    print(f"  {result.folder}/index.html")
    steps = {
        _line(Command.INSPECT, 42): "show the state of one order",
        _line(Command.ENQUEUE, *result.unstarted, wait=True): "generate two more orders",
        **_LATER_STEPS,
    }
    if not stack.is_kept():
        steps = {_up_line(stack, samples): "start it again, in the background", **steps}
    print("\ntry next:", *_step_lines(steps), sep="\n", flush=True)
    return settings


def _stack(backend: str | None = None) -> Stack:
    from sitegenctl.demo.stack import Stack, default_root
    from sitegenctl.session import backend_class

    def is_ready(state: StackState) -> bool:
        from sitegenctl.demo.tour import worker_responds

        return worker_responds(_own_settings(**state.settings, timeout="2s"))

    if backend is not None:
        # Before anything starts.
        settings = _own_settings(backend=backend)
        backend_class(settings.backend)(settings).require()
    return Stack(root=default_root(), backend=backend, worker_ready=is_ready)


def _own_settings(**flags: str) -> Settings:
    """Resolve settings without those of the operator's system: the chosen context means another, or a demo to start."""
    from sitegenctl.config.settings import load_settings

    return load_settings(flags, {"SITEGENCTL_CONFIG": os.devnull})


def _up(stack: Stack, samples: SampleOptions, pace: str, *, keep: bool) -> StackState:
    from sitegenctl.demo.samples.plan import plan_samples
    from sitegenctl.demo.tour import samples_of, seed

    # Invalid values are refused before anything starts.
    _own_settings(pace=pace)
    plan_samples(samples.orders, samples.seed)
    existing = samples_of(stack)
    if existing is not None:
        existing_orders, existing_seed, backend = existing
        if existing != (samples.orders, samples.seed, stack.backend or backend):
            _progress(
                f"note: the demo already has {existing_orders} orders with seed {existing_seed} on {backend};"
                " to replace them, run sitegenctl demo down first"
            )
    worker_env = {
        "SITEGENCTL_PACE": pace,
        # The production default is minutes.
        "SITEGENCTL_RETRY_BASE": "5s",
        "SITEGENCTL_SITE_URL_BASE": (stack.root / "sites").as_uri(),
    }
    return stack.up(
        _progress, lambda state: seed(state, orders=samples.orders, seed_number=samples.seed), worker_env, keep=keep
    )


def _progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _line(command: Command, *orders: int, **options: Any) -> str:
    return command_line(Remedy.run(command, *orders, **options), _SELECTOR)


_LATER_STEPS = {
    _line(Command.LIVE): "open the live view",
    "sitegenctl config use demo": f"make it the default, so that {_SELECTOR} can be left out",
    "sitegenctl demo down": "stop it and remove its data",
}


def _up_line(stack: Stack, samples: SampleOptions) -> str:
    """The command that starts the same stack with the same orders."""
    default = SampleOptions()
    options = {
        "backend": stack.backend,
        "orders": samples.orders if samples.orders != default.orders else None,
        "seed": samples.seed if samples.seed != default.seed else None,
    }
    return " ".join(
        [
            "sitegenctl demo up",
            *(f"--{name} {value}" for name, value in options.items() if value is not None),
        ]
    )


def _step_lines(steps: dict[str, str]) -> list[str]:
    """The steps in two columns, after what makes them work as typed where sitegenctl is not on PATH."""
    steps = {**_activation(), **steps}
    columns = max(map(len, steps))
    return [f"  {step:<{columns}}  {description}" for step, description in steps.items()]


def _activation() -> dict[str, str]:
    """The step that puts this environment on PATH, unless it is there."""
    folder = Path(sys.prefix, "bin")
    found = shutil.which("sitegenctl")
    # uv puts the environment on the PATH of what it runs, which is not that of the operator's shell.
    if found is not None and "UV" not in os.environ and Path(found).resolve() == (folder / "sitegenctl").resolve():
        return {}
    script = folder / ("activate.fish" if os.environ.get("SHELL", "").endswith("/fish") else "activate")
    return {f". {shlex.quote(str(script))}": "put sitegenctl on PATH"} if script.exists() else {}


def _confirm_live() -> bool:
    """Wait for Enter before the live view hides the output; end of input means no."""
    print("\nSome of the demo's orders have problems to fix. In the live view: m shows the fix, y applies it, q quits.")
    print("Press Enter for the live view, Ctrl-D to end the tour.", flush=True)
    return bool(sys.stdin.readline())


def _write_status(call: Invocation, state: StackState) -> int:
    rows = [_part_row(part) for part in state.parts]
    width = max(len(row["name"]) for row in rows)

    def text() -> str:
        lines = []
        for row in rows:
            word = "up" if row["alive"] else "down"
            lines.append(f"{row['name']:<{width}}  {word:<4}  {row['pid'] or '-':<7}  {row['url'] or '-'}")
        return "\n".join([*lines, f"{'sites':<{width}}  {state.sites}"]) + "\n"

    data = {
        "root": str(state.root),
        "backend": state.backend,
        "seeded": state.seeded,
        "sites": str(state.sites),
        "parts": rows,
    }
    is_up = state.seeded and all(part.alive for part in state.parts)
    return call.write(data, text, rows=rows, exit_code=0 if is_up else 3)


def _part_row(part: ServerState) -> dict[str, Any]:
    from sitegenctl.config.secrets import mask_url

    return {
        "name": part.name,
        "alive": part.alive,
        "pid": part.process.pid if part.process else None,
        "url": mask_url(part.url) if part.url else None,
        "log": str(part.log),
    }


def _show_progress(event: Outcome | LogRow) -> None:
    """Print the outcome of the tour's enqueue, or a row of the log."""
    from sitegenctl.domain.orders.order import LogRow
    from sitegenctl.render.log import log_lines

    if isinstance(event, LogRow):
        print(*log_lines(event, width=width()), sep="\n", flush=True)
    else:
        enqueue = Remedy.run(Command.ENQUEUE, event.order_id, wait=True)
        print(f"\n$ {command_line(enqueue, _SELECTOR)}")
        print(f"{event.order_id}  enqueued  {event.before} → {event.after}  task {event.task_id}", flush=True)


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Do not let a second Ctrl-C interrupt the shutdown, which would leave servers running."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with signals.restored_handlers(*numbers):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        yield


demo = group(
    help="Run a private stack with sample orders.",
    commands={"up": up, "down": down, "status": status, "tour": tour},
    shown=(("demo up", "Start it in the background"), ("demo tour", "Start it and generate order 42")),
)
