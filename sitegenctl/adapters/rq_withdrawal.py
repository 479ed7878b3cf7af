"""Taking jobs away from an RQ queue and its workers, so that it is certain that they will not run.

A job taken out of the queue or of a registry is at no worker: Redis hands it to one or to the other, and says
whether it was there. RQ's own ``Job.cancel`` does not tell: a job that a worker took a moment before is called
cancelled, and runs. What a worker has is watched until it is somewhere else:

- running: its worker is told to stop it, and kills the process. RQ tries a job that was stopped so no further time.
  It is told only when the job's own process has signed the job: before that a worker would kill itself, having no
  process yet.
- on its way to a worker, or about to begin: it is waited for.
- at nobody's: its worker is gone, and what stands of it in the registries goes, too.

Read from rq/worker.py, command.py and job.py, 1.15 to 3.0, and seen with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.adapters.redis_errors import Refusal
from sitegenctl.adapters.redis_link import Link
from sitegenctl.adapters.redis_wire import Command
from sitegenctl.adapters.rq_options import RqOptions
from sitegenctl.adapters.rq_workers import Records, RollCall, read_records, roll_call
from sitegenctl.adapters.verdicts import (
    PATIENCE,
    SECOND_LOOK,
    SOON,
    Verdict,
    copy_is_gone,
    has_started,
    not_answered,
    too_late,
)
from sitegenctl.domain.task import LiveTask, TaskState

#: Commands in one round trip.
_AT_ONCE = 100

# KEYS: started, intermediate. ARGV: job, then member and score of each of its entries. All as they were, or nothing.
_FORGET = """
for i = 2, #ARGV, 2 do
  if (redis.call('ZSCORE', KEYS[1], ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 2, #ARGV, 2 do redis.call('ZREM', KEYS[1], ARGV[i]) end
redis.call('LREM', KEYS[2], 0, ARGV[1])
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
class _Leaving:
    """A job on its way out.

    ``taken``: it was taken out of the queue or a registry. ``told`` is the worker that was told to stop it.
    ``nowhere`` counts the looks that found nothing of it.
    """

    task_id: str
    taken: bool
    told: str | None = None
    nowhere: int = 0


class Withdrawal:
    """One call of ``QueueBackend.withdraw``."""

    def __init__(self, link: Link, options: RqOptions, *, terminate: bool) -> None:
        self._link = link
        self._options = options
        self._terminate = terminate
        self._left: dict[str, str] = {}

    async def withdraw(self, tasks: Sequence[LiveTask], keep: Collection[str]) -> Mapping[str, str]:
        """Take these jobs away; returns why one is still there, or may be, by its id."""
        ids = list(dict.fromkeys(task.task_id for task in tasks))
        kept = set(keep).intersection(ids)
        try:
            taken = await self._take_out(ids, kept)
        except Refusal as exc:
            return dict.fromkeys(ids, exc.message)
        for task_id in kept - taken:
            self._left[task_id] = copy_is_gone(task_id)
        leaving = {task_id: _Leaving(task_id=task_id, taken=task_id in taken) for task_id in ids if task_id not in kept}
        await self._follow(leaving)
        gone = [task_id for task_id in ids if task_id not in kept and task_id not in self._left]
        await self._execute(
            [("EVAL", _CANCELED, 2, self._options.job(task_id), self._options.canceled, task_id) for task_id in gone]
        )
        return self._left

    async def _take_out(self, task_ids: Sequence[str], kept: Collection[str] = ()) -> set[str]:
        """Take these out of wherever they wait, or, of those to be kept, a copy; returns which Redis confirms.

        From the head, where they were found: whoever takes all of a queue has each met at once.
        """
        options = self._options
        commands: list[Command] = []
        owners: list[str] = []
        for task_id in task_ids:
            places: list[Command] = [("LREM", options.list_key, 1, task_id)]
            if task_id not in kept:
                places += [("ZREM", key, task_id) for key in (options.scheduled, options.deferred, options.ready)]
            commands += places
            owners += [task_id] * len(places)
        counts = await self._execute(commands)
        return {owner for owner, count in zip(owners, counts, strict=True) if count}

    async def _execute(self, commands: Sequence[Command]) -> list[int]:
        replies: list[int] = []
        for start in range(0, len(commands), _AT_ONCE):
            replies += await self._link.execute(*commands[start : start + _AT_ONCE])
        return replies

    async def _follow(self, leaving: dict[str, _Leaving]) -> None:
        """Look until each of them is gone, or must be given up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while leaving:
            # In this order: what comes back to the queue, to be tried again, is no longer at its worker then.
            records = await read_records(self._link, self._options)
            seen = roll_call(records, self._options.queue)
            for task_id in await self._take_out(list(leaving)):
                leaving[task_id].taken = True
            verdicts: dict[Verdict, list[_Leaving]] = {verdict: [] for verdict in Verdict}
            for task in list(leaving.values()):
                verdict = self._judge(task, records, seen)
                if isinstance(verdict, str):
                    self._give_up(leaving, task.task_id, verdict)
                else:
                    verdicts[verdict].append(task)
            gone = [*verdicts[Verdict.GONE], *await self._forget(verdicts[Verdict.FORGET], records)]
            for task in verdicts[Verdict.NOWHERE]:
                task.nowhere += 1
            for task in (*gone, *(task for task in verdicts[Verdict.NOWHERE] if task.nowhere > 1)):
                del leaving[task.task_id]
            if await self._stop(verdicts[Verdict.STOP], seen):
                deadline = clock() + PATIENCE
            if clock() > deadline:
                for task in list(leaving.values()):
                    self._give_up(leaving, task.task_id, _too_late(task, seen))
            if leaving:
                await asyncio.sleep(SECOND_LOOK if verdicts[Verdict.NOWHERE] else SOON)

    def _give_up(self, leaving: dict[str, _Leaving], task_id: str, reason: str) -> None:
        self._left[task_id] = reason
        del leaving[task_id]

    def _judge(self, task: _Leaving, records: Records, seen: RollCall) -> Verdict | str:
        holders = seen.holders(task.task_id)
        running = [name for name, state in holders if state is TaskState.RUNNING]
        if running and not self._terminate:
            return has_started(task.task_id, running)
        if running:
            job = records.jobs.get(task.task_id)
            return Verdict.STOP if job is not None and job.status == "started" else Verdict.WAIT
        if holders:
            return Verdict.WAIT
        if task.task_id in records.started or task.task_id in records.taken:
            if seen.silent and not records.is_over(task.task_id):
                return not_answered(seen.silent, f"have task {task.task_id}")
            return Verdict.FORGET
        return Verdict.GONE if task.taken or task.told else Verdict.NOWHERE

    async def _forget(self, tasks: Sequence[_Leaving], records: Records) -> list[_Leaving]:
        keys = (self._options.started, self._options.intermediate)
        done = await self._execute(
            [
                (
                    *("EVAL", _FORGET, 2, *keys, task.task_id),
                    *(part for entry in records.started.get(task.task_id, ()) for part in entry),
                )
                for task in tasks
            ]
        )
        return [task for task, count in zip(tasks, done, strict=True) if count]

    async def _stop(self, tasks: Iterable[_Leaving], seen: RollCall) -> bool:
        """Have the processes killed that run these jobs; whether anybody was told for the first time."""
        # Imported where something is stopped: importing RQ takes longer than the rest.
        from sitegenctl.adapters.rq_library import RqLibrary

        library = RqLibrary(self._options)
        is_new = False
        for task in tasks:
            for name, state in seen.holders(task.task_id):
                if state is TaskState.RUNNING:
                    is_new = is_new or task.told != name
                    task.told = name
                    # Told again at each look: one that was not listening at that moment was not told.
                    await self._link.execute(*library.stop(name, task.task_id))
        return is_new


def _too_late(task: _Leaving, seen: RollCall) -> str:
    holders = seen.holders(task.task_id)
    at = holders[0][0] if holders else None
    return too_late(task.task_id, told=[task.told] if task.told else [], at=at, patience=PATIENCE)
