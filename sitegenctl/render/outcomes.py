"""What became of each order, as JSON and in words."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sitegenctl.domain.order import OrderStatus
from sitegenctl.domain.result import OperationResult, Outcome, OutcomeKind
from sitegenctl.render.order import in_context
from sitegenctl.render.output import Report
from sitegenctl.render.text import hanging, neutralise

#: Above so many orders, those that went well are only counted.
LISTED = 20


OUTCOME_COLUMNS = ("order_id", "outcome", "reason", "task_id", "before", "after")


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


def result_in_context(result: OperationResult, context: str | None) -> OperationResult:
    """The result, whose hints and notes name the context that they are about."""
    return replace(
        result,
        outcomes=[replace(outcome, hint=in_context(outcome.hint, context)) for outcome in result.outcomes],
        notes=tuple(in_context(note, context) or "" for note in result.notes),
    )


def outcomes_report(
    result: OperationResult,
    *,
    done: str,
    verbose: bool = False,
    context: str | None = None,
    width: int = sys.maxsize,
) -> Report:
    """Report an operation; ``done`` is the word for what it does, as in "enqueued", ``width`` that of its lines."""
    result = result_in_context(result, context)
    rows = [outcome_row(outcome) for outcome in result.outcomes]
    bad = (OutcomeKind.REFUSED, OutcomeKind.FAILED)
    return Report(
        command=result.command,
        data={
            "dry_run": result.dry_run,
            "outcomes": rows,
            "beyond_limit": result.beyond,
            "notes": list(result.notes),
        },
        rows=rows,
        columns=OUTCOME_COLUMNS,
        text=lambda: outcomes_text(result, done=done, verbose=verbose, width=width),
        exit_code=result.exit_code,
        errors=[
            {"message": f"{outcome.order_id}: {outcome.reason}", "hint": outcome.hint, "source": None}
            for outcome in result.outcomes
            if outcome.outcome in bad
        ],
        text_tells_errors=True,
    )


def outcomes_text(
    result: OperationResult,
    *,
    done: str,
    verbose: bool = False,
    most: int | None = None,
    width: int = sys.maxsize,
) -> str:
    """What became of each order, for people; orders that went well are only counted where there are many.

    A dry run lists every order, or ``most`` of them. Orders' lines are wrapped to ``width`` columns; commands to copy
    stay whole.
    """
    if not result.outcomes:
        return "".join(["nothing to do\n", *(f"note: {neutralise(note)}\n" for note in result.notes)])
    words = {outcome.order_id: outcome_word(outcome, done, dry_run=result.dry_run) for outcome in result.outcomes}
    shown = list(result.outcomes)
    in_all = len(shown) + result.went_well
    lines = []
    if in_all != 1:
        counts = Counter(words.values()) + Counter({done: result.went_well})
        lines.append(", ".join(f"{count} {word}" for word, count in counts.items()))
    if in_all > LISTED and not verbose and not result.dry_run:
        shown = [outcome for outcome in shown if outcome.outcome is not OutcomeKind.DONE]
    more = len(shown) - most if most is not None else 0
    shown = shown[:most]
    longest = max((len(words[outcome.order_id]) for outcome in shown), default=0)
    number = max((len(str(outcome.order_id)) for outcome in shown), default=0)
    for outcome in shown:
        word = words[outcome.order_id]
        lines += hanging(f"{outcome.order_id:>{number}}  {word:<{longest}}  ", outcome_text(outcome, word), width)
    if more > 0:
        lines.append(f"({more} more; --dry-run lists them)")
    elif len(shown) < in_all:
        lines.append(f"({in_all - len(shown)} that went well are not listed; -v lists them)")
    if result.beyond:
        lines.append(f"({result.beyond} more, beyond the limit)")
    lines += [f"note: {neutralise(note)}" for note in result.notes]
    return "\n".join([*lines, *hint_lines(shown)]) + "\n"


def hint_lines(shown: Sequence[Outcome]) -> list[str]:
    """The hints for these orders, each once."""
    hints: dict[str, list[int]] = {}
    for outcome in shown:
        if outcome.hint:
            hints.setdefault(outcome.hint, []).append(outcome.order_id)
    return [f"hint: {_whom(orders, len(shown))}{neutralise(hint)}" for hint, orders in hints.items()]


def outcome_word(outcome: Outcome, done: str, *, dry_run: bool) -> str:
    """What became of an order in a word; ``done`` is that for what the operation does."""
    if outcome.outcome is not OutcomeKind.DONE:
        return outcome.outcome.value
    if dry_run:
        return f"would be {done}"
    return "generated" if outcome.after is OrderStatus.REVIEW else done


def _whom(orders: list[int], shown: int) -> str:
    """For which orders a hint is; the few words are needed only where there are others."""
    if len(orders) == shown:
        return ""
    some = " ".join(map(str, orders[:5]))
    return f"{some}{' …' if len(orders) > 5 else ''}: "


def outcome_text(outcome: Outcome, word: str) -> str:
    """What became of one order, without ``word``, which says it in one."""
    if outcome.outcome is not OutcomeKind.DONE:
        return neutralise(outcome.reason)
    parts = []
    if outcome.before != outcome.after:
        parts.append(f"{outcome.before} → {outcome.after}")
    details = outcome.reason.removeprefix(word).removeprefix("; ")
    if details:
        parts.append(neutralise(details))
    if outcome.task_id and outcome.task_id[:8] not in details:
        parts.append(f"task {neutralise(outcome.task_id)}")
    return "  ".join(parts)
