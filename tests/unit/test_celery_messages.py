from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import pickle
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sitegenctl.adapters.broker.task_args import UnreadableOrder, order_of, read_order
from sitegenctl.adapters.celery.codec import MAX_BODY, Decoder, Item, Place
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState

TASK = "app.tasks.site_generation.generate_site_task"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Place(state=TaskState.QUEUED, position=3)


def message(body: object = ([42], {"resume": True}, {}), **headers: object) -> dict[str, Any]:
    return with_body(json.dumps(body).encode(), **headers)


def with_body(body: bytes, **headers: object) -> dict[str, Any]:
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "headers": {"task": TASK, "id": "abc", "retries": 0, "eta": None, **headers},
        "properties": {"body_encoding": "base64"},
    }


def items(raw: object, place: Place = QUEUED) -> list[Item]:
    return Decoder(TASK, now=NOW).decode(json.dumps(raw).encode(), place)


def read(raw: object, place: Place = QUEUED) -> Item:
    (item,) = items(raw, place)
    return item


def read_task(raw: object, place: Place = QUEUED) -> LiveTask:
    item = read(raw, place)
    assert isinstance(item, LiveTask)
    return item


def read_foreign(raw: object) -> ForeignMessage:
    item = read(raw)
    assert isinstance(item, ForeignMessage)
    return item


def test_a_task_of_ours() -> None:
    task = read_task(
        message(retries=2, sitegenctl_enqueued_at="2025-12-31T23:00:00+00:00", sitegenctl_actor="ana@host")
    )
    assert (task.task_id, task.order_id, task.attempt, task.actor) == ("abc", 42, 3, "ana@host")
    assert task.enqueued_at == NOW - timedelta(hours=1)
    assert (task.state, task.position) == (TaskState.QUEUED, 3)


@pytest.mark.parametrize(
    ("minutes", "retries", "state"),
    [(5, 0, TaskState.SCHEDULED), (5, 1, TaskState.RETRYING), (-5, 1, TaskState.QUEUED)],
)
def test_a_future_eta_is_the_reason_for_waiting(minutes: int, retries: int, state: TaskState) -> None:
    eta = (NOW + timedelta(minutes=minutes)).isoformat()
    assert read(message(eta=eta, retries=retries)).state is state


def test_delivered_message_is_unacked() -> None:
    raw = json.dumps([message(), "", "site_generation"]).encode()
    place = Place(TaskState.UNACKED, delivery="tag", delivered_at=NOW)
    (task,) = Decoder(TASK, now=NOW).decode_unacked(raw, place)
    assert isinstance(task, LiveTask)
    assert (task.state, task.delivery, task.delivered_at) == (TaskState.UNACKED, "tag", NOW)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ([42], {}, 42),
        (["42"], {}, 42),
        ([" +42\n"], {}, 42),
        ([42.0], {}, 42),
        ([{"__type__": "decimal", "__value__": "42"}], {}, 42),
        ([], {"order_id": 7}, 7),
        ([], {"order_id": "7"}, 7),
        ([MAX_ORDER_ID], {}, MAX_ORDER_ID),
        ([MAX_ORDER_ID + 1], {}, None),
        ([], {"order_id": 10**40}, None),
        (["9" * 5000], {}, None),
        ([1e300], {}, None),
        ([0], {}, None),
        (["-1"], {}, None),
    ],
)
def test_the_order_of_a_call(args: object, kwargs: object, expected: int | None) -> None:
    assert read_order(args, kwargs) == expected


UNREADABLE = [
    ["abc"],
    [{"id": 42}],
    [[42]],
    [],
    [None],
    [True],
    [42.5],
    [float("nan")],
    [float("inf")],
    ["٤٢"],
    ["4_2"],
    [""],
]


