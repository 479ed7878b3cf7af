"""Revoking tasks of a Celery queue, so that it is certain that they will not run.

What is removed is a place of a task: a list entry, a delivery, or a worker's claim. Of a task that is to be kept, only
the places given are removed; any other task is removed wherever it is, and revoked at every living worker.

A message removed from the queue's lists is at no worker: Redis hands it to one or the other. A delivered message is the
worker's to drop. It is judged by what the living workers reply after they have revoked the task:

- reserved, or held for its ETA: Celery checks its revokes once more before the task starts. Its entry in ``unacked``
  is removed, so that nothing restores it when the worker stops instead.
- running: its process is killed. Celery forgets the task as soon as it has sent the signal, so it must be a signal
  that cannot be caught. The process is gone when the pool no longer lists it. The late acknowledgement is sent before
  the process is found dead, so that ``reject_on_worker_lost`` does not requeue the task.
- in ``unacked`` and at no worker that responds: it is left, because a worker that does not respond may be running it.
  Only an orphaned delivery is removed, provided that it has not changed and no worker claims it.

Which process runs a task is Celery's own record, which may be stale: after a lost connection it lists ended tasks as
active (celery#8541). It is read once more right before a signal, and any doubt leaves the task alone.

Source: celery/worker/control.py, request.py and concurrency/asynpool.py, 5.3 and 5.7, and trials with both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.adapters.broker.restore import responds_again
from sitegenctl.adapters.broker.revocation import (
    MISSES_REQUIRED,
    RECHECK_DELAY,
    Pending,
    Revoker,
    Step,
    copy_is_gone,
    has_started,
    not_removable,
    timed_out,
    unaccounted,
    unresponsive_workers,
)
from sitegenctl.adapters.celery.messages import RawMessages, UnackedMessage
from sitegenctl.adapters.celery.workers import CeleryWorkers, Claim
from sitegenctl.adapters.celery.workload import QUESTIONS, Workload, running
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Ids in one request: newer workers read and store a result for each before they reply.
_REVOKED_AT_ONCE = 200

_SIGNAL = "SIGKILL"

_IN_LISTS = frozenset({TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING})


@dataclass(frozen=True)
class _Observed:
    """What is in ``unacked`` of the tasks asked for, and what the workers have."""

    entries: Mapping[str, Sequence[UnackedMessage]]
    workload: Workload


@dataclass(kw_only=True)
class _Pending(Pending):
    """A task to be removed everywhere, or, with ``workers``, only its claims at these.

    ``spared`` counts the runs at a worker that go on while other claims there are removed. ``is_dequeued``: its message
    was removed from the queue's lists. ``signalled`` has the process that was killed, by worker. ``unclaimed`` counts
    the readings that found a delivery which no worker claims.
    """

    workers: frozenset[str] | None = None
    spared: Mapping[str, int] = field(default_factory=dict)
    is_dequeued: bool = False
    signalled: dict[str, int | None] = field(default_factory=dict)
    revoked_at: set[str] = field(default_factory=set)
    unclaimed: int = 0

    def claims(self, workload: Workload) -> list[Claim]:
        """The claims to remove."""
        if self.workers is None:
            return list(workload.live_claims(self.task_id))
        claims: list[Claim] = []
        for worker in sorted(self.workers):
            at_worker = [claim for claim in workload.claims(self.task_id) if claim.worker == worker]
            claims += running(at_worker)[self.spared.get(worker, 0) :]
            claims += [claim for claim in at_worker if claim.state is not TaskState.RUNNING]
        return claims

    def entries(self, observed: _Observed) -> list[UnackedMessage]:
        """The known deliveries to remove."""
        entries = list(observed.entries.get(self.task_id, ()))
        if self.workers is None:
            return entries
        named = [place for place in self.places if place.delivery is not None]
        return [entry for entry in entries if any(entry.is_at(place) for place in named)]

    @property
    def orphans(self) -> list[LiveTask]:
        """The places that were known to be orphaned deliveries."""
        return [place for place in self.places if place.state is TaskState.ORPHANED]

    def orphaned(self, entries: Sequence[UnackedMessage]) -> list[UnackedMessage]:
        """The deliveries that were known to be orphaned, and have not changed since."""
        return [entry for entry in entries if any(entry.is_at(place) for place in self.orphans)]

    def count_unclaimed(self, observed: _Observed) -> int:
        """The number of deliveries that no worker claims and that are not orphaned."""
        if self.workers is not None:
            return 0  # the others belong to the place that is kept
        entries, claims = self.entries(observed), self.claims(observed.workload)
        stopped = self.signalled.keys() - {claim.worker for claim in claims}
        return len(entries) - len(self.orphaned(entries)) - len(claims) - len(stopped)

    def why_not_drop(self, workload: Workload, entries: Sequence[UnackedMessage]) -> str | None:
        """Why orphaned deliveries cannot be removed; ``entries`` are all deliveries of the task."""
        if not self.orphans:
            return None
        orphaned, claims = self.orphaned(entries), workload.live_claims(self.task_id)
        if not all(any(entry.is_at(place) for entry in orphaned) for place in self.orphans):
            return _delivery_changed(self.task_id)
        # A claim accounts for one delivery, and does not show which.
        if len(claims) > len(entries) - len(orphaned):
            return responds_again(self.task_id, (claims[0].worker, claims[0].state))
        return self.why_unclaimed(workload) if workload.unresponsive else None

    def why_not_run(self, workload: Workload, *, terminate: bool) -> str | None:
        """Why runs of this task, known before or observed now, keep it from being removed."""
        runs = running(self.claims(workload))
        known = [place for place in self.places if place.state is TaskState.RUNNING]
        if (runs or known) and not terminate:
            workers = [*(claim.worker for claim in runs), *(place.worker or "a worker" for place in known)]
            return has_started(self.task_id, dict.fromkeys(workers))
        for place in known:
            listed = [claim for claim in workload.claims(self.task_id) if place.worker in (None, claim.worker)]
            if not running(listed):
                how = f"lists it as {listed[0].state}" if listed else "does not report it"
                at = place.worker or "a worker"
                return f"task {self.task_id} runs at {at}, which {how}: it cannot be stopped safely"
            runs += running(listed)
        at_work = dict.fromkeys(claim.worker for claim in runs)
        reasons = (workload.why_not_stop(self.task_id, worker) for worker in at_work)
        return next((reason for reason in reasons if reason is not None), None)

    def why_unclaimed(self, workload: Workload) -> str:
        """Why a delivery that no worker claims is left."""
        if workload.unresponsive:
            return unresponsive_workers(workload.unresponsive, f"have task {self.task_id}")
        return unaccounted(self.task_id)

    def may_run_unlisted(self, workload: Workload) -> bool:
        """Whether a worker that had the task may be running it although the task is found nowhere.

        Not where that worker responds, does not list the task, and has revoked it.
        """
        return any(
            place.state is TaskState.RUNNING
            or (place.worker is not None and not (place.worker in self.revoked_at and workload.responds(place.worker)))
            for place in self.places
        )


class CeleryRevoker(Revoker[_Pending, _Observed]):
    """One call of ``QueueBackend.revoke``."""

    def __init__(self, messages: RawMessages, workers: CeleryWorkers, *, terminate: bool) -> None:
        super().__init__(terminate=terminate)
        self._messages = messages
        self._workers = workers

    async def _begin(self, whole: Mapping[str, list[LiveTask]], kept: Mapping[str, list[LiveTask]]) -> list[_Pending]:
        tasks: list[_Pending] = []
        to_keep: list[_Pending] = []
        for task_id, places in {**whole, **kept}.items():
            task = _Pending(task_id=task_id, places=[place for place in places if not_removable(place) is None])
            reason = next(filter(None, map(not_removable, places)), None)
            if reason is not None:
                self._left[task_id] = reason
            if task_id in kept and task.places:
                to_keep.append(task)
            elif task_id in whole and reason is None:
                tasks.append(task)
        observed = await self._observe([*tasks, *to_keep])
        parts = await self._begin_parts(to_keep, observed) if to_keep else []
        if tasks:
            if to_keep:
                # Removing places takes time, and a task that started meanwhile must not be revoked: it would be
                # dropped at its next retry.
                observed = await self._observe(tasks)
            await self._begin_whole(tasks, observed)
        return [*parts, *tasks]

    # --- tasks as a whole ---

    async def _begin_whole(self, tasks: Sequence[_Pending], observed: _Observed) -> None:
        """Remove messages from the queue's lists, and revoke at every worker what is not left."""
        observed = await self._decide(tasks, observed)
        tasks = _unsettled(tasks)
        copies = Counter(task.task_id for task in tasks for place in task.places if _is_in_list(place))
        removed = await self._messages.remove(await self._messages.find(copies))
        for task in tasks:
            task.is_dequeued = task.task_id in removed
        if len(removed) < len(copies):
            # The others were delivered meanwhile.
            observed = await self._decide(tasks, await self._observe(tasks))
        unresponsive = observed.workload.unresponsive
        for task in _unsettled(tasks):
            if unresponsive and not task.is_dequeued and not task.claims(observed.workload):
                self._leave(task, unresponsive_workers(unresponsive, f"have task {task.task_id}"))
        await self._revoke(_unsettled(tasks))

    async def _decide(self, tasks: Sequence[_Pending], observed: _Observed) -> _Observed:
        """Leave what must be left; returns the last observation.

        A delivery that no worker claims is read again: it may have been acknowledged between the two readings.
        """
        for is_last in (False, True):
            has_unclaimed = False
            for task in _unsettled(tasks):
                reason = task.why_not_run(observed.workload, terminate=self._terminate)
                reason = reason or task.why_not_drop(observed.workload, task.entries(observed))
                if reason is None and task.count_unclaimed(observed) > 0:
                    has_unclaimed = True
                    reason = task.why_unclaimed(observed.workload) if is_last else None
                if reason is not None:
                    self._leave(task, reason)
            if not has_unclaimed:
                break
            await asyncio.sleep(RECHECK_DELAY)
            observed = await self._observe(_unsettled(tasks))
        return observed

    # --- places of tasks that are kept ---

    async def _begin_parts(self, kept: Sequence[_Pending], observed: _Observed) -> list[_Pending]:
        """Remove list entries and orphans among the places; returns the claims to follow."""
        await self._remove_copies([task for task in kept if any(map(_is_in_list, task.places))], observed)
        parts: list[_Pending] = []
        workload = observed.workload
        for task in kept:
            await self._remove_orphans(task, observed)
            if any(place.state is TaskState.UNACKED and not _is_claimed(place) for place in task.places):
                self._leave(task, task.why_unclaimed(workload))
            claimed = [place for place in task.places if _is_claimed(place)]
            if not claimed:
                continue
            part = _part(task.task_id, claimed, workload)
            reason = part.why_not_run(workload, terminate=self._terminate) or _why_leave_claims(part, workload)
            if reason is None:
                parts.append(part)
            else:
                self._leave(part, reason)
        # Only at the workers where a claim that waits is to go.
        by_worker: dict[str, list[_Pending]] = {}
        for part in parts:
            for worker in {claim.worker for claim in part.claims(workload) if claim.state is not TaskState.RUNNING}:
                by_worker.setdefault(worker, []).append(part)
        for worker, tasks in by_worker.items():
            await self._revoke(tasks, [worker])
        return parts

    async def _remove_copies(self, tasks: Sequence[_Pending], observed: _Observed) -> None:
        """Remove as many list entries as were given, those furthest from delivery."""
        copies = await self._messages.find_copies({task.task_id for task in tasks})
        for task in tasks:
            places = task.places
            number, claimed = sum(map(_is_in_list, places)), sum(map(_is_claimed, places))
            deliveries = len(observed.entries.get(task.task_id, ()))
            is_also_delivered = deliveries > len(places) - number
            is_also_claimed = len(observed.workload.live_claims(task.task_id)) > claimed
            messages = copies.get(task.task_id, [])
            # Where nothing else of the task is visible, the entry that is next must stay.
            staying = max(len(messages) - number, 0 if is_also_delivered or is_also_claimed else 1)
            removed = await self._messages.remove_copies(messages[staying:], messages[:staying])
            if sum(removed) < number:
                self._leave(task, copy_is_gone(task.task_id))

    async def _remove_orphans(self, task: _Pending, observed: _Observed) -> None:
        entries = observed.entries.get(task.task_id, ())
        reason, orphaned = task.why_not_drop(observed.workload, entries), task.orphaned(entries)
        if reason is None and len(await self._messages.drop_unacked(orphaned)) < len(orphaned):
            reason = _delivery_changed(task.task_id)
        if reason is not None:
            self._leave(task, reason)

    # --- at the workers ---

    async def _observe(self, pending: Sequence[_Pending]) -> _Observed:
        # In this order: a worker that had a task when `unacked` was read reports it now.
        entries: dict[str, list[UnackedMessage]] = {}
        for delivery in await self._messages.find_unacked({task.task_id for task in pending}):
            entries.setdefault(delivery.task_id, []).append(delivery)
        return _Observed(entries, Workload.of(await self._workers.ask(QUESTIONS)))

    async def _revoke(self, tasks: Sequence[_Pending], destination: list[str] | None = None) -> None:
        """Revoke at every living worker, or at these, and note which workers did."""
        for start in range(0, len(tasks), _REVOKED_AT_ONCE):
            batch = tasks[start : start + _REVOKED_AT_ONCE]
            arguments = {"revoke": {"task_id": [task.task_id for task in batch]}}
            replies = await self._workers.ask(["revoke"], arguments=arguments, destination=destination)
            for task in batch:
                task.revoked_at.update(replies.answers)
            if replies.unknown:
                # Do not wait again for a worker that did not respond.
                destination = sorted(replies.answers)

    def _judge(self, task: _Pending, observed: _Observed) -> Step | str:
        task_id, workload = task.task_id, observed.workload
        claims, entries = task.claims(workload), task.entries(observed)
        runs = running(claims)
        if runs and not self._terminate:
            return has_started(task_id, [claim.worker for claim in runs])
        if (reason := task.why_not_drop(workload, entries)) is not None:
            return reason
        if runs:
            return Step.STOP if any(claim.worker not in task.signalled for claim in runs) else Step.WAIT
        if any(workload.has_process(worker, pid) for worker, pid in task.signalled.items()):
            return Step.WAIT
        if any(not workload.will_check_revokes(claim) for claim in claims):
            return Step.WAIT
        if any(claim.worker not in task.revoked_at for claim in claims):
            return f"task {task_id} is at {claims[0].worker}, which did not confirm that it revoked the task"
        if task.count_unclaimed(observed) > 0:
            task.unclaimed += 1
            is_certain = workload.unresponsive or task.unclaimed >= MISSES_REQUIRED
            return task.why_unclaimed(workload) if is_certain else Step.RECHECK
        if entries:
            return Step.DROP
        if claims or task.is_dequeued or task.signalled:
            return Step.DONE
        if task.workers is not None and not task.may_run_unlisted(workload):
            return Step.DONE
        if workload.unresponsive:
            return unresponsive_workers(workload.unresponsive, f"have task {task_id}")
        return Step.SEARCH

    async def _drop(self, tasks: Sequence[_Pending], observed: _Observed) -> Iterable[_Pending]:
        removed = await self._messages.drop_unacked([entry for task in tasks for entry in task.entries(observed)])
        return [task for task in tasks if all(entry.tag in removed for entry in task.entries(observed))]

    async def _search(self, tasks: Sequence[_Pending], observed: _Observed) -> Iterable[_Pending]:
        """Remove those that came back to the queue's lists; returns those not found a second time."""
        removed = await self._messages.remove(
            await self._messages.find({task.task_id for task in tasks if task.workers is None})
        )
        for task in tasks:
            task.is_dequeued = task.task_id in removed
            task.misses += not task.is_dequeued
        missing = [task for task in tasks if task.misses >= MISSES_REQUIRED]
        doubtful = [task for task in missing if task.may_run_unlisted(observed.workload)]
        ended = await self._messages.final_states([task.task_id for task in doubtful])
        for task in doubtful:
            if task.task_id not in ended:
                workers = [place.worker for place in task.places if place.worker is not None]
                self._leave(task, _no_longer_reported(task.task_id, workers))
        return _unsettled(missing)

    async def _stop(self, tasks: Sequence[_Pending], observed: _Observed) -> bool:
        """Kill the processes that certainly run these tasks."""
        by_worker: dict[str, list[tuple[_Pending, Claim]]] = {}
        for task in tasks:
            for claim in running(task.claims(observed.workload)):
                if claim.worker not in task.signalled:
                    by_worker.setdefault(claim.worker, []).append((task, claim))
        for worker, runs in by_worker.items():
            await self._why_not_stop(worker, [(task, claim) for task, claim in runs if not task.is_settled])
            stopping = [(task, claim) for task, claim in runs if not task.is_settled]
            if not stopping:
                continue
            for task, claim in stopping:
                task.signalled[worker] = claim.pid
            arguments = {"task_id": [task.task_id for task, _ in stopping], "terminate": True, "signal": _SIGNAL}
            replies = await self._workers.ask(["revoke"], arguments={"revoke": arguments}, destination=[worker])
            for task, _ in stopping:
                if worker in replies.rejected:
                    self._leave(task, f"{worker} cannot stop task {task.task_id}: {replies.rejected[worker]}")
        return bool(tasks)

    async def _why_not_stop(self, worker: str, runs: Sequence[tuple[_Pending, Claim]]) -> None:
        """Leave the tasks for which no signal may be sent, by what the worker replies right now."""
        finished = await self._messages.final_states([task.task_id for task, _ in runs])
        with_message: set[str] = set()
        if finished:
            with_message |= {message.task_id for message in await self._messages.find(set(finished))}
            with_message |= {delivery.task_id for delivery in await self._messages.find_unacked(finished)}
        # The last thing before the signal.
        now = Workload.of(await self._workers.ask(QUESTIONS, destination=[worker]))
        for task, claim in runs:
            task_id = task.task_id
            pids = {each.pid for each in now.claims(task_id) if each.worker == worker}
            known = {claim.pid, *(place.pid for place in task.places if place.worker == worker and place.pid)}
            reason = now.why_not_stop(task_id, worker)
            if reason is None and pids != known:
                reason = f"worker {worker} now runs task {task_id} at another process: nothing was stopped"
            if reason is None and task_id in finished and task_id not in with_message:
                reason = (
                    f"worker {worker} reports task {task_id}, which has the result {finished[task_id]} and no message:"
                    " nothing was stopped"
                )
            if reason is not None:
                self._leave(task, reason)

    def _timed_out(self, task: _Pending, observed: _Observed) -> str:
        claims = task.claims(observed.workload)
        return timed_out(task.task_id, signalled=task.signalled, worker=claims[0].worker if claims else None)


