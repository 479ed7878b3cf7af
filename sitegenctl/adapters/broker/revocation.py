"""Revoking tasks for certain: the loop that Celery and RQ share, and the reasons why a task is left."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Seconds that workers get to stop a task, or to start one that they are about to start.
REVOKE_TIMEOUT = 10.0

#: Seconds between two readings while a task is about to change.
POLL_INTERVAL = 0.05

#: Seconds after which a task that moves between queue, broker and worker is in one of them again.
RECHECK_DELAY = 0.25

#: Readings that must find nothing of a task before it counts as gone.
MISSES_REQUIRED = 2


class Step(Enum):
    """What to do next with a task that is being revoked."""

    DONE = auto()
    DROP = auto()  # no process will run it: remove its delivery from the broker
    STOP = auto()  # it is running: have its worker stop it
    WAIT = auto()  # it is about to end, or to start
    RECHECK = auto()  # the last reading may have met it between two places
    SEARCH = auto()  # it was found nowhere: it ended, or is between two places


@dataclass(kw_only=True)
class Pending:
    """A task that is being revoked; ``places`` are the ones to remove.

    ``misses`` counts the readings that found nothing of it. ``is_settled``: it is gone, or will be left.
    """

    task_id: str
    places: Sequence[LiveTask]
    misses: int = 0
    is_settled: bool = False


P = TypeVar("P", bound=Pending)
O = TypeVar("O")  # noqa: E741 - what one reading of broker and workers observed


class Revoker(ABC, Generic[P, O]):
    """One call of ``QueueBackend.revoke``; subclasses read and change their broker."""

    def __init__(self, *, terminate: bool) -> None:
        self._terminate = terminate
        self._left: dict[str, str] = {}

    async def revoke(self, tasks: Sequence[LiveTask], keep: Collection[str]) -> Mapping[str, str]:
        """Remove these places of tasks; returns why a task is still there, or may be, by its id."""
        given: dict[str, list[LiveTask]] = {}
        for task in tasks:
            given.setdefault(task.task_id, []).append(task)
        kept = {task_id: places for task_id, places in given.items() if task_id in keep}
        whole = {task_id: places for task_id, places in given.items() if task_id not in keep}
        try:
            pending = await self._begin(whole, kept)
        except Refusal as exc:
            # Redis may be out of memory: without the workers' replies nothing is certain.
            return dict.fromkeys(given, exc.message) | self._left
        await self._settle(pending)
        await self._finish(pending)
        return self._left

    async def _settle(self, pending: Sequence[P]) -> None:
        """Read again and again until each task is gone or must be left."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + REVOKE_TIMEOUT
        while pending := [task for task in pending if not task.is_settled]:
            observed = await self._observe(pending)
            steps: dict[Step, list[P]] = {step: [] for step in Step}
            for task in pending:
                step = self._judge(task, observed)
                if isinstance(step, str):
                    self._leave(task, step)
                else:
                    steps[step].append(task)
            gone = [*steps[Step.DONE], *await self._drop(steps[Step.DROP], observed)]
            for task in [*gone, *await self._search(steps[Step.SEARCH], observed)]:
                task.is_settled = True
            if await self._stop(steps[Step.STOP], observed):
                deadline = clock() + REVOKE_TIMEOUT
            left = [task for task in pending if not task.is_settled]
            if clock() > deadline:
                for task in left:
                    self._leave(task, self._timed_out(task, observed))
            elif left:
                await asyncio.sleep(RECHECK_DELAY if steps[Step.SEARCH] or steps[Step.RECHECK] else POLL_INTERVAL)

    def _leave(self, task: P, reason: str) -> None:
        self._left.setdefault(task.task_id, reason)
        task.is_settled = True

    @abstractmethod
    async def _begin(self, whole: Mapping[str, list[LiveTask]], kept: Mapping[str, list[LiveTask]]) -> list[P]:
        """Remove what waits in the queue; returns the rest. Of ``kept`` tasks another place stays.

        Raises ``Refusal`` where nothing can be removed.
        """

    @abstractmethod
    async def _observe(self, pending: Sequence[P]) -> O:
        """Read broker and workers, in the order in which tasks move between them."""

    @abstractmethod
    def _judge(self, task: P, observed: O) -> Step | str:
        """The next step, or why the task must be left."""

    @abstractmethod
    async def _drop(self, tasks: Sequence[P], observed: O) -> Iterable[P]:
        """Remove the deliveries of these tasks; returns the tasks whose deliveries were as observed."""

    @abstractmethod
    async def _search(self, tasks: Sequence[P], observed: O) -> Iterable[P]:
        """Search for these tasks once more; returns those that are certainly gone."""

    @abstractmethod
    async def _stop(self, tasks: Sequence[P], observed: O) -> bool:
        """Have the processes stopped that run these tasks; returns whether a worker got its first command."""

    @abstractmethod
    def _timed_out(self, task: P, observed: O) -> str:
        """Why the task is left when the time is over."""

    async def _finish(self, pending: Sequence[P]) -> None:
        """Clean up when every task is settled."""


def copy_is_gone(task_id: str) -> str:
    """The copy to be removed was not where it had been read."""
    return f"the copy of task {task_id} is no longer in the queue: try again"


def has_started(task_id: str, workers: Iterable[str]) -> str:
    """The task runs, and must not be stopped."""
    return f"task {task_id} started at {', '.join(workers)} meanwhile"


def unresponsive_workers(count: int, what: str) -> str:
    """Living workers did not respond, and each may be doing ``what``."""
    workers = "a living worker" if count == 1 else f"{count} living workers"
    return f"{workers} did not respond and may {what}"


def not_removable(task: LiveTask) -> str | None:
    """Why this place of a task must never be touched; None where it may be."""
    if task.part_of is not None:
        return f"task {task.task_id} is part of a {task.part_of}, and cannot be removed by itself"
    return unaccounted(task.task_id) if task.state is TaskState.UNACCOUNTED else None


def unaccounted(task_id: str) -> str:
    """The task was delivered, and no worker that responds has it."""
    return (
        f"task {task_id} was delivered, and no worker that responds has it: one that is shutting down, paused or cut"
        " off may be running it"
    )


def timed_out(task_id: str, *, signalled: Collection[str], worker: str | None) -> str:
    """Why a task is not gone in time: ``signalled`` workers did not stop it, or ``worker`` still has it."""
    if signalled:
        return f"{', '.join(signalled)} did not stop task {task_id} within {REVOKE_TIMEOUT:.0f} s"
    if worker is not None:
        return f"task {task_id} is about to start at {worker}"
    return f"task {task_id} did not settle within {REVOKE_TIMEOUT:.0f} s"
