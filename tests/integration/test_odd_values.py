"""Any JSON value at any place of replies and messages: it is dropped and counted, and stops nothing."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sitegenctl.adapters.celery.codec import (
    Decoder,
    Place,
    encode_messages,
    envelope,
    task_id_of,
)
from sitegenctl.adapters.celery.control import Replies
from sitegenctl.adapters.celery.events import decode_events
from sitegenctl.adapters.celery.fast import FastDecoder, parse
from sitegenctl.adapters.celery.health import CeleryHealth
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.celery.workload import QUESTIONS, Workload
from sitegenctl.domain.diagnosis.liveness import attribute
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey, survey_of
from sitegenctl.render.queue import worker_rows, workers_text
from sitegenctl.render.table import Screen
from tests.support.fake_worker import FakeWorker, request
from tests.support.world import QUEUE, TASK, World

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# As a worker of Celery 5.3.4 gives them.
_REQUEST = {
    "id": "8d9f1c3e-0001-4000-8000-000000000001",
    "name": TASK,
    "args": [42],
    "kwargs": {"resume": True},
    "type": TASK,
    "hostname": "celery@worker",
    "time_start": 1764500000.25,
    "acknowledged": False,
    "delivery_info": {"exchange": "", "routing_key": QUEUE, "priority": 0, "redelivered": False},
    "worker_pid": 4711,
}
_MAP = {**_REQUEST, "id": "map", "name": "celery.map", "type": "celery.map", "args": []}
_MAP["kwargs"] = {"task": {"task": TASK, "args": [], "kwargs": {}}, "it": [43]}
_REPLIES: dict[str, Any] = {
    "active": [_REQUEST, _MAP],
    "reserved": [{**_REQUEST, "id": "second", "time_start": None, "worker_pid": None}],
    "scheduled": [{"eta": "2026-01-01T00:00:00+00:00", "priority": 6, "request": {**_REQUEST, "id": "third"}}],
    "revoked": ["third"],
    "registered": [f"{TASK} [time_limit=600 soft_time_limit=540]", "celery.map"],
    "active_queues": [{"name": QUEUE, "exchange": {"name": QUEUE, "type": "direct"}, "routing_key": QUEUE}],
    "stats": {
        "total": {TASK: 3},
        "pid": 4700,
        "clock": "12",
        "uptime": 90,
        "pool": {
            "implementation": "celery.concurrency.prefork:TaskPool",
            "max-concurrency": 2,
            "processes": [4711, 4712],
            "timeouts": [540, 600],
        },
        "broker": {"transport_options": {"visibility_timeout": 3600}},
        "prefetch_count": 2,
        "rusage": {"maxrss": 90000},
    },
    "conf": {"broker_transport_options": {"visibility_timeout": 3600}},
    "report": {"ok": "software -> celery:5.3.4 (emerald-rush)"},
}

_PUBLICATION = Publication(
    task_id="8d9f1c3e-0001-4000-8000-000000000001", order_id=42, resume=True, actor="ana@crm", enqueued_at=NOW
)
_MESSAGE = json.loads(*encode_messages([_PUBLICATION], task_name=TASK, queue=QUEUE))
_MESSAGE["headers"] |= {"expires": None, "eta": NOW.isoformat()}
_SIGNATURE = {"task": TASK, "args": [43], "kwargs": {}, "options": {"task_id": "part"}, "immutable": True}
_BODY = [[42], {"resume": True}, {"callbacks": None, "errbacks": None, "chain": [_SIGNATURE], "chord": _SIGNATURE}]

_ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, "", "x", [], {}, [1], [[]], [None], {"request": 7}, {"a": []}),
        *(float("inf"), float("-inf"), float("nan"), 1e300, 2**63, -(2**70), 10**400),
        *("a\0b", "\ud800", "é\udfff", "\x1b[31m", "9999-12-31T23:59:59-14:00", "0001-01-01", "9" * 5000, "x" * 70_000),
        *([{}] * 3000, [[]] * 3000, ["x"] * 3000, list(range(3000)), {str(number): [] for number in range(3000)}),
    ]
)
_JSON = st.recursive(
    _ODD | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each value in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


@st.composite
def changed(draw: st.DrawFn, original: Any) -> Any:
    """The same with up to three values replaced, or removed."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(value))
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        holder = value
        for key in way:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = copy.deepcopy(draw(_JSON))  # one of those sampled may be changed next
    return value


class Answering(CeleryWorkers):
    """Workers that give these answers, as they come out of JSON."""

    def __init__(self, answers: dict[str, dict[str, Any]]) -> None:
        super().__init__("redis://127.0.0.1:1/0", QueueOptions(), timeout=1)
        self._answers = answers

    async def ask(self, methods: Sequence[str], **_: Any) -> Replies:
        found = json.loads(json.dumps(self._answers))
        return Replies(
            answers={name: {method: given.get(method) for method in methods} for name, given in found.items()}
        )


