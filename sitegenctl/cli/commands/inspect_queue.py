"""``inspect queue|workers|task``: what the broker and the workers tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli.options import Invocation, LiveState

if TYPE_CHECKING:
    from sitegenctl.render.output import Report


def queue(
    call: Invocation,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many tasks to show.")] = 50,
    watch: LiveState = None,
) -> int:
    """List the tasks in the order in which they will run."""
    from sitegenctl.cli.watch import show

    return show(call, lambda: _queue(call, limit), watch)


def workers(call: Invocation, watch: LiveState = None) -> int:
    """Show each living worker and what it does."""
    from sitegenctl.cli.watch import show

    return show(call, lambda: _workers(call), watch)


def task(
    call: Invocation,
    task_id: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.", show_default=False)],
) -> int:
    """Show one task: its message, its result, its order and who has it."""
    from sitegenctl.cli.watch import show

    return show(call, lambda: _task(call, task_id), None)


async def _queue(call: Invocation, limit: int) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.domain.diagnosis.queue_order import running_order
    from sitegenctl.operations.queue import inspect_queue
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import QUEUE_COLUMNS, queue_rows, queue_text
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        snapshot = await inspect_queue(session.orders, session.queue)
    everything = running_order(snapshot)
    items = everything[:limit]
    rows = queue_rows(items, snapshot)
    report = Report(
        command=call.command,
        data={"tasks": rows, "total": len(everything)},
        rows=rows,
        columns=QUEUE_COLUMNS,
        text=lambda: queue_text(items, snapshot, total=len(everything), screen=screen()),
    )
    return degraded(report, snapshot.unanswered, queue_terms(settings), selector=settings.selector)


async def _workers(call: Invocation) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.domain.queue.worker import describe_silence
    from sitegenctl.operations.queue import inspect_workers
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import WORKER_COLUMNS, worker_rows, workers_text
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        roster, stale = await inspect_workers(session.workers, lambda: session.queue, task_name=settings.task)
    rows = worker_rows(roster, stale)
    report = Report(
        command=call.command,
        data={"workers": rows, "silent": roster.silent},
        rows=rows,
        columns=WORKER_COLUMNS,
        text=lambda: workers_text(roster, now=datetime.now(UTC), queue=settings.queue, screen=screen(), stale=stale),
    )
    silence = describe_silence(roster)
    return degraded(
        report, {Source.WORKERS: silence} if silence else {}, queue_terms(settings), selector=settings.selector
    )


async def _task(call: Invocation, task_id: str) -> Report:
    from sitegenctl.cli.terminal import screen
    from sitegenctl.operations.queue import inspect_task
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import task_data, task_text
    from sitegenctl.render.sources import degraded
    from sitegenctl.session import open_session, queue_terms

    settings = call.settings()
    async with open_session(settings, call.command) as session:
        orders = session.orders if settings.database_url else None
        view = await inspect_task(orders, session.queue, task_id, hard_limit=settings.hard_time_limit)
    data = task_data(view.task)
    report = Report(
        command=call.command, data=data, rows=[data], text=lambda: task_text(view.task, view.order, screen())
    )
    return degraded(report, view.unanswered, queue_terms(settings), selector=settings.selector)
