"""Decoding messages that nobody vouches for."""

from __future__ import annotations

import base64
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.adapters.calls import order_of
from sitegenctl.adapters.celery_messages import Place, decode, decode_unacked
from sitegenctl.domain.task import ForeignMessage, LiveTask, TaskState

TASK = "app.tasks.site_generation.generate_site_task"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Place(state=TaskState.QUEUED, position=3)


def message(body: object = ([42], {"resume": True}, {}), **headers: object) -> dict[str, object]:
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "headers": {"task": TASK, "id": "abc", "retries": 0, "eta": None, **headers},
        "properties": {"body_encoding": "base64"},
    }


def read(raw: object, place: Place = QUEUED) -> LiveTask | ForeignMessage:
    return decode(json.dumps(raw).encode(), place, task_name=TASK, now=NOW)


def test_a_task_of_ours() -> None:
    task = read(message(retries=2, sitegenctl_enqueued_at="2025-12-31T23:00:00+00:00", sitegenctl_actor="ana@host"))
    assert isinstance(task, LiveTask)
    assert (task.task_id, task.order_id, task.attempt, task.actor) == ("abc", 42, 3, "ana@host")
    assert task.enqueued_at == NOW - timedelta(hours=1)
    assert (task.state, task.position) == (TaskState.QUEUED, 3)


@pytest.mark.parametrize(
    ("minutes", "retries", "state"),
    [(5, 0, TaskState.SCHEDULED), (5, 1, TaskState.RETRYING), (-5, 1, TaskState.QUEUED)],
)
def test_a_future_eta_says_why_it_waits(minutes: int, retries: int, state: TaskState) -> None:
    eta = (NOW + timedelta(minutes=minutes)).isoformat()
    assert read(message(eta=eta, retries=retries)).state is state


def test_what_is_delivered_stays_unacked_until_a_worker_claims_it() -> None:
    raw = json.dumps([message(), "", "site_generation"]).encode()
    task = decode_unacked(raw, Place(state=TaskState.UNACKED), task_name=TASK, now=NOW)
    assert isinstance(task, LiveTask)
    assert task.state is TaskState.UNACKED


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ([42], {}, 42),
        ([], {"order_id": 7}, 7),
        ([2**31], {}, 2**31),
        ([2**63 - 1], {}, 2**63 - 1),
        ([2**63], {}, None),
        ([], {"order_id": 10**40}, None),
        ([0], {}, None),
        ([-1], {}, None),
        (["42"], {}, None),
        ([True], {}, None),
        ([], {}, None),
        ("x", 3, None),
    ],
)
def test_the_order_of_a_call(args: object, kwargs: object, expected: int | None) -> None:
    assert order_of(args, kwargs) == expected


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_pickle_is_shown_and_never_loaded() -> None:
    raw = {**message(), "content-type": "application/x-python-serialize"}
    raw["body"] = base64.b64encode(pickle.dumps(Bomb())).decode()
    found = read(raw)
    assert isinstance(found, ForeignMessage)
    assert "not JSON" in found.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"headers": 3}',
        b'{"headers": {"task": 1, "id": 2}}',
        json.dumps({**message(), "body": "%%%"}).encode(),
        json.dumps({**message(), "body": None}).encode(),
        json.dumps(message(body=[])).encode(),
        json.dumps(message(task="app.tasks.other")).encode(),
    ],
)
def test_anything_else_is_foreign_and_breaks_nothing(raw: bytes) -> None:
    for read_raw in (decode, decode_unacked):
        assert isinstance(read_raw(raw, QUEUED, task_name=TASK, now=NOW), ForeignMessage)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"headers": _JSON, "body": _JSON, "properties": _JSON}))
def test_any_json_is_decoded_to_something(raw: dict[str, object]) -> None:
    assert isinstance(read(raw), LiveTask | ForeignMessage)


@given(retries=_JSON, eta=_JSON, sitegenctl_enqueued_at=_JSON, sitegenctl_actor=_JSON, body=_JSON)
def test_any_header_of_our_own_task_is_survived(body: object, **headers: object) -> None:
    assert isinstance(read(message(body=body, **headers)), LiveTask | ForeignMessage)
