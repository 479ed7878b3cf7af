"""Giving orphaned jobs back to the queue, to be taken next.

RQ itself does something else: once in ten minutes a worker looks for jobs whose worker is gone, counts that as a
failure and tries them again later, or puts them among the failed ones.

The job keeps the attempts that it has left: it was not its fault. Only what is published anew, under whichever id, has
all of them again.

The guarantee to strive for is that none runs twice when its worker turns out to live: it is looked for once more
just before, its job moved only if nothing of it has changed since, and looked for again a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sitegenctl.adapters.redis_errors import Refusal
from sitegenctl.adapters.redis_link import Link
from sitegenctl.adapters.redis_wire import Command
from sitegenctl.adapters.rq_options import RqOptions
from sitegenctl.adapters.rq_workers import Records, RollCall, read_records, roll_call
from sitegenctl.adapters.verdicts import answers_again, not_answered
from sitegenctl.domain.task import LiveTask

#: Seconds after which a worker that had lost its connection to Redis, and nothing else, is there again.
_A_MOMENT = 0.25

# KEYS: started, intermediate, queue, job. ARGV: job, then member and score of each of its entries. What may be
# refused comes first.
_MOVE = """
if redis.call('EXISTS', KEYS[4]) == 0 then return 0 end
for i = 2, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
if #ARGV == 1 and not redis.call('LPOS', KEYS[2], ARGV[1]) then return 0 end
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


class PuttingBack:
    """One call of ``QueueBackend.put_back``."""

    def __init__(self, link: Link, options: RqOptions) -> None:
        self._link = link
        self._options = options

    async def put_back(self, tasks: Sequence[LiveTask]) -> Mapping[str, str]:
        """Give these jobs back; returns why one was not, by its id."""
        records, seen = await self._look()
        left: dict[str, str] = {}
        moving: list[str] = []
        for task_id in sorted({task.task_id for task in tasks}):
            reason = _why_not(task_id, records, seen)
            if reason is None:
                moving.append(task_id)
            else:
                left[task_id] = reason
        moved: list[str] = []
        for task_id, answer in zip(moving, await self._run(_MOVE, moving, records), strict=True):
            if isinstance(answer, Refusal):
                left[task_id] = answer.message
            elif not answer:
                left[task_id] = f"task {task_id} was finished or given back this moment"
            else:
                moved.append(task_id)
        return left | await self._look_again(moved, records)

    async def _look(self) -> tuple[Records, RollCall]:
        records = await read_records(self._link, self._options)
        return records, roll_call(records, self._options.queue)

    async def _look_again(self, moved: Sequence[str], before: Records) -> dict[str, str]:
        """Take those out again that still wait, and that a worker has."""
        if not moved:
            return {}
        await asyncio.sleep(_A_MOMENT)
        _, seen = await self._look()
        claimed = [task_id for task_id in moved if seen.holders(task_id)]
        # Only what still waits is taken out: a worker that has taken it from the queue has it, too.
        undone = await self._run(_MOVE_BACK, claimed, before)
        return {
            task_id: f"{_answers_again(task_id, seen)}; it was put back, and taken out of the queue again"
            for task_id, done in zip(claimed, undone, strict=True)
            if done == 1
        }

    async def _run(self, script: str, task_ids: Sequence[str], records: Records) -> list[Any]:
        options = self._options
        commands: list[Command] = [
            (
                *("EVAL", script, 4, options.started, options.intermediate, options.list_key, options.job(task_id)),
                task_id,
                *(part for entry in records.started.get(task_id, ()) for part in entry),
            )
            for task_id in task_ids
        ]
        return await self._link.execute(*commands, keep_refusals=True) if commands else []


def _why_not(task_id: str, records: Records, seen: RollCall) -> str | None:
    if seen.holders(task_id):
        return _answers_again(task_id, seen)
    if records.jobs.get(task_id) is None:
        return f"nothing is left of task {task_id} that could be run"
    if records.is_over(task_id) or (task_id not in records.started and task_id not in records.taken):
        return f"task {task_id} is no longer in work: it was finished or given back meanwhile"
    if seen.silent:
        return not_answered(seen.silent, f"be running task {task_id}")
    return None


def _answers_again(task_id: str, seen: RollCall) -> str:
    name, state = seen.holders(task_id)[0]
    return answers_again(task_id, state, name)
