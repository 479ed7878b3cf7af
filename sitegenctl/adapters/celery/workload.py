"""What every worker holds at one moment, whichever task it is, and what is known of the processes of its pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.adapters.broker.json_values import mapping, number, sequence
from sitegenctl.adapters.celery.control import Replies
from sitegenctl.adapters.celery.workers import CLAIMS, Claim, read_claims
from sitegenctl.domain.queue.task import TaskState

#: The methods whose replies a ``Workload`` is read from.
QUESTIONS = (*CLAIMS, "stats")


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """What one worker reports of its pool; ``running`` has every task that it lists as active, ended ones too.

    ``is_shared`` where several workers reply under one name.
    """

    running: Sequence[Claim]
    processes: frozenset[int]
    slots: int | None
    is_prefork: bool
    is_shared: bool

    @property
    def is_full(self) -> bool:
        """Whether every process certainly runs a task.

        Two tasks at one process, or at a process that is not of the pool, show that ended tasks are listed: then some
        process may be free.
        """
        pids = {claim.pid for claim in self.running}
        if not self.is_prefork or self.is_shared or len(pids) != len(self.running) or len(pids) != self.slots:
            return False
        return not self.processes or pids <= self.processes


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The replies to one request; nothing may be concluded from ``unresponsive`` living workers."""

    unresponsive: int
    _claims: Mapping[str, Sequence[Claim]]
    _pools: Mapping[str, _Pool]

    @classmethod
    def of(cls, replies: Replies) -> Workload:
        """Read the replies to ``QUESTIONS``."""
        by_task: dict[str, list[Claim]] = {}
        pools: dict[str, _Pool] = {}
        for worker, reply in replies.answers.items():
            claims, _ = read_claims(worker, reply, Counter())
            for claim in claims:
                by_task.setdefault(claim.task_id, []).append(claim)
            pool = mapping(mapping(reply.get("stats")).get("pool"))
            pools[worker] = _Pool(
                running=running(claims),
                processes=frozenset(pid for pid in sequence(pool.get("processes")) if number(pid) is not None),
                slots=number(pool.get("max-concurrency")),
                is_prefork="prefork" in str(pool.get("implementation")),
                is_shared=worker in replies.shared,
            )
        return cls(unresponsive=replies.unknown, _claims=by_task, _pools=pools)

    def claims(self, task_id: str) -> Sequence[Claim]:
        """The claims on this task."""
        return self._claims.get(task_id, ())

    def live_claims(self, task_id: str) -> Sequence[Claim]:
        """The claims on this task, without ended ones whose process has begun another task since.

        Celery lists those until the worker restarts (celery#8541).
        """
        return [claim for claim in self.claims(task_id) if not self._is_superseded(claim)]

    def holder(self, task_id: str) -> tuple[str, TaskState] | None:
        """The first worker that has the task, and the task's state there."""
        return next(((claim.worker, claim.state) for claim in self.live_claims(task_id)), None)

    def responds(self, worker: str) -> bool:
        """Whether the worker replied."""
        return worker in self._pools

    def has_process(self, worker: str, pid: int | None) -> bool:
        """Whether the worker's pool still has this process."""
        return worker in self._pools and pid in self._pools[worker].processes

    def will_check_revokes(self, claim: Claim) -> bool:
        """Whether the worker checks its revokes once more before it starts this task.

        It does when the ETA has come, and when a process becomes free: reserved tasks wait for that while all are
        busy. While one is free, a reserved task is on its way into it. Other pools than prefork start tasks at once.
        """
        if claim.state is TaskState.SCHEDULED:
            return True
        pool = self._pools.get(claim.worker)
        return claim.state is TaskState.RESERVED and pool is not None and pool.is_full

    def why_not_stop(self, task_id: str, worker: str) -> str | None:
        """Why no process may be signalled for this task at this worker; None where it is certain which one runs it.

        The worker kills the process that its own record of the task names, whatever that process runs by now; and it
        has one record per id.
        """
        pool = self._pools.get(worker)
        if pool is None:
            return f"worker {worker} did not respond: task {task_id} was not stopped"
        claims = [claim for claim in self.claims(task_id) if claim.worker == worker]
        runs = running(claims)
        reports = f"worker {worker} reports task {task_id}"
        if pool.is_shared:
            return f"several workers are named {worker}: task {task_id} was not stopped"
        if not runs:
            return f"worker {worker} does not report task {task_id} as running: nothing was stopped"
        if len(claims) > 1:
            return f"{reports} {len(claims)} times, so that it cannot be stopped safely"
        pid = runs[0].pid
        other = next((each for each in pool.running if each.pid == pid and each is not runs[0]), None)
        if other is not None:
            name = other.task_id or "without an id"
            return f"{reports} at process {pid}, which is running task {name}: nothing was stopped"
        if pid is None or pid not in pool.processes:
            where = "at no process" if pid is None else f"at process {pid}, which is not one of its pool"
            return f"{reports} {where}: nothing was stopped"
        return None

    def _is_superseded(self, claim: Claim) -> bool:
        pool = self._pools[claim.worker]
        # In other pools than prefork all tasks run in one process.
        if claim.state is not TaskState.RUNNING or not pool.is_prefork or claim.pid is None or pool.is_shared:
            return False
        if claim.started_at is None:
            return False
        return any(
            other.pid == claim.pid and other.started_at is not None and other.started_at > claim.started_at
            for other in pool.running
        )


def running(claims: Iterable[Claim]) -> list[Claim]:
    """The claims on tasks that run."""
    return [claim for claim in claims if claim.state is TaskState.RUNNING]
