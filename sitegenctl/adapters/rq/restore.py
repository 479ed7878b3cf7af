"""Requeueing orphaned jobs, to be taken next.

RQ itself does something else: once in ten minutes a worker searches for jobs whose worker is gone, counts that as a
failure and retries them later, or moves them to the failed ones. Here the job keeps the attempts that it has left.
A job in several places is in the queue once at most afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sitegenctl.adapters.broker.restore import Holder, Restorer, responds_again
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.rq.assignments import Assignments, assign_jobs, entries_of, why_undecided
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import Started
from sitegenctl.adapters.rq.records import Records, read_records
from sitegenctl.domain.queue.task import LiveTask

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

# The same keys and arguments.
_UNDO = """
if redis.call('LREM', KEYS[3], 1, ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i]) end
if #ARGV == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
redis.call('HSET', KEYS[4], 'status', 'started')
return 1
"""


@dataclass(frozen=True)
class _Move:
    """A job that returns to the queue, and its entries of the registry of jobs in work."""

    job_id: str
    entries: Sequence[Started]


class RqRestorer(Restorer[_Move]):
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, connection: Connection, options: RqOptions) -> None:
        self._connection = connection
        self._options = options

    async def _plan(
        self, tasks: Sequence[LiveTask], *, worker_dead: bool
    ) -> tuple[dict[str, str], list[tuple[str, _Move]]]:
        records, assigned = await self._read()
        left: dict[str, str] = {}
        places: dict[str, list[LiveTask]] = {}
        for task in tasks:
            reason = _why_not(task, records, assigned, worker_dead=worker_dead)
            if reason is None:
                places.setdefault(task.task_id, []).append(task)
            else:
                left[task.task_id] = reason
        return left, [
            (job_id, _Move(job_id, entries_of(places[job_id], records)))
            for job_id in sorted(places)
            if job_id not in left
        ]

    async def _read(self) -> tuple[Records, Assignments]:
        records = await read_records(self._connection, self._options)
        return records, assign_jobs(records, self._options.queue)

    async def _holders(self) -> Holder:
        return (await self._read())[1].holder

    async def _run(self, moves: Sequence[_Move], *, undo: bool = False) -> list[Any]:
        options = self._options
        keys = (options.started, options.intermediate, options.list_key)
        commands: list[Command] = [
            (
                *("EVAL", _UNDO if undo else _MOVE, 4, *keys, options.job(move.job_id), move.job_id),
                *(part for entry in move.entries for part in (entry.member, entry.score)),
            )
            for move in moves
        ]
        return await self._connection.execute(*commands, keep_refusals=True) if commands else []


def _why_not(task: LiveTask, records: Records, assigned: Assignments, *, worker_dead: bool) -> str | None:
    task_id = task.task_id
    if (holder := assigned.holder(task_id)) is not None:
        return responds_again(task_id, holder)
    if records.jobs.get(task_id) is None:
        return f"task {task_id} has no job left to run"
    is_there = entries_of([task], records) or (task.delivery is None and task_id in records.taken)
    if records.is_over(task_id) or not is_there:
        return f"task {task_id} is no longer in work: it was finished or requeued meanwhile"
    doubt = None if worker_dead else why_undecided(task, records, assigned)
    return f"task {task_id}: {doubt}" if doubt is not None else None
