"""What became of each order, as JSON and in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sitegenctl.domain.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.render.output import Report
from sitegenctl.render.text import neutralise

#: Above so many orders, those that went well are only counted.
_LISTED = 20


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """One outcome as the envelope has it."""
    return {
        "order_id": outcome.order_id,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "task_id": outcome.task_id,
        "before": outcome.before,
        "after": outcome.after,
    }


def outcomes_report(result: OperationResult, *, done: str, verbose: bool = False) -> Report:
    """Report an operation; ``done`` is the word for what it does, as in "enqueued"."""
    rows = [outcome_row(outcome) for outcome in result.outcomes]
    return Report(
        command=result.command,
        data={"dry_run": result.dry_run, "outcomes": rows},
        rows=rows,
        text=lambda: _text(result, done, verbose=verbose),
        exit_code=result.exit_code,
    )


def _text(result: OperationResult, done: str, *, verbose: bool) -> str:
    lines = []
    words = {kind: kind.value for kind in OutcomeKind}
    words[OutcomeKind.DONE] = f"would be {done}" if result.dry_run else done
    shown = list(result.outcomes)
    if len(shown) != 1:
        counts = Counter(outcome.outcome for outcome in shown)
        lines.append(", ".join(f"{counts[kind]} {words[kind]}" for kind in OutcomeKind if counts[kind]))
    if len(shown) > _LISTED and not verbose:
        shown = [outcome for outcome in shown if outcome.outcome is not OutcomeKind.DONE]
    width = max((len(words[outcome.outcome]) for outcome in shown), default=0)
    number = max((len(str(outcome.order_id)) for outcome in shown), default=0)
    hints: dict[str, None] = {}
    for outcome in shown:
        lines.append(f"{outcome.order_id:>{number}}  {words[outcome.outcome]:<{width}}  {_what(outcome)}")
        if outcome.hint:
            hints.setdefault(outcome.hint)
    lines += [f"hint: {neutralise(hint)}" for hint in hints]
    return "\n".join(lines) + "\n"


def _what(outcome: Outcome) -> str:
    if outcome.outcome is OutcomeKind.DONE:
        task = f"  task {outcome.task_id}" if outcome.task_id else ""
        return f"{outcome.before} → {outcome.after}{task}"
    return neutralise(outcome.reason)
