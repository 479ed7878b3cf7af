"""A worker of RQ's whose every step is the test's to decide: RQ's own class, but for its processes and its loop.

What it writes when it takes a job up, ends with it, fails, or is told to stop is written by RQ itself. Whether it is
there is by its record and its subscription, as with any other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Queue, Worker
from rq.job import Job
from rq.utils import now

from sitegenctl.adapters.rq.job import ORDER_FIELD
from tests.support.connected import Connected
from tests.support.rq_world import JOB
from tests.support.world import QUEUE

_WIP = f"rq:wip:{QUEUE}"
# Seconds that a worker has until its next heartbeat: longer than any example takes.
_MONITORING = 540


@dataclass(eq=False)
class RqHeld:
    """A job, as far as anybody here has to know."""

    job: Job
    is_ours: bool = False
    begun: bool = False
    acknowledgeable: bool = True

    @classmethod
    def of(cls, client: Redis, job_id: str) -> RqHeld:
        job = Job.fetch(job_id, connection=client)
        return cls(job=job, is_ours=bool(client.hexists(job.key, ORDER_FIELD)))

    @property
    def task_id(self) -> str:
        return str(self.job.id)

    @property
    def name(self) -> str:
        return str(self.job.func_name)

    @property
    def order_id(self) -> int | None:
        return self.job.args[0] if self.name == JOB else None

    @property
    def resumes(self) -> bool:
        return bool(self.job.kwargs.get("resume", True))


@dataclass(eq=False, repr=False)
class SimulatedRqWorker(Connected):
    """At most one job is at it: RQ's workers reserve none, and what waits for its time waits in Redis."""

    running: RqHeld | None = None
    consumes: bool = True
    is_gone: bool = False
    _silent: bool = False
    _execution: Any = None
    _worker: Worker | None = None

    # --- its connection -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Come up, or come back after the connection was lost."""
        self._come(f"rq:pubsub:{self.name}")
        queue = Queue(QUEUE, connection=self.redis)
        worker = Worker([queue], name=self.name, connection=self.redis, job_monitoring_interval=_MONITORING)
        if self._worker is None:
            worker.register_birth()
        self._worker = worker
        worker.set_state("busy" if self.running else "idle")
        worker.heartbeat()
        self._promise(_MONITORING)

    def lose_connection(self) -> None:
        """What it runs goes on."""
        self._leave()

    def overdue(self) -> None:
        """Let the time of its next heartbeat have come and gone."""
        self._promise(-60)

    def die(self) -> None:
        """Be gone at once."""
        self._leave()
        self.running = None

    # --- its tasks ----------------------------------------------------------------------------------------

    @property
    def answers(self) -> bool:
        """Whether its record says that it is there."""
        return self.is_connected and not self.silent

    @property
    def silent(self) -> bool:
        """Whether it hangs: it is connected, and its heartbeat is overdue."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        self._promise(-60 if silent else _MONITORING)

    @property
    def held(self) -> list[RqHeld]:
        return [self.running] if self.running else []

    @property
    def claimed(self) -> list[RqHeld]:
        return self.held

    @property
    def takes(self) -> bool:
        return self.is_connected and self.running is None and not self.silent and not self.redis.exists("rq:suspended")

    def take(self) -> RqHeld | None:
        """Take the next job up."""
        worker = self._rq
        taken = Queue.dequeue_any(worker.queues, None, connection=self.redis)
        if taken is None:
            return None
        job, _ = taken
        self._execution = worker.prepare_execution(job)
        worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
        self.running = RqHeld.of(self.redis, job.id)
        return self.running

    def ripen(self) -> None:
        """It holds nothing for later."""

    def end(self, *, fails: bool = False, stopped: bool = False) -> RqHeld:
        """Be through with the job; one that ``fails`` is tried again later, if it has another attempt."""
        assert self.running is not None
        ended, self.running = self.running, None
        worker, job = self._rq, ended.job
        queue = worker.queues[0]
        job.started_at = job.started_at or now()
        job.ended_at = now()
        if stopped:
            worker._stopped_job_id = job.id
        if fails or stopped:
            worker.handle_job_failure(job, queue, exc_string="it failed", execution=self._execution)
        else:
            job._result = {"success": True}
            worker.handle_job_success(job, queue, queue.started_job_registry, self._execution)
        worker.set_state("idle")
        return ended

    @property
    def _rq(self) -> Worker:
        assert self._worker is not None
        return self._worker

    def _promise(self, seconds: float) -> None:
        """Say until when the next heartbeat is to be expected."""
        if self.running is not None and self.is_connected:
            for member, _ in self.redis.zscan_iter(_WIP):
                if member.decode().startswith(self.running.task_id):
                    self.redis.zadd(_WIP, {member: time.time() + seconds})

    # --- what it is told ----------------------------------------------------------------------------------

    def _hear(self, message: Mapping[str, Any]) -> None:
        told = json.loads(message["data"])
        if not self.silent and self.running is not None and told.get("job_id") == self.running.task_id:
            assert told["command"] == "stop-job"
            self.end(stopped=True)
