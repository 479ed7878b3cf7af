"""``inspect queue|workers|task``: the queue, its workers, and one task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli.options import Invocation, WatchInterval, number

if TYPE_CHECKING:
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.render.output import Report
    from sitegenctl.session import Session


def queue(
    call: Invocation,
    limit: Annotated[int, number("--limit", min=1, help="Show at most N tasks.", show_default=True)] = 50,
    watch: WatchInterval = None,
) -> int:
    """List queued tasks in the order of delivery."""
    call.is_service = watch is not None
    from sitegenctl.cli.terminal import screen
    from sitegenctl.cli.watch import show
    from sitegenctl.domain.diagnosis.snapshot import running_order
    from sitegenctl.operations.inspect import inspect_queue
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import QUEUE_COLUMNS, queue_rows, queue_text

    async def read(session: Session) -> tuple[Report, Mapping[Source, str]]:
        snapshot = await inspect_queue(session)
        tasks = running_order(snapshot)
        rows = queue_rows(tasks[:limit], snapshot)
        report = Report(
            command=call.command,
            data={"tasks": rows, "total": len(tasks)},
            rows=rows,
            columns=QUEUE_COLUMNS,
            text=lambda: queue_text(tasks[:limit], snapshot, total=len(tasks), screen=screen()),
        )
        return report, snapshot.unanswered

    return show(call, read, watch)


def workers(call: Invocation, watch: WatchInterval = None) -> int:
    """Show each live worker and its tasks."""
    call.is_service = watch is not None
    from sitegenctl.cli.terminal import screen
    from sitegenctl.cli.watch import show
    from sitegenctl.domain.diagnosis.condition import Source
    from sitegenctl.domain.queue.worker import describe_silence
    from sitegenctl.operations.inspect import inspect_workers
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import WORKER_COLUMNS, worker_rows, workers_text

    async def read(session: Session) -> tuple[Report, Mapping[Source, str]]:
        settings = session.settings
        roster, stale = await inspect_workers(session)
        rows = worker_rows(roster, stale)

        def text() -> str:
            return workers_text(roster, now=datetime.now(UTC), queue=settings.queue, screen=screen(), stale=stale)

        data = {"workers": rows, "silent": roster.silent}
        report = Report(command=call.command, data=data, rows=rows, columns=WORKER_COLUMNS, text=text)
        silence = describe_silence(roster)
        return report, {Source.WORKERS: silence} if silence else {}

    return show(call, read, watch)


def task(
    call: Invocation, task_id: Annotated[str, typer.Argument(metavar="TASK", help="Task id.", show_default=False)]
) -> int:
    """Show one task: its message, result, order and worker."""
    from sitegenctl.cli.terminal import screen
    from sitegenctl.cli.watch import show
    from sitegenctl.operations.inspect import inspect_task
    from sitegenctl.render.output import Report
    from sitegenctl.render.queue import task_data, task_text

    async def read(session: Session) -> tuple[Report, Mapping[Source, str]]:
        settings = session.settings
        orders = session.orders if settings.database_url else None
        view = await inspect_task(orders, session.queue, task_id, hard_limit=settings.hard_time_limit)
        data = task_data(view.task)
        report = Report(
            command=call.command, data=data, rows=[data], text=lambda: task_text(view.task, view.order, screen())
        )
        return report, view.unanswered

    return show(call, read)
