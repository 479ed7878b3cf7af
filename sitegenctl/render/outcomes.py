"""The outcome of each order, as JSON and as text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.operation import Operation
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind
from sitegenctl.errors import Refused
from sitegenctl.render.command import command_line, hint_text
from sitegenctl.render.output import Report, error_data, row_of
from sitegenctl.render.table import Column, Line, Screen, table
from sitegenctl.render.text import hanging, neutralise

#: Above this number of orders, those that succeeded are only counted.
LISTED = 20

#: Minimum number of consecutive orders with the same text that are one line.
_MIN_BLOCK = 3

OUTCOME_COLUMNS = ("order_id", "outcome", "reason", "task_id", "before", "after")


def outcomes_report(
    result: OperationResult, *, done: str, verbose: bool = False, selector: str | None = None, width: int = sys.maxsize
) -> Report:
    """Report an operation; ``done`` is its participle, such as "enqueued", ``width`` that of its lines."""
    rows = [row_of(outcome, OUTCOME_COLUMNS) for outcome in result.outcomes]
    return Report(
        command=result.command,
        data={
            "dry_run": result.dry_run,
            "operation": result.operation,
            "outcomes": rows,
            "beyond_limit": result.beyond,
            "notes": [hint_text(note, selector) for note in result.notes],
        },
        rows=rows,
        columns=OUTCOME_COLUMNS,
        text=lambda: outcomes_text(result, done=done, selector=selector, verbose=verbose, width=width),
        exit_code=result.exit_code,
        errors=[
            error_data(f"{outcome.order_id}: {outcome.reason}", hint_text(outcome.hint, selector))
            for outcome in result.outcomes
            if outcome.outcome in (OutcomeKind.REFUSED, OutcomeKind.FAILED)
        ],
        text_has_errors=True,
    )


CANDIDATE_COLUMNS = ("operation", "age_seconds", "actor", "host", "command", "orders", "undoable")


# Commands that ``undo`` leaves alone.
_NOT_UNDONE = frozenset({"repair", "trash restore", "undo"})


def candidates_report(operations: Sequence[Operation], counts: Sequence[int], *, selector: str | None = None) -> Report:
    """The operations that ``undo`` may mean, newest first; ``counts`` are the orders that each can be undone for."""
    ages = [operation.entries[0].row.age for operation in operations]
    rows = [
        row_of(
            operation,
            CANDIDATE_COLUMNS,
            operation=operation.operation_id,
            age_seconds=age,
            orders=len(operation.entries),
            undoable=count,
        )
        for operation, age, count in zip(operations, ages, counts, strict=True)
    ]
    columns = [
        *(Column(heading=name) for name in ("operation", "age", "by", "command")),
        *(Column(heading=name, number=True) for name in ("orders", "can be undone")),
    ]
    lines = [
        Line(
            cells=[
                operation.operation_id or "",
                describe_age(age),
                f"{operation.actor}@{operation.host}",
                operation.command or "",
                str(len(operation.entries)),
                str(count),
            ]
        )
        for operation, age, count in zip(operations, ages, counts, strict=True)
    ]
    example = next((each for each, count in zip(operations, counts, strict=True) if count), operations[0])
    problem, advice = "it is not clear which operation to undo", "name the operation, for example"
    if not any(counts):
        problem, advice = "none of these operations can be undone any more", "to see why"
    hint = Remedy(command=Command.UNDO, operation=example.operation_id, advice=advice)
    return Report(
        command="undo",
        data={"candidates": rows},
        rows=rows,
        columns=CANDIDATE_COLUMNS,
        text=lambda: table(columns, lines, Screen(width=sys.maxsize, colour=False)),
        exit_code=Refused.exit_code,
        errors=[error_data(problem, hint_text(hint, selector))],
    )


def outcomes_text(
    result: OperationResult,
    *,
    done: str,
    selector: str | None = None,
    verbose: bool = False,
    most: int | None = None,
    width: int = sys.maxsize,
) -> str:
    """The outcome of each order as text; where there are many, those that succeeded are only counted.

    A dry run lists every order. Consecutive orders with the same text share a line; ``most`` is the maximum number of
    lines. Lines are wrapped to ``width`` columns, commands to copy are not.
    """
    notes = [f"note: {neutralise(hint_text(note, selector) or '')}" for note in result.notes]
    if not result.outcomes:
        return "\n".join(["nothing to do", *notes]) + "\n"
    words = {outcome.order_id: outcome_word(outcome, done, dry_run=result.dry_run) for outcome in result.outcomes}
    shown = list(result.outcomes)
    in_all = len(shown) + result.omitted
    lines = []
    if in_all != 1:
        counts = Counter(words.values()) + Counter({done: result.omitted})
        lines.append(", ".join(f"{count} {word}" for word, count in counts.items()))
    if in_all > LISTED and not verbose and not result.dry_run:
        shown = [outcome for outcome in shown if outcome.outcome is not OutcomeKind.DONE]
    texts = [(words[outcome.order_id], outcome_text(outcome, words[outcome.order_id])) for outcome in shown]
    blocks: list[list[int]] = []
    for _, places in groupby(range(len(shown)), lambda place: (texts[place], shown[place].order_id - place)):
        block = list(places)
        is_alone = verbose or in_all <= LISTED or len(block) < _MIN_BLOCK
        blocks += [[place] for place in block] if is_alone else [block]
    blocks = blocks[:most]
    ids = [(shown[block[0]].order_id, shown[block[-1]].order_id) for block in blocks]
    names = [str(first) if first == last else f"{first}-{last}" for first, last in ids]
    number = max(map(len, names), default=0)
    longest = max((len(texts[block[0]][0]) for block in blocks), default=0)
    for block, name in zip(blocks, names, strict=True):
        word, text = texts[block[0]]
        lines += hanging(f"{name:>{number}}  {word:<{longest}}  ", text, width)
    listed = sum(map(len, blocks))
    if listed < len(shown):
        lines.append(f"({len(shown) - listed} more; --dry-run lists them)")
    elif len(shown) < in_all:
        lines.append(f"({in_all - len(shown)} that went well are not listed; -v lists them)")
    if result.beyond:
        lines.append(f"({result.beyond} more, beyond the limit)")
    return "\n".join([*lines, *notes, *hint_lines(shown[:listed], selector), *_operation_line(result, selector)]) + "\n"


def _operation_line(result: OperationResult, selector: str | None) -> list[str]:
    """How to undo what was done, or to see what it was; a generation that was waited for is not undone."""
    if result.operation is None or not (
        result.omitted or any(each.outcome is OutcomeKind.DONE and not _is_generated(each) for each in result.outcomes)
    ):
        return []
    command, word = (Command.HISTORY, "see") if result.command in _NOT_UNDONE else (Command.UNDO, "undo")
    return [f"to {word} it: {command_line(Remedy(command=command, operation=result.operation), selector)}"]


def hint_lines(shown: Sequence[Outcome], selector: str | None) -> list[str]:
    """The hints for these orders, each once; one with several order numbers has ORDER instead."""
    hints: dict[Hint, list[Outcome]] = {}
    for outcome in shown:
        if outcome.hint:
            shared = outcome.hint.for_any_order if isinstance(outcome.hint, Remedy) else outcome.hint
            hints.setdefault(shared, []).append(outcome)
    lines = []
    for shared, outcomes in hints.items():
        # The orders are named where there are others.
        some = " ".join(str(outcome.order_id) for outcome in outcomes[:5]) + (" …" if len(outcomes) > 5 else "")
        whom = f"{some}: " if len(outcomes) < len(shown) else ""
        hint = shared if len(outcomes) > 1 else outcomes[0].hint
        lines.append(f"hint: {whom}{neutralise(hint_text(hint, selector) or '')}")
    return lines


def outcome_word(outcome: Outcome, done: str, *, dry_run: bool) -> str:
    """The outcome in a word; ``done`` is the participle of the operation."""
    if outcome.outcome is not OutcomeKind.DONE:
        return outcome.outcome.value
    if dry_run:
        return f"would be {done}"
    return "generated" if _is_generated(outcome) else done


def _is_generated(outcome: Outcome) -> bool:
    # Only a task that was waited for sets REVIEW; an undo restores it, and leaves no task.
    return outcome.task_id is not None and outcome.after is OrderStatus.REVIEW is not outcome.before


def outcome_text(outcome: Outcome, word: str) -> str:
    """The outcome of one order without ``word``."""
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
