"""Giving orphaned jobs back to the queue, to be taken next.

RQ itself does something else: once in ten minutes a worker looks for jobs whose worker is gone, counts that as a
failure and tries them again later, or puts them among the failed ones.

The job keeps the attempts that it has left: it was not its fault. Only what is published anew, under whichever id, has
all of them again.

The guarantee to strive for is that none runs twice when its worker turns out to live: it is looked for once more
just before, its job moved only if nothing of it has changed since, and looked for again a moment later. A job in
several places is in the queue once at most afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sitegenctl.adapters.broker.revocation import answers_again
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.workers import Records, RollCall, entries_of, read_records, roll_call, why_undecided
from sitegenctl.domain.queue.task import LiveTask

#: Seconds after which a worker that had lost its connection to Redis, and nothing else, is there again.
_A_MOMENT = 0.25

#: What the script answers when the job is in the queue's list: a second entry would run it twice.
_WAITS_ALREADY = 2

# KEYS: started, intermediate, queue, job. ARGV: job, then member and score of each of its entries. What may be
# refused comes first.
_MOVE = """
if redis.call('EXISTS', KEYS[4]) == 0 then return 0 end
for i = 2, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
if #ARGV == 1 and not redis.call('LPOS', KEYS[2], ARGV[1]) then return 0 end
if redis.call('LPOS', KEYS[3], ARGV[1]) then return 2 end
local pushed = redis.pcall('LPUSH', KEYS[3], ARGV[1])
if type(pushed) == 'table' and pushed.err then return pushed end
for i = 2, #ARGV, 2 do redis.call('ZREM', KEYS[1], ARGV[i]) end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('HSET', KEYS[4], 'status', 'queued')
redis.call('PERSIST', KEYS[4])
return 1
"""

# The same keys and arguments, the other way round.
_MOVE_BACK = """
if redis.call('LREM', KEYS[3], 1, ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i]) end
if #ARGV == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
redis.call('HSET', KEYS[4], 'status', 'started')
return 1
"""


class Restorer:
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, link: Link, options: RqOptions) -> None:
        self._link = link
        self._options = options

    async def put_back(self, tasks: Sequence[LiveTask], *, worker_dead: bool) -> Mapping[str, str]:
        """Give these jobs back; returns why one was not, by its id."""
        records, seen = await self._look()
        left: dict[str, str] = {}
        moving: dict[str, list[LiveTask]] = {}
        for task in tasks:
            reason = _why_not(task, records, seen, worker_dead=worker_dead)
            if reason is None:
                moving.setdefault(task.task_id, []).append(task)
            else:
                left[task.task_id] = reason
        going = {task_id: places for task_id, places in sorted(moving.items()) if task_id not in left}
        moved: dict[str, list[LiveTask]] = {}
        for task_id, answer in zip(going, await self._run(_MOVE, going, records), strict=True):
            if isinstance(answer, Refusal):
                left[task_id] = answer.message
            elif answer == _WAITS_ALREADY:
                left[task_id] = f"task {task_id} waits in the queue already"
            elif not answer:
                left[task_id] = f"task {task_id} was finished or given back this moment"
            else:
                moved[task_id] = going[task_id]
        return left | await self._look_again(moved, records)

    async def _look(self) -> tuple[Records, RollCall]:
        records = await read_records(self._link, self._options)
        return records, roll_call(records, self._options.queue)

    async def _look_again(self, moved: Mapping[str, Sequence[LiveTask]], before: Records) -> dict[str, str]:
        """Take those out again that still wait, and that a worker has."""
        if not moved:
            return {}
        await asyncio.sleep(_A_MOMENT)
        _, seen = await self._look()
        claimed = {task_id: places for task_id, places in moved.items() if seen.holders(task_id)}
        # Only what still waits is taken out: a worker that has taken it from the queue has it, too.
        undone = await self._run(_MOVE_BACK, claimed, before)
        return {
            task_id: f"{_answers_again(task_id, seen)}; it was put back, and taken out of the queue again"
            for task_id, done in zip(claimed, undone, strict=True)
            if done == 1
        }

    async def _run(self, script: str, going: Mapping[str, Sequence[LiveTask]], records: Records) -> list[Any]:
        options = self._options
        commands: list[Command] = [
            (
                *("EVAL", script, 4, options.started, options.intermediate, options.list_key, options.job(task_id)),
                task_id,
                *(part for entry in entries_of(places, records) for part in (entry.member, entry.score)),
            )
            for task_id, places in going.items()
        ]
        return await self._link.execute(*commands, keep_refusals=True) if commands else []


def _why_not(task: LiveTask, records: Records, seen: RollCall, *, worker_dead: bool) -> str | None:
    task_id = task.task_id
    if seen.holders(task_id):
        return _answers_again(task_id, seen)
    if records.jobs.get(task_id) is None:
        return f"nothing is left of task {task_id} that could be run"
    is_there = entries_of([task], records) or (task.delivery is None and task_id in records.taken)
    if records.is_over(task_id) or not is_there:
        return f"task {task_id} is no longer in work: it was finished or given back meanwhile"
    doubt = None if worker_dead else why_undecided(task, records, seen)
    return f"task {task_id}: {doubt}" if doubt is not None else None


def _answers_again(task_id: str, seen: RollCall) -> str:
    name, state = seen.holders(task_id)[0]
    return answers_again(task_id, state, name)
