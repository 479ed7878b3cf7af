"""The simulated system with an RQ queue, and its workers.

A simulated worker is RQ's own class without its processes and its loop: RQ itself writes what happens when it takes a
job, ends it, fails, or is asked to stop. Its record and its subscription show whether it is alive.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job
from rq.registry import ScheduledJobRegistry, StartedJobRegistry
from rq.utils import now

from sitegenctl.adapters.rq.job import ORDER_FIELD
from tests.support.processes import Running
from tests.support.rq_world import JOB, RqWorld
from tests.support.simulated_system import BEAT, SimulatedSystem
from tests.support.simulated_workers import ConnectedWorker, Held, SimulatedWorker
from tests.support.world import QUEUE, eventually

_LIST, _WIP, _SCHEDULED = f"rq:queue:{QUEUE}", f"rq:wip:{QUEUE}", f"rq:scheduled:{QUEUE}"
_OVER = ("finished", "failed", "stopped", "canceled")
# Seconds until a worker's next heartbeat: longer than any example takes.
_MONITORING = 540


@dataclass(eq=False)
class RqHeld:
    """A job, with the attributes of ``Held`` that the system reads."""

    job: Job
    is_ours: bool = False
    begun: bool = False
    acknowledgeable: bool = True

    @classmethod
    def fetch(cls, client: Redis, job_id: bytes | str) -> RqHeld:
        job = Job.fetch(job_id.decode() if isinstance(job_id, bytes) else job_id, connection=client)
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
class SimulatedRqWorker(ConnectedWorker):
    """Runs one job at most: RQ's workers reserve none, and scheduled jobs wait in Redis."""

    running: RqHeld | None = None
    consumes: bool = True
    _silent: bool = False
    _execution: Any = None
    _worker: Worker | None = None

    def connect(self) -> None:
        """Connect, also again after the connection was lost."""
        self._connect(f"rq:pubsub:{self.name}")
        queue = Queue(QUEUE, connection=self.redis)
        worker = Worker([queue], name=self.name, connection=self.redis, job_monitoring_interval=_MONITORING)
        if self._worker is None:
            worker.register_birth()
        self._worker = worker
        worker.set_state("busy" if self.running else "idle")
        worker.heartbeat()
        self.set_heartbeat(_MONITORING)

    def lose_connection(self) -> None:
        """Disconnect; the running job goes on."""
        self._disconnect()

    def die(self) -> None:
        """End at once."""
        self._disconnect()
        self.running = None

    def set_heartbeat(self, seconds: float) -> None:
        """Have the next heartbeat expected in ``seconds``; a negative number makes it overdue."""
        if self.running is not None and self.is_connected:
            for member, _ in self.redis.zscan_iter(_WIP):
                if member.decode().startswith(self.running.task_id):
                    self.redis.zadd(_WIP, {member: time.time() + seconds})

    @property
    def answers(self) -> bool:
        """Whether its record shows that it is alive."""
        return self.is_connected and not self.silent

    @property
    def silent(self) -> bool:
        """Whether it hangs: it is connected, and its heartbeat is overdue."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        self.set_heartbeat(-60 if silent else _MONITORING)

    @property
    def held(self) -> list[RqHeld]:
        return [self.running] if self.running else []

    claimed = held

    @property
    def takes(self) -> bool:
        return self.is_connected and self.running is None and not self.silent and not self.redis.exists("rq:suspended")

    def take(self) -> RqHeld | None:
        """Take the next job."""
        assert self._worker is not None
        taken = Queue.dequeue_any(self._worker.queues, None, connection=self.redis)
        if taken is None:
            return None
        job, _ = taken
        self._execution = self._worker.prepare_execution(job)
        self._worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
        self.running = RqHeld.fetch(self.redis, job.id)
        return self.running

    def make_due(self) -> None:
        """Do nothing: it holds no scheduled job."""

    def end(self, *, fails: bool = False, stopped: bool = False) -> None:
        """End the running job; one that ``fails`` is tried again later, if it has another attempt."""
        assert self.running is not None
        assert self._worker is not None
        job, self.running = self.running.job, None
        worker, queue = self._worker, self._worker.queues[0]
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

    def _receive(self, message: Mapping[str, Any]) -> None:
        command = json.loads(message["data"])
        if not self.silent and self.running is not None and command.get("job_id") == self.running.task_id:
            assert command["command"] == "stop-job"
            self.end(stopped=True)


@dataclass
class SimulatedRqSystem(SimulatedSystem):
    backend = "rq"

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "SITEGENCTL_BACKEND": "rq"}

    @property
    def rq(self) -> Queue:
        return Queue(QUEUE, connection=self.client)

    def dump_queue(self) -> Any:
        return self.dumped()

    def before_redis_forgets(self) -> None:
        """Kill the workers: RQ knows them by their records only, so a forgotten one looks the same as none."""
        self.kill_workers()

    def _begun(self) -> list[str]:
        return [member.decode().partition(":")[0] for member in self.client.zrange(_WIP, 0, -1)]

    def unfinished(self) -> Sequence[Held]:
        waiting = [*self.client.lrange(_LIST, 0, -1), *self.client.zrange(_SCHEDULED, 0, -1)]
        jobs = [RqHeld.fetch(self.client, job_id) for job_id in (*waiting, *self._begun())]
        return cast("Sequence[Held]", [each for each in jobs if each.job.get_status() not in _OVER])

    def live(self) -> Counter[int | None]:
        return Counter(each.order_id for each in self.unfinished() if each.name == JOB)

    def forgotten(self) -> list[Held]:
        return []

    def next_order(self, worker: SimulatedWorker) -> int | None:
        if worker.running is not None:
            return worker.running.order_id
        job_id = self.client.lindex(_LIST, 0)
        return RqHeld.fetch(self.client, job_id).order_id if job_id is not None else None

    def orphans(self) -> list[Held]:
        claimed = {each.task_id for worker in self.workers for each in worker.claimed} | self.really_held
        orphans = [RqHeld.fetch(self.client, job_id) for job_id in sorted(self._begun()) if job_id not in claimed]
        return cast("list[Held]", orphans)

    def send_task(self, name: str, **options: Any) -> None:
        if name == BEAT:
            self.rq.enqueue(BEAT, job_id=self.new_id())
        else:
            retry = Retry(max=3, interval=[60, 120, 240])
            (order_id,) = options["args"]
            self.rq.enqueue(JOB, order_id, resume=True, job_id=self.new_id(), retry=retry, job_timeout=600)

    def start_worker(self) -> SimulatedWorker:
        worker = SimulatedRqWorker(name=f"rq-host{next(self._names)}", url=self.redis_url)
        worker.connect()
        self.workers.append(cast("SimulatedWorker", worker))
        return self.workers[-1]

    def kill_worker(self, worker: SimulatedWorker) -> None:
        """Kill a worker whose heartbeat is overdue: only then is it missed."""
        cast("SimulatedRqWorker", worker).set_heartbeat(-60)
        super().kill_worker(worker)

    def lose(self, worker: SimulatedWorker) -> None:
        cast("SimulatedRqWorker", worker).set_heartbeat(-60)
        worker.lose_connection()

    def start_real_worker(self) -> Running:
        process = self.worker("-c", "1", "--pace", "60s")
        eventually(lambda: self._begun() or not self.client.llen(_LIST))
        self.really_held = set(self._begun())
        return process

    def kill_real_worker(self, process: Running) -> None:
        RqWorld.kill(cast("RqWorld", self), process)
        RqWorld.expire(cast("RqWorld", self))
        self.really_held = set()

    def fail(self, worker: SimulatedWorker, *, retries: bool, dies: bool = False) -> None:
        """Have the worker's job fail and count as finished; where it ``retries``, RQ tries it again later."""
        assert worker.running is not None
        assert worker.running.order_id is not None
        self.row(worker.running.order_id, "ERROR")
        if retries:
            cast("SimulatedRqWorker", worker).end(fails=True)
        else:
            self.end(worker, dies=dies)

    def an_hour_passes(self) -> None:
        """RQ retries or fails jobs of dead workers, and queues scheduled ones."""
        living = {each.task_id for worker in self.workers for each in worker.claimed} | self.really_held
        for member, _ in self.client.zscan_iter(_WIP):
            if member.decode().partition(":")[0] not in living:
                self.client.zadd(_WIP, {member: time.time() - 1})
        StartedJobRegistry(queue=self.rq).cleanup()
        scheduled = ScheduledJobRegistry(queue=self.rq)
        for job_id in sorted(scheduled.get_job_ids()):
            self.rq._enqueue_job(Job.fetch(job_id, connection=self.client))
            scheduled.remove(job_id)

    def leave_behind(self, order_id: int) -> None:
        for job_id in self.client.lrange(_LIST, 0, -1):
            held = RqHeld.fetch(self.client, job_id)
            if held.order_id == order_id:
                self.client.lrem(_LIST, 1, job_id)
                self.client.hset(held.job.key, mapping={"status": "started", "worker_name": "gone"})
                self.client.zadd(_WIP, {f"{held.task_id}:{'e' * 32}": time.time() - 60})