@pytest.mark.parametrize("args", [*UNREADABLE, "x", {"order_id": 42}, 42], ids=repr)
def test_arguments_that_name_no_order(args: object) -> None:
    with pytest.raises(UnreadableOrder):
        read_order(args, 3)
    assert order_of(args, 3) is None


@pytest.mark.parametrize("args", UNREADABLE, ids=repr)
def test_a_call_of_ours_without_a_readable_order_may_be_of_any(args: object) -> None:
    decoded = read_foreign(message(body=(args, {}, {})))
    assert (decoded.may_be_ours, decoded.reason, decoded.task_id) == (True, "its arguments name no order", "abc")


@pytest.mark.parametrize("order_id", [0, -5, 2**70])
def test_a_number_that_no_order_has_is_of_no_order(order_id: int) -> None:
    task = read_task(message(body=([order_id], {}, {})))
    assert task.order_id is None


BODY = json.dumps(([42], {"resume": True}, {})).encode()


@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        ("application/x-gzip", zlib.compress),
        ("application/x-gzip", gzip.compress),
        ("gzip", zlib.compress),
        ("zlib", zlib.compress),
        ("application/zlib", zlib.compress),
        ("application/x-bz2", bz2.compress),
        ("bzip2", bz2.compress),
        ("application/x-lzma", lzma.compress),
    ],
)
def test_a_compressed_body_is_read(compression: str, compress: Callable[[bytes], bytes]) -> None:
    assert read_task(with_body(compress(BODY), compression=compression)).order_id == 42


@pytest.mark.parametrize("compress", [zlib.compress, bz2.compress, lzma.compress])
def test_a_body_too_large_when_decompressed_may_be_of_any_order(compress: Any) -> None:
    name = {zlib.compress: "gzip", bz2.compress: "bzip2", lzma.compress: "lzma"}[compress]
    decoded = read_foreign(with_body(compress(b" " * MAX_BODY + BODY), compression=name))
    assert (decoded.may_be_ours, decoded.reason) == (True, "its body is larger than 16 MB decompressed")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


PICKLE = pickle.dumps([[42], {}, Bomb()])


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (with_body(BODY, compression="application/zstd"), "compressed as application/zstd, which is not supported"),
        (with_body(BODY, compression=7), "compressed as an unknown type, which is not supported"),
        (with_body(BODY, compression="gzip"), "its body cannot be decompressed"),
        (with_body(zlib.compress(BODY)[:-9], compression="gzip"), "its body cannot be decompressed"),
        (
            with_body(PICKLE) | {"content-type": "application/x-python-serialize"},
            "serialized as application/x-python-serialize, not JSON",
        ),
        (
            with_body(b"[[42], {}]") | {"content-type": "application/x-yaml"},
            "serialized as application/x-yaml, not JSON",
        ),
        (with_body(BODY) | {"content-type": None}, "serialized as an unknown type, not JSON"),
        (with_body(b'[["\xe9"], {}]'), "its arguments cannot be decoded"),
        (with_body(b"[" * 100_000), "its arguments cannot be decoded"),
        (with_body(BODY) | {"body": "%%%é"}, "its body cannot be decoded"),
        (with_body(BODY) | {"body": {"args": [42]}}, "its body cannot be decoded"),
        (with_body(BODY) | {"properties": {"body_encoding": "rot13"}}, "its body has an unknown encoding"),
        (with_body(b"[]"), "its body holds no arguments"),
        (with_body(b'"x"'), "its body holds no arguments"),
        (with_body(BODY, id=7), "its id is not a text"),
    ],
)
def test_an_unreadable_message_of_ours_may_be_any_orders(raw: dict[str, Any], reason: str) -> None:
    decoded = read_foreign(raw)
    assert (decoded.name, decoded.may_be_ours, decoded.reason) == (TASK, True, reason)


