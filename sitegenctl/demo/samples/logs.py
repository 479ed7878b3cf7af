"""Generation logs of the sample orders, with the steps of the deployed system in their order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sitegenctl.demo.samples.businesses import Business
from sitegenctl.domain.orders.run import OPERATOR_CANCEL, OPERATOR_ENQUEUE


@dataclass(frozen=True)
class SampleLog:
    """One row of ``site_generation_logs``, ``pause`` seconds after the row before it and ``age`` seconds old."""

    step: str
    message: str
    status: str = "info"
    details: Mapping[str, Any] | None = None
    pause: float = 1.0
    age: float = 0.0


@dataclass(frozen=True)
class RunStyle:
    """What distinguishes the runs of one order: how its site is generated, and its number of files."""

    order_id: int
    business: Business
    files: int
    by_ai: bool


def whole_run(style: RunStyle, *, resumed: bool = False) -> list[SampleLog]:
    """Return the rows of a run from its first to SUCCESS."""
    files = style.files
    if resumed:
        begin = [
            SampleLog("RESUME", f"Resuming generation for order #{style.order_id}", pause=60),
            SampleLog("RESUME_DECISION", "Incomplete files found, starting over"),
            SampleLog("CLEANUP", "Removed files of the previous attempt"),
            SampleLog("PHASE_1_SKIP", "Briefing exists already, skipping phase 1"),
        ]
    else:
        begin = [
            SampleLog("START", f"Starting site generation for order #{style.order_id}", pause=60),
            SampleLog("PHASE_1_START", "Phase 1: strategy and briefing"),
            SampleLog("AI_STRATEGY", f"Asking for a site strategy for {style.business.name}"),
            SampleLog("PHASE_1_COMPLETE", "Briefing saved", "success", pause=14),
        ]
    if style.by_ai:
        tokens = {"tokens": 11_000 + 37 * (style.order_id % 200)}
        generate = [
            SampleLog("BUILD_PROMPT", "Building the generation prompt"),
            SampleLog("AI_GENERATION", "Generating pages (this takes a few minutes)"),
            SampleLog("AI_COMPLETE", "Pages generated", "success", tokens, pause=118),
            SampleLog("PARSE_RESULT", f"Parsed {files} files"),
        ]
    else:
        generate = [
            SampleLog("TEMPLATE_START", "Choosing a template"),
            SampleLog("TEMPLATE_COPIED", "Template copied", pause=2),
            SampleLog("TEMPLATE_CUSTOMIZED", "Template customized", "success", pause=3),
        ]
    dns = SampleLog("DNS_COMPLETE", "DNS record created", "success", pause=3)
    if style.order_id % 5 == 0:
        dns = SampleLog("DNS_ERROR", "DNS: zone not found, skipped", "warning", pause=3)
    result = {"success": True, "files": files}
    return [
        *begin,
        SampleLog("FETCH_DATA", "Loading onboarding data"),
        *generate,
        SampleLog("WRITE_FILES", f"Writing {files} files"),
        SampleLog("WRITE_PROGRESS", f"{files // 2}/{files} files written"),
        SampleLog("WRITE_COMPLETE", f"{files} files written", "success", {"files": files}),
        SampleLog("INTEGRATIONS_START", "Publishing the site"),
        SampleLog("GITHUB_COMPLETE", "Pushed to the repository", "success", pause=6),
        SampleLog("R2_COMPLETE", "Uploaded to storage", "success", pause=4),
        SampleLog("PAGES_COMPLETE", "Pages deployment started", "success", pause=5),
        dns,
        SampleLog("FINALIZE", "Finalizing the order"),
        SampleLog("SUCCESS", f"Site ready: https://{style.business.slug}.sites.example.com", "success", result),
    ]


def cut_run(style: RunStyle, last_step: str, *, resumed: bool = False) -> list[SampleLog]:
    """Return a run that was interrupted after ``last_step``."""
    rows = whole_run(style, resumed=resumed)
    return rows[: [row.step for row in rows].index(last_step) + 1]


def failed_run(style: RunStyle, last_step: str, error: str, *, resumed: bool = False) -> list[SampleLog]:
    """Return a run that ended in ERROR after ``last_step``."""
    details = {"error": error, "can_retry": True}
    end = SampleLog("ERROR", f"Generation failed: {error}", "error", details, pause=4)
    return [*cut_run(style, last_step, resumed=resumed), end]


def operator_row(action: str, actor: str, **details: Any) -> SampleLog:
    """Return the journal row of an ``enqueue`` or a ``cancel`` by an operator."""
    user, _, host = actor.partition("@")
    details = {**details, "actor": user, "host": host, "command": action}
    if action == "cancel":
        return SampleLog(OPERATOR_CANCEL, f"Cancelled by {actor}", details=details, pause=95)
    return SampleLog(OPERATOR_ENQUEUE, f"Enqueued by {actor}", details=details, pause=1800)


def aged(rows: Iterable[SampleLog], newest: float) -> tuple[SampleLog, ...]:
    """Set the age of the rows, oldest first, so that the last one is ``newest`` seconds old."""
    result: list[SampleLog] = []
    age = newest
    for row in reversed(list(rows)):
        result.append(replace(row, age=age))
        age += row.pause
    return tuple(reversed(result))
