"""The reference worker on RQ: ``sitegenctl worker --backend rq``, or rq's own command with our class of jobs.

That is ``rq worker --job-class sitegenctl.worker.rq_jobs.SiteJob --with-scheduler``. What is published names the
deployed system's function, which a stock ``rq worker`` imports where that system is installed; here no such module
exists, and ``SiteJob`` runs our generation in its place. An attempt is in ``attempt.py``, for Celery too, the processes
are in ``rq_processes.py``.

Failures are as the deployed system's: a run that fails is over, its order stays GENERATING, and its job is finished,
with ``{"success": false, ...}``. What fails before a run begins (no order, no onboarding, the database away) is
raised, and tried again as the job itself is set up to be.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar

from rq.job import Job
from rq.timeouts import JobTimeoutException

from sitegenctl.config.settings import Settings, load_settings
from sitegenctl.domain.queue.defaults import HARD_LIMIT, SOFT_LIMIT
from sitegenctl.errors import GenerationError
from sitegenctl.worker.attempt import Attempt, Failure
from sitegenctl.worker.service import WorkerContext, workshop_of


class SiteJob(Job):
    """A job as RQ knows it, whose function is our generation; a job of any other function fails.

    ``reference`` is the name of that function and what it works with: those of the environment, unless a subclass
    has others (``job_class``).
    """

    reference: ClassVar[tuple[str, WorkerContext] | None] = None

    @property
    def func(self) -> Callable[..., Any]:
        """What is called with the job's arguments. Raises ``LookupError`` for a function that isn't ours."""
        task, workshop = self.reference or _of_the_environment()
        if self.func_name != task:
            raise LookupError(f"{self.func_name} is not what this worker runs, which is {task}")
        return partial(generate_site_job, self, workshop)


def job_class(settings: Settings) -> type[SiteJob]:
    """The class of jobs for these settings. Raises ``UsageProblem`` for what is not configured or not found."""
    # The workshop is made here: work horses are forked from a process that has imported the generator.
    return type("ConfiguredSiteJob", (SiteJob,), {"reference": (settings.task, workshop_of(settings))})


@cache
def _of_the_environment() -> tuple[str, WorkerContext]:
    settings = load_settings({"backend": "rq"})
    return settings.task, workshop_of(settings)


def generate_site_job(job: Job, workshop: WorkerContext, order_id: int, resume: bool = True) -> dict[str, Any]:
    """Generate the order's site, and return what became of it. Raises ``GenerationError`` where no run began."""
    attempt = Attempt(workshop=workshop, order_id=order_id, task_id=job.id, number=_attempt(job))
    # The job's own limit, whose signal this is, comes later.
    ended = attempt.make(resume=resume, limit=_soft_limit(job), signal=JobTimeoutException)
    if not isinstance(ended, Failure):
        return ended
    # The run is over: RQ's alarm for it must not interrupt the recording of how it ended.
    signal.alarm(0)
    # A run that has failed is not tried again, only what could not begin.
    attempt.journal(ended, retry_in=None if ended.begun else _retry_in(job))
    if ended.begun:
        return {"success": False, "order_id": order_id, "error": ended.reason, "can_retry": True}
    raise GenerationError(ended.reason)


def _soft_limit(job: Job) -> float:
    """Seconds after which a run is told that it takes too long: so long before the job's own limit as ours is."""
    limit: Any = job.timeout  # None or below 0 where there is none
    return SOFT_LIMIT * min(max(limit or 0, 0) or HARD_LIMIT, HARD_LIMIT) / HARD_LIMIT


def _attempt(job: Job) -> int:
    """Which attempt this is, from 1. RQ keeps how many are left, and an interval for each that there may be."""
    intervals: Any = job.retry_intervals  # None where there is to be no other
    return max(len(intervals or ()) - (job.retries_left or 0), 0) + 1


def _retry_in(job: Job) -> float | None:
    """Seconds until RQ tries the job again; None when it won't."""
    return float(job.get_retry_interval()) if job.retries_left else None