@pytest.mark.parametrize(
    "raw",
    [
        {"body": BODY.decode(), "properties": {}},
        {"content-encoding": "binary"},
        {"content-encoding": "us-ascii"},
        {"content-type": "application/json; charset=utf-8"},
    ],
)
def test_other_ways_to_write_the_same_body(raw: dict[str, Any]) -> None:
    assert read_task(message() | raw).order_id == 42


FIRST = {"task": TASK, "id": "abc", "args": [42], "kwargs": {}, "retries": 2, "timelimit": [600, 540]}


@pytest.mark.parametrize("headers", [{}, None])
def test_protocol_1(headers: object) -> None:
    eta = (NOW + timedelta(minutes=5)).isoformat()
    task = read_task(message(body={**FIRST, "eta": eta}) | {"headers": headers})
    assert (task.task_id, task.order_id, task.attempt, task.state) == ("abc", 42, 3, TaskState.RETRYING)
    assert (task.limit, task.eta) == (timedelta(seconds=600), NOW + timedelta(minutes=5))


@pytest.mark.parametrize("expires", ["2025-12-31T23:55:00+00:00", "2025-12-31T23:55:00", (NOW.timestamp() - 300)])
@pytest.mark.parametrize("protocol", [1, 2])
def test_expired_message_is_live_only_once_delivered(expires: object, protocol: int) -> None:
    raw = message(expires=expires) if protocol == 2 else message(body={**FIRST, "expires": expires}) | {"headers": {}}
    decoded = read_foreign(raw)
    assert (decoded.reason, decoded.may_be_ours, decoded.name) == ("expired 5m ago", False, TASK)
    assert isinstance(read(raw, Place(TaskState.UNACKED)), LiveTask)


@pytest.mark.parametrize("expires", [None, "2026-01-01T00:00:01", "soon", [], NOW.timestamp() + 1, float("inf")])
def test_an_unexpired_message_is_live(expires: object) -> None:
    assert isinstance(read(message(expires=expires)), LiveTask)


@pytest.mark.parametrize(
    ("timelimit", "limit"),
    [([600, 540], timedelta(seconds=600)), ([None, 540], None), ([0, 0], None), ([float("inf"), 1], None), ("x", None)],
)
def test_the_hard_limit_of_a_message(timelimit: object, limit: timedelta | None) -> None:
    assert read_task(message(timelimit=timelimit)).limit == limit


def test_id_that_postgresql_rejects_is_escaped() -> None:
    raw = json.dumps(message(id="a\0b\ud800")).encode()
    skipped: Counter[str] = Counter()
    (task,) = Decoder(TASK, now=NOW, skipped=skipped).decode(raw, QUEUED)
    assert task.task_id == "a\\x00b\\ud800"
    assert skipped == {"message: an id with characters that are no text": 1}


def test_values_that_do_not_fit_are_counted() -> None:
    raw = json.dumps(message(retries=float("inf"), eta=[], sitegenctl_actor=7)).encode()
    skipped: Counter[str] = Counter()
    (task,) = Decoder(TASK, now=NOW, skipped=skipped).decode(raw, QUEUED)
    assert isinstance(task, LiveTask)
    assert (task.order_id, task.attempt, task.actor) == (42, 1, None)
    assert skipped == {f"message: an unusable value of {name}": 1 for name in ("retries", "eta", "sitegenctl_actor")}


