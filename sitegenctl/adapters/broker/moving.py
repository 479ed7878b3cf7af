"""Handing tasks from one queue to another on the same Redis, each of them at one moment.

What takes a task out of its queue, and what puts it into the other, is said by ``celery_moving`` and ``rq_moving``.
Redis does the second only if it has done the first: a task that a worker has taken meanwhile is that worker's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.queue.task import LiveTask, Publication, TaskState
from sitegenctl.errors import UsageProblem

#: Looks for tasks of these orders in the other queues, and gives the name of the queue for each that has one.
LookElsewhere = Callable[[Collection[int]], Awaitable[Mapping[int, str]]]

#: Tasks in one round trip.
_AT_ONCE = 100

# ARGV: commands, each led by the number of its words: what takes the task and answers with how many it has taken,
# what undoes that; how many there are that put it into the other queue, those, and what is left to clear away.
_MOVE = """
local at = 1
local function following()
  local command = {}
  local size = tonumber(ARGV[at])
  for place = 1, size do command[place] = ARGV[at + place] end
  at = at + size + 1
  return command
end
local taking, undoing = following(), following()
local arriving = tonumber(ARGV[at])
at = at + 1
if redis.call(unpack(taking)) == 0 then return 0 end
for _ = 1, arriving do
  local answer = redis.pcall(unpack(following()))
  if type(answer) == 'table' and answer.err then
    redis.call(unpack(undoing))
    return answer
  end
end
while ARGV[at] do redis.call(unpack(following())) end
return 1
"""


async def nowhere_else(_: Collection[int]) -> Mapping[int, str]:
    """There is no other queue."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How one task leaves its queue; ``resume`` is what it was published with.

    ``taking`` answers with how many it has taken, and ``undoing`` puts it back to where it was. ``clearing`` follows
    once the task has arrived.
    """

    resume: bool
    taking: Command
    undoing: Command
    clearing: Sequence[Command] = ()


class Leaving(Protocol):
    """A queue that tasks leave."""

    async def departures(self, link: Link, tasks: Sequence[LiveTask]) -> Mapping[str, Departure]:
        """How each of these tasks that is still there leaves, by its id."""
        ...


class Arriving(Protocol):
    """A queue that tasks get into."""

    def arrival(self, publication: Publication) -> Sequence[Command]:
        """What puts a task into it, under its own id."""
        ...


class QueueMoving:
    """``QueueMover`` from one queue to another on the Redis that ``link`` leads to."""

    def __init__(
        self, link: Callable[[], AbstractAsyncContextManager[Link]], leaving: Leaving, arriving: Arriving
    ) -> None:
        self._link = link
        self._leaving = leaving
        self._arriving = arriving

    async def move(self, tasks: Sequence[LiveTask]) -> Mapping[str, str]:
        """Hand these tasks over in this order; returns why one is where it was, by its id."""
        left: dict[str, str] = {}
        async with self._link() as link:
            for start in range(0, len(tasks), _AT_ONCE):
                chunk = tasks[start : start + _AT_ONCE]
                departures = await self._leaving.departures(link, chunk)
                going = [task for task in chunk if task.task_id in departures]
                left |= {task.task_id: _gone(task) for task in chunk if task.task_id not in departures}
                try:
                    commands = [self._command(task, departures[task.task_id]) for task in going]
                except UsageProblem as exc:
                    # It can't be written as that queue was told to: their orders are claimed by now.
                    return left | {task.task_id: exc.message for task in tasks[start:]}
                answers = await link.execute(*commands, keep_refusals=True) if commands else []
                for task, answer in zip(going, answers, strict=True):
                    if isinstance(answer, Refusal):
                        left[task.task_id] = answer.message
                    elif not answer:
                        left[task.task_id] = _gone(task)
        return left

    def _command(self, task: LiveTask, departure: Departure) -> Command:
        publication = Publication(
            task_id=task.task_id,
            order_id=task.order_id or 0,
            resume=departure.resume,
            actor=task.actor,
            enqueued_at=task.enqueued_at,
            # One whose time has come waits for a worker alone.
            eta=task.eta if task.state is not TaskState.QUEUED else None,
            attempt=task.attempt,
        )
        arrival = self._arriving.arrival(publication)
        words = [
            *_counted(departure.taking, departure.undoing),
            len(arrival),
            *_counted(*arrival, *departure.clearing),
        ]
        return ("EVAL", _MOVE, 0, *words)


def _counted(*commands: Command) -> Iterator[str | bytes | int | float]:
    for command in commands:
        yield len(command)
        yield from command


def _gone(task: LiveTask) -> str:
    return f"task {task.task_id} waits no longer: a worker took it, or somebody withdrew it"
