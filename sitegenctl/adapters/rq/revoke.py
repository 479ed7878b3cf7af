"""Revoking jobs of an RQ queue, so that it is certain that they will not run.

A job removed from the queue or from a registry is at no worker: Redis hands it to one or the other, and confirms
whether it was there. RQ's own ``Job.cancel`` does not: a job that a worker took a moment before is marked as cancelled,
and runs. What a worker has is watched until it is somewhere else:

- running: its worker is sent the stop command, and kills the process. RQ does not retry a stopped job. The command is
  sent only when the job's own process has marked the job as started: before that a worker would kill itself, having no
  process yet.
- on its way to a worker, or about to begin: it is waited for.
- at no worker: its entries in the registries are removed once it is certain that nothing runs it.

If one place of a job is kept, the other places are removed one by one.

Source: rq/worker.py, command.py and job.py, 1.15 to 3.0, and trials with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sitegenctl.adapters.broker.revocation import (
    MISSES_REQUIRED,
    Pending,
    Revoker,
    Step,
    copy_is_gone,
    has_started,
    timed_out,
)
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.rq.job import Started
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.records import Assignments, Records, read_assignments
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Commands in one round trip.
_BATCH_SIZE = 100

_WAITING = frozenset({TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING})

# KEYS: started, intermediate. ARGV: job, whether what is on its way to a worker goes as well, then member and score of
# each of its entries. All as they were, or nothing.
_DROP = """
for i = 3, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 3, #ARGV, 2 do redis.call('ZREM', KEYS[1], ARGV[i]) end
if ARGV[2] == '1' then redis.call('LREM', KEYS[2], 0, ARGV[1]) end
return 1
"""

# KEYS: job, queue, failed. ARGV: job. The worker that stopped one copy has marked the job as stopped, to expire.
_STILL_LIVE = """
if redis.call('HGET', KEYS[1], 'status') ~= 'stopped' then return 0 end
redis.call('HSET', KEYS[1], 'status', redis.call('LPOS', KEYS[2], ARGV[1]) and 'queued' or 'started')
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""