def _unsettled(tasks: Iterable[_Pending]) -> list[_Pending]:
    return [task for task in tasks if not task.is_settled]


def _is_in_list(place: LiveTask) -> bool:
    """Whether the place is a list entry; one that was read for a few orders has no position."""
    if place.position is not None:
        return True
    return place.worker is None and place.delivery is None and place.state in _IN_LISTS


def _is_claimed(place: LiveTask) -> bool:
    return place.worker is not None or place.state is TaskState.RUNNING


def _part(task_id: str, places: Sequence[LiveTask], workload: Workload) -> _Pending:
    """Only these claims of a task. Where one that waits is to go, what runs at the same worker goes on."""
    claims = workload.claims(task_id)
    with_waiting = {claim.worker for claim in claims if claim.state is not TaskState.RUNNING}
    return _Pending(
        task_id=task_id,
        places=places,
        workers=frozenset(place.worker for place in places if place.worker is not None),
        spared=Counter(claim.worker for claim in running(claims) if claim.worker in with_waiting),
    )


def _why_leave_claims(part: _Pending, workload: Workload) -> str | None:
    """Why claims that wait must be left, where another place of the task is kept."""
    given = Counter(place.worker for place in part.places if place.state is not TaskState.RUNNING)
    for worker, number in given.items():
        claims = [claim for claim in part.claims(workload) if claim.worker == worker]
        if worker is None or not workload.responds(worker):
            return f"{worker or 'a worker'} did not respond and may have task {part.task_id}"
        if not claims:
            return _no_longer_reported(part.task_id, [worker])
        if len(claims) > number:
            return f"{worker} also has the place of task {part.task_id} that is kept, and revokes both or none"
    return None


def _delivery_changed(task_id: str) -> str:
    return f"task {task_id} is no longer delivered as it was: it was acknowledged, requeued or delivered again"


def _no_longer_reported(task_id: str, workers: Sequence[str]) -> str:
    return f"{', '.join(workers) or 'its worker'} no longer reports task {task_id} and may be running it: try again"
