"""What every worker has in hand at one moment, by task: whichever task it is, and what its pool makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.adapters.celery_control import Replies
from sitegenctl.adapters.celery_workers import CLAIMS, requests
from sitegenctl.adapters.json_values import mapping, number, sequence
from sitegenctl.domain.task import TaskState

#: The methods whose answers a ``Workload`` is read from.
QUESTIONS = (*CLAIMS, "stats")


@dataclass(frozen=True, kw_only=True)
class Holding:
    """A task at a worker; ``pid`` is the process that runs it, where it runs in one."""

    worker: str
    state: TaskState
    pid: int | None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The answers to one question; ``silent`` living workers gave none of use."""

    silent: int
    _holdings: Mapping[str, Sequence[Holding]]
    _processes: Mapping[str, frozenset[int]]
    _is_full: Mapping[str, bool]

    @classmethod
    def of(cls, replies: Replies) -> Workload:
        """Read the answers to ``QUESTIONS``."""
        holdings: dict[str, list[Holding]] = {}
        processes: dict[str, frozenset[int]] = {}
        is_full: dict[str, bool] = {}
        for worker, given in replies.answers.items():
            for method, state in CLAIMS.items():
                for _, request in requests(given.get(method)):
                    holding = Holding(worker=worker, state=state, pid=number(request.get("worker_pid")))
                    holdings.setdefault(str(request.get("id")), []).append(holding)
            pool = mapping(mapping(given.get("stats")).get("pool"))
            processes[worker] = frozenset(pid for pid in sequence(pool.get("processes")) if isinstance(pid, int))
            is_prefork = "prefork" in str(pool.get("implementation"))
            slots = number(pool.get("max-concurrency"))
            is_full[worker] = is_prefork and slots is not None and len(sequence(given.get("active"))) >= slots
        return cls(silent=replies.unknown, _holdings=holdings, _processes=processes, _is_full=is_full)

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

    def has_process(self, worker: str, pid: int | None) -> bool:
        """Whether the worker's pool still has this process."""
        return pid in self._processes.get(worker, frozenset())

    def will_look_again(self, holding: Holding) -> bool:
        """Whether the worker looks at its revokes once more before it starts this task.

        It does so when the ETA has come, and when one of its processes is free: what it has reserved while all
        are busy waits for that. While one is free, what it has reserved is on its way into it; and other pools
        than prefork take tasks at once, and look no more.
        """
        return holding.state is TaskState.SCHEDULED or (
            holding.state is TaskState.RESERVED and self._is_full.get(holding.worker, False)
        )
