from __future__ import annotations

import sys
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len

from sitegenctl.adapters.celery.events import decode_events, event_patterns
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.domain.queue import event as event_module
from sitegenctl.domain.queue.event import (
    Event,
    EventFilter,
    NoEvent,
    OrderMemory,
    order_of_call,
    read_event,
)
from sitegenctl.render.log import event_lines

TASK = "app.generate"


def event(kind: str, **fields: Any) -> Event:
    parsed = read_event({"type": kind, "hostname": "celery@box", "timestamp": 1767225600.5, **fields})
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        *((args, "{}") for args in ("[42]", "(42,)", "[42, True]", "(42, False)", "[ 42 ]")),
        *(("()", kwargs) for kwargs in ("{'order_id': 42}", "{'order_id': 42, 'resume': True}")),
    ],
)
def test_order_is_read_from_arguments(args: str, kwargs: str) -> None:
    assert order_of_call(args, kwargs) == 42


@pytest.mark.parametrize(
    "args",
    [
        "[42",
        "['42']",
        "[42.0]",
        "[9223372036854775808]",
        "[0]",
        "[-1]",
        "[[42]]",
        "[42, {'x': 1}]",
        "[\uff14\uff12]",
        "[42, ...]",
        42,
        None,
    ],
)
def test_anything_else_names_no_order(args: Any) -> None:
    assert order_of_call(args, "{'order_id': '42'}") is None


def test_later_events_of_a_task_have_its_order() -> None:
    memory = OrderMemory(TASK)
    assert memory.attribute(event("task-started", uuid="a")).order_id is None
    assert memory.attribute(event("task-received", uuid="a", name=TASK, args="[42]")).order_id == 42
    assert memory.attribute(event("task-started", uuid="a")).order_id == 42
    assert memory.attribute(event("task-received", uuid="b", name="other", args="[7]")).order_id is None
    assert memory.attribute(event("worker-online")).order_id is None


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_module, "REMEMBERED", 2)
    memory = OrderMemory(TASK)
    for order_id, task_id in enumerate("abc", 1):
        memory.learn(task_id, order_id)
    assert [memory.attribute(event("task-started", uuid=task)).order_id for task in "abc"] == [None, 2, 3]


def test_filters() -> None:
    started = event("task-started", uuid="a")
    beat = event("worker-heartbeat")
    assert EventFilter().matches(started)
    assert not EventFilter().matches(beat)
    assert EventFilter(heartbeats=True).matches(beat)
    assert EventFilter(types=frozenset({"worker-heartbeat"})).matches(beat)
    assert not EventFilter(types=frozenset({"task-failed"})).matches(started)
    assert not EventFilter(orders=frozenset({42})).matches(started)
    for name, wanted in {"celery@box": True, "box": True, "celery": True, "bo": False, "celery@bo": False}.items():
        assert EventFilter(worker=name).matches(started) is wanted


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.integers() | st.text()), st.integers(1, 200)
)
def test_any_event_fits_the_screen(fields: dict[str, Any], width: int) -> None:
    parsed = read_event({**fields, "type": "task-failed"})
    assert parsed is not None
    lines = event_lines(parsed, width=width)
    # Python's Unicode tables may be older than Hypothesis's: characters that they don't know count as unprintable.
    assert all(each.isprintable() or category(each) == "Cn" for line in lines for each in line)
    assert all(width < 20 or cell_len(line) <= width for line in lines)
    assert len(event_lines(parsed, width=sys.maxsize)) == 1


@pytest.mark.parametrize("field", ["uuid", "hostname", "timestamp", "runtime", "name", "exception", "retries", "eta"])
@pytest.mark.parametrize("value", [None, [], {}, 1e400, float("nan"), 10**400, True, "x\x1b[2J\n"])
def test_no_field_is_trusted(field: str, value: Any) -> None:
    parsed = read_event({"type": "task-failed", field: value})
    assert parsed is not None
    assert all(line.isprintable() for line in event_lines(parsed, width=80))


def test_a_generation_that_failed_is_not_shown_as_a_success() -> None:
    result = "{'success': False, 'error': 'no space left'}"
    (line,) = event_lines(event("task-succeeded", uuid="a", runtime=2.5, result=result), width=200)
    assert "✓" not in line
    assert "no space left" in line


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_exception_is_readable_whole(width: int) -> None:
    failed = event("task-failed", uuid="a" * 36, exception=f"OSError({'no space left on /device ' * 20!r})")
    first, *rest = event_lines(failed, width=width)
    assert rest
    assert " ".join(line.strip() for line in (first, *rest)).count("no space left on /device") == 20
    indent = 2 if width == 40 else 27
    assert {len(line) - len(line.lstrip()) for line in rest} == {indent}


@given(st.binary())
def test_no_message_breaks_the_stream(raw: bytes) -> None:
    assert all(isinstance(each, Event | NoEvent) for each in decode_events(raw))


def test_kombu_s_layout_is_followed() -> None:
    assert event_patterns(QueueOptions(), 3, sentinel=False) == ("/3.celeryev", "/3.celeryev/*")
    prefixed = QueueOptions(global_keyprefix="a[b]*")
    assert event_patterns(prefixed, 0, sentinel=False)[1] == r"a\[b\]\*/0.celeryev/*"
    assert "/{db}.celeryev/*" in event_patterns(QueueOptions(), 0, sentinel=True)