OTHER = {"task": "other.task"}
SIGNATURE = {"task": TASK, "args": [42], "kwargs": {}, "options": {"task_id": "part"}, "immutable": True}


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        (OTHER, json.dumps([["a"], {}, {"chain": None}]).encode()),
        (OTHER, json.dumps([["é"], {"note": "\u0061"}]).encode()),
        (OTHER, PICKLE),
        (OTHER, b"\xff"),
        (OTHER | {"id": 7}, BODY),
        (OTHER | {"compression": "application/zstd"}, b"?"),
    ],
)
def test_a_message_of_another_task_is_foreign(headers: dict[str, Any], raw: bytes) -> None:
    content_type = "application/x-python-serialize" if raw == PICKLE else "application/json"
    decoded = read_foreign(with_body(raw, **headers) | {"content-type": content_type})
    assert (decoded.name, decoded.may_be_ours) == ("other.task", False)


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        (OTHER, pickle.dumps([[TASK, 42], {}, {}])),
        (OTHER, json.dumps([[TASK, 42], {}, {}]).encode()),
        (OTHER, json.dumps([[TASK.replace("a", "\0"), 42], {}, {}]).replace("\\u0000", "\\u0061").encode()),
        (OTHER | {"argsrepr": f"({TASK!r}, 42)", "compression": "application/zstd"}, b"?"),
        ({"task": "celery.chunks", "compression": "application/zstd"}, b"?"),
        ({"task": "celery.starmap"}, json.dumps([[], {"task": {"task": TASK}, "it": {"a": 1}}, {}]).encode()),
        (OTHER, json.dumps([[], {}, {"chain": [SIGNATURE | {"immutable": False}]}]).encode()),
        (OTHER, json.dumps([[], {}, {"chord": SIGNATURE | {"args": ["abc"]}}]).encode()),
    ],
)
def test_unreadable_message_naming_our_task_may_be_ours(headers: dict[str, Any], raw: bytes) -> None:
    assert read_foreign(with_body(raw, **headers)).may_be_ours


def test_a_deeply_nested_part_may_be_any_orders() -> None:
    deep = b'{"a": ' * 900 + json.dumps(SIGNATURE).encode() + b"}" * 900
    decoded = read(with_body(b"[[%s], {}, {}]" % deep, **OTHER))
    assert isinstance(decoded, LiveTask) or decoded.may_be_ours


@pytest.mark.parametrize(
    "raw",
    [TASK.encode(), b'{"headers": {"task": "%s"' % TASK.encode(), b'{"task": "%s", "id": 1}' % TASK.encode()],
)
def test_garbage_naming_our_task_may_be_ours(raw: bytes) -> None:
    decoder = Decoder(TASK, now=NOW)
    for decode in (decoder.decode, decoder.decode_unacked):
        (decoded,) = decode(raw, QUEUED)
        assert isinstance(decoded, ForeignMessage)
        assert decoded.may_be_ours


def test_a_part_is_where_its_carrier_is() -> None:
    raw = message(
        body=([], {}, {"chain": [SIGNATURE, SIGNATURE | {"options": {}}]}),
        **OTHER,
        timelimit=[600, None],
        eta=(NOW + timedelta(minutes=1)).isoformat(),
    )
    first, second = items(raw, Place(TaskState.QUEUED, 7))
    assert (first.task_id, second.task_id) == ("part", "abc#2")
    for part in (first, second):
        assert (part.name, part.order_id, part.part_of, part.carrier) == (TASK, 42, "other.task", "abc")
        assert (part.state, part.position, part.limit) == (TaskState.SCHEDULED, 7, timedelta(seconds=600))


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
        json.dumps(message(task="app.tasks.other")).encode(),
    ],
)
def test_anything_else_is_foreign_and_breaks_nothing(raw: bytes) -> None:
    decoder = Decoder(TASK, now=NOW)
    for decode in (decoder.decode, decoder.decode_unacked):
        (decoded,) = decode(raw, QUEUED)
        assert isinstance(decoded, ForeignMessage)
        assert not decoded.may_be_ours


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"headers": _JSON, "body": _JSON, "properties": _JSON}))
def test_any_json_is_decoded_to_something(raw: dict[str, object]) -> None:
    assert all(isinstance(item, LiveTask | ForeignMessage) for item in items(raw))


@given(retries=_JSON, eta=_JSON, sitegenctl_enqueued_at=_JSON, sitegenctl_actor=_JSON, body=_JSON)
def test_any_header_of_our_own_task_is_survived(body: object, **headers: object) -> None:
    assert items(message(body=body, **headers))
