"""The report of a maintenance run, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sitegenctl.domain.diagnosis.overview import describe_faults
from sitegenctl.domain.plans.maintenance import Leftover, Maintenance, MaintenanceStep, StepReport
from sitegenctl.domain.plans.plan import OutcomeKind
from sitegenctl.render.command import hint_text
from sitegenctl.render.outcomes import OUTCOME_COLUMNS, hint_lines, outcome_text
from sitegenctl.render.output import Report, error_data, row_of
from sitegenctl.render.text import neutralise

_DONE = {
    MaintenanceStep.REPAIR: "repaired",
    MaintenanceStep.START_STUCK: "started",
    MaintenanceStep.RETRY_FAILED: "retried",
    MaintenanceStep.RESET_EMPTY: "reset",
}
_PRUNED = {
    MaintenanceStep.PRUNE_TRASH: ("old site", "old sites", "deleted from the trash"),
    MaintenanceStep.PRUNE_REPLIES: ("leftover reply list", "leftover reply lists", "removed"),
}

#: Maximum number of things listed that could not be pruned.
_MAX_LISTED = 20


def maintenance_report(run: Maintenance, *, command: str, verbose: bool = False, selector: str | None = None) -> Report:
    """Report a run; the text is empty where there was nothing to do, unless ``verbose``."""
    rows = [
        {"step": report.step, **row_of(outcome, OUTCOME_COLUMNS)}
        for report in run.steps
        if report.result is not None
        for outcome in report.result.outcomes
    ]
    return Report(
        command=command,
        data={
            "dry_run": run.dry_run,
            "operation": run.operation,
            "quiet": run.is_quiet,
            "interrupted": run.interrupted,
            "steps": [_step_data(report, selector) for report in run.steps],
            "attention": [
                {
                    "order_id": left.outcome.order_id,
                    "condition": left.condition,
                    "obstacle": left.obstacle,
                    "operator": left.obstacle.is_for_operators,
                    "new": left.is_new,
                    "reason": left.outcome.reason,
                    "hint": hint_text(left.outcome.hint, selector),
                }
                for left in run.left
            ],
        },
        rows=rows,
        columns=("step", *OUTCOME_COLUMNS),
        text=lambda: _text(run, selector, verbose=verbose),
        exit_code=run.exit_code,
        errors=_errors(run.steps, selector),
    )


def _errors(steps: Sequence[StepReport], selector: str | None) -> list[dict[str, str | None]]:
    """Why steps were left out, one error for each reason."""
    reasons: dict[tuple[str, str | None, str | None], list[str]] = {}
    for report in steps:
        if report.left_out is not None:
            reasons.setdefault((report.left_out, hint_text(report.hint, selector), report.source), []).append(
                report.step
            )
    return [
        error_data(f"{', '.join(names)} left out: {reason}", hint, source)
        for (reason, hint, source), names in reasons.items()
    ]


def _step_data(report: StepReport, selector: str | None) -> dict[str, Any]:
    return row_of(
        report,
        ("step", "left_out", "hint", "source", "pruned", "not_pruned", "beyond_limit", "outcomes"),
        hint=hint_text(report.hint, selector),
        not_pruned=dict(report.not_pruned),
        beyond_limit=report.result.beyond if report.result else 0,
        outcomes=[row_of(outcome, OUTCOME_COLUMNS) for outcome in (report.result.outcomes if report.result else ())],
    )


def _text(run: Maintenance, selector: str | None, *, verbose: bool) -> str:
    lines: list[str] = []
    for report in run.steps:
        if report.left_out is None and (verbose or not report.is_quiet):
            lines += _step_lines(report, selector, dry_run=run.dry_run, verbose=verbose)
    lines += _attention_lines(run.left if verbose else run.news, selector)
    return "".join(f"{line}\n" for line in lines)


def _attention_lines(left: Sequence[Leftover], selector: str | None) -> list[str]:
    """The faults that need attention, each with its hint."""
    if not left:
        return []
    digits = max(len(str(each.outcome.order_id)) for each in left)
    lines = [f"{describe_faults(len(left))}:"]
    for each in sorted(left, key=lambda each: (not each.obstacle.is_for_operators, each.outcome.order_id)):
        lines.append(f"  {each.outcome.order_id:>{digits}}  {each.condition}  {neutralise(each.outcome.reason)}")
        if each.outcome.hint:
            lines.append(f"  {'':>{digits}}  hint: {neutralise(hint_text(each.outcome.hint, selector) or '')}")
    return lines


def _step_lines(report: StepReport, selector: str | None, *, dry_run: bool, verbose: bool) -> list[str]:
    if report.result is None:
        return _pruned_lines(report, dry_run=dry_run, verbose=verbose)
    done = f"would be {_DONE[report.step]}" if dry_run else _DONE[report.step]
    words = {OutcomeKind.DONE: done}
    counts = Counter(words.get(outcome.outcome, outcome.outcome.value) for outcome in report.result.outcomes)
    summary = ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing to do"
    if report.result.beyond:
        summary += f", {report.result.beyond} more beyond --max-actions"
    lines = [f"{report.step}: {summary}"]
    digits = max((len(str(outcome.order_id)) for outcome in report.result.outcomes), default=0)
    news = (OutcomeKind.DONE, OutcomeKind.FAILED)
    shown = [outcome for outcome in report.result.outcomes if outcome.outcome in news or verbose]
    for outcome in shown:
        word = words.get(outcome.outcome, outcome.outcome.value)
        lines.append(f"  {outcome.order_id:>{digits}}  {word}  {outcome_text(outcome, word)}".rstrip())
    return [*lines, *(f"  {line}" for line in hint_lines(shown, selector))]


def _pruned_lines(report: StepReport, *, dry_run: bool, verbose: bool) -> list[str]:
    singular, plural, pruned = _PRUNED[report.step]
    what = singular if report.pruned == 1 else plural
    summary = f"{report.pruned} {what} {'would be ' if dry_run else ''}{pruned}"
    failed = list(report.not_pruned.items())
    if failed:
        summary += f", {len(failed)} could not be"
    shown = failed if verbose else failed[:_MAX_LISTED]
    lines = [f"{report.step}: {summary}", *(f"  {neutralise(name)}  {neutralise(reason)}" for name, reason in shown)]
    if len(shown) < len(failed):
        lines.append(f"  ({len(failed) - len(shown)} more; -v lists them)")
    return lines
