"""Which reference worker there is for which backend; each takes libraries that the other doesn't."""

from __future__ import annotations

from sitegenctl.config.settings import Settings
from sitegenctl.session import require_backend, rq_parts


def run_worker(settings: Settings, *, verbose: bool = False) -> int:
    """Run a worker in the foreground until it is told to stop; returns its exit code.

    Raises ``UsageProblem`` where what it takes isn't installed or configured.
    """
    require_backend(settings)
    return _WORKERS[settings.backend](settings, verbose)


def _celery_worker(settings: Settings, verbose: bool) -> int:
    from sitegenctl.worker import celery_app

    return celery_app.run_worker(settings, verbose=verbose)


def _rq_worker(settings: Settings, verbose: bool) -> int:
    queue, serializer = rq_parts(settings)
    # Not before: it imports RQ.
    from sitegenctl.worker import rq_processes

    return rq_processes.run_worker(settings, queue, serializer, verbose=verbose)


_WORKERS = {"celery": _celery_worker, "rq": _rq_worker}
