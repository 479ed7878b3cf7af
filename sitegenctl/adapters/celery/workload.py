"""What every worker holds at one moment, whichever task it is, and what is known of the processes of its pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.adapters.broker.json_values import mapping, number, sequence, text
from sitegenctl.adapters.celery.control import Replies
from sitegenctl.adapters.celery.workers import CLAIMS, requests
from sitegenctl.domain.queue.task import TaskState

#: The methods whose answers a ``Workload`` is read from.
QUESTIONS = (*CLAIMS, "stats")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A task at a worker; ``pid`` is the process that runs it, ``started`` when by the worker's clock, in seconds."""

    task_id: str
    worker: str
    state: TaskState
    pid: int | None
    started: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """What one worker reports of its pool; ``running`` has every task that it lists as active, also ended ones.

    ``is_shared`` where several workers answer under one name.
    """

    running: Sequence[Holding]
    processes: frozenset[int]
    slots: int | None
    is_prefork: bool
    is_shared: bool

    @property
    def is_full(self) -> bool:
        """Whether every process is known to run a task.

        One process with several tasks, or with a process id that is not of the pool, shows that ended tasks are
        listed: then some process may be free.
        """
        pids = {holding.pid for holding in self.running}
        if not self.is_prefork or self.is_shared or len(pids) != len(self.running) or len(pids) != self.slots:
            return False
        return not self.processes or pids <= self.processes


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The answers to one question; ``silent`` living workers gave none of use."""

    silent: int
    _holdings: Mapping[str, Sequence[Holding]]
    _pools: Mapping[str, _Pool]

    @classmethod
    def of(cls, replies: Replies) -> Workload:
        """Read the answers to ``QUESTIONS``."""
        holdings: dict[str, list[Holding]] = {}
        pools: dict[str, _Pool] = {}
        for worker, given in replies.answers.items():
            held = list(_held(worker, given))
            for holding in held:
                holdings.setdefault(holding.task_id, []).append(holding)
            pool = mapping(mapping(given.get("stats")).get("pool"))
            pools[worker] = _Pool(
                running=[holding for holding in held if holding.state is TaskState.RUNNING],
                processes=frozenset(pid for pid in sequence(pool.get("processes")) if number(pid) is not None),
                slots=number(pool.get("max-concurrency")),
                is_prefork="prefork" in str(pool.get("implementation")),
                is_shared=worker in replies.shared,
            )
        return cls(silent=replies.unknown, _holdings=holdings, _pools=pools)

    @property
    def running(self) -> frozenset[str]:
        """The ids of the tasks that run."""
        return frozenset(
            task_id
            for task_id, holdings in self._holdings.items()
            if any(holding.state is TaskState.RUNNING for holding in holdings)
        )

    def holdings(self, task_id: str) -> Sequence[Holding]:
        """Where this task is."""
        return self._holdings.get(task_id, ())

    def live_holdings(self, task_id: str) -> Sequence[Holding]:
        """Where this task is, without claims that have certainly ended: their process has begun another task since.

        Celery lists them until the worker restarts (celery#8541).
        """
        return [holding for holding in self.holdings(task_id) if not self._is_superseded(holding)]

    def responds(self, worker: str) -> bool:
        """Whether the worker answered."""
        return worker in self._pools

    def has_process(self, worker: str, pid: int | None) -> bool:
        """Whether the worker's pool still has this process."""
        return worker in self._pools and pid in self._pools[worker].processes

    def will_look_again(self, holding: Holding) -> bool:
        """Whether the worker looks at its revokes once more before it starts this task.

        It does so when the ETA has come, and when one of its processes is free: what it has reserved while all
        are busy waits for that. While one is free, what it has reserved is on its way into it; and other pools
        than prefork take tasks at once, and look no more.
        """
        if holding.state is TaskState.SCHEDULED:
            return True
        pool = self._pools.get(holding.worker)
        return holding.state is TaskState.RESERVED and pool is not None and pool.is_full

    def why_not_stop(self, task_id: str, worker: str) -> str | None:
        """Why no process may be signalled for this task at this worker; None where it is certain which one runs it.

        The worker kills the process that its own record of the task names, whatever that runs by now; and it has one
        record of each id.
        """
        pool = self._pools.get(worker)
        if pool is None:
            return f"worker {worker} has not answered: task {task_id} was not stopped"
        claims = [holding for holding in self.holdings(task_id) if holding.worker == worker]
        running = [holding for holding in claims if holding.state is TaskState.RUNNING]
        reports = f"worker {worker} reports task {task_id}"
        if pool.is_shared:
            return f"several workers are named {worker}: task {task_id} was not stopped"
        if not running:
            return f"worker {worker} does not report task {task_id} as running: nothing was stopped"
        if len(claims) > 1:
            return f"{reports} {len(claims)} times, so that it cannot be stopped safely"
        pid = running[0].pid
        other = next((each for each in pool.running if each.pid == pid and each is not running[0]), None)
        if other is not None:
            return f"{reports} at process {pid}, which is running task {other.task_id}: nothing was stopped"
        if pid is None or pid not in pool.processes:
            where = "at no process" if pid is None else f"at process {pid}, which is not one of its pool"
            return f"{reports} {where}: nothing was stopped"
        return None

    def _is_superseded(self, holding: Holding) -> bool:
        pool = self._pools[holding.worker]
        # In other pools than prefork all tasks run in one process.
        if holding.state is not TaskState.RUNNING or not pool.is_prefork or holding.pid is None or pool.is_shared:
            return False
        if holding.started is None:
            return False
        return any(
            other.pid == holding.pid and other.started is not None and other.started > holding.started
            for other in pool.running
        )


def _held(worker: str, given: Mapping[str, object]) -> Iterator[Holding]:
    for method, state in CLAIMS.items():
        for _, request in requests(given.get(method)):
            started = request.get("time_start")
            yield Holding(
                # What is no text is the id of no task; it may occupy a process all the same.
                task_id=text(request.get("id")) or "without an id",
                worker=worker,
                state=state,
                pid=number(request.get("worker_pid")),
                started=started if isinstance(started, int | float) and not isinstance(started, bool) else None,
            )
