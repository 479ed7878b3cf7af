from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sitegenctl.domain.diagnosis.describe import describe_exhausted
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.plans.plan import OperationResult, Outcome, OutcomeKind
from sitegenctl.render.outcomes import outcomes_text


def refused(order_id: int, reason: str = "no such order", hint: str | None = None) -> Outcome:
    return Outcome(order_id=order_id, outcome=OutcomeKind.REFUSED, reason=reason, hint=hint)


def done(order_id: int) -> Outcome:
    return Outcome(
        order_id=order_id,
        outcome=OutcomeKind.DONE,
        reason="would be enqueued",
        before=OrderStatus.BUILDING,
        after=OrderStatus.GENERATING,
    )


def text(outcomes: Sequence[Outcome], *, dry_run: bool = False, verbose: bool = False, most: int | None = None) -> str:
    result = OperationResult(command="enqueue", dry_run=dry_run, outcomes=list(outcomes))
    return outcomes_text(result, done="enqueued", verbose=verbose, most=most)


def test_neighbours_with_the_same_outcome_share_a_line() -> None:
    many = [refused(7, "it is CANCELLED"), *map(refused, range(8, 40)), refused(41), refused(42)]
    assert text(many).splitlines() == [
        "35 refused",
        "   7  refused  it is CANCELLED",
        "8-39  refused  no such order",
        "  41  refused  no such order",
        "  42  refused  no such order",
    ]
    assert len(text(many, verbose=True).splitlines()) == 36
    assert len(text(many[:20]).splitlines()) == 21


def test_long_plan_is_cut_with_the_number_not_shown() -> None:
    plan = [done(order_id) for order_id in (*range(1, 1001), 1005, *range(2001, 4001))]
    assert text(plan, dry_run=True).splitlines() == [
        "3001 would be enqueued",
        "   1-1000  would be enqueued  BUILDING → GENERATING",
        "     1005  would be enqueued  BUILDING → GENERATING",
        "2001-4000  would be enqueued  BUILDING → GENERATING",
    ]
    assert text(plan, dry_run=True, most=2).splitlines()[2:] == [
        "  1005  would be enqueued  BUILDING → GENERATING",
        "(2000 more; --dry-run lists them)",
    ]


def test_same_hint_for_several_orders_is_shown_once() -> None:
    finished = [
        refused(order_id, "it is in REVIEW", Remedy.run(Command.RESET, order_id, advice="again"))
        for order_id in (2, 30)
    ]
    assert text([*finished, refused(9)]).splitlines()[-1] == "hint: 2 30: again: sitegenctl reset ORDER"
    assert text([finished[1], refused(9)]).splitlines()[-1] == "hint: 30: again: sitegenctl reset 30"


def test_only_a_generation_that_was_waited_for_is_generated() -> None:
    finished = replace(done(7), before=OrderStatus.GENERATING, after=OrderStatus.REVIEW)
    assert "generated" in text([replace(finished, task_id="task-1")])
    assert "generated" not in text([finished])  # an undo: no task is left
    kept = replace(done(7), reason="repaired; task 1 stopped", before=OrderStatus.REVIEW, after=OrderStatus.REVIEW)
    assert "generated" not in text([kept])


@pytest.mark.parametrize(("attempts", "shown"), [(3, "3 of 3"), (4, "4, and the maximum is 3")])
def test_attempts_are_not_more_than_all(attempts: int, shown: str) -> None:
    assert describe_exhausted(attempts, 3) == f"attempts exhausted ({shown})"
