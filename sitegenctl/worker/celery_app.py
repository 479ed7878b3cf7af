"""The reference worker's Celery app: ``sitegenctl worker``, or ``celery -A sitegenctl.worker.celery_app worker``.

Unlike the deployed worker it does not hide failures: after the last retry the state of the task is FAILURE.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task

from sitegenctl.adapters.celery.backend import CeleryBackend
from sitegenctl.config.settings import Settings, load_settings
from sitegenctl.domain.queue.defaults import HARD_LIMIT, RESULTS_KEPT, RETRIES, SOFT_LIMIT
from sitegenctl.errors import GenerationError, SitegenError
from sitegenctl.worker.service import Attempt, Failure, worker_context


def make_app(settings: Settings) -> Celery:
    """Return the Celery app for these settings. Raises ``UsageProblem`` if a setting is missing or invalid."""
    url, transport_options, result_options = CeleryBackend(settings).kombu_options()
    app = Celery("sitegenctl", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_default_queue=settings.queue,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=HARD_LIMIT,
        task_soft_time_limit=SOFT_LIMIT,
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=settings.concurrency,
        worker_max_tasks_per_child=50,
        worker_send_task_events=True,
        task_send_sent_event=True,
        result_expires=RESULTS_KEPT,
        broker_connection_retry_on_startup=True,
        broker_transport_options=transport_options,
        result_backend_transport_options=result_options,
    )
    context = worker_context(settings)
    retry_base = settings.retry_base.total_seconds()

    def generate_site_task(self: Task, order_id: int, resume: bool = True) -> dict[str, Any]:
        retries = self.request.retries
        attempt = Attempt(context=context, order_id=order_id, task_id=str(self.request.id), number=retries + 1)
        _, soft_limit = self.request.timelimit or (None, None)
        # Celery's limit one second before ours, because only it reaches a generator that hangs.
        result = attempt.run(
            resume=resume, limit=float(soft_limit or SOFT_LIMIT), signal=SoftTimeLimitExceeded, ahead=1
        )
        if not isinstance(result, Failure):
            return result
        delay = None
        if retries < RETRIES:
            delay = retry_delay(retry_base, retries, random.random())  # noqa: S311 - jitter, no secret
        attempt.journal(result.reason, retry_in=delay)
        error = GenerationError(result.reason)
        if delay is None:
            raise error
        raise self.retry(exc=error, countdown=delay)

    limits = {"time_limit": HARD_LIMIT, "soft_time_limit": SOFT_LIMIT}
    app.task(generate_site_task, bind=True, name=settings.task, max_retries=RETRIES, **limits)
    return app


def run_worker(settings: Settings, *, verbose: bool = False) -> int:
    """Run a worker in the foreground until it is stopped; return its exit code."""
    worker = make_app(settings).Worker(
        hostname=f"sitegenctl-{os.getpid()}@{socket.gethostname()}",
        loglevel="DEBUG" if verbose else "INFO",
        # Both delay the start by a second to learn of other workers.
        without_mingle=True,
        without_gossip=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def retry_delay(base: float, retries: int, jitter: float) -> float:
    """Return the seconds until the next attempt: ``base`` doubled with every retry, half of it random.

    ``jitter`` is from 0 to 1.
    """
    return float(base * 2**retries * (0.5 + jitter / 2))


def __getattr__(name: str) -> Celery:
    """Create ``app`` when ``celery -A`` reads it: importing this module requires no settings."""
    if name != "app":
        raise AttributeError(name)
    try:
        app = globals()["app"] = make_app(load_settings({}))
    except SitegenError as exc:
        raise SystemExit(f"error: {exc.message}\nhint: {exc.hint}") from exc
    return app
