"""Generation logs of the sample orders, in the steps and the order of the system's contract.

Pure. A log is written as lines with the pause before each; ``aged`` turns them into rows with ages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sitegenctl.domain.orders.run import OPERATOR_CANCEL, OPERATOR_ENQUEUE


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One row to be, ``pause`` seconds after the row before it."""

    step: str
    message: str
    status: str = "info"
    details: Mapping[str, Any] | None = None
    pause: float = 2.0


@dataclass(frozen=True, kw_only=True)
class SampleLog:
    """One row of ``site_generation_logs``, written ``age`` seconds ago."""

    step: str
    message: str
    status: str
    details: Mapping[str, Any] | None
    age: float


@dataclass(frozen=True, kw_only=True)
class RunStyle:
    """What distinguishes the runs of one order: how its site is made, and how many files it gets."""

    order_id: int
    name: str
    files: int = 8
    by_ai: bool = False
    slug: str = "site"


def whole_run(style: RunStyle, *, resumed: bool = False) -> list[LogLine]:
    """A run from its first row to SUCCESS."""
    return [*_beginning(style, resumed=resumed), *_making(style), *_writing(style), *_publishing(style)]


def short_run(style: RunStyle) -> list[LogLine]:
    """A whole run with its decisive rows only, for orders by the hundred thousand."""
    return [row for row in whole_run(style) if row.step in {"START", "WRITE_COMPLETE", "SUCCESS"}]


def cut_run(style: RunStyle, last_step: str, *, resumed: bool = False) -> list[LogLine]:
    """A run that was cut short after ``last_step``: a worker killed, a machine gone."""
    rows = whole_run(style, resumed=resumed)
    steps = [row.step for row in rows]
    return rows[: steps.index(last_step) + 1]


def failed_run(style: RunStyle, last_step: str, error: str, *, resumed: bool = False) -> list[LogLine]:
    """A run that ended in ERROR after ``last_step``."""
    return [
        *cut_run(style, last_step, resumed=resumed),
        LogLine(
            step="ERROR",
            message=f"Generation failed: {error}",
            status="error",
            details={"error": error, "can_retry": True},
            pause=4,
        ),
    ]


def enqueued(task_id: str, actor: str, *, before: str = "BUILDING") -> LogLine:
    """The journal row of an enqueue by an operator, of an order whose status was ``before``."""
    user, _, host = actor.partition("@")
    return LogLine(
        step=OPERATOR_ENQUEUE,
        message=f"Enqueued by {actor}",
        details={
            "task_id": task_id,
            "actor": user,
            "host": host,
            "command": "sitegenctl enqueue",
            "resume": True,
            "before": before,
        },
        pause=1800,
    )


def cancelled(actor: str) -> LogLine:
    """The journal row of a cancellation by an operator."""
    user, _, host = actor.partition("@")
    return LogLine(
        step=OPERATOR_CANCEL,
        message=f"Cancelled by {actor}",
        details={"actor": user, "host": host, "command": "sitegenctl cancel"},
        pause=95,
    )


def aged(lines: Iterable[LogLine], newest: float) -> tuple[SampleLog, ...]:
    """Date the lines so that the last one is ``newest`` seconds old, oldest first."""
    rows: list[SampleLog] = []
    age = newest
    for line in reversed(list(lines)):
        rows.append(SampleLog(step=line.step, message=line.message, status=line.status, details=line.details, age=age))
        age += line.pause
    return tuple(reversed(rows))


def _beginning(style: RunStyle, *, resumed: bool) -> list[LogLine]:
    order = f"order #{style.order_id}"
    if resumed:
        opening = [
            LogLine(step="RESUME", message=f"Resuming generation for {order}", pause=60),
            LogLine(step="RESUME_DECISION", message="Incomplete files found, starting over", pause=1),
            LogLine(step="CLEANUP", message="Removed files of the previous attempt", pause=1),
        ]
        briefing = [LogLine(step="PHASE_1_SKIP", message="Briefing exists already, skipping phase 1", pause=1)]
    else:
        opening = [LogLine(step="START", message=f"Starting site generation for {order}", pause=60)]
        briefing = [
            LogLine(step="PHASE_1_START", message="Phase 1: strategy and briefing", pause=1),
            LogLine(step="AI_STRATEGY", message=f"Asking for a site strategy for {style.name}", pause=1),
            LogLine(step="PHASE_1_COMPLETE", message="Briefing saved", status="success", pause=14),
        ]
    return [*opening, *briefing, LogLine(step="FETCH_DATA", message="Loading onboarding data", pause=1)]


def _making(style: RunStyle) -> list[LogLine]:
    if style.by_ai:
        return [
            LogLine(step="BUILD_PROMPT", message="Building the generation prompt", pause=1),
            LogLine(step="AI_GENERATION", message="Generating pages (this takes a few minutes)", pause=1),
            LogLine(
                step="AI_COMPLETE",
                message="Pages generated",
                status="success",
                details={"tokens": 11_000 + 37 * (style.order_id % 200)},
                pause=118,
            ),
            LogLine(step="PARSE_RESULT", message=f"Parsed {style.files} files", pause=1),
        ]
    return [
        LogLine(step="TEMPLATE_START", message="Choosing a template", pause=1),
        LogLine(step="TEMPLATE_COPIED", message="Template copied", pause=2),
        LogLine(step="TEMPLATE_CUSTOMIZED", message="Template customized", status="success", pause=3),
    ]


def _writing(style: RunStyle) -> list[LogLine]:
    half = style.files // 2
    return [
        LogLine(step="WRITE_FILES", message=f"Writing {style.files} files", pause=1),
        LogLine(step="WRITE_PROGRESS", message=f"{half}/{style.files} files written", pause=1),
        LogLine(
            step="WRITE_COMPLETE",
            message=f"{style.files} files written",
            status="success",
            details={"files": style.files},
            pause=1,
        ),
    ]


def _publishing(style: RunStyle) -> list[LogLine]:
    if style.order_id % 5:
        dns = LogLine(step="DNS_COMPLETE", message="DNS record created", status="success", pause=3)
    else:
        dns = LogLine(step="DNS_ERROR", message="DNS: zone not found, skipped", status="warning", pause=3)
    return [
        LogLine(step="INTEGRATIONS_START", message="Publishing the site", pause=1),
        LogLine(step="GITHUB_COMPLETE", message="Pushed to the repository", status="success", pause=6),
        LogLine(step="R2_COMPLETE", message="Uploaded to storage", status="success", pause=4),
        LogLine(step="PAGES_COMPLETE", message="Pages deployment started", status="success", pause=5),
        dns,
        LogLine(step="FINALIZE", message="Finalizing the order", pause=1),
        LogLine(
            step="SUCCESS",
            message=f"Site ready: https://{style.slug}.sites.example.com",
            status="success",
            details={"success": True, "files": style.files},
            pause=1,
        ),
    ]
