"""``worker``: run the reference worker in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from sitegenctl.cli.options import Backend, Invocation, command


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "worker")(worker)


def worker(
    call: Invocation,
    backend: Backend = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, help="Processes (2).", show_default=False)
    ] = None,
    pace: Annotated[
        str | None,
        typer.Option("--pace", metavar="TIME", help="Pause after each stage, for people to watch (0s)."),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="NAME", help="module:callable, or a plug-in's name (builtin)."),
    ] = None,
) -> int:
    """Run the reference worker until it is stopped."""
    from sitegenctl.worker.backends import run_worker

    call.require_writable()
    settings = call.settings(backend=backend, concurrency=concurrency, pace=pace, generator=generator)
    return run_worker(settings, verbose=call.verbose)
