"""Values of metrics for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.overview import Depth, Overview
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.run_reader import RunRow, RunStream
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.statistics.metrics import Measurement, RunTotals
from tests.support.log_rows import T0


def counted(rows: list[RunRow], since: datetime = T0) -> RunTotals:
    stream, totals = RunStream(), RunTotals(since)
    for row in rows:
        if (run := stream.feed(row)) is not None:
            totals.add(run)
    for run in stream.close():
        totals.add(run)
    return totals


def measured(*, unanswered: dict[Source, str] | None = None, totals: RunTotals | None = None) -> Measurement:
    away = unanswered or {}
    snapshot = Snapshot(
        taken_at=datetime(2026, 3, 1, tzinfo=UTC),
        orders={},
        tasks=(),
        workers=None,
        files={},
        errors=away,
        grace=timedelta(minutes=2),
    )
    has_broker, has_database = Source.BROKER not in away, Source.DATABASE not in away
    seen = Overview(
        snapshot=snapshot,
        depth={TaskState.QUEUED: Depth(count=2, oldest=None)} if has_broker else None,
        foreign=0 if has_broker else None,
        roster=None,
        by_status={None: 1, 'od"d\n\\': 2} if has_database else None,
        by_condition={Condition.FAILED: [1, 2]} if has_database else None,
        last_hour=None,
        last_day=None,
        unanswered=away,
    )
    took = {source: 0.01 for source in Source if source not in away}
    return Measurement(overview=seen, totals=totals, unanswered=away, took=took, seconds=0.1)
