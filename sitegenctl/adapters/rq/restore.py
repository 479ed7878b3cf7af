"""Requeueing orphaned jobs, to be taken next.

RQ itself does something else: once in ten minutes a worker searches for jobs whose worker is gone, counts that as a
failure and retries them later, or moves them to the failed ones. Here the job keeps the attempts that it has left.
A job in several places is in the queue once at most afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sitegenctl.adapters.broker.restore import Holder, Restorer, responds_again
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.records import Assignments, read_assignments
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


#: The arguments of a script: a job, then member and score of each of its entries in the registry of jobs in work.
_Move = tuple[str, *tuple[bytes, ...]]


class RqRestorer(Restorer[_Move]):
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, connection: Connection, options: RqOptions) -> None:
        self._connection = connection
        self._options = options

    async def _plan(
        self, tasks: Sequence[LiveTask], *, worker_dead: bool
    ) -> tuple[dict[str, str], list[tuple[str, _Move]]]:
        assigned = await read_assignments(self._connection, self._options)
        left: dict[str, str] = {}
        places: dict[str, list[LiveTask]] = {}
        for task in tasks:
            reason = _why_not(task, assigned, worker_dead=worker_dead)
            if reason is None:
                places.setdefault(task.task_id, []).append(task)
            else:
                left[task.task_id] = reason
        moves: list[tuple[str, _Move]] = []
        for job_id in sorted(places.keys() - left.keys()):
            entries = assigned.records.entries_of(places[job_id])
            moves.append((job_id, (job_id, *(part for entry in entries for part in (entry.member, entry.score)))))
        return left, moves

    async def _holders(self) -> Holder:
        return (await read_assignments(self._connection, self._options)).holder

    async def _run(self, moves: Sequence[_Move], *, undo: bool = False) -> list[Any]:
        options = self._options
        keys = (options.started, options.intermediate, options.list_key)
        script = _UNDO if undo else _MOVE
        commands: list[Command] = [("EVAL", script, 4, *keys, options.job(move[0]), *move) for move in moves]
        return await self._connection.execute(*commands, keep_refusals=True) if commands else []


def _why_not(task: LiveTask, assigned: Assignments, *, worker_dead: bool) -> str | None:
    task_id, records = task.task_id, assigned.records
    if (holder := assigned.holder(task_id)) is not None:
        return responds_again(task_id, holder)
    if records.jobs.get(task_id) is None:
        return f"task {task_id} has no job left to run"
    is_there = records.entries_of([task]) or (task.delivery is None and task_id in records.taken)
    if records.is_over(task_id) or not is_there:
        return f"task {task_id} is no longer in work: it was finished or requeued meanwhile"
    doubt = None if worker_dead else assigned.why_undecided(task)
    return f"task {task_id}: {doubt}" if doubt is not None else None
