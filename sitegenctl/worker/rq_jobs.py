"""The reference worker's jobs on RQ: ``sitegenctl worker --backend rq``, or RQ's own command with our job class.

That is ``rq worker --job-class sitegenctl.worker.rq_jobs.SiteJob --with-scheduler``. Published jobs name the function
of the deployed system, which does not exist here; ``SiteJob`` runs our generation instead.

Failures are those of the deployed system: the job of a failed run is finished, with ``{"success": false, ...}``, and
its order stays GENERATING. A failure before the run begins (no order, no onboarding, no database) is raised, so that RQ
retries the job.
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
from sitegenctl.worker.service import Attempt, Failure, WorkerContext, worker_context


class SiteJob(Job):
    """A job whose function is our generation; a job of any other function fails.

    ``reference`` is the name of that function and its context; by default those of the environment's settings.
    """

    reference: ClassVar[tuple[str, WorkerContext] | None] = None

    @property
    def func(self) -> Callable[..., Any]:
        """Return the function to call. Raises ``LookupError`` for a job of another function."""
        task, context = self.reference or _reference_of_environment()
        if self.func_name != task:
            raise LookupError(f"this worker runs {task}, not {self.func_name}")
        return partial(generate_site_job, self, context)


def job_class(settings: Settings) -> type[SiteJob]:
    """Return the job class for these settings. Raises ``UsageProblem`` if a setting is missing or invalid."""
    # Loads the generator once, before work horses are forked.
    return type("ConfiguredSiteJob", (SiteJob,), {"reference": (settings.task, worker_context(settings))})


@cache
def _reference_of_environment() -> tuple[str, WorkerContext]:
    settings = load_settings({"backend": "rq"})
    return settings.task, worker_context(settings)


def generate_site_job(job: Job, context: WorkerContext, order_id: int, resume: bool = True) -> dict[str, Any]:
    """Generate the site of an order; return the result of the job. Raises ``GenerationError`` if no run began."""
    # RQ stores the retries that are left, and an interval for each retry.
    intervals: Any = job.retry_intervals
    number = max(len(intervals or ()) - (job.retries_left or 0), 0) + 1
    attempt = Attempt(context=context, order_id=order_id, task_id=job.id, number=number)
    # As far before the job's own limit, which raises the signal, as our soft limit is before the hard one.
    limit: Any = job.timeout  # None or negative for no limit
    soft_limit = SOFT_LIMIT * min(max(limit or 0, 0) or HARD_LIMIT, HARD_LIMIT) / HARD_LIMIT
    result = attempt.run(resume=resume, limit=soft_limit, signal=JobTimeoutException)
    if not isinstance(result, Failure):
        return result
    # RQ's alarm must not interrupt the writing of the log.
    signal.alarm(0)
    if result.begun:
        attempt.journal(result.reason, retry_in=None)
        return {"success": False, "order_id": order_id, "error": result.reason, "can_retry": True}
    attempt.journal(result.reason, retry_in=float(job.get_retry_interval()) if job.retries_left else None)
    raise GenerationError(result.reason)
