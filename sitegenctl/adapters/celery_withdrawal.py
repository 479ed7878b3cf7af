"""Taking tasks away from a Celery queue and its workers, so that it is certain that they will not run.

A message taken out of the queue's lists is at no worker: Redis hands it to one or to the other. What was delivered
is a worker's to drop, and is judged by what all living workers answer after they have revoked it:

- held for its ETA, or until a process is free: Celery looks at its revokes once more when its turn comes. Its
  entry in ``unacked`` is removed, without which nothing restores it when the worker stops instead.
- running: its process is killed. Celery forgets the task as soon as it has sent the signal, so that there can't be
  a second one: it must be the signal that can't be caught. That the process is gone is believed when the pool
  doesn't list it any more. The late acknowledgement is sent before the process is found dead, so that
  ``reject_on_worker_lost`` does not give the task back.
- at nobody's: its worker is gone, and so must the entry go.

Read from celery/worker/control.py, request.py and concurrency/asynpool.py, 5.3 and 5.7, and seen with both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.adapters.celery_raw import Delivery, RawMessages
from sitegenctl.adapters.celery_workers import CeleryWorkers
from sitegenctl.adapters.celery_workload import QUESTIONS, Holding, Workload
from sitegenctl.adapters.redis_errors import Refusal
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

#: Ids in one question: newer workers look up a result for each, and store one, before they answer.
_REVOKED_AT_ONCE = 200

_SIGNAL = "SIGKILL"


@dataclass(kw_only=True)
class _Leaving:
    """A task on its way out.

    ``taken``: its message was taken out of the queue's lists. ``told`` has the process that runs it, by worker
    that was told to stop it. ``nowhere`` counts the looks that found nothing of it.
    """

    task_id: str
    taken: bool
    told: dict[str, int | None] = field(default_factory=dict)
    nowhere: int = 0


class Withdrawal:
    """One call of ``QueueBackend.withdraw``."""

    def __init__(self, messages: RawMessages, workers: CeleryWorkers, *, terminate: bool) -> None:
        self._messages = messages
        self._workers = workers
        self._terminate = terminate
        self._revoked_at: set[str] = set()
        self._left: dict[str, str] = {}

    async def withdraw(self, tasks: Sequence[LiveTask], keep: Collection[str]) -> Mapping[str, str]:
        """Take these tasks away; returns why one is still there, or may be, by its id."""
        task_ids = {task.task_id for task in tasks}
        kept = task_ids.intersection(keep)
        queued = {task.task_id for task in tasks if task.position is not None}
        try:
            seen = await self._look()
        except Refusal as exc:
            # Out of memory, for one: who can't ask the workers doesn't begin.
            return dict.fromkeys(task_ids, exc.message)
        taken = await self._messages.take_out(await self._messages.waiting(queued))
        for task_id in kept - taken:
            self._left[task_id] = copy_is_gone(task_id)
        leaving = {task_id: _Leaving(task_id=task_id, taken=task_id in taken) for task_id in sorted(task_ids - kept)}
        if queued - taken:
            seen = await self._look()
        # A revoke can't be taken back: what will be left must not be dropped at its next retry, or when it is put back.
        for task in list(leaving.values()):
            if task.task_id in seen.running and not self._terminate:
                self._give_up(leaving, task.task_id, _started(task.task_id, seen.holdings(task.task_id)))
            elif seen.silent and not task.taken and not seen.holdings(task.task_id):
                self._give_up(leaving, task.task_id, not_answered(seen.silent, f"have task {task.task_id}"))
        await self._revoke(list(leaving))
        await self._follow(leaving)
        return self._left

    async def _look(self) -> Workload:
        return Workload.of(await self._workers.ask(QUESTIONS))

    def _give_up(self, leaving: dict[str, _Leaving], task_id: str, reason: str) -> None:
        self._left[task_id] = reason
        del leaving[task_id]

    async def _revoke(self, task_ids: Sequence[str]) -> None:
        """Revoke at every living worker; who has revoked them all is known afterwards."""
        destination: list[str] | None = None
        for start in range(0, len(task_ids), _REVOKED_AT_ONCE):
            arguments = {"revoke": {"task_id": task_ids[start : start + _REVOKED_AT_ONCE]}}
            replies = await self._workers.ask(["revoke"], arguments=arguments, destination=destination)
            self._revoked_at = set(replies.answers) if destination is None else self._revoked_at & set(replies.answers)
            if replies.unknown:
                # Who was silent once is not waited for again.
                destination = sorted(self._revoked_at)

    async def _follow(self, leaving: dict[str, _Leaving]) -> None:
        """Look until each of them is gone, or must be given up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while leaving:
            # In this order: who has it from before it was read in `unacked` says so now.
            entries: dict[str, list[Delivery]] = {}
            for delivery in await self._messages.delivered(leaving):
                entries.setdefault(delivery.task_id, []).append(delivery)
            workload = await self._look()
            verdicts: dict[Verdict, list[_Leaving]] = {verdict: [] for verdict in Verdict}
            for task in list(leaving.values()):
                verdict = self._judge(task, workload, has_entry=task.task_id in entries)
                if isinstance(verdict, str):
                    self._give_up(leaving, task.task_id, verdict)
                else:
                    verdicts[verdict].append(task)
            gone = [*verdicts[Verdict.GONE], *await self._forget(verdicts[Verdict.FORGET], entries)]
            gone += await self._search(verdicts[Verdict.NOWHERE])
            for task in gone:
                del leaving[task.task_id]
            if verdicts[Verdict.STOP]:
                await self._stop(verdicts[Verdict.STOP], workload, leaving)
                deadline = clock() + PATIENCE
            elif clock() > deadline:
                for task in list(leaving.values()):
                    self._give_up(leaving, task.task_id, _too_late(task, workload))
            if leaving:
                await asyncio.sleep(SECOND_LOOK if verdicts[Verdict.NOWHERE] else SOON)

    def _judge(self, task: _Leaving, workload: Workload, *, has_entry: bool) -> Verdict | str:
        holdings = workload.holdings(task.task_id)
        running = [holding for holding in holdings if holding.state is TaskState.RUNNING]
        if running and not self._terminate:
            return _started(task.task_id, running)
        if running:
            return Verdict.STOP if any(each.worker not in task.told for each in running) else Verdict.WAIT
        if any(workload.has_process(worker, pid) for worker, pid in task.told.items()):
            return Verdict.WAIT
        if any(not workload.will_look_again(holding) for holding in holdings):
            return Verdict.WAIT
        if any(holding.worker not in self._revoked_at for holding in holdings):
            return f"task {task.task_id} is at {holdings[0].worker}, which has not answered that it revoked it"
        if has_entry and not holdings and workload.silent:
            return not_answered(workload.silent, f"have task {task.task_id}")
        if has_entry:
            return Verdict.FORGET
        if holdings or task.taken or task.told:
            return Verdict.GONE
        return not_answered(workload.silent, f"have task {task.task_id}") if workload.silent else Verdict.NOWHERE

    async def _forget(self, tasks: Sequence[_Leaving], entries: Mapping[str, Sequence[Delivery]]) -> list[_Leaving]:
        removed = await self._messages.forget([each for task in tasks for each in entries[task.task_id]])
        return [task for task in tasks if all(delivery.tag in removed for delivery in entries[task.task_id])]

    async def _search(self, tasks: Sequence[_Leaving]) -> list[_Leaving]:
        """Look for them in the queue, where they may have come back to; returns those not found a second time."""
        taken = await self._messages.take_out(await self._messages.waiting({task.task_id for task in tasks}))
        for task in tasks:
            task.taken = task.task_id in taken
            task.nowhere += not task.taken
        return [task for task in tasks if task.nowhere > 1]

    async def _stop(self, tasks: Iterable[_Leaving], workload: Workload, leaving: dict[str, _Leaving]) -> None:
        """Have the processes killed that run these tasks."""
        by_worker: dict[str, list[_Leaving]] = {}
        for task in tasks:
            for holding in workload.holdings(task.task_id):
                if holding.state is TaskState.RUNNING:
                    task.told[holding.worker] = holding.pid
                    by_worker.setdefault(holding.worker, []).append(task)
        for worker, at_it in by_worker.items():
            arguments = {"task_id": [task.task_id for task in at_it], "terminate": True, "signal": _SIGNAL}
            replies = await self._workers.ask(["revoke"], arguments={"revoke": arguments}, destination=[worker])
            for task in at_it:
                if worker in replies.refused and task.task_id in leaving:
                    reason = f"{worker} can't stop task {task.task_id}: {replies.refused[worker]}"
                    self._give_up(leaving, task.task_id, reason)


def _started(task_id: str, holdings: Iterable[Holding]) -> str:
    return has_started(task_id, [holding.worker for holding in holdings if holding.state is TaskState.RUNNING])


def _too_late(task: _Leaving, workload: Workload) -> str:
    holdings = workload.holdings(task.task_id)
    at = holdings[0].worker if holdings else None
    return too_late(task.task_id, told=task.told, at=at, patience=PATIENCE)
