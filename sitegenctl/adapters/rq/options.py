"""Which queue and job are ours, and where RQ keeps what in Redis.

RQ's own modules say the same, and take a third of a second to import: whoever only reads is spared that. That these
keys are RQ's is tested against each of its releases.
Source: rq/queue.py, registry.py, worker.py, executions.py, 1.15 to 3.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT
from sitegenctl.errors import UsageProblem

#: Serializers by the short names that RQ 3 has for them; others are named by their paths.
SERIALIZERS = {"pickle": "rq.serializers.DefaultSerializer", "json": "rq.serializers.JSONSerializer"}


_DEFAULT_PREFIX = "rq"


def require_rq(prefix: str) -> None:
    """Raise ``UsageProblem`` where RQ isn't installed, or knows no other prefix than its own; it is not imported."""
    from importlib.util import find_spec

    if find_spec("rq") is None:
        raise UsageProblem("the backend rq needs the package rq", hint="pip install 'sitegenctl[rq]'")
    if prefix == _DEFAULT_PREFIX:
        return
    from importlib.metadata import version

    installed = version("rq")
    if int(installed.partition(".")[0]) < 3:
        raise UsageProblem(
            f"rq {installed} keeps its keys under {_DEFAULT_PREFIX!r}, not under {prefix!r}",
            hint="rq_key_prefix can be another from rq 3 on",
        )


@dataclass(frozen=True, kw_only=True)
class RqOptions:
    """Which queue and job are ours, and what the workers were told about where and how jobs are kept.

    ``prefix`` is RQ's ``RQ_KEY_PREFIX``, which only RQ 3 lets be another than ``rq``. ``serializer`` is the name or
    path of what jobs are published with.
    ``hard_limit`` is after what time a job is ended that has no limit of its own.
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
        """The list of the ids of jobs that wait; the first is next."""
        return f"{self.prefix}:queue:{self.queue}"

    @property
    def intermediate(self) -> str:
        """The list of the ids of jobs that a worker has taken and not begun yet."""
        return f"{self.list_key}:intermediate"

    @property
    def started(self) -> str:
        """The sorted set of jobs in work, by the time until which their worker has promised another heartbeat."""
        return self._registry("wip")

    @property
    def scheduled(self) -> str:
        """The sorted set of jobs that are held, by the time when they are due."""
        return self._registry("scheduled")

    @property
    def deferred(self) -> str:
        """The sorted set of jobs that wait for another job."""
        return self._registry("deferred")

    @property
    def ready(self) -> str:
        """The sorted set of jobs that wait no longer for another, and are about to be queued (RQ 3)."""
        return self._registry("ready")

    @property
    def finished(self) -> str:
        """The sorted set of jobs that are done, by the time when they will be forgotten."""
        return self._registry("finished")

    @property
    def failed(self) -> str:
        """The sorted set of jobs that failed or were stopped, likewise."""
        return self._registry("failed")

    @property
    def canceled(self) -> str:
        """The sorted set of jobs that were cancelled."""
        return self._registry("canceled")

    @property
    def workers(self) -> str:
        """The set of the keys of all workers, of whichever queue; those that died hard stay in it for a while."""
        return f"{self.prefix}:workers"

    @property
    def queue_workers(self) -> str:
        """The set of the keys of the workers that were started for our queue."""
        return f"{self.workers}:{self.queue}"

    @property
    def scheduler_lock(self) -> str:
        """The key that whoever queues our jobs when they are due holds."""
        return f"{self.prefix}:scheduler-lock:{self.queue}"

    @property
    def suspended(self) -> str:
        """The key whose existence keeps every worker from taking another job."""
        return f"{self.prefix}:suspended"

    def job(self, job_id: str) -> str:
        """The hash of a job."""
        return f"{self.prefix}:job:{job_id}"

    def results(self, job_id: str) -> str:
        """The stream of what came of each attempt at a job."""
        return f"{self.prefix}:results:{job_id}"

    def attempts(self, job_id: str) -> str:
        """The sorted set of a job's attempts that are under way (RQ 2)."""
        return f"{self.prefix}:executions:{job_id}"

    def execution(self, member: str) -> str:
        """The hash of one attempt that is under way, by its member of the registry of jobs in work (RQ 2)."""
        return f"{self.prefix}:execution:{member}"

    @property
    def probe(self) -> str:
        """A key that never exists, for asking whether Redis accepts writes."""
        return f"{self.list_key}:probe"

    @property
    def cleaning(self) -> str:
        """The key that whoever cleans up after dead workers holds."""
        return f"{self.prefix}:clean_registries:{self.queue}"

    def worker(self, name: str) -> str:
        """The hash of a worker."""
        return f"{self.prefix}:worker:{name}"

    def worker_name(self, key: str) -> str:
        """The name of the worker with this key."""
        return key.removeprefix(f"{self.prefix}:worker:")

    def executions(self, name: str) -> str:
        """The set of what a worker has in work, as ``job_id:execution_id`` (RQ 3)."""
        return f"{self.worker(name)}:executions"

    def channel(self, name: str) -> str:
        """The channel on which a worker listens for commands, and nobody else."""
        return f"{self.prefix}:pubsub:{name}"

    def _registry(self, kind: str) -> str:
        return f"{self.prefix}:{kind}:{self.queue}"
