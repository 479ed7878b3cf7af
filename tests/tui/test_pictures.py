"""Screenshots of all views at three sizes, with fixed data and time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Condition, Source
from sitegenctl.domain.diagnosis.listing import ListedOrder, OrderPage, OrderQuery
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.diagnosis.timeline import timeline
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.domain.orders.operation import JournalRow, operations_of
from sitegenctl.domain.orders.order import LogRow, Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.site import SiteEntry, SiteFiles, SiteTree
from sitegenctl.domain.plans.fix import plan_fix
from sitegenctl.domain.queue.event import Event
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey
from sitegenctl.domain.statistics.activity import ActivityOutcome, OperationActivity, Past, RunActivity
from sitegenctl.domain.statistics.log_window import LogWindow
from sitegenctl.domain.statistics.throughput import Bar
from sitegenctl.operations.live_state import LiveSnapshot, OrderDetail
from sitegenctl.session import Session
from sitegenctl.tui.app import LiveApp
from sitegenctl.tui.preferences import Preferences
from sitegenctl.tui.service import EventsReceived, LiveService, SnapshotReady, ViewData
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.views.doctor import DoctorView
from sitegenctl.tui.views.history import HistoryView
from tests.support.live_view import eventually

T = TypeVar("T")

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AT = NOW.replace(tzinfo=None)
GENERATING = OrderStatus.GENERATING
LOG = [
    *(("OPERATOR_ENQUEUE", "info", "enqueued by ana", 9), ("START", "info", "Starting site generation", 8)),
    *(("PHASE_1_COMPLETE", "success", "Briefing saved", 7), ("ERROR", "error", "AI provider answered 429", 6)),
]
SIZES = [(80, 24), (120, 40), (200, 60)]


class Still(LiveService):
    """Polls nothing: the test sends the data."""

    def start(self) -> None:
        """Start no thread."""

    async def ask(self, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
        """Answer the views of doctor and history."""
        return cast("T", CHECKS if "checks" in work.__name__ else PAST)


def check(name: str, svg: str, left_at: Path) -> None:
    """Compare a screenshot with the stored one; one that differs is kept in ``left_at``."""
    drawn, stored = normalised(svg), Path(__file__).with_name("pictures") / f"{name}.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        stored.write_text(drawn, encoding="utf-8")
        return
    known = stored.read_text(encoding="utf-8") if stored.exists() else ""
    if drawn != known:
        different = left_at / f"{name}.svg"
        different.write_text(drawn, encoding="utf-8")
        raise AssertionError(f"{different} differs from {stored}; UPDATE_SNAPSHOTS=1 stores it")


def normalised(svg: str) -> str:
    """The screenshot without random ids and remote fonts."""
    svg = re.sub(r"terminal-\d+-", "terminal-", svg)
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def order(order_id: int, name: str, status: OrderStatus, idle: timedelta, *steps: str) -> Order:
    return Order(
        order_id=order_id,
        status=status,
        customer_name=name.split()[0],
        customer_email=f"{order_id}@example.com",
        business_name=name,
        onboarding=Onboarding.COMPLETE,
        idle=idle,
        history=read_history(steps),
        last_error="AI provider answered 429: rate limit exceeded" if "ERROR" in steps else None,
    )


ORDERS = [
    order(48, "Delacroix Electric", GENERATING, 52 * MINUTE, "START", "ERROR"),
    order(36, "Padaria São João", OrderStatus.BUILDING, 3 * 60 * MINUTE),
    order(31, "日本のパン屋", GENERATING, 4 * MINUTE, "START", "TEMPLATE_COPIED"),
    order(29, "Quarry & Sons Plumbing", GENERATING, 2 * MINUTE),
    order(12, "Baker Street Dental", OrderStatus.REVIEW, 26 * 60 * MINUTE, "START", "SUCCESS"),
]
RUNNING = LiveTask(
    task_id="11111111-2222-3333-4444-555555555555",
    name="generate",
    order_id=31,
    state=TaskState.RUNNING,
    worker="celery@crm",
    enqueued_at=NOW - 5 * MINUTE,
)
WAITING = LiveTask(
    task_id="66666666-7777-8888-9999-000000000000",
    name="generate",
    order_id=29,
    state=TaskState.QUEUED,
    position=0,
    enqueued_at=NOW - 2 * MINUTE,
)
ROSTER = WorkerRoster(
    workers=(
        WorkerDetails(
            name="celery@crm",
            pid=10,
            concurrency=2,
            queues=("site_generation",),
            processed=1284,
            uptime=timedelta(days=3),
            processes=(11, 12),
            memory={10: 61_000_000, 11: 184_000_000, 12: 97_000_000},
            active=(replace(RUNNING, started_at=NOW - 4 * MINUTE, pid=11),),
        ),
    )
)
SNAPSHOT = Snapshot(
    taken_at=NOW,
    orders={each.order_id: each for each in ORDERS},
    tasks=(RUNNING, WAITING),
    workers=WorkerSurvey(workers=(Worker(name="celery@crm", tasks=(RUNNING,)),)),
)
PICTURE = LiveSnapshot(
    snapshot=SNAPSHOT,
    latency={Source.DATABASE: 0.012, Source.BROKER: 0.003, Source.WORKERS: 0.006, Source.FILES: 0.001},
    by_status={OrderStatus.REVIEW: 1, OrderStatus.BUILDING: 1, GENERATING: 3},
    by_condition={
        **dict.fromkeys((Condition.FAILED, Condition.UNSTARTED, Condition.RUNNING, Condition.QUEUED), 1),
        Condition.DONE: 1,
    },
    bars=[
        Bar(depth=n % 9, succeeded=n % 4, failed=n % 13 == 5, observed=n > 30)  # some of everything
        for n in range(60)
    ],
    last_hour=RunCounts(succeeded=41, failed=3, skipped=0),
    roster=ROSTER,
)
EVENTS = [
    Event(type=kind, fields={}, at=NOW - timedelta(seconds=age), order_id=31, worker="celery@crm", runtime=runtime)
    for kind, age, runtime in (("task-received", 9, None), ("task-started", 8, None), ("task-succeeded", 2, 6.1))
]
CHECKS = CheckUp(
    checks=(
        Check(name="redis", source=Source.BROKER, status=CheckStatus.OK, evidence=("answers in 0.2 ms",)),
        Check(
            name="redis persistence",
            source=Source.BROKER,
            status=CheckStatus.WARNING,
            evidence=("neither append-only file nor snapshots",),
            remedy="redis-cli CONFIG SET appendonly yes",
        ),
        Check(
            name="worker",
            source=Source.WORKERS,
            status=CheckStatus.FAILED,
            evidence=("no worker is alive on this broker",),
            remedy="docker start crm-celery-worker",
        ),
    )
)
PAST = Past(
    window=LogWindow(since=AT - 12 * 60 * MINUTE, until=AT, read_at=AT, first_id=1, last_id=9),
    activity=[
        *(
            RunActivity(
                log_id=number,
                began_id=number,
                at=AT - age * MINUTE,
                order_id=order_id,
                customer=name,
                outcome=outcome,
                seconds=seconds,
                reason="AI provider answered 429" if outcome is ActivityOutcome.FAILED else None,
            )
            for number, (age, order_id, name, outcome, seconds) in enumerate(
                [
                    (900, 12, "Baker Street Dental", ActivityOutcome.GENERATED, 41.0),
                    (6, 48, "Delacroix Electric", ActivityOutcome.FAILED, 120.0),
                    (4, 31, "日本のパン屋", ActivityOutcome.UNFINISHED, None),
                ]
            )
        ),
        OperationActivity(
            operation=operations_of(
                JournalRow(
                    log_id=5,
                    order_id=order_id,
                    step=f"OPERATOR_RESET{rollback}",
                    message="Reset; 8 files to the trash; by ana@crm",
                    operation="1v3k8q2-x7m",
                    actor="ana",
                    host="crm",
                    command="reset",
                    before="REVIEW",
                    after="GENERATING",
                    at=AT - MINUTE,
                )
                for order_id, rollback in ((12, ""), (48, ""), (48, "_FAILED"))
            )[0]
        ),
    ],
)


def page() -> OrderPage:
    rows = [
        ListedOrder(order_id=each.order_id, order=each, verdict=SNAPSHOT.diagnose(each.order_id)) for each in ORDERS
    ]
    return OrderPage(orders=rows, total=len(rows))


def detail() -> OrderDetail:
    log = [
        LogRow(
            log_id=number,
            order_id=48,
            step=step,
            status=status,
            message=message,
            created_at=(NOW - age * MINUTE).replace(tzinfo=None),
            age=age * MINUTE,
        )
        for number, (step, status, message, age) in enumerate(LOG, 1)
    ]
    return OrderDetail(
        order_id=48,
        read_at=NOW,
        order=ORDERS[0],
        verdict=SNAPSHOT.diagnose(48),
        tasks=(),
        story=timeline(log, [], now=NOW),
        files=SiteFiles(count=2, size=4096),
        tree=SiteTree(entries=[SiteEntry(path="assets/site.css", size=3000), SiteEntry(path="index.html", size=1096)]),
        fix=plan_fix(SNAPSHOT, [48], new_task_id=lambda: "new").steps[0],
    )


def data() -> ViewData:
    return ViewData(live=PICTURE, query=OrderQuery(limit=500), page=page(), detail=detail())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_screenshots_of_the_views(size: tuple[int, int], tmp_path: Path) -> None:
    app = LiveApp(Settings(context="prod-crm", queue="site_generation"), Preferences(), now=lambda: NOW, service=Still)
    async with app.run_test(size=size) as pilot:
        app.post_message(SnapshotReady(data()))
        app.post_message(EventsReceived([*EVENTS]))
        await eventually(lambda: app.orders.table.rows)
        # Again: details are shown for the order under the cursor only.
        app.post_message(SnapshotReady(data()))
        await eventually(lambda: app.orders.pane.detail)
        for key, view in enumerate((view.NAME for view in VIEWS), 1):
            await pilot.press(str(key))
            if view == "doctor":
                await eventually(lambda: app.query_one(DoctorView).table.rows)
            if view == "history":
                await eventually(lambda: app.query_one(HistoryView).table.rows)
            await pilot.pause()
            check(f"{key}-{view}-{size[0]}x{size[1]}", app.export_screenshot(title="sitegenctl"), tmp_path)


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (120, " PROD-BRAZIL-SOUTH-CRM   ● database 12ms ● redis 3ms ● workers 6ms ● files 1ms READ-ONLY  0s"),
        (80, " PROD-BRAZIL-SOUTH-CRM   ● db ● redis ● work ● files READ-ONLY  0s"),
        (60, " PROD-BRAZIL-SOUTH-CRM  ● d ● r ● w ● f READ-ONLY  0s"),
        (40, " PROD-BRAZIL-…  ● d ● r ● w ● f  RO  0s"),
    ],
)
async def test_header_fits_any_width(width: int, header: str) -> None:
    """Sources, read-only mark and age are never cut off."""
    settings = Settings(context="prod-brazil-south-crm", queue="site_generation", read_only=True)
    app = LiveApp(settings, Preferences(), now=lambda: NOW, service=Still)
    async with app.run_test(size=(width, 20)) as pilot:
        app.post_message(SnapshotReady(data()))
        await eventually(lambda: app.orders.table.rows)
        await pilot.pause()
        line = app.screen._compositor.render_strips(app.size)[0].text
        assert len(line) == width
        assert re.sub(" {2,}(?=READ)", " ", line).rstrip() == header
