"""The reference worker's Celery app: ``sitegenctl worker``, or ``celery -A sitegenctl.worker.celery_app worker``.

Owns the queue's configuration, the task and its retries; an attempt is in ``attempt.py``, for RQ too. Unlike
the deployed worker it doesn't hide failure: after the last retry the task's state is FAILURE.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from kombu import Exchange, Queue

from sitegenctl.adapters.celery.backend import CeleryBackend
from sitegenctl.config.settings import Settings, load_settings
from sitegenctl.domain.queue.defaults import HARD_LIMIT, RESULTS_KEPT, RETRIES, SOFT_LIMIT
from sitegenctl.errors import GenerationError, SitegenError
from sitegenctl.worker.attempt import Attempt, Failure
from sitegenctl.worker.service import WorkerContext, workshop_of

TASKS_PER_CHILD = 50


def make_app(settings: Settings) -> Celery:
    """The Celery app for these settings. Raises ``UsageProblem`` for what is not configured or not found."""
    url, transport_options, result_options = CeleryBackend(settings).kombu_options()
    app = Celery("sitegenctl", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(settings.queue, Exchange(settings.queue), routing_key=settings.queue)],
        task_default_queue=settings.queue,
        task_default_exchange=settings.queue,
        task_default_routing_key=settings.queue,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        timezone="UTC",
        enable_utc=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=HARD_LIMIT,
        task_soft_time_limit=SOFT_LIMIT,
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=settings.concurrency,
        worker_max_tasks_per_child=TASKS_PER_CHILD,
        worker_send_task_events=True,
        task_send_sent_event=True,
        result_expires=RESULTS_KEPT,
        broker_connection_retry_on_startup=True,
        broker_transport_options=transport_options,
        result_backend_transport_options=result_options,
    )
    workshop = workshop_of(settings)
    retry_base = settings.retry_base.total_seconds()

    def generate_site_task(self: Task, order_id: int, resume: bool = True) -> dict[str, Any]:
        return _run(self, workshop, retry_base, order_id, resume=resume)

    app.task(
        generate_site_task,
        bind=True,
        name=settings.task,
        max_retries=RETRIES,
        acks_late=True,
        reject_on_worker_lost=True,
        time_limit=HARD_LIMIT,
        soft_time_limit=SOFT_LIMIT,
    )
    return app


def run_worker(settings: Settings, *, verbose: bool = False) -> int:
    """Run a worker in the foreground until it is told to stop; returns its exit code."""
    worker = make_app(settings).Worker(
        hostname=f"sitegenctl-{os.getpid()}@{socket.gethostname()}",
        loglevel="DEBUG" if verbose else "INFO",
        # Both wait a second at the start for news of other workers that this one has no use for.
        without_mingle=True,
        without_gossip=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def retry_delay(base: float, retries: int, jitter: float) -> float:
    """Seconds until the next attempt: ``base`` doubled with every retry, half of it left to chance.

    ``jitter`` is from 0 to 1. The half that is certain keeps a failing generation from coming back at once.
    """
    return float(base * 2**retries * (0.5 + jitter / 2))


def _run(task: Task, workshop: WorkerContext, retry_base: float, order_id: int, *, resume: bool) -> dict[str, Any]:
    retries = task.request.retries
    attempt = Attempt(workshop=workshop, order_id=order_id, task_id=str(task.request.id), number=retries + 1)
    # The signal a second before our own limit, because only it reaches a generator that hangs.
    ended = attempt.make(resume=resume, limit=_soft_limit(task), signal=SoftTimeLimitExceeded, ahead=1)
    if not isinstance(ended, Failure):
        return ended
    delay = None
    if retries < RETRIES:
        delay = retry_delay(retry_base, retries, random.random())  # noqa: S311 - jitter, no secret
    attempt.journal(ended, retry_in=delay)
    failure = GenerationError(ended.reason)
    if delay is None:
        raise failure
    raise task.retry(exc=failure, countdown=delay)


def _soft_limit(task: Task) -> float:
    _, soft = task.request.timelimit or (None, None)
    return float(soft or SOFT_LIMIT)


def __getattr__(name: str) -> Celery:
    """``app``, made when ``celery -A`` asks for it: importing this module must not need any setting."""
    if name != "app":
        raise AttributeError(name)
    try:
        app = globals()["app"] = make_app(load_settings({}))
    except SitegenError as exc:
        raise SystemExit(f"error: {exc.message}\nhint: {exc.hint}") from exc
    return app
