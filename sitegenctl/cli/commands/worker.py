"""``worker``: run the reference worker in the foreground."""

from __future__ import annotations

from importlib import import_module
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
        int | None, typer.Option("--concurrency", "-c", min=1, help="Number of processes (2).", show_default=False)
    ] = None,
    pace: Annotated[
        str | None,
        typer.Option("--pace", metavar="TIME", help="Pause after each step (0s)."),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option("--generator", metavar="NAME", help="Plug-in, or module:callable (builtin)."),
    ] = None,
) -> int:
    """Run the reference worker until it is stopped."""
    from sitegenctl.backends import backend_of

    call.require_writable()
    settings = call.settings(backend=backend, concurrency=concurrency, pace=pace, generator=generator)
    provider = backend_of(settings)
    provider.require()
    exit_code: int = import_module(provider.worker).run_worker(settings, verbose=call.verbose)
    return exit_code
