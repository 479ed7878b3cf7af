"""A worker of RQ's whose every step is the test's to decide: RQ's own class, but for its processes and its loop.

What it writes when it takes a job up, ends with it, fails, or is told to stop is written by RQ itself. Whether it is
there is by its record and its subscription, as with any other.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue, Worker
from rq.job import Job
from rq.utils import now

from sitegenctl.adapters.rq_job import ORDER_FIELD
from tests.rq_world import JOB
from tests.world import QUEUE

_WIP = f"rq:wip:{QUEUE}"
# redis 4.6 knows no other, and no option for it.
_PROTOCOL: dict[str, Any] = {"protocol": 2} if redis.VERSION >= (5,) else {}
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


class SimulatedRqWorker:
    """At most one job is at it: RQ's workers reserve none, and what waits for its time waits in Redis."""

    def __init__(self, *, name: str, url: str) -> None:
        self.name = name
        self.running: RqHeld | None = None
        self.consumes = True
        self._url = url
        self._execution: Any = None
        self._silent = False
        self._client: Redis | None = None
        self._thread: threading.Thread | None = None
        self._worker: Worker | None = None

    def __repr__(self) -> str:
        return self.name

    # --- its connection -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Come up, or come back after the connection was lost."""
        self._client = Redis.from_url(self._url, retry=Retry(NoBackoff(), 0), **_PROTOCOL)
        listening = self._client.pubsub()
        listening.subscribe(f"rq:pubsub:{self.name}")
        assert listening.get_message(timeout=10)
        self._thread = threading.Thread(target=self._listen, args=(listening,), name=self.name)
        self._thread.start()
        queue = Queue(QUEUE, connection=self._client)
        worker = Worker([queue], name=self.name, connection=self._client, job_monitoring_interval=_MONITORING)
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

    def _leave(self) -> None:
        with suppress(RedisError), Redis.from_url(self._url, retry=Retry(NoBackoff(), 0)) as client:
            client.publish(f"rq:pubsub:{self.name}", json.dumps({"command": "leave"}))
        if self._thread is not None:
            self._thread.join(timeout=10)
            assert not self._thread.is_alive()
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
        self._thread = self._client = None

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    @property
    def redis(self) -> Redis:
        assert self._client is not None, f"{self.name} is not connected"
        return self._client

    # --- its tasks ----------------------------------------------------------------------------------------

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

    def _listen(self, listening: PubSub) -> None:
        with suppress(RedisError, OSError):
            for item in listening.listen():
                if item["type"] != "message":
                    continue
                told = json.loads(item["data"])
                if told["command"] == "leave":
                    listening.unsubscribe()
                elif not self.silent and self.running is not None and told.get("job_id") == self.running.task_id:
                    assert told["command"] == "stop-job"
                    self.end(stopped=True)
        listening.close()
