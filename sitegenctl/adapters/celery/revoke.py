"""Removing tasks from a Celery queue and its workers, so that it is certain that they will not run.

What is removed is a place of a task: a list entry, a delivery, or a worker's claim. Of a task that is to be kept, only
the places given are touched; any other task is removed wherever it is, and revoked at every living worker.

A message removed from the queue's lists is at no worker: Redis hands it to one or to the other. What was delivered
is a worker's to drop, and is judged by what the living workers answer after they have revoked it:

- held for its ETA, or until a process is free: Celery looks at its revokes once more when its turn comes. Its
  entry in ``unacked`` is removed, without which nothing restores it when the worker stops instead.
- running: its process is killed. Celery forgets the task as soon as it has sent the signal, so that there can't be
  a second one: it must be the signal that can't be caught. That the process is gone is believed when the pool
  doesn't list it any more. The late acknowledgement is sent before the process is found dead, so that
  ``reject_on_worker_lost`` does not give the task back.
- in ``unacked`` and at no worker that responds: it is left, because one that does not respond may be running it.
  Only an orphaned delivery is removed, provided that it has not changed and no worker claims it.

Which process runs a task is Celery's own record, which may be old: after a lost connection it lists ended tasks among
the active ones (celery#8541). It is read once more right before a signal, and any doubt leaves the task alone.

Read from celery/worker/control.py, request.py and concurrency/asynpool.py, 5.3 and 5.7, and seen with both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from sitegenctl.adapters.broker.revocation import (
    PATIENCE,
    SECOND_LOOK,
    SOON,
    Verdict,
    copy_is_gone,
    delivery_changed,
    has_started,
    no_longer_reported,
    not_answered,
    not_removable,
    too_late,
)
from sitegenctl.adapters.celery.messages import RawMessages, UnackedMessage
from sitegenctl.adapters.celery.places import Entries, Pending, is_claimed, is_in_list, running_of
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.celery.workload import QUESTIONS, Holding, Workload
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Ids in one question: newer workers look up a result for each, and store one, before they answer.
_REVOKED_AT_ONCE = 200

_SIGNAL = "SIGKILL"


class Revoker:
    """One call of ``QueueBackend.revoke``."""

    def __init__(self, messages: RawMessages, workers: CeleryWorkers, *, terminate: bool) -> None:
        self._messages = messages
        self._workers = workers
        self._terminate = terminate
        self._left: dict[str, str] = {}

    async def withdraw(self, tasks: Sequence[LiveTask], keep: Collection[str]) -> Mapping[str, str]:
        """Remove these places; returns why a task is still there, or may be, by its id."""
        given: dict[str, list[LiveTask]] = {}
        for task in tasks:
            given.setdefault(task.task_id, [])
            if (reason := not_removable(task)) is None:
                given[task.task_id].append(task)
            else:
                self._leave(task.task_id, reason)
        kept = {task_id: places for task_id, places in sorted(given.items()) if task_id in keep and places}
        whole = {
            task_id: Pending(task_id=task_id, given=places)
            for task_id, places in sorted(given.items())
            if task_id not in keep and task_id not in self._left
        }
        try:
            entries, seen = await self._read({*whole, *kept})
        except Refusal as exc:
            # Redis may be out of memory: without the workers' answers nothing is begun.
            return dict.fromkeys(given, exc.message) | self._left
        if kept:
            await self._remove_parts(kept, entries, seen)
            entries, seen = await self._read(whole)
        if whole:
            await self._remove(whole, entries, seen)
        return self._left

    # --- tasks as a whole ---

    async def _remove(self, pending: dict[str, Pending], entries: Entries, seen: Workload) -> None:
        seen = await self._decide(pending, entries, seen)
        copies = Counter(place.task_id for task in pending.values() for place in task.given if is_in_list(place))
        taken = await self._messages.take_out(await self._messages.waiting(copies, copies))
        for task_id in taken:
            pending[task_id].taken = True
        if len(taken) < len(copies):
            # They were delivered meanwhile.
            seen = await self._decide(pending, *await self._read(pending))
        for task in list(pending.values()):
            if seen.silent and not task.taken and not task.holdings(seen):
                self._give_up(pending, task.task_id, not_answered(seen.silent, f"have task {task.task_id}"))
        await self._revoke(pending)
        await self._follow(pending)

    async def _decide(self, pending: dict[str, Pending], entries: Entries, seen: Workload) -> Workload:
        """Give up what must be left; returns what the workers have.

        A revoke can't be taken back: what is left must not be dropped at its next retry, or when it is put back.
        """
        for is_last in (False, True):
            unclaimed = False
            for task in list(pending.values()):
                found = task.entries(entries)
                reason = task.why_not_run(seen, terminate=self._terminate) or task.why_not_forget(seen, found)
                if reason is None and task.count_unclaimed(seen, found) > 0:
                    # It may have been acknowledged between the two readings.
                    unclaimed = True
                    reason = task.why_unclaimed(seen) if is_last else None
                if reason is not None:
                    self._give_up(pending, task.task_id, reason)
            if not unclaimed:
                break
            await asyncio.sleep(SECOND_LOOK)
            entries, seen = await self._read(pending)
        return seen

    # --- places of tasks that are kept ---

    async def _remove_parts(self, kept: Mapping[str, Sequence[LiveTask]], entries: Entries, seen: Workload) -> None:
        """Remove just these places of tasks, by task id; another place of each stays."""
        listed = {task_id: places for task_id, places in kept.items() if any(map(is_in_list, places))}
        if listed:
            await self._remove_copies(listed, entries, seen)
        pending: dict[str, Pending] = {}
        for task_id, places in kept.items():
            every = Pending(task_id=task_id, given=places)
            await self._remove_orphans(every, entries.get(task_id, ()), seen)
            if any(place.state is TaskState.UNACKED and not is_claimed(place) for place in places):
                self._leave(task_id, every.why_unclaimed(seen))
            claims = [place for place in places if is_claimed(place)]
            if not claims:
                continue
            part = _part(task_id, claims, seen)
            reason = part.why_not_run(seen, terminate=self._terminate) or _why_leave_claims(part, seen)
            if reason is None:
                pending[task_id] = part
            else:
                self._leave(task_id, reason)
        await self._revoke_parts(pending, seen)
        await self._follow(pending)

    async def _remove_copies(self, listed: Mapping[str, Sequence[LiveTask]], entries: Entries, seen: Workload) -> None:
        """Remove as many list entries as are given, those furthest from delivery."""
        copies = await self._messages.copies(listed)
        for task_id, places in listed.items():
            number, claims = sum(map(is_in_list, places)), sum(map(is_claimed, places))
            deliveries = len(entries.get(task_id, ()))
            is_elsewhere = len(seen.live_holdings(task_id)) > claims or deliveries > len(places) - number
            found = copies.get(task_id, [])
            # Where nothing else of it is to be seen, the entry that is next is the one to be kept.
            staying = max(len(found) - number, 0 if is_elsewhere else 1)
            removed = await self._messages.remove_copies(found[staying:], found[:staying])
            if sum(removed) < number:
                self._leave(task_id, copy_is_gone(task_id))

    async def _remove_orphans(self, task: Pending, entries: Sequence[UnackedMessage], seen: Workload) -> None:
        reason, orphaned = task.why_not_forget(seen, entries), task.orphaned(entries)
        if reason is None and len(await self._messages.forget(orphaned)) < len(orphaned):
            reason = delivery_changed(task.task_id)
        if reason is not None:
            self._leave(task.task_id, reason)

    # --- at the workers ---

    async def _read(self, task_ids: Collection[str]) -> tuple[Entries, Workload]:
        """What is in ``unacked`` of these tasks, and what the workers have."""
        # In this order: who has it from before it was read in `unacked` says so now.
        entries: dict[str, list[UnackedMessage]] = {}
        for delivery in await self._messages.delivered(task_ids):
            entries.setdefault(delivery.task_id, []).append(delivery)
        return entries, Workload.of(await self._workers.ask(QUESTIONS))

    def _leave(self, task_id: str, reason: str) -> None:
        self._left.setdefault(task_id, reason)

    def _give_up(self, pending: dict[str, Pending], task_id: str, reason: str) -> None:
        self._leave(task_id, reason)
        del pending[task_id]

    async def _revoke(self, pending: Mapping[str, Pending]) -> None:
        """Revoke at every living worker; which of them revoked each is known afterwards."""
        task_ids = list(pending)
        destination: list[str] | None = None
        for start in range(0, len(task_ids), _REVOKED_AT_ONCE):
            revoking = task_ids[start : start + _REVOKED_AT_ONCE]
            arguments = {"revoke": {"task_id": revoking}}
            replies = await self._workers.ask(["revoke"], arguments=arguments, destination=destination)
            for task_id in revoking:
                pending[task_id].revoked_at.update(replies.answers)
            if replies.unknown:
                # Who was silent once is not waited for again.
                destination = sorted(replies.answers)

    async def _revoke_parts(self, pending: Mapping[str, Pending], seen: Workload) -> None:
        """Revoke each task at just those workers where a claim that waits is to go."""
        at: dict[str, list[Pending]] = {}
        for task in pending.values():
            for holding in task.holdings(seen):
                if holding.state is not TaskState.RUNNING:
                    at.setdefault(holding.worker, []).append(task)
        for worker, tasks in at.items():
            arguments = {"revoke": {"task_id": sorted({task.task_id for task in tasks})}}
            replies = await self._workers.ask(["revoke"], arguments=arguments, destination=[worker])
            for task in tasks:
                task.revoked_at.update(replies.answers)

    async def _follow(self, pending: dict[str, Pending]) -> None:
        """Look until each of them is gone, or must be given up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE
        while pending:
            entries, workload = await self._read(pending)
            verdicts: dict[Verdict, list[Pending]] = {verdict: [] for verdict in Verdict}
            for task in list(pending.values()):
                verdict = self._judge(task, workload, task.entries(entries))
                if isinstance(verdict, str):
                    self._give_up(pending, task.task_id, verdict)
                else:
                    verdicts[verdict].append(task)
            gone = [*verdicts[Verdict.GONE], *await self._forget(verdicts[Verdict.FORGET], entries)]
            gone += await self._search(verdicts[Verdict.NOWHERE], pending, workload)
            for task in gone:
                del pending[task.task_id]
            if verdicts[Verdict.STOP]:
                await self._stop(verdicts[Verdict.STOP], workload, pending)
                deadline = clock() + PATIENCE
            elif clock() > deadline:
                for task in list(pending.values()):
                    self._give_up(pending, task.task_id, _too_late(task, workload))
            if pending:
                is_patient = verdicts[Verdict.NOWHERE] or any(task.unclaimed for task in pending.values())
                await asyncio.sleep(SECOND_LOOK if is_patient else SOON)

    def _judge(self, task: Pending, workload: Workload, entries: Sequence[UnackedMessage]) -> Verdict | str:
        task_id, holdings = task.task_id, task.holdings(workload)
        running = running_of(holdings)
        if running and not self._terminate:
            return has_started(task_id, [holding.worker for holding in running])
        if (reason := task.why_not_forget(workload, entries)) is not None:
            return reason
        if running:
            return Verdict.STOP if any(each.worker not in task.signalled for each in running) else Verdict.WAIT
        if any(workload.has_process(worker, pid) for worker, pid in task.signalled.items()):
            return Verdict.WAIT
        if any(not workload.will_look_again(holding) for holding in holdings):
            return Verdict.WAIT
        if any(holding.worker not in task.revoked_at for holding in holdings):
            return f"task {task_id} is at {holdings[0].worker}, which has not answered that it revoked it"
        if task.count_unclaimed(workload, entries) > 0:
            task.unclaimed += 1
            return task.why_unclaimed(workload) if workload.silent or task.unclaimed > 1 else Verdict.WAIT
        if entries:
            return Verdict.FORGET
        if holdings or task.taken or task.signalled:
            return Verdict.GONE
        if task.workers is not None and not task.may_run_unlisted(workload):
            return Verdict.GONE
        return not_answered(workload.silent, f"have task {task_id}") if workload.silent else Verdict.NOWHERE

    async def _forget(self, tasks: Sequence[Pending], entries: Entries) -> list[Pending]:
        removed = await self._messages.forget([each for task in tasks for each in task.entries(entries)])
        return [task for task in tasks if all(delivery.tag in removed for delivery in task.entries(entries))]

    async def _search(self, tasks: Sequence[Pending], pending: dict[str, Pending], workload: Workload) -> list[Pending]:
        """Look for them in the queue, where they may have come back to; returns those not found a second time."""
        whole = {task.task_id for task in tasks if task.workers is None}
        taken = await self._messages.take_out(await self._messages.waiting(whole))
        for task in tasks:
            task.taken = task.task_id in taken
            task.nowhere += not task.taken
        nowhere = [task for task in tasks if task.nowhere > 1]
        lost = [task for task in nowhere if task.may_run_unlisted(workload)]
        ended = await self._messages.finished([task.task_id for task in lost])
        for task in lost:
            if task.task_id not in ended:
                workers = [place.worker for place in task.given if place.worker is not None]
                self._give_up(pending, task.task_id, no_longer_reported(task.task_id, workers))
        return [task for task in nowhere if task.task_id in pending]

    async def _stop(self, tasks: Iterable[Pending], workload: Workload, pending: dict[str, Pending]) -> None:
        """Have the processes killed that run these tasks, as far as it is certain which ones do."""
        at: dict[str, list[tuple[Pending, Holding]]] = {}
        for task in tasks:
            for holding in running_of(task.holdings(workload)):
                if holding.worker not in task.signalled:
                    at.setdefault(holding.worker, []).append((task, holding))
        for worker, at_it in at.items():
            at_it = [(task, holding) for task, holding in at_it if task.task_id in pending]
            for task_id, reason in (await self._why_not_stop(worker, at_it)).items():
                self._give_up(pending, task_id, reason)
            stopping = [(task, holding) for task, holding in at_it if task.task_id in pending]
            if not stopping:
                continue
            for task, holding in stopping:
                task.signalled[worker] = holding.pid
            arguments = {"task_id": [task.task_id for task, _ in stopping], "terminate": True, "signal": _SIGNAL}
            replies = await self._workers.ask(["revoke"], arguments={"revoke": arguments}, destination=[worker])
            for task, _ in stopping:
                if worker in replies.refused:
                    reason = f"{worker} can't stop task {task.task_id}: {replies.refused[worker]}"
                    self._give_up(pending, task.task_id, reason)

    async def _why_not_stop(self, worker: str, at_it: Sequence[tuple[Pending, Holding]]) -> dict[str, str]:
        """Why no signal may be sent for these tasks, by id, from what the worker answers this moment."""
        finished = await self._messages.finished([task.task_id for task, _ in at_it])
        with_message: set[str] = set()
        if finished:
            with_message |= {message.task_id for message in await self._messages.waiting(finished)}
            with_message |= {delivery.task_id for delivery in await self._messages.delivered(finished)}
        # The last thing before the signal.
        now = Workload.of(await self._workers.ask(QUESTIONS, destination=[worker]))
        reasons: dict[str, str] = {}
        for task, holding in at_it:
            task_id = task.task_id
            reason = now.why_not_stop(task_id, worker)
            pids = {each.pid for each in now.holdings(task_id) if each.worker == worker}
            known = {holding.pid, *(place.pid for place in task.given if place.worker == worker and place.pid)}
            if reason is None and pids != known:
                reason = f"worker {worker} now runs task {task_id} at another process: nothing was stopped"
            if reason is None and task_id in finished and task_id not in with_message:
                reason = (
                    f"worker {worker} reports task {task_id}, which has the result {finished[task_id]} and no message:"
                    " nothing was stopped"
                )
            if reason is not None:
                reasons[task_id] = reason
        return reasons


