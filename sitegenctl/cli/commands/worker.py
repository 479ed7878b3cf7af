"""``worker``: run the reference worker in the foreground."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

from sitegenctl.cli.options import Backend, Invocation, examples, number, option, service


@examples(("worker --concurrency 2", "Two orders at once"))
@service(lambda _: True)
def worker(
    call: Invocation,
    backend: Backend = None,
    concurrency: Annotated[
        int | None, number("--concurrency", "-c", min=1, max=1000, help="Number of processes (default 2).")
    ] = None,
    pace: Annotated[str | None, option("--pace", metavar="TIME", help="Pause after each step (default 0s).")] = None,
    generator: Annotated[
        str | None, option("--generator", metavar="NAME", help="Plug-in or module:callable (default builtin).")
    ] = None,
) -> int:
    """Run the reference worker until it is stopped."""
    from sitegenctl.session import backend_class

    call.require_writable()
    settings = call.settings(backend=backend, concurrency=concurrency, pace=pace, generator=generator)
    provider = backend_class(settings.backend)(settings)
    provider.require()
    exit_code: int = import_module(provider.worker).run_worker(settings, verbose=call.verbose)
    return exit_code
