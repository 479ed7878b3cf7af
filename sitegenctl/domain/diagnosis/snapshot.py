"""Everything seen at one moment; how broker and workers are joined is in ``liveness``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from sitegenctl.domain.diagnosis.condition import DEFAULT_GRACE, Diagnosis, Evidence, Source, diagnose
from sitegenctl.domain.diagnosis.liveness import StaleClaim
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask
from sitegenctl.domain.queue.worker import WorkerSurvey, describe_silence


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Orders, tasks, workers and files as they were at ``taken_at`` (UTC, aware).

    ``errors`` names each source that did not answer, with the reason: what depends on it is unknown. ``unattributed``
    are messages that may be of any order. ``possible`` has the orders whose last run may still be going although
    nothing of its task is left, and until when. ``stale`` are claims of tasks that have ended.
    ``authoritative`` is whether an order that was not found is missing: a standby may merely not have it yet.
    ``broker_time`` is when it was taken by the broker's clock, ``broker_uptime`` how long ago the broker started, and
    ``reconnecting`` how much longer workers may be on their way back to it.
    """

    taken_at: datetime
    orders: Mapping[int, Order] = field(default_factory=dict)
    tasks: Sequence[LiveTask] = ()
    foreign: Sequence[ForeignMessage] = ()
    workers: WorkerSurvey | None = None
    files: Mapping[int, SiteFiles] = field(default_factory=dict)
    errors: Mapping[Source, str] = field(default_factory=dict)
    grace: timedelta = DEFAULT_GRACE
    check_hollow: bool = False
    unattributed: Sequence[ForeignMessage] = ()
    possible: Mapping[int, datetime | None] = field(default_factory=dict)
    stale: Sequence[StaleClaim] = ()
    authoritative: bool = True
    broker_time: datetime | None = None
    broker_uptime: timedelta | None = None
    reconnecting: timedelta = timedelta(0)

    @property
    def unanswered(self) -> Mapping[Source, str]:
        """What is missing in it, by source: ``errors``, and workers that are alive and silent."""
        silence = describe_silence(self.workers) if self.workers else None
        return {**self.errors, Source.WORKERS: silence} if silence else self.errors

    def tasks_of(self, order_id: int) -> tuple[LiveTask, ...]:
        """The order's live tasks, the one that runs or would run next first."""
        return self._tasks_by_order.get(order_id, ())

    @cached_property
    def _tasks_by_order(self) -> Mapping[int | None, tuple[LiveTask, ...]]:
        by_order: dict[int | None, list[LiveTask]] = {}
        for task in self.tasks:
            by_order.setdefault(task.order_id, []).append(task)
        return {order_id: tuple(tasks) for order_id, tasks in by_order.items()}

    def known_ids(self) -> list[int]:
        """Every order that was read or has a live task, lowest first; a task may name one that is missing."""
        with_task = {task.order_id for task in self.tasks if task.order_id is not None}
        return sorted({*self.orders, *with_task})

    def diagnose(self, order_id: int) -> Diagnosis:
        """The verdict on one order, from everything in this snapshot."""
        if (known := self._verdicts.get(order_id)) is not None:
            return known
        verdict = diagnose(
            Evidence(
                order_id=order_id,
                order=self.orders.get(order_id),
                tasks=self.tasks_of(order_id),
                files=self.files.get(order_id),
                unavailable=frozenset(self.errors),
                grace=self.grace,
                check_hollow=self.check_hollow,
                taken_at=self.taken_at,
                unattributed=len(self.unattributed),
                may_be_running=order_id in self.possible,
                possible_until=self.possible.get(order_id),
                broker_time=self.broker_time,
                silent=self.workers.silent if self.workers is not None else 0,
                authoritative=self.authoritative,
            )
        )
        self._verdicts[order_id] = verdict
        return verdict

    @cached_property
    def _verdicts(self) -> dict[int, Diagnosis]:
        # Lists are sorted and counted by verdict, again and again.
        return {}
