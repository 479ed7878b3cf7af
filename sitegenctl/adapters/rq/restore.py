"""Requeueing orphaned jobs, to be taken next.

RQ itself does something else: once in ten minutes a worker searches for jobs whose worker is gone, counts that as a
failure and retries them later, or moves them to the failed ones. Here the job keeps the attempts that it has left.
A job in several places is in the queue once at most afterwards. A deferred job whose dependency will never end well is
queued without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.restore import Holder, Restorer, responds_again
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.rq.job import Started
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import read_jobs, why_stuck
from sitegenctl.adapters.rq.records import Assignments, read_assignments
from sitegenctl.domain.queue.task import LiveTask

# KEYS: started, intermediate, queue, job, deferred, then the dependents of each job on which it depends. ARGV: job,
# then member and score of each of its entries. What may be refused comes first. A dependency that ends later must not
# queue the job a second time.
_MOVE = """
if redis.call('EXISTS', KEYS[4]) == 0 then return 0 end
for i = 2, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
local taken = redis.call('LPOS', KEYS[2], ARGV[1])
if #ARGV == 1 and not taken and not redis.call('ZSCORE', KEYS[5], ARGV[1]) then return 0 end
if redis.call('LPOS', KEYS[3], ARGV[1]) then return 2 end
local pushed = redis.pcall('LPUSH', KEYS[3], ARGV[1])
if type(pushed) == 'table' and pushed.err then return pushed end
for i = 2, #ARGV, 2 do redis.call('ZREM', KEYS[1], ARGV[i]) end
redis.call('LREM', KEYS[2], 0, ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
for i = 6, #KEYS do redis.call('SREM', KEYS[i], ARGV[1]) end
redis.call('HSET', KEYS[4], 'status', 'queued')
redis.call('PERSIST', KEYS[4])
return 1
"""

# The same keys and arguments. Only a delivery can turn out to have a living worker, a deferred job cannot.
_UNDO = """
if redis.call('LREM', KEYS[3], 1, ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i]) end
if #ARGV == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
redis.call('HSET', KEYS[4], 'status', 'started')
return 1
"""


class _Move(NamedTuple):
    """A job, its entries in the registry of jobs in work, and the jobs on which a deferred one depends."""

    job_id: str
    entries: Sequence[Started] = ()
    dependencies: Sequence[str] = ()


class RqRestorer(Restorer[_Move]):
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, connection: Connection, options: RqOptions) -> None:
        self._connection = connection
        self._options = options

    async def _plan(
        self, tasks: Sequence[LiveTask], *, worker_dead: bool
    ) -> tuple[dict[str, str], list[tuple[str, _Move]]]:
        connection, options = self._connection, self._options
        assigned = await read_assignments(connection, options)
        deferred = {task.task_id for task in tasks if task.delivery is None} - assigned.records.jobs.keys()
        jobs = await read_jobs(connection, options, sorted(deferred))
        stuck = await why_stuck(connection, options, jobs)
        left: dict[str, str] = {}
        places: dict[str, list[LiveTask]] = {}
        for task in tasks:
            reason = None if task.task_id in stuck else _why_not(task, assigned, worker_dead=worker_dead)
            if reason is None:
                places.setdefault(task.task_id, []).append(task)
            else:
                left[task.task_id] = reason
        moves: list[tuple[str, _Move]] = []
        for job_id in sorted(places.keys() - left.keys()):
            job = jobs.get(job_id)
            dependencies = job.dependencies if job is not None else ()
            moves.append((job_id, _Move(job_id, assigned.records.entries_of(places[job_id]), dependencies)))
        return left, moves

    async def _holders(self) -> Holder:
        return (await read_assignments(self._connection, self._options)).holder

    async def _run(self, moves: Sequence[_Move], *, undo: bool = False) -> list[Any]:
        options = self._options
        script = _UNDO if undo else _MOVE
        commands: list[Command] = []
        for move in moves:
            keys = [options.started, options.intermediate, options.list_key, options.job(move.job_id)]
            keys += [options.registry("deferred"), *map(options.dependents, move.dependencies)]
            entries = (part for entry in move.entries for part in (entry.member, entry.score))
            commands.append(("EVAL", script, len(keys), *keys, move.job_id, *entries))
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
