"""The places of a task that are to be removed, compared with what broker and workers have of it now. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sitegenctl.adapters.broker.revocation import (
    answers_again,
    delivery_changed,
    has_started,
    not_answered,
    unaccounted,
)
from sitegenctl.adapters.celery.messages import UnackedMessage
from sitegenctl.adapters.celery.workload import Holding, Workload
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: The entries of ``unacked``, by task id.
Entries = Mapping[str, Sequence[UnackedMessage]]

_IN_LISTS = frozenset({TaskState.QUEUED, TaskState.SCHEDULED, TaskState.RETRYING})


def is_in_list(place: LiveTask) -> bool:
    """Whether the place is a list entry; one that was read for a few orders has no position."""
    if place.position is not None:
        return True
    return place.worker is None and place.delivery is None and place.state in _IN_LISTS


def is_claimed(place: LiveTask) -> bool:
    """Whether the place is a worker's claim."""
    return place.worker is not None or place.state is TaskState.RUNNING


def running_of(holdings: Sequence[Holding]) -> list[Holding]:
    """Those that run."""
    return [holding for holding in holdings if holding.state is TaskState.RUNNING]


@dataclass(kw_only=True)
class Pending:
    """A task on its way out as a whole, or with ``workers`` just its claims at these.

    ``given`` are the places to be removed. ``spared`` counts the runs at a worker that go on while other claims there
    are removed. ``taken``: its message was removed from the queue's lists. ``signalled`` has the process that runs it,
    by the worker that was asked to kill it, and ``revoked_at`` the workers that revoked it. ``nowhere`` counts the
    readings that found nothing of it, ``unclaimed`` those that found a delivery which no worker claims.
    """

    task_id: str
    given: Sequence[LiveTask]
    workers: frozenset[str] | None = None
    spared: Mapping[str, int] = field(default_factory=dict)
    taken: bool = False
    signalled: dict[str, int | None] = field(default_factory=dict)
    revoked_at: set[str] = field(default_factory=set)
    nowhere: int = 0
    unclaimed: int = 0

    def holdings(self, workload: Workload) -> list[Holding]:
        """The claims to remove."""
        if self.workers is None:
            return list(workload.live_holdings(self.task_id))
        found: list[Holding] = []
        for worker in sorted(self.workers):
            at_it = [holding for holding in workload.holdings(self.task_id) if holding.worker == worker]
            found += running_of(at_it)[self.spared.get(worker, 0) :]
            found += [holding for holding in at_it if holding.state is not TaskState.RUNNING]
        return found

    def entries(self, entries: Entries) -> list[UnackedMessage]:
        """The known deliveries to remove."""
        found = list(entries.get(self.task_id, ()))
        if self.workers is None:
            return found
        named = [place for place in self.given if place.delivery is not None]
        return [entry for entry in found if any(entry.is_at(place) for place in named)]

    def orphaned(self, entries: Sequence[UnackedMessage]) -> list[UnackedMessage]:
        """The deliveries that were found to be orphaned, and have not changed since."""
        return [entry for entry in entries if any(entry.is_at(place) for place in self._orphans)]

    def count_unclaimed(self, workload: Workload, entries: Sequence[UnackedMessage]) -> int:
        """The number of deliveries that no worker claims and that are not orphaned."""
        if self.workers is not None:
            return 0  # the others are of the place that is kept
        holdings = self.holdings(workload)
        stopped = self.signalled.keys() - {holding.worker for holding in holdings}
        return len(entries) - len(self.orphaned(entries)) - len(holdings) - len(stopped)

    def why_not_forget(self, workload: Workload, entries: Sequence[UnackedMessage]) -> str | None:
        """Why the deliveries that were found to be orphaned can't be removed; ``entries`` are all of the task."""
        if not self._orphans:
            return None
        orphaned, holdings = self.orphaned(entries), workload.live_holdings(self.task_id)
        if not all(any(entry.is_at(place) for entry in orphaned) for place in self._orphans):
            return delivery_changed(self.task_id)
        # A claim accounts for one delivery, and does not show which.
        if len(holdings) > len(entries) - len(orphaned):
            return answers_again(self.task_id, holdings[0].state, holdings[0].worker)
        return self.why_unclaimed(workload) if workload.silent else None

    def why_not_run(self, workload: Workload, *, terminate: bool) -> str | None:
        """Why runs of this task, known or found now, keep it from being removed."""
        running = running_of(self.holdings(workload))
        known = [place for place in self.given if place.state is TaskState.RUNNING]
        if (running or known) and not terminate:
            workers = [*(holding.worker for holding in running), *(place.worker or "a worker" for place in known)]
            return has_started(self.task_id, dict.fromkeys(workers))
        for place in known:
            listed = [each for each in workload.holdings(self.task_id) if place.worker in (None, each.worker)]
            if not running_of(listed):
                how = f"lists it as {listed[0].state}" if listed else "does not report it"
                at = place.worker or "a worker"
                return f"task {self.task_id} runs at {at}, which {how}: it cannot be stopped safely"
            running += running_of(listed)
        at_work = dict.fromkeys(holding.worker for holding in running)
        reasons = (workload.why_not_stop(self.task_id, worker) for worker in at_work)
        return next((reason for reason in reasons if reason is not None), None)

    def why_unclaimed(self, workload: Workload) -> str:
        """Why a delivery that no worker claims is left."""
        if workload.silent:
            return not_answered(workload.silent, f"have task {self.task_id}")
        return unaccounted(self.task_id)

    def may_run_unlisted(self, workload: Workload) -> bool:
        """Whether a task that is found nowhere may still be running at a worker that had it.

        Not where that worker responds, does not list it, and has revoked it.
        """
        return any(
            place.state is TaskState.RUNNING
            or (place.worker is not None and not (place.worker in self.revoked_at and workload.responds(place.worker)))
            for place in self.given
        )

    @property
    def _orphans(self) -> list[LiveTask]:
        return [place for place in self.given if place.state is TaskState.ORPHANED]
