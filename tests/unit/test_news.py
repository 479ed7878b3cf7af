"""What is news since the last notification."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.health.news import STUCK_FOR, Known, News, news_since
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.plans.maintenance import Leftover, Maintenance
from sitegenctl.domain.plans.plan import Obstacle, Outcome, OutcomeKind
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.render.news import news_line, slack_data
from tests.support.values import NOW, order, snapshot, task

FAILED = order(41, OrderStatus.GENERATING, "START", "ERROR")
BLOCKED = replace(FAILED, onboarding=Onboarding.MISSING)
ALIVE = WorkerSurvey(workers=("w1",))
WELL = snapshot(workers=ALIVE)
LOST = snapshot(order(41, None), workers=ALIVE)
GONE = snapshot(workers=WorkerSurvey())

Posts = list[tuple[str, bool, list[int]]]


def run(now: Snapshot | None, *left: int, **errors: str) -> Maintenance:
    """A run that found this, and lists the orders that are ``left``."""
    listed = [
        Leftover(
            condition=now.diagnose(each).condition,
            outcome=Outcome(order_id=each, outcome=OutcomeKind.REFUSED, reason=""),
            obstacle=Obstacle.STATUS,
        )
        for each in left
        if now is not None
    ]
    sources = {Source(name): text for name, text in errors.items()}
    return Maintenance(steps=(), dry_run=False, snapshot=now, left=listed, unreachable=sources)


def compared(known: Known, now: Snapshot | None, *left: int, **errors: str) -> tuple[Posts, Known]:
    """Topic, whether it is better, and the orders of what is news."""
    at = NOW if now is None else now.taken_at
    news, state = news_since(known, run(now, *left, **errors), now=at, queue="site_generation")
    assert Known.from_json(state.to_json()) == state
    return [(str(each.topic), each.is_better, list(each.orders)) for each in news], state


def after(*runs: Snapshot | Maintenance, known: Known = Known()) -> tuple[list[Posts], Known]:  # noqa: B008 - a value
    """What each of these runs posts, one after the other."""
    posts = []
    for each in runs:
        made = each if isinstance(each, Maintenance) else run(each)
        news, known = news_since(known, made, now=NOW, queue="site_generation")
        posts.append([(str(one.topic), one.is_better, list(one.orders)) for one in news])
    return posts, known


def later(of: Snapshot, minutes: float) -> Snapshot:
    return replace(of, taken_at=NOW + timedelta(minutes=minutes))


WORSE, BETTER = ("orders", False, [41]), ("orders", True, [41])


def test_each_fault_is_news_once_and_its_end_too() -> None:
    blocked, failed = snapshot(BLOCKED, workers=ALIVE), run(snapshot(FAILED, workers=ALIVE), 41)
    posts, known = after(blocked, blocked, failed, failed, WELL, WELL, WELL)
    assert posts == [[WORSE], [], [WORSE], [], [], [BETTER], []]
    assert known == Known()


@pytest.mark.parametrize("state", [FAILED, order(41, OrderStatus.BUILDING), order(41)])
def test_fault_that_maintenance_fixes_is_news_if_the_next_run_finds_it(state: Order) -> None:
    fixable = snapshot(state, workers=ALIVE)
    assert after(fixable, WELL, fixable, WELL)[0] == [[], [], [], []]
    assert after(fixable, fixable, fixable)[0] == [[], [WORSE], []]
    assert after(run(fixable, 41), fixable)[0] == [[WORSE], []]


@pytest.mark.parametrize(
    ("bad", "topic"),
    [
        (snapshot(BLOCKED, workers=ALIVE), "orders"),
        (run(LOST, 41), "orders"),
        (GONE, "workers"),
        (run(WELL, files="the mount hangs"), "source"),
    ],
)
def test_what_comes_and_goes_with_every_run_is_news_once(bad: Snapshot | Maintenance, topic: str) -> None:
    posts, known = after(bad, WELL, bad, WELL, bad, WELL)
    assert [[each[:2] for each in post] for post in posts] == [[(topic, False)], [], [], [], [], []]
    posts, known = after(WELL, known=known)
    assert [each[:2] for each in posts[0]] == [(topic, True)]
    # It begins again.
    assert [[each[:2] for each in post] for post in after(WELL, bad, known=known)[0]] == [[], [(topic, False)]]


def test_order_that_changes_between_faults_is_news_once_for_each() -> None:
    blocked, failed = snapshot(BLOCKED, workers=ALIVE), run(snapshot(FAILED, workers=ALIVE), 41)
    assert after(blocked, failed, blocked, failed)[0] == [[WORSE], [WORSE], [], []]


def test_order_listed_as_unknown_is_news_until_it_is_known() -> None:
    lost = run(LOST, 41)
    (news,), _ = news_since(Known(), lost, now=NOW, queue="site_generation")
    assert (news.text, news.subject) == ("1 order is in an unknown condition", "unknown")
    # Without being listed, it is only too early to decide.
    assert after(LOST, LOST)[0] == [[], []]
    assert after(lost, lost, WELL, WELL)[0] == [[WORSE], [], [], [BETTER]]
    assert after(snapshot(BLOCKED, workers=ALIVE), lost, LOST)[0] == [[WORSE], [], []]


def test_order_that_changed_a_moment_ago_has_not_recovered() -> None:
    settling = snapshot(order(41, idle=timedelta(seconds=5)), workers=ALIVE)
    assert after(snapshot(BLOCKED, workers=ALIVE), settling, settling)[0] == [[WORSE], [], []]


def test_news_that_did_not_arrive_is_posted_later() -> None:
    blocked, fixable = snapshot(BLOCKED, workers=ALIVE), snapshot(order(41, OrderStatus.BUILDING), workers=ALIVE)
    for bad, known in ((blocked, Known()), (fixable, after(fixable)[1]), (WELL, after(blocked, WELL)[1])):
        news, state = compared(known, bad)
        assert news
        assert compared(known.unposted(state), bad) == (news, state)


LATE = order(due_in=timedelta(minutes=-1), due_at=NOW.replace(tzinfo=None) - timedelta(minutes=1))
DELIVERED = order(status=OrderStatus.DELIVERED, changed_at=NOW.replace(tzinfo=None) + timedelta(hours=3))


def test_late_order_is_news_once() -> None:
    due = snapshot(order(due_in=timedelta(hours=1)), order(43, due_in=None), workers=ALIVE, files=9)
    late = snapshot(LATE, order(43, due_in=None), workers=ALIVE, files=9)
    posts, _ = after(due, late, late)
    assert [[each for each in post if each[0] == "promise"] for post in posts] == [[], [("promise", False, [42])], []]


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ([DELIVERED], "1 order was delivered, 3h 1m late: 42 Padaria"),
        ([replace(DELIVERED, changed_at=None)], "1 order was delivered, 1m late: 42 Padaria"),
        ([order(due_in=timedelta(days=1))], "1 order is no longer late: 42 Padaria"),
        ([order(status=OrderStatus.CANCELLED)], "1 order is no longer late: 42 Padaria"),
        ([], "1 order is no longer late: 42"),
    ],
)
def test_end_of_a_delay_is_news_once(orders: list[Order], text: str) -> None:
    _, known = compared(Known(), snapshot(LATE, workers=ALIVE, files=9))
    ended = snapshot(*orders, workers=ALIVE, files=9)
    news, state = news_since(known, run(ended), now=NOW, queue="site_generation")
    assert [news_line(each) for each in news if each.is_better] == [text]
    assert not state.late
    assert [each for each in compared(state, ended)[0] if each[0] == "promise"] == []


def test_orders_that_were_delivered_late_are_one_piece_of_news() -> None:
    late = [replace(LATE, order_id=number) for number in (1, 2)]
    _, known = compared(Known(), snapshot(*late, workers=ALIVE, files=9))
    done = [replace(DELIVERED, order_id=1), replace(DELIVERED, order_id=2, changed_at=None)]
    news, _ = news_since(known, run(snapshot(*done, workers=ALIVE, files=9)), now=NOW, queue="site_generation")
    assert [each.text for each in news] == ["2 orders were delivered, up to 3h 1m late"]


def test_missing_worker_is_news_once() -> None:
    gone = snapshot(order(), workers=WorkerSurvey(), tasks=(task(position=0),))
    assert after(gone, gone, WELL, WELL)[0] == [[("workers", False, [])], [], [], [("workers", True, [])]]


@pytest.mark.parametrize("state", [TaskState.RUNNING, TaskState.RESERVED])
def test_queue_does_not_drain_only_while_nothing_runs(state: TaskState) -> None:
    tasks = (task(position=0), task(task_id="t2", order_id=43, position=1))
    waits = snapshot(order(), order(43), order(44, OrderStatus.DELIVERED), workers=ALIVE, tasks=tasks, files=9)
    runs = replace(waits, orders={**waits.orders, 44: order(44)}, tasks=(*tasks, task(state, "t3", 44)))
    minutes = STUCK_FOR / timedelta(minutes=1)
    _, known = compared(Known(), waits)
    assert compared(known, later(waits, minutes - 1))[0] == []
    news, stuck = compared(known, later(waits, minutes))
    assert news == [("queue", False, [])]
    assert compared(stuck, later(waits, minutes + 5))[0] == []
    # One that begins, and one that another run took: the time is counted again.
    assert compared(known, later(runs, minutes))[0] == []
    for moves in (runs, replace(waits, orders={43: order(43)}, tasks=tasks[1:])):
        news, ending = compared(stuck, later(moves, minutes + 1))
        assert news == []
        assert compared(ending, later(runs, minutes + 6))[0] == [("queue", True, [])]
        # The next task waits again: that is no end.
        assert compared(ending, later(moves, minutes + 6))[0] == ([("queue", True, [])] if moves is runs else [])
    taken = replace(waits, orders={43: order(43)}, tasks=tasks[1:])
    assert compared(known, later(taken, minutes))[0] == []


def test_task_put_before_the_others_does_not_end_a_standstill() -> None:
    waits = snapshot(order(), workers=ALIVE, tasks=(task(position=0),), files=9)
    _, known = compared(Known(), waits)
    _, stuck = compared(known, later(waits, STUCK_FOR / timedelta(minutes=1)))
    tasks = (task(task_id="t2", order_id=43, position=0), task(position=1))
    overtaken = snapshot(order(), order(43), workers=ALIVE, tasks=tasks, files=9)
    _, ending = compared(stuck, later(overtaken, 12))
    assert compared(ending, later(overtaken, 17))[0] == []


def test_order_whose_files_cannot_be_counted_has_not_recovered() -> None:
    ended = run(snapshot(order(41, OrderStatus.GENERATING, "START", "SUCCESS"), workers=ALIVE), 41)
    blind = snapshot(
        order(41, OrderStatus.GENERATING, "START", "SUCCESS"),
        workers=ALIVE,
        files=None,
        errors={Source.FILES: "the mount hangs"},
    )
    hangs = run(blind, 41, files="the mount hangs")
    posts, _ = after(ended, hangs, hangs, ended, ended)
    assert posts == [[WORSE], [("source", False, [])], [], [], [("source", True, [])]]


@pytest.mark.parametrize("source", ["database", "broker", "workers"])
def test_source_that_does_not_respond_changes_nothing_else(source: str) -> None:
    blocked = snapshot(BLOCKED, workers=ALIVE)
    _, known = compared(Known(), blocked)
    news, lost = compared(known, None, **{source: "it is down"})
    assert news == [("source", False, [])]
    assert lost == replace(known, sources=frozenset({source}))
    assert compared(lost, None, **{source: "it is still down"})[0] == []
    silent = snapshot(errors={Source(source): "it is down"})
    assert compared(lost, silent, **{source: "it is down"}) == ([], lost)
    posts, again = after(blocked, blocked, known=lost)
    assert posts == [[], [("source", True, [])]]
    assert replace(again, ending=frozenset()) == known


def test_problem_that_is_ending_waits_for_what_can_be_read() -> None:
    blocked, down = snapshot(BLOCKED, workers=ALIVE), run(None, database="it is down")
    posts, known = after(blocked, WELL, down)
    assert posts == [[WORSE], [], [("source", False, [])]]
    assert after(WELL, WELL, known=known)[0] == [[BETTER], [("source", True, [])]]


@pytest.mark.parametrize("source", Source)
def test_source_is_named_once(source: Source) -> None:
    message = "Redis can't be reached: it did not respond in time"
    (worse,), lost = news_since(Known(), run(None, **{source: message}), now=NOW, queue="site_generation")
    assert worse.text == message
    _, ending = compared(lost, WELL)
    (better,), _ = news_since(ending, run(WELL), now=NOW, queue="site_generation")
    assert (
        better.text
        == {
            Source.DATABASE: "the database responds again",
            Source.BROKER: "Redis responds again",
            Source.WORKERS: "the workers respond again",
            Source.FILES: "the sites directory can be read again",
        }[source]
    )


def test_source_that_was_not_needed_has_not_recovered() -> None:
    _, lost = compared(Known(), WELL, files="the mount hangs")
    news, both = compared(lost, None, database="it is down")
    assert news == [("source", False, [])]
    assert both.sources == {"database", "files"}


@pytest.mark.parametrize("value", [None, 5, [], {}, {"faults": 5}, {"faults": {"x": "y"}}, "text"])
def test_damaged_state_is_an_empty_one(value: Any) -> None:
    assert Known.from_json(value) == Known()


def test_message_for_slack_has_no_links_mentions_or_formatting_of_customers() -> None:
    names = dict.fromkeys(range(12), "<!channel> @here *b* & \x1b[2J")
    news = News(topic="orders", is_better=False, text="12 orders are failed", orders=names)  # type: ignore[arg-type]
    text = slack_data([news], context="shop", at=NOW)["text"]
    assert text.startswith("*sitegenctl: shop*\n:red_circle: 12 orders are failed: 0 ")
    assert text.endswith(" and 7 more")
    assert not {"<", ">", "\x1b"} & set(text)
    assert "@here" not in text
    assert "*b*" not in text
    assert not re.search(r"://\w|evil\.", text)
    assert len(news_line(news)) < 400