# KEYS: job, canceled. ARGV: job. As RQ marks it, unless it has ended by itself.
_CANCELED = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'finished' or status == 'failed' or status == 'stopped' then return 0 end
redis.call('HSET', KEYS[1], 'status', 'canceled')
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return 1
"""


@dataclass(kw_only=True)
class _Pending(Pending):
    """A job to be removed everywhere, or, with ``is_part``, one place of it.

    ``is_dequeued``: it was removed from the queue or a registry of waiting jobs, ``dequeued_now`` by the last reading.
    ``signalled`` are the workers that were sent the stop command.
    """

    is_part: bool = False
    is_dequeued: bool = False
    dequeued_now: bool = False
    signalled: set[str] = field(default_factory=set)

    def holders(self, assigned: Assignments) -> list[tuple[str, TaskState]]:
        """The living workers that have it, and its state there; of a part, the worker at that place."""
        if not self.is_part:
            return assigned.holders(self.task_id)
        (place,) = self.places
        name = place.worker or assigned.runner(place.delivery)
        return [holder for holder in assigned.holders(self.task_id) if holder[0] == name]

    def entries(self, records: Records) -> list[Started]:
        """Its entries of the registry of jobs in work."""
        anywhere = [replace(place, delivery=None) for place in self.places[:1]]
        return records.entries_of(self.places if self.is_part else anywhere)

    def is_on_its_way(self, records: Records) -> bool:
        """Whether a worker has taken it and not begun it."""
        return self.task_id in records.taken and not (self.is_part and self.places[0].delivery is not None)

    def doubt(self, assigned: Assignments) -> str | None:
        """Why a process that is not visible may be running it."""
        given = {place.delivery: place for place in self.places}
        fallback = given.get(None) or replace(self.places[0], state=TaskState.UNACKED)
        for entry in self.entries(assigned.records):
            place = given.get(entry.delivery, fallback)
            reason = assigned.why_undecided(replace(place, delivery=entry.delivery))
            if reason is not None:
                return reason
        if self.is_on_its_way(assigned.records):
            return assigned.why_undecided(replace(fallback, delivery=None))
        return None


class RqRevoker(Revoker[_Pending, Assignments]):
    """One call of ``QueueBackend.revoke``."""

    def __init__(self, connection: Connection, options: RqOptions, *, terminate: bool) -> None:
        super().__init__(terminate=terminate)
        self._connection = connection
        self._options = options

    async def _begin(self, whole: Mapping[str, list[LiveTask]], kept: Mapping[str, list[LiveTask]]) -> list[_Pending]:
        pending = [_Pending(task_id=task_id, places=places) for task_id, places in whole.items()]
        await self._dequeue(pending)
        await self._remove_copies(kept)
        pending += [
            _Pending(task_id=task_id, places=[place], is_part=True)
            for task_id, places in kept.items()
            for place in places
            if place.state not in _WAITING
        ]
        return pending

    async def _dequeue(self, tasks: Iterable[_Pending]) -> None:
        """Remove jobs from wherever they wait, and note which Redis confirms.

        From the head, where they were found: when all of a queue is revoked, each is met at once.
        """
        options = self._options
        commands: list[Command] = []
        owners: list[_Pending] = []
        for task in tasks:
            task.dequeued_now = False
            if task.is_part:
                continue
            copies = sum(place.state is TaskState.QUEUED for place in task.places)
            removals: list[Command] = [
                ("LREM", options.list_key, max(copies, 1), task.task_id),
                *(("ZREM", key, task.task_id) for key in map(options.registry, ("scheduled", "deferred", "ready"))),
            ]
            commands += removals
            owners += [task] * len(removals)
        for owner, count in zip(owners, await self._execute(commands), strict=True):
            if count:
                owner.is_dequeued = owner.dequeued_now = True

    async def _remove_copies(self, kept: Mapping[str, Sequence[LiveTask]]) -> None:
        """Remove as many entries of each job from the queue as were given, from the tail: the next one stays."""
        options = self._options
        commands: list[Command] = []
        expected: list[tuple[str, int]] = []
        for task_id, places in kept.items():
            if copies := sum(place.state is TaskState.QUEUED for place in places):
                commands.append(("LREM", options.list_key, -copies, task_id))
                expected.append((task_id, copies))
            for place in places:
                if place.state in _WAITING and place.state is not TaskState.QUEUED:
                    kinds = ("scheduled",) if place.eta is not None else ("deferred", "ready")
                    commands += [("ZREM", options.registry(kind), task_id) for kind in kinds]
                    expected += [(task_id, 0)] * len(kinds)
        for (task_id, copies), count in zip(expected, await self._execute(commands), strict=True):
            if count < copies:
                self._left[task_id] = copy_is_gone(task_id)

    async def _execute(self, commands: Sequence[Command]) -> list[int]:
        replies: list[int] = []
        for start in range(0, len(commands), _BATCH_SIZE):
            replies += await self._connection.execute(*commands[start : start + _BATCH_SIZE])
        return replies

    async def _observe(self, pending: Sequence[_Pending]) -> Assignments:
        # In this order: a job that returns to the queue, to be retried, is no longer at its worker then.
        assigned = await read_assignments(self._connection, self._options)
        await self._dequeue(pending)
        return assigned

    def _judge(self, task: _Pending, observed: Assignments) -> Step | str:
        records = observed.records
        holders = task.holders(observed)
        running = [name for name, state in holders if state is TaskState.RUNNING]
        if running and not self._terminate:
            return has_started(task.task_id, running)
        if running:
            job = records.jobs.get(task.task_id)
            return Step.STOP if job is not None and job.status == "started" else Step.WAIT
        if holders or task.dequeued_now:
            return Step.WAIT
        if task.entries(records) or task.is_on_its_way(records):
            doubt = None if records.is_over(task.task_id) and task.signalled else task.doubt(observed)
            return Step.DROP if doubt is None else f"task {task.task_id}: {doubt}"
        return Step.DONE if task.is_dequeued or task.signalled or task.is_part else Step.SEARCH

    async def _drop(self, tasks: Sequence[_Pending], observed: Assignments) -> Iterable[_Pending]:
        records = observed.records
        keys = (self._options.started, self._options.intermediate)
        counts = await self._execute(
            [
                (
                    *("EVAL", _DROP, 2, *keys, task.task_id, int(task.is_on_its_way(records) or not task.is_part)),
                    *(part for entry in task.entries(records) for part in (entry.member, entry.score)),
                )
                for task in tasks
            ]
        )
        return [task for task, count in zip(tasks, counts, strict=True) if count]

    async def _search(self, tasks: Sequence[_Pending], observed: Assignments) -> Iterable[_Pending]:
        for task in tasks:
            task.misses += 1
        return [task for task in tasks if task.misses >= MISSES_REQUIRED]

    async def _stop(self, tasks: Sequence[_Pending], observed: Assignments) -> bool:
        is_new = False
        for task in tasks:
            for name, state in task.holders(observed):
                if state is TaskState.RUNNING:
                    is_new = is_new or name not in task.signalled
                    task.signalled.add(name)
                    # Sent again after each reading: a worker that was not listening at that moment has missed it.
                    # As rq.command.send_command does: send_stop_job_command would unpickle the job's meta.
                    command = json.dumps({"command": "stop-job", "job_id": task.task_id})
                    await self._connection.execute(("PUBLISH", self._options.channel(name), command))
        return is_new

    async def _finish(self, pending: Sequence[_Pending]) -> None:
        """Mark revoked jobs as cancelled, and jobs that lost a stopped place as live."""
        options = self._options
        gone = [task.task_id for task in pending if not task.is_part and task.task_id not in self._left]
        canceled, failed = options.registry("canceled"), options.registry("failed")
        await self._execute([("EVAL", _CANCELED, 2, options.job(task_id), canceled, task_id) for task_id in gone])
        stopped = sorted({task.task_id for task in pending if task.is_part and task.signalled})
        await self._execute(
            [("EVAL", _STILL_LIVE, 3, options.job(task_id), options.list_key, failed, task_id) for task_id in stopped]
        )

    def _timed_out(self, task: _Pending, observed: Assignments) -> str:
        worker = next((name for name, _ in task.holders(observed)), None)
        return timed_out(task.task_id, signalled=sorted(task.signalled), worker=worker)
