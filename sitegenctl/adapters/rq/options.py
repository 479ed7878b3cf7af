"""Which queue and job are ours, and RQ's keys in Redis.

RQ's own modules provide the same, and take a third of a second to import. The keys are tested against its releases.
Source: rq/queue.py, registry.py, worker.py, executions.py, 1.15 to 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT
from sitegenctl.errors import UsageProblem
from sitegenctl.extras import install_hint

#: Serializers by RQ 3's short names; others are named by their paths.
SERIALIZERS = {"pickle": "rq.serializers.DefaultSerializer", "json": "rq.serializers.JSONSerializer"}

_DEFAULT_PREFIX = "rq"


def require_rq(prefix: str) -> None:
    """Raise ``UsageProblem`` where RQ isn't installed, or is too old for this prefix; RQ is not imported."""
    if find_spec("rq") is None:
        raise UsageProblem("the backend rq needs the package rq", hint=install_hint("rq"))
    if prefix == _DEFAULT_PREFIX:
        return
    from importlib.metadata import version  # slow to import

    installed = version("rq")
    if int(installed.partition(".")[0]) < 3:
        raise UsageProblem(
            f"rq {installed} keeps its keys under {_DEFAULT_PREFIX!r}, not under {prefix!r}",
            hint="set another rq_key_prefix with rq 3 or newer",
        )


@dataclass(frozen=True, kw_only=True)
class RqOptions:
    """Which queue and job are ours, and how the workers are configured to store jobs.

    ``prefix`` is RQ's ``RQ_KEY_PREFIX``, which can only be changed from RQ 3 on. ``serializer`` is the name or path of
    the serializer of published jobs, ``hard_limit`` the time limit of jobs without one of their own.
    ``sentinel_password`` is that of the sentinels.
    """

    queue: str = "site_generation"
    task: str = "app.workers.site_generation_worker.generate_site_job"
    prefix: str = _DEFAULT_PREFIX
    serializer: str = "pickle"
    hard_limit: timedelta = DEFAULT_HARD_LIMIT
    sentinel_master: str | None = None
    sentinel_password: str | None = None

    @property
    def list_key(self) -> str:
        """List: ids of waiting jobs, the next one first."""
        return f"{self.prefix}:queue:{self.queue}"

    @property
    def intermediate(self) -> str:
        """List: ids of jobs that a worker has taken and not begun."""
        return f"{self.list_key}:intermediate"

    @property
    def started(self) -> str:
        """Sorted set: jobs in work, by the time when their worker's next heartbeat is due."""
        return self.registry("wip")

    @property
    def workers(self) -> str:
        """Set: keys of all workers of every queue; killed ones stay in it for a while."""
        return f"{self.prefix}:workers"

    @property
    def scheduler_lock(self) -> str:
        """String: held by the scheduler of our queue."""
        return f"{self.prefix}:scheduler-lock:{self.queue}"

    @property
    def suspended(self) -> str:
        """String: while it exists no worker takes a job."""
        return f"{self.prefix}:suspended"

    @property
    def cleaning(self) -> str:
        """String: held by the worker that cleans up after dead ones."""
        return f"{self.prefix}:clean_registries:{self.queue}"

    def job(self, job_id: str) -> str:
        """Hash: a job."""
        return f"{self.prefix}:job:{job_id}"

    def dependents(self, job_id: str) -> str:
        """Set: the jobs that depend on a job."""
        return f"{self.job(job_id)}:dependents"

    def results(self, job_id: str) -> str:
        """Stream: the results of a job's attempts."""
        return f"{self.prefix}:results:{job_id}"

    def attempts(self, job_id: str) -> str:
        """Sorted set: a job's current attempts (RQ 2)."""
        return f"{self.prefix}:executions:{job_id}"

    def execution(self, member: str) -> str:
        """Hash: a current attempt, by its member of the registry of jobs in work (RQ 2)."""
        return f"{self.prefix}:execution:{member}"

    def worker(self, name: str) -> str:
        """Hash: a worker."""
        return f"{self.prefix}:worker:{name}"

    def executions(self, name: str) -> str:
        """Set: what a worker has in work, as ``job_id:execution_id`` (RQ 3)."""
        return f"{self.worker(name)}:executions"

    def channel(self, name: str) -> str:
        """The channel on which only this worker listens for commands."""
        return f"{self.prefix}:pubsub:{name}"

    def registry(self, kind: str) -> str:
        """Sorted set: jobs of our queue that are ``finished``, ``failed`` or ``canceled``, or that wait.

        Those that are ``scheduled`` wait for a time, which is their score, and ``deferred`` ones for another job. Those
        that are ``ready`` no longer do, and are about to be queued (RQ 3).
        """
        return f"{self.prefix}:{kind}:{self.queue}"