def _part(task_id: str, claims: Sequence[LiveTask], seen: Workload) -> Pending:
    """Just these claims of a task. Where one that waits is to go, what runs at the same worker goes on."""
    held = seen.holdings(task_id)
    with_waiting = {holding.worker for holding in held if holding.state is not TaskState.RUNNING}
    return Pending(
        task_id=task_id,
        given=claims,
        workers=frozenset(place.worker for place in claims if place.worker is not None),
        spared=Counter(holding.worker for holding in running_of(held) if holding.worker in with_waiting),
    )


def _why_leave_claims(part: Pending, seen: Workload) -> str | None:
    """Why claims that wait must be left, where another place of the task is kept."""
    given = Counter(place.worker for place in part.given if place.state is not TaskState.RUNNING)
    for worker, number in given.items():
        claims = [holding for holding in part.holdings(seen) if holding.worker == worker]
        if worker is None or not seen.responds(worker):
            return f"{worker or 'a worker'} has not answered, and may have task {part.task_id}"
        if not claims:
            return no_longer_reported(part.task_id, [worker])
        if len(claims) > number:
            return f"{worker} also has the place of task {part.task_id} that is kept, and revokes both or none"
    return None


def _too_late(task: Pending, workload: Workload) -> str:
    holdings = task.holdings(workload)
    at = holdings[0].worker if holdings else None
    return too_late(task.task_id, signalled=task.signalled, at=at, patience=PATIENCE)
