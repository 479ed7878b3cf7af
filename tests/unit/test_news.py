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
from sitegenctl.domain.orders.order import Onboarding, OrderStatus
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.render.news import news_line, slack_data
from tests.support.values import NOW, order, snapshot, task

FAILED = order(41, OrderStatus.GENERATING, "START", "ERROR")
ALIVE = WorkerSurvey(workers=("w1",))
WELL = snapshot(workers=ALIVE)


def compared(known: Known, now: Snapshot | None, **errors: str) -> tuple[list[tuple[str, bool, list[int]]], Known]:
    """Topic, whether it is better, and the orders of what is news."""
    sources = {Source(name): text for name, text in errors.items()}
    at = NOW if now is None else now.taken_at
    news, state = news_since(known, now, sources, now=at, queue="site_generation")
    assert Known.from_json(state.to_json()) == state
    return [(str(each.topic), each.is_better, list(each.orders)) for each in news], state


def later(of: Snapshot, minutes: float) -> Snapshot:
    return replace(of, taken_at=NOW + timedelta(minutes=minutes))


def test_each_fault_is_news_once_and_its_end_too() -> None:
    failed = snapshot(FAILED, workers=ALIVE)
    news, known = compared(Known(), failed)
    assert news == [("orders", False, [41])]
    assert compared(known, failed)[0] == []
    blocked = snapshot(replace(FAILED, onboarding=Onboarding.MISSING), workers=ALIVE)
    news, known = compared(known, blocked)
    assert news == [("orders", False, [41])]
    news, known = compared(known, WELL)
    assert news == [("orders", True, [41])]
    assert compared(known, WELL) == ([], Known())


def test_late_order_is_news_once() -> None:
    due = snapshot(order(due_in=timedelta(hours=1)), order(43, due_in=None), workers=ALIVE, files=9)
    _, known = compared(Known(), due)
    late = snapshot(order(due_in=timedelta(minutes=-1)), order(43, due_in=None), workers=ALIVE, files=9)
    news, known = compared(known, late)
    assert news == [("promise", False, [42])]
    assert compared(known, late)[0] == []


def test_missing_worker_is_news_once() -> None:
    gone = snapshot(order(), workers=WorkerSurvey(), tasks=(task(position=0),))
    news, known = compared(Known(), gone)
    assert news == [("workers", False, [])]
    assert compared(known, gone)[0] == []
    assert compared(known, WELL)[0] == [("workers", True, [])]


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
    assert compared(stuck, later(runs, minutes + 1))[0] == [("queue", True, [])]
    taken = replace(waits, orders={43: order(43)}, tasks=tasks[1:])
    assert compared(stuck, later(taken, minutes + 1))[0] == [("queue", True, [])]
    assert compared(known, later(taken, minutes))[0] == []


def test_task_put_before_the_others_does_not_end_a_standstill() -> None:
    waits = snapshot(order(), workers=ALIVE, tasks=(task(position=0),), files=9)
    _, known = compared(Known(), waits)
    _, stuck = compared(known, later(waits, STUCK_FOR / timedelta(minutes=1)))
    tasks = (task(task_id="t2", order_id=43, position=0), task(position=1))
    overtaken = snapshot(order(), order(43), workers=ALIVE, tasks=tasks, files=9)
    assert compared(stuck, later(overtaken, 12))[0] == []


def test_order_whose_files_cannot_be_counted_has_not_recovered() -> None:
    ended = order(41, OrderStatus.GENERATING, "START", "SUCCESS")
    news, known = compared(Known(), snapshot(ended, workers=ALIVE))
    assert news == [("orders", False, [41])]
    blind = snapshot(ended, workers=ALIVE, files=None, errors={Source.FILES: "the mount hangs"})
    news, lost = compared(known, blind, files="the mount hangs")
    assert news == [("source", False, [])]
    assert compared(lost, snapshot(ended, workers=ALIVE)) == ([("source", True, [])], known)


@pytest.mark.parametrize("source", ["database", "broker", "workers"])
def test_source_that_does_not_respond_changes_nothing_else(source: str) -> None:
    _, known = compared(Known(), snapshot(FAILED, workers=ALIVE))
    news, lost = compared(known, None, **{source: "it is down"})
    assert news == [("source", False, [])]
    assert lost == replace(known, sources=frozenset({source}))
    assert compared(lost, None, **{source: "it is still down"})[0] == []
    silent = snapshot(errors={Source(source): "it is down"})
    assert compared(lost, silent, **{source: "it is down"}) == ([], lost)
    assert compared(lost, snapshot(FAILED, workers=ALIVE)) == ([("source", True, [])], known)


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
