"""The reference worker of the configured backend; each needs libraries that the others don't."""

from __future__ import annotations

from importlib import import_module

from sitegenctl.backends import backend_of
from sitegenctl.config.settings import Settings


def run_worker(settings: Settings, *, verbose: bool = False) -> int:
    """Run a worker in the foreground until it is stopped; returns its exit code.

    Raises ``UsageProblem`` where a library is not installed, or something is not configured.
    """
    backend = backend_of(settings)
    backend.require()
    exit_code: int = import_module(backend.worker).run_worker(settings, verbose=verbose)
    return exit_code
