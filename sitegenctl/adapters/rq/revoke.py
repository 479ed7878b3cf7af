"""Taking jobs away from an RQ queue and its workers, so that it is certain that they will not run.

A job taken out of the queue or of a registry is at no worker: Redis hands it to one or to the other, and says
whether it was there. RQ's own ``Job.cancel`` does not tell: a job that a worker took a moment before is called
cancelled, and runs. What a worker has is watched until it is somewhere else:

- running: its worker is told to stop it, and kills the process. RQ tries a job that was stopped so no further time.
  It is told only when the job's own process has signed the job: before that a worker would kill itself, having no
  process yet.
- on its way to a worker, or about to begin: it is waited for.
- at nobody's: what stands of it in the registries goes once it is certain that nothing runs it.

Of a job of which one place is kept, the other places are taken away one by one.

Read from rq/worker.py, command.py and job.py, 1.15 to 3.0, and seen with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sitegenctl.adapters.broker.revocation import (
    PATIENCE,
    SECOND_LOOK,
    SOON,
    Verdict,
    copy_is_gone,
    has_started,
    too_late,
)
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.reader import Started
from sitegenctl.adapters.rq.workers import Records, RollCall, entries_of, read_records, roll_call, why_undecided
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Commands in one round trip.
_AT_ONCE = 100

#: How often a job must be looked for in vain: it may be on the move between two places.
_LOOKS_FOR_NOTHING = 2

# KEYS: started, intermediate. ARGV: job, whether what is on its way to a worker goes as well, then member and score of
# each of its entries. All as they were, or nothing.
_FORGET = """
for i = 3, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 3, #ARGV, 2 do redis.call('ZREM', KEYS[1], ARGV[i]) end
if ARGV[2] == '1' then redis.call('LREM', KEYS[2], 0, ARGV[1]) end
return 1
"""

# KEYS: job, queue, failed. ARGV: job. The worker that stopped one copy has marked the job as stopped, to be forgotten.
_STILL_LIVE = """
if redis.call('HGET', KEYS[1], 'status') ~= 'stopped' then return 0 end
redis.call('HSET', KEYS[1], 'status', redis.call('LPOS', KEYS[2], ARGV[1]) and 'queued' or 'started')
redis.call('PERSIST', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
"""

# KEYS: job, canceled. ARGV: job. As RQ marks it, unless it has come to an end of its own.
_CANCELED = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status or status == 'finished' or status == 'failed' or status == 'stopped' then return 0 end
redis.call('HSET', KEYS[1], 'status', 'canceled')
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], ARGV[1])
return 1
"""


@dataclass(kw_only=True)
class _Pending:
    """A job on its way out, or one place of it.

    ``places`` are those given; ``is_kept`` is whether only these go. ``taken``: it was taken out of the queue or a
    registry, ``taken_now`` at the last look. ``signalled`` are the workers asked to stop it. ``nowhere`` counts the
    looks that found nothing of it.
    """

    task_id: str
    places: list[LiveTask]
    is_kept: bool = False
    taken: bool = False
    taken_now: bool = False
    signalled: set[str] = field(default_factory=set)
    nowhere: int = 0

    def holders(self, seen: RollCall) -> list[tuple[str, TaskState]]:
        """Which living workers have it, and how; of a place, the one that it is at."""
        if not self.is_kept:
            return seen.holders(self.task_id)
        (place,) = self.places
        name = place.worker or (seen.holds(place.delivery) if place.delivery is not None else None)
        return [holder for holder in seen.holders(self.task_id) if holder[0] == name]

    def entries(self, records: Records) -> list[Started]:
        """Its entries of the registry of jobs in work."""
        bare = [replace(place, delivery=None) for place in self.places[:1]]
        return entries_of(self.places if self.is_kept else bare, records)

    def is_on_its_way(self, records: Records) -> bool:
        """Whether a worker has taken it and not begun it."""
        return self.task_id in records.taken and not (self.is_kept and self.places[0].delivery is not None)

    def doubt(self, records: Records, seen: RollCall) -> str | None:
        """Why something that is not seen may be running it."""
        given = {place.delivery: place for place in self.places}
        fallback = given.get(None) or replace(self.places[0], state=TaskState.UNACKED)
        for entry in self.entries(records):
            place = given.get(entry.delivery, fallback)
            reason = why_undecided(replace(place, delivery=entry.delivery), records, seen)
            if reason is not None:
                return reason
        if self.is_on_its_way(records):
            return why_undecided(replace(fallback, delivery=None), records, seen)
        return None


class Revoker:
    """One call of ``QueueBackend.revoke``."""

    def __init__(self, link: Link, options: RqOptions, *, terminate: bool) -> None:
        self._link = link
        self._options = options
        self._terminate = terminate
        self._left: dict[str, str] = {}

    async def withdraw(self, tasks: Sequence[LiveTask], keep: Collection[str]) -> Mapping[str, str]:
        """Take these jobs away; returns why one is still there, or may be, by its id."""
        by_id: dict[str, list[LiveTask]] = {}
        for task in tasks:
            by_id.setdefault(task.task_id, []).append(task)
        kept = {task_id: by_id.pop(task_id) for task_id in set(keep).intersection(by_id)}
        leaving = [_Pending(task_id=task_id, places=places) for task_id, places in by_id.items()]
        try:
            await self._take_out(leaving, at_first=True)
            await self._take_copies(kept)
        except Refusal as exc:
            return dict.fromkeys((*by_id, *kept), exc.message)
        leaving += [
            _Pending(task_id=task_id, places=[place], is_kept=True)
            for task_id, places in kept.items()
            for place in places
            if not _waits(place)
        ]
        await self._follow(leaving)
        options = self._options
        gone = [task_id for task_id in by_id if task_id not in self._left]
        await self._execute(
            [("EVAL", _CANCELED, 2, options.job(task_id), options.canceled, task_id) for task_id in gone]
        )
        stopped = sorted({task.task_id for task in leaving if task.is_kept and task.signalled})
        await self._execute(
            [
                ("EVAL", _STILL_LIVE, 3, options.job(task_id), options.list_key, options.failed, task_id)
                for task_id in stopped
            ]
        )
        return self._left

    async def _take_out(self, leaving: Iterable[_Pending], *, at_first: bool = False) -> None:
        """Take jobs out of wherever they wait, and note which Redis confirms.

        From the head, where they were found: whatever takes all of a queue away meets each at once.
        """
        options = self._options
        commands: list[Command] = []
        owners: list[_Pending] = []
        for task in leaving:
            task.taken_now = False
            if task.is_kept:
                continue
            copies = sum(_is_queued(place) for place in task.places) if at_first else 1
            places: list[Command] = [("LREM", options.list_key, max(copies, 1), task.task_id)]
            places += [("ZREM", key, task.task_id) for key in (options.scheduled, options.deferred, options.ready)]
            commands += places
            owners += [task] * len(places)
        for owner, count in zip(owners, await self._execute(commands), strict=True):
            if count:
                owner.taken = owner.taken_now = True

    async def _take_copies(self, kept: Mapping[str, Sequence[LiveTask]]) -> None:
        """Take out of the queue as many entries of each job as were given, from the tail: what is next stays."""
        options = self._options
        commands: list[Command] = []
        wanted: list[tuple[str, int]] = []
        for task_id, places in kept.items():
            if copies := sum(map(_is_queued, places)):
                commands.append(("LREM", options.list_key, -copies, task_id))
                wanted.append((task_id, copies))
            for place in places:
                if _waits(place) and not _is_queued(place):
                    keys = (options.scheduled,) if place.eta is not None else (options.deferred, options.ready)
                    commands += [("ZREM", key, task_id) for key in keys]
                    wanted += [(task_id, 0)] * len(keys)
        for (task_id, copies), count in zip(wanted, await self._execute(commands), strict=True):
            if count < copies:
                self._left[task_id] = copy_is_gone(task_id)

    async def _execute(self, commands: Sequence[Command]) -> list[int]:
        replies: list[int] = []
        for start in range(0, len(commands), _AT_ONCE):
            replies += await self._link.execute(*commands[start : start + _AT_ONCE])
        return replies

    async def _follow(self, leaving: list[_Pending]) -> None:
        """Look until each of them is gone, or must be given up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while leaving:
            # In this order: what comes back to the queue, to be tried again, is no longer at its worker then.
            records = await read_records(self._link, self._options)
            seen = roll_call(records, self._options.queue)
            await self._take_out(leaving)
            verdicts: dict[Verdict, list[_Pending]] = {verdict: [] for verdict in Verdict}
            for task in leaving:
                verdict = self._judge(task, records, seen)
                if isinstance(verdict, str):
                    self._left[task.task_id] = verdict
                else:
                    verdicts[verdict].append(task)
            forgotten = await self._forget(verdicts[Verdict.FORGET], records)
            for task in verdicts[Verdict.NOWHERE]:
                task.nowhere += 1
            if await self._stop(verdicts[Verdict.STOP], seen):
                deadline = clock() + PATIENCE
            leaving = [
                *verdicts[Verdict.STOP],
                *verdicts[Verdict.WAIT],
                *(task for task in verdicts[Verdict.FORGET] if task not in forgotten),
                *(task for task in verdicts[Verdict.NOWHERE] if task.nowhere < _LOOKS_FOR_NOTHING),
            ]
            if clock() > deadline:
                self._left |= {task.task_id: _too_late(task, seen) for task in leaving}
                return
            if leaving:
                await asyncio.sleep(SECOND_LOOK if verdicts[Verdict.NOWHERE] else SOON)

    def _judge(self, task: _Pending, records: Records, seen: RollCall) -> Verdict | str:
        holders = task.holders(seen)
        running = [name for name, state in holders if state is TaskState.RUNNING]
        if running and not self._terminate:
            return has_started(task.task_id, running)
        if running:
            job = records.jobs.get(task.task_id)
            return Verdict.STOP if job is not None and job.status == "started" else Verdict.WAIT
        if holders or task.taken_now:
            return Verdict.WAIT
        if task.entries(records) or task.is_on_its_way(records):
            doubt = None if records.is_over(task.task_id) and task.signalled else task.doubt(records, seen)
            return Verdict.FORGET if doubt is None else f"task {task.task_id}: {doubt}"
        return Verdict.GONE if task.taken or task.signalled or task.is_kept else Verdict.NOWHERE

    async def _forget(self, tasks: Sequence[_Pending], records: Records) -> list[_Pending]:
        keys = (self._options.started, self._options.intermediate)
        done = await self._execute(
            [
                (
                    *("EVAL", _FORGET, 2, *keys, task.task_id, int(task.is_on_its_way(records) or not task.is_kept)),
                    *(part for entry in task.entries(records) for part in (entry.member, entry.score)),
                )
                for task in tasks
            ]
        )
        return [task for task, count in zip(tasks, done, strict=True) if count]

    async def _stop(self, tasks: Iterable[_Pending], seen: RollCall) -> bool:
        """Have the processes killed that run these jobs; whether a worker was told for the first time."""
        # Imported where something is stopped: importing RQ takes longer than the rest.
        from sitegenctl.adapters.rq.library import RqLibrary

        library = RqLibrary(self._options)
        is_new = False
        for task in tasks:
            for name, state in task.holders(seen):
                if state is TaskState.RUNNING:
                    is_new = is_new or name not in task.signalled
                    task.signalled.add(name)
                    # Told again at each look: one that was not listening at that moment was not told.
                    await self._link.execute(*library.stop(name, task.task_id))
        return is_new


def _is_queued(place: LiveTask) -> bool:
    return place.state is TaskState.QUEUED


def _waits(place: LiveTask) -> bool:
    return place.state in (TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING)


def _too_late(task: _Pending, seen: RollCall) -> str:
    holders = task.holders(seen)
    return too_late(
        task.task_id, signalled=sorted(task.signalled), at=holders[0][0] if holders else None, patience=PATIENCE
    )
