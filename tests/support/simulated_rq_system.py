"""The same living system with an RQ queue: what the backend, RQ itself and its workers do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from rq import Queue, Retry
from rq.job import Job
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

from tests.support.processes import Running
from tests.support.rq_world import JOB, RqWorld
from tests.support.simulated_rq_worker import RqHeld, SimulatedRqWorker
from tests.support.simulated_system import BEAT, LivingSystem
from tests.support.simulated_worker import Held, SimulatedWorker
from tests.support.world import QUEUE, eventually

_LIST, _WIP, _SCHEDULED = f"rq:queue:{QUEUE}", f"rq:wip:{QUEUE}", f"rq:scheduled:{QUEUE}"
_OVER = ("finished", "failed", "stopped", "canceled")


@dataclass
class RqLivingSystem(LivingSystem):
    backend = "rq"

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "SITEGENCTL_BACKEND": "rq"}

    @property
    def rq(self) -> Queue:
        return Queue(QUEUE, connection=self.client)

    def queue_as_it_is(self) -> Any:
        return self.dumped()

    def redis_forgets(self) -> None:
        """RQ's workers are known by what Redis knows of them: one that is forgotten can't be told from none."""
        self.bury()

    # --- what is there ------------------------------------------------------------------------------------

    def unfinished(self) -> Sequence[Held]:
        members = [*self.client.lrange(_LIST, 0, -1), *self.client.zrange(_SCHEDULED, 0, -1)]
        begun = [member.partition(b":")[0] for member in self.client.zrange(_WIP, 0, -1)]
        jobs = [RqHeld.of(self.client, job_id.decode()) for job_id in (*members, *begun)]
        return cast("Sequence[Held]", [each for each in jobs if each.job.get_status() not in _OVER])

    def live(self) -> Counter[int | None]:
        return Counter(each.order_id for each in self.unfinished() if each.name == JOB)

    def forgotten(self) -> list[Held]:
        return []

    def at_hand(self, worker: SimulatedWorker) -> int | None:
        if worker.running is not None:
            return worker.running.order_id
        job_id = self.client.lindex(_LIST, 0)
        return RqHeld.of(self.client, job_id.decode()).order_id if job_id is not None else None

    def orphans(self) -> list[Held]:
        held = {each.task_id for worker in self.workers for each in worker.claimed}
        begun = [member.partition(b":")[0].decode() for member in self.client.zrange(_WIP, 0, -1)]
        found = [RqHeld.of(self.client, job_id) for job_id in begun if job_id not in held | self.really_held]
        return cast("list[Held]", sorted(found, key=lambda each: each.task_id))

    # --- the backend --------------------------------------------------------------------------------------

    def _send_task(self, name: str, **options: Any) -> None:
        if name == BEAT:
            self.rq.enqueue(BEAT, job_id=self.new_id())
        else:
            retry = Retry(max=3, interval=[60, 120, 240])
            (order_id,) = options["args"]
            self.rq.enqueue(JOB, order_id, resume=True, job_id=self.new_id(), retry=retry, job_timeout=600)

    # --- the workers --------------------------------------------------------------------------------------

    def hire(self) -> SimulatedWorker:
        worker = SimulatedRqWorker(name=f"rq-host{next(self._names)}", url=self.redis_url)
        worker.connect()
        self.workers.append(cast("SimulatedWorker", worker))
        return self.workers[-1]

    def kill(self, worker: SimulatedWorker) -> None:
        """It is missed when its heartbeat is overdue, which is the moment that anybody here looks."""
        cast("SimulatedRqWorker", worker).overdue()
        super().kill(worker)

    def lose(self, worker: SimulatedWorker) -> None:
        cast("SimulatedRqWorker", worker).overdue()
        worker.lose_connection()

    @contextmanager
    def real_worker(self) -> Iterator[Running]:
        process = self.worker("-c", "1", "--pace", "60s")
        begun = eventually(lambda: self.client.zrange(_WIP, 0, -1) or not self.client.llen(_LIST))
        if isinstance(begun, list):
            self.really_held = {member.partition(b":")[0].decode() for member in begun}
        try:
            yield process
        finally:
            self.really_held = set()

    def kill_really(self, worker: Running) -> None:
        RqWorld.kill(cast("RqWorld", self), worker)
        RqWorld.expire(cast("RqWorld", self))

    def fail(self, worker: SimulatedWorker, *, retries: bool, dies: bool = False) -> None:
        """A run that fails is over, and its job finished; where it ``retries``, RQ tries the job again later."""
        held = worker.running
        assert held is not None
        assert held.order_id is not None
        self.row(held.order_id, "ERROR")
        if retries:
            cast("SimulatedRqWorker", worker).end(fails=True)
        else:
            self._end(worker, dies=dies)

    def an_hour_passes(self) -> None:
        """RQ tries again, or fails, what dead workers left, and what is due is queued."""
        living = {each.task_id for worker in self.workers for each in worker.claimed} | self.really_held
        for member, _ in self.client.zscan_iter(_WIP):
            if member.partition(b":")[0].decode() not in living:
                self.client.zadd(_WIP, {member: time.time() - 1})
        StartedJobRegistry(queue=self.rq).cleanup()
        scheduled = ScheduledJobRegistry(queue=self.rq)
        for job_id in sorted(scheduled.get_job_ids()):
            self.rq._enqueue_job(Job.fetch(job_id, connection=self.client))
            scheduled.remove(job_id)

    def leave_behind(self, order_id: int) -> None:
        for job_id in self.client.lrange(_LIST, 0, -1):
            held = RqHeld.of(self.client, job_id.decode())
            if held.order_id == order_id:
                self.client.lrem(_LIST, 1, job_id)
                self.client.hset(held.job.key, mapping={"status": "started", "worker_name": "gone"})
                self.client.zadd(_WIP, {f"{held.task_id}:{'e' * 32}": time.time() - 60})
