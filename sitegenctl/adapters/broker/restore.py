"""Requeueing orphaned tasks: the steps that Celery and RQ share.

No task may run twice when its worker turns out to be alive. So workers are asked right before, a delivery moves only
if it has not changed since, and workers are asked again a moment later.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sitegenctl.adapters.broker.revocation import RECHECK_DELAY
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: What a script returns for a task that is in the queue already.
QUEUED_ALREADY = 2

#: The first worker that has a task, and the task's state there, by task id.
Holder = Callable[[str], tuple[str, TaskState] | None]

M = TypeVar("M")  # one move of a task from its deliveries to the queue


class Restorer(ABC, Generic[M]):
    """One call of ``QueueBackend.requeue``; subclasses read and change their broker."""

    async def requeue(self, tasks: Sequence[LiveTask], *, worker_dead: bool) -> Mapping[str, str]:
        """Requeue these tasks; returns why one was not, by its id."""
        left, moves = await self._plan(tasks, worker_dead=worker_dead)
        moved: list[tuple[str, M]] = []
        for (task_id, move), reply in zip(moves, await self._run([move for _, move in moves]), strict=True):
            if isinstance(reply, Refusal):
                left[task_id] = reply.message
            elif reply == QUEUED_ALREADY:
                left[task_id] = f"task {task_id} is in the queue already"
            elif not reply:
                left[task_id] = f"task {task_id} was finished or requeued meanwhile"
            else:
                moved.append((task_id, move))
        return left | await self._recheck(moved)

    async def _recheck(self, moved: Sequence[tuple[str, M]]) -> dict[str, str]:
        """Undo the moves of tasks that still wait although a worker has them."""
        if not moved:
            return {}
        # A worker that had only lost its connection to Redis responds again by then.
        await asyncio.sleep(RECHECK_DELAY)
        holder = await self._holders()
        claimed = [(task_id, move, held) for task_id, move in moved if (held := holder(task_id)) is not None]
        # A worker that took the task from the queue since has it, too: then there is nothing to undo.
        undone = await self._run([move for _, move, _ in claimed], undo=True)
        return {
            task_id: f"{responds_again(task_id, held)}; it was requeued, and removed from the queue again"
            for (task_id, _, held), reply in zip(claimed, undone, strict=True)
            if reply == 1
        }

    @abstractmethod
    async def _plan(
        self, tasks: Sequence[LiveTask], *, worker_dead: bool
    ) -> tuple[dict[str, str], list[tuple[str, M]]]:
        """Read broker and workers; returns why tasks must be left, and the moves of the others, by task id."""

    @abstractmethod
    async def _holders(self) -> Holder:
        """Read once more which workers have which tasks."""

    @abstractmethod
    async def _run(self, moves: Sequence[M], *, undo: bool = False) -> list[Any]:
        """Execute or undo these moves, each at one moment; returns the scripts' replies."""


def responds_again(task_id: str, held: tuple[str, TaskState]) -> str:
    """The task's worker is alive after all."""
    worker, state = held
    return f"its worker responds again: task {task_id} is {state} at {worker}"