def texts(value: Any) -> Iterator[str]:
    """Every text in a value of the domain."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from texts(getattr(value, each.name))
    elif isinstance(value, dict):
        yield from texts(list(value.items()))
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from texts(each)


def storable(value: Any) -> bool:
    """Whether PostgreSQL and a terminal take every text in it."""
    return all("\0" not in text and text.encode("utf-8", "replace").decode() == text for text in texts(value))


@given(changed(_REPLIES), st.sampled_from(["celery@worker", "", "a\0b@\ud800", "x" * 5000]))
def test_any_reply_is_read(given_answers: dict[str, Any], name: str) -> None:
    workers = Answering({name: given_answers})
    survey = asyncio.run(workers.survey())
    roster = asyncio.run(workers.worker_details())
    health = CeleryHealth("redis://127.0.0.1:1/0", QueueOptions(), timeout=1, beat_task="beat")
    health._workers = workers
    facts = asyncio.run(health.workers())
    revoked = asyncio.run(workers.revoked())
    assert storable([survey, roster, facts, revoked])
    assert json.dumps(worker_rows(roster))
    assert workers_text(roster, now=NOW, queue=QUEUE, screen=Screen(width=100, colour=False))
    for each in (survey, survey_of(roster, task_name=TASK)):
        attribute((), each)
    Workload.of(asyncio.run(workers.ask(QUESTIONS)))


def test_replies_as_they_should_be_are_read_whole() -> None:
    workers = Answering({"celery@worker": _REPLIES})
    survey = asyncio.run(workers.survey())
    (worker,) = survey.workers
    claims = [(task.task_id, task.order_id, task.state, task.pid, task.part_of) for task in worker.tasks]
    assert claims == [
        (_REQUEST["id"], 42, TaskState.RUNNING, 4711, None),
        ("second", 42, TaskState.RESERVED, None, None),
        ("map#1", 43, TaskState.RUNNING, 4711, "celery.map"),
    ]
    assert worker.tasks[0].started_at == datetime.fromtimestamp(1764500000.25, UTC)
    assert [task.task_id for task in worker.others] == ["map"]
    assert worker.hard_limit is not None
    assert (worker.slots, worker.hard_limit.total_seconds(), survey.skipped) == (2, 600, {})
    assert survey_of(asyncio.run(workers.worker_details()), task_name=TASK) == survey


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({**_REQUEST, "id": [1]}, "a task without a text id"),
        ({**_REQUEST, "id": None}, "a task without a text id"),
        ({**_REQUEST, "name": 7, "type": None}, "a task without a text name"),
        ([_REQUEST], "a task without a text id"),
        ({"request": 7}, "a task without a text id"),
        ({**_REQUEST, "time_start": float("inf")}, "an unusable value of time_start"),
        ({**_REQUEST, "worker_pid": 10**400}, "an unusable value of worker_pid"),
    ],
)
def test_omitted_entries_of_a_reply_are_counted(entry: Any, what: str) -> None:
    answers = {**_REPLIES, "active": [entry, {**_REQUEST, "id": "good"}], "reserved": [], "scheduled": []}
    survey = asyncio.run(Answering({"odd@host": answers}).survey())
    assert "good" in [task.task_id for task in survey.workers[0].tasks]
    assert survey.skipped == {f"reply of odd@host: {what}": 1}


def test_task_type_takes_precedence_over_its_shown_name() -> None:
    answers = {**_REPLIES, "active": [{**_REQUEST, "name": "site of Ana"}]}
    survey = asyncio.run(Answering({"celery@worker": answers}).survey())
    assert survey.workers[0].tasks[0].order_id == 42


def test_one_id_at_two_workers_is_two_claims() -> None:
    survey = asyncio.run(Answering({"a@host": _REPLIES, "b@host": _REPLIES}).survey())
    claims = [task.worker for worker in survey.workers for task in worker.tasks if task.task_id == _REQUEST["id"]]
    assert claims == ["a@host", "b@host"]


@given(changed(_MESSAGE), changed(_BODY) | _JSON, st.booleans())
def test_any_message_is_read(message: Any, body: Any, replace_body: bool) -> None:
    if replace_body and isinstance(message, dict):
        message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    raw = json.dumps(message).encode()
    skipped: Counter[str] = Counter()
    place = Place(TaskState.UNACKED, delivery="tag", delivered_at=NOW)
    decoder = Decoder(TASK, now=NOW, skipped=skipped)
    items = [
        *decoder.decode(raw, place),
        *FastDecoder(TASK, now=NOW, skipped=skipped, parse=parse).decode(raw, place),
        *decoder.decode_unacked(b'[%s, "", "q"]' % raw, place),
    ]
    assert storable([items, dict(skipped)])
    ids = {task_id_of(envelope(b'[%s, "", "q"]' % raw, unacked=True)), task_id_of(envelope(raw, parse))}
    assert len(ids) == 1
    tasks = [item for item in items if isinstance(item, LiveTask)]
    attribute(BrokerReading(tasks=tuple(tasks)).tasks, WorkerSurvey())


@given(changed(_MESSAGE), _JSON)
def test_any_event_is_read(message: Any, body: Any) -> None:
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    decode_events(json.dumps(message).encode())


def test_an_odd_worker_is_named_by_doctor_and_stops_nothing(world: World) -> None:
    world.order(42, "GENERATING")
    odd = {"active": [request("running", 42), {"id": [1], "name": TASK}], "reserved": [7], "scheduled": {"a": 1}}
    more = {"active_queues": [{"name": QUEUE}], "registered": [TASK], "conf": {}, "report": {"ok": ""}}
    with FakeWorker(world, {**odd, **more}, name="odd@box"):
        found = json.loads(world.run("inspect", "42", "-o", "json").stdout)["data"]
        checked = world.run("doctor", "--quick")
        report = world.run("doctor", "--patience", "1s").stdout
    assert found["condition"] == "running"
    assert "Traceback" not in checked.stderr
    assert "skipped 2: reply of odd@box: a task without a text id" in report
    assert "skipped 1: reply of odd@box: scheduled is not a list" in report
