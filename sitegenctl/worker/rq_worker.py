"""Start of the reference worker on RQ."""

from __future__ import annotations

from sitegenctl.adapters.rq.backend import RqBackend
from sitegenctl.config.settings import Settings


def run_worker(settings: Settings, *, verbose: bool = False) -> int:
    """Run a worker in the foreground until it is stopped; returns its exit code."""
    queue, serializer = RqBackend(settings).rq_parts()
    # Not before: this imports RQ, which reads its key prefix from the environment.
    from sitegenctl.worker import rq_processes

    return rq_processes.run_worker(settings, queue, serializer, verbose=verbose)
