"""One order, as JSON and as a screen."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sitegenctl.domain.condition import Diagnosis, Source, describe_age, describe_files
from sitegenctl.domain.order import LogRow, Order
from sitegenctl.domain.site import SiteFiles
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.domain.task import LiveTask
from sitegenctl.domain.timeline import EntryKind, TimelineEntry
from sitegenctl.render.log import MARKS
from sitegenctl.render.stream import NARROW, fit
from sitegenctl.render.table import Screen, coloured
from sitegenctl.render.text import clock, folded, iso, neutralise, shorten


def order_summary(
    order_id: int,
    order: Order | None,
    verdict: Diagnosis,
    tasks: Sequence[LiveTask] | None,
    files: SiteFiles | None,
) -> dict[str, Any]:
    """The order as the envelope has it, in lists too. Texts are exact: nothing is neutralised.

    ``tasks`` is null where the broker did not answer, ``files`` where they were not counted to the end.
    """
    return {
        "order_id": order_id,
        "status": order.status if order else None,
        "condition": verdict.condition,
        "severity": verdict.severity,
        "evidence": list(verdict.evidence),
        "remedy": verdict.remedy,
        "tasks": None if tasks is None else [task_data(task) for task in tasks],
        "files": {"count": files.count, "bytes": files.size} if files and files.complete else None,
        "customer_name": order.customer_name if order else None,
        "customer_email": order.customer_email if order else None,
        "business_name": order.business_name if order else None,
        "onboarding": order.onboarding if order else None,
        "attempts": order.history.attempts if order else None,
        "site_url": order.site_url if order else None,
        "admin_notes": order.admin_notes if order else None,
        "created_at": iso(order.created_at) if order else None,
        "updated_at": iso(order.updated_at) if order else None,
        "onboarding_completed_at": iso(order.onboarding_completed_at) if order else None,
    }


def in_context(remedy: str | None, context: str | None) -> str | None:
    """The command that mends it, with the context it is about: copied without, it would act on another system."""
    if remedy is None or context is None:
        return remedy
    return re.sub(r"^sitegenctl ", f"sitegenctl --context {shlex.quote(context)} ", remedy)


def order_data(
    order_id: int,
    snapshot: Snapshot,
    log: Sequence[LogRow] = (),
    timeline: Sequence[TimelineEntry] = (),
    *,
    context: str | None = None,
) -> dict[str, Any]:
    """Everything about one order as the envelope has it: its summary and the newest rows of its log."""
    summary = order_summary(
        order_id,
        snapshot.orders.get(order_id),
        snapshot.diagnose(order_id),
        known_tasks(order_id, snapshot),
        snapshot.files.get(order_id),
    )
    rows = [{"at": iso(row.created_at), "step": row.step, "status": row.status, "message": row.message} for row in log]
    story = [
        {"at": iso(entry.at), "kind": entry.kind, "step": entry.step, "status": entry.status, "message": entry.message}
        for entry in timeline
    ]
    return {**summary, "remedy": in_context(summary["remedy"], context), "log": rows, "timeline": story}


def known_tasks(order_id: int, snapshot: Snapshot) -> Sequence[LiveTask] | None:
    """The order's live tasks; None, not none, where the broker did not answer."""
    return None if Source.BROKER in snapshot.errors else snapshot.tasks_of(order_id)


def task_data(task: LiveTask) -> dict[str, Any]:
    """A task as the envelope has it."""
    return {
        "task_id": task.task_id,
        "state": task.state,
        "worker": task.worker,
        "attempt": task.attempt,
        "enqueued_at": iso(task.enqueued_at),
        "eta": iso(task.eta),
    }


def order_text(
    order_id: int, snapshot: Snapshot, timeline: Sequence[TimelineEntry], *, screen: Screen, context: str | None = None
) -> str:
    """The order on one screen; the first line says how it stands."""
    order = snapshot.orders.get(order_id)
    verdict = snapshot.diagnose(order_id)
    files = snapshot.files.get(order_id)
    first = folded(f"order {order_id}  {verdict.condition.upper()}{_who(order)}", screen.width)
    lines: list[str] = []
    lines += [f"  {neutralise(reason)}" for reason in verdict.evidence]
    lines += _remedy(verdict, context)
    lines.append("")
    if order is not None:
        lines += _facts(order)
    lines.append(f"  files       {_files(files)}")
    tasks = snapshot.tasks_of(order_id)
    known = Source.BROKER not in snapshot.errors
    lines.append(f"  tasks       {len(tasks) or 'none' if known else 'unknown: the broker could not be read'}")
    lines += [f"    {_task(task)}" for task in tasks]
    lines = [folded_line for line in lines for folded_line in folded(line, screen.width)]
    lines = [*(coloured(line, verdict.severity, screen) for line in first), *lines]
    if timeline:
        lines += ["", "timeline, UTC"]
        lines += [_timeline_line(entry, snapshot.taken_at, screen) for entry in timeline]
    return "\n".join(lines) + "\n"


def _timeline_line(entry: TimelineEntry, now: datetime, screen: Screen) -> str:
    mark = MARKS.get(entry.status, "·" if entry.kind is EntryKind.TASK else " ")
    time = "--:--:--"
    if entry.at is not None:
        time = f"{entry.at:%H:%M:%S}" if entry.at.date() == now.date() else f"{entry.at:%Y-%m-%d %H:%M:%S}"
    step = neutralise(entry.step)
    step = f"{step:<20}" if screen.width >= NARROW else step
    return fit(f"  {time} {mark} {step} {neutralise(entry.message)}", screen.width).rstrip()


def _who(order: Order | None) -> str:
    if order is None:
        return ""
    name = order.business_name or order.customer_name
    return f"  {order.status}  {shorten(name, 50)}"


def _remedy(verdict: Diagnosis, context: str | None) -> list[str]:
    return [f"  → {in_context(verdict.remedy, context)}"] if verdict.remedy else []


def _facts(order: Order) -> list[str]:
    facts = [
        f"  customer    {shorten(order.customer_name, 60)} <{shorten(order.customer_email, 60)}>",
        f"  status      {order.status}, moved {describe_age(order.idle)} ago",
        f"  onboarding  {order.onboarding}, completed {clock(order.onboarding_completed_at)}",
        f"  attempts    {order.history.attempts}",
    ]
    if order.site_url:
        facts.append(f"  site        {shorten(order.site_url, 100)}")
    if order.admin_notes:
        facts.append(f"  notes       {shorten(order.admin_notes, 100)}")
    return facts


def _files(files: SiteFiles | None) -> str:
    return f"{describe_files(files)}, {files.size} bytes" if files else "unknown"


def _task(task: LiveTask) -> str:
    parts = [neutralise(task.task_id), str(task.state)]
    if task.worker:
        parts.append(f"at {neutralise(task.worker)}")
    if task.position is not None:
        parts.append(f"place {task.position + 1}")
    parts.append(f"attempt {task.attempt}")
    if task.enqueued_at:
        parts.append(f"enqueued {clock(task.enqueued_at)} UTC")
    if task.eta:
        parts.append(f"ETA {clock(task.eta)} UTC")
    return "  ".join(parts)
