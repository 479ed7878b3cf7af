"""Reading a queue that moves meanwhile, and long ones, on a real Redis."""

from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st
from redis.asyncio import Redis

from sitegenctl.adapters.celery.codec import Decoder, Place, encode_messages
from sitegenctl.adapters.celery.fast import FastDecoder, parse
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.reader import Bounds, QueueReading
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.domain.queue.task import BrokerReading, Publication, TaskState
from tests.support.servers import async_redis, close
from tests.support.world import QUEUE, TASK

OPTIONS = QueueOptions()
LISTS = OPTIONS.lists[:2]
NOW = datetime(2026, 1, 1, tzinfo=UTC)

# Each change is atomic, unlike kombu's: a reader cannot miss a task in transit.
_DELIVER = """
local message = redis.call('RPOP', KEYS[1])
if message then redis.call('HSET', KEYS[2], ARGV[1], '[' .. message .. ', "", "q"]') end
return message
"""
_RESTORE = """
local delivery = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[1], string.sub(delivery, 2, -11))
"""


def message(task_id: str, *, order_id: int = 42, **headers: object) -> bytes:
    publication = Publication(task_id=task_id, order_id=order_id, resume=True, actor="ana@crm", enqueued_at=NOW)
    (text,) = encode_messages([publication], task_name=TASK, queue=QUEUE)
    decoded = json.loads(text)
    decoded["headers"] |= headers
    return json.dumps(decoded).encode()


class Mover:
    """Workers and publishers that do one thing after another to tasks that all stay alive."""

    def __init__(self, client: Redis, seed: int) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.numbers = itertools.count()
        self.delivered: dict[str, tuple[str, str]] = {}
        self.live: set[str] = set()
        self.moves = dict.fromkeys((self.publish, self.deliver, self.restore, self.retry, self.revoke), 0)

    async def fill(self, count: int) -> None:
        for number in range(count):
            self.live.add(f"task-{number}")
            await self.client.lpush(self.random.choice(LISTS), message(f"task-{number}"))
        for _ in range(count // 3):
            await self.deliver()

    async def move(self) -> None:
        move = self.random.choices(list(self.moves), [1, 3, 2, 2, 1])[0]
        await move()
        self.moves[move] += 1

    async def publish(self) -> None:
        other = message(f"other-{next(self.numbers)}", order_id=7)
        await self.client.lpush(self.random.choice(LISTS), other)

    async def deliver(self) -> None:
        key, tag = self.random.choice(LISTS), f"tag-{next(self.numbers)}"
        raw = await self.client.eval(_DELIVER, 2, key, OPTIONS.unacked, tag)
        if raw is not None:
            self.delivered[tag] = (key, json.loads(raw)["headers"]["id"])

    async def restore(self) -> None:
        if self.delivered:
            tag = self.random.choice(list(self.delivered))
            key, _ = self.delivered.pop(tag)
            await self.client.eval(_RESTORE, 2, key, OPTIONS.unacked, tag)

    async def retry(self) -> None:
        if self.delivered:
            tag = self.random.choice(list(self.delivered))
            key, task_id = self.delivered.pop(tag)
            await self.client.lpush(key, message(task_id, retries=1))
            await self.client.hdel(OPTIONS.unacked, tag)

    async def revoke(self) -> None:
        """An operator takes a task out of the middle of a list."""
        key = self.random.choice(LISTS)
        for raw in await self.client.lrange(key, 0, -1):
            if json.loads(raw)["headers"]["id"] not in self.live:
                await self.client.lrem(key, 1, raw)
                return


class Interrupted:
    """A connection that calls a hook before each command of the reader, and records the replies."""

    def __init__(self, connection: Connection, meanwhile: Callable[[], Any]) -> None:
        self._connection = connection
        self._meanwhile = meanwhile
        self.largest = 0
        self.commands = 0

    async def execute(self, *commands: Any, **options: Any) -> list[Any]:
        await self._meanwhile()
        found = await self._connection.execute(*commands, **options)
        self.commands += 1
        self.largest = max(self.largest, _size(found))
        return found


def _size(answer: Any) -> int:
    if isinstance(answer, bytes):
        return len(answer)
    return 0 if not isinstance(answer, list) else sum(map(_size, answer))


async def nothing() -> None:
    pass


async def read(connection: Connection, *, only: Collection[int] | None = None, **bounds: int) -> BrokerReading:
    return await QueueReading(connection, OPTIONS, Bounds(**bounds), now=NOW, only=only).read()


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    connection = Connection(redis_url, OPTIONS, timeout=10)
    yield connection
    await connection.aclose()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = async_redis(redis_url)
    yield client
    await close(client)


def ids(reading: BrokerReading) -> list[str]:
    return [task.task_id for task in reading.tasks]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("only", [None, {42}], ids=["every order", "one order"])
@pytest.mark.parametrize(
    ("at_once", "bounds"),
    [
        (3, {"atomic": 0, "batch": 200, "edge": 32}),  # `unacked` in one step, lists in one or two
        (3, {"atomic": 0, "batch": 128, "edge": 32}),
        (1, {"atomic": 0, "batch": 7, "edge": 7, "rounds": 1000}),  # everything in many steps
    ],
    ids=["few steps", "some steps", "many steps"],
)
async def test_every_live_task_is_read_once_while_tasks_move(
    client: Redis, connection: Connection, seed: int, only: set[int] | None, at_once: int, bounds: dict[str, int]
) -> None:
    mover = Mover(client, seed)
    await mover.fill(90)

    async def meanwhile() -> None:
        for _ in range(mover.random.randint(0, at_once)):
            await mover.move()

    interrupted = Interrupted(connection, meanwhile)
    for _ in range(4):
        found = ids(await read(interrupted, only=only, **bounds))
        assert mover.live - set(found) == set()
        assert len(found) == len(set(found))
        assert only is None or set(found) == mover.live
    assert sum(mover.moves.values()) > 10


async def test_a_mover_of_its_own_doesn_t_hide_a_task_either(
    client: Redis, connection: Connection, redis_url: str
) -> None:
    mover = Mover(async_redis(redis_url), 1)
    # So few that `unacked` (a third of them) is read in one step: in several steps it has a known hole.
    await mover.fill(300)
    reading = asyncio.Event()

    async def move() -> None:
        while not reading.is_set():
            await mover.move()

    moving = asyncio.create_task(move())
    for _ in range(12):
        found = ids(await read(connection, atomic=0, batch=256, edge=20, rounds=1000))
        assert mover.live - set(found) == set()
        assert len(found) == len(set(found))
    reading.set()
    await moving
    await close(mover.client)
    assert all(mover.moves.values())


async def test_a_message_published_during_a_long_read_is_read(client: Redis, connection: Connection) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}") for number in range(100)))
    burst = iter(range(3))

    async def meanwhile() -> None:
        if (number := next(burst, None)) is not None:
            await client.lpush(QUEUE, *(message(f"burst-{number}-{n}") for n in range(50)))

    tasks = (await read(Interrupted(connection, meanwhile), atomic=0, batch=10, edge=8)).tasks
    assert [task.task_id for task in tasks[:2]] == ["task-0", "task-1"]
    assert [task.position for task in tasks] == list(range(250))
    assert [task.task_id for task in tasks][100::50] == ["burst-0-0", "burst-1-0", "burst-2-0"]


async def test_many_messages_restored_at_once_are_read(client: Redis, connection: Connection) -> None:
    mover = Mover(client, 3)
    await mover.fill(120)
    steps = itertools.count()

    async def meanwhile() -> None:
        if next(steps) == 15:  # most of the lists is read
            for _ in range(len(mover.delivered)):
                await mover.restore()

    found = ids(await read(Interrupted(connection, meanwhile), atomic=0, batch=5, edge=4))
    assert (mover.live, mover.delivered) == (set(found), {})


async def test_a_queue_that_never_rests_is_given_up(client: Redis, connection: Connection) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}") for number in range(50)))

    async def meanwhile() -> None:
        await client.lpush(QUEUE, *(message(f"new-{number}") for number in range(30)))

    with pytest.raises(Exception, match="moves faster than it can be read"):
        await read(Interrupted(connection, meanwhile), atomic=0, batch=10, edge=8, rounds=3)
    assert gc.isenabled()


@pytest.mark.parametrize("enabled", [True, False])
async def test_garbage_collection_is_restored_after_reading(
    client: Redis, connection: Connection, enabled: bool
) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}") for number in range(20)))
    if not enabled:
        gc.disable()
    try:
        assert len(ids(await read(connection, atomic=0, batch=7))) == 20
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


@pytest.mark.parametrize("bounds", [{}, {"atomic": 0, "batch": 7, "edge": 3}], ids=["at once", "in batches"])
async def test_only_tasks_of_the_selected_orders_are_kept(
    client: Redis, connection: Connection, bounds: dict[str, int]
) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}", order_id=number) for number in range(1, 51)), b"junk")
    raw = message("task-60", order_id=60), message("task-61", order_id=61)
    await client.hset(OPTIONS.unacked, mapping={f"tag-{n}": b'[%s, "", "q"]' % each for n, each in enumerate(raw)})
    reading = await read(connection, only={40, 3, 60, 999}, **bounds)
    kept = [(task.task_id, task.state, task.position) for task in reading.tasks]
    assert kept == [
        ("task-3", TaskState.QUEUED, None),
        ("task-40", TaskState.QUEUED, None),
        ("task-60", TaskState.UNACKED, None),
    ]
    assert reading.foreign == ()


def twice(*others: str) -> list[bytes]:
    """Messages with the middle one pushed twice, as by a publisher that lost the reply to its first push."""
    copy = message("copied")
    before, after = [message(each) for each in others[::2]], [message(each) for each in others[1::2]]
    return [*before, copy, *after[:1], copy, *after[1:]]


@pytest.mark.parametrize(
    "bounds",
    [{}, {"atomic": 0, "batch": 100, "edge": 8}, {"atomic": 0, "batch": 12, "edge": 4}],
    ids=["at once", "in one batch", "in batches"],
)
async def test_each_place_of_a_task_is_read(client: Redis, connection: Connection, bounds: dict[str, int]) -> None:
    others = [f"other-{number}" for number in range(30)]
    await client.lpush(LISTS[0], *twice(*others))
    await client.lpush(LISTS[1], message("restored"), message("retried", retries=1))
    for tag, task_id in (("first", "restored"), ("second", "restored"), ("third", "retried")):
        await client.hset(OPTIONS.unacked, tag, b'[%s, "", "q"]' % message(task_id))
        await client.zadd(OPTIONS.unacked_index, {tag: 1764500000.5})
    await client.hset(OPTIONS.unacked, "undated", b'[%s, "", "q"]' % message("undated"))
    tasks = (await read(connection, **bounds)).tasks
    places: dict[str, set[str | int | None]] = {}
    for task in tasks:
        places.setdefault(task.task_id, set()).add(task.position if task.delivery is None else task.delivery)
    assert len(places.pop("copied")) == 2
    assert places.pop("restored") == {32, "first", "second"}
    assert places.pop("retried") == {33, "third"}
    assert places.pop("undated") == {"undated"}
    assert sorted(places) == sorted(others)
    delivered = {task.delivery: task.delivered_at for task in tasks if task.delivery}
    moment = datetime.fromtimestamp(1764500000.5, UTC)
    assert delivered == {"first": moment, "second": moment, "third": moment, "undated": None}


async def test_a_reading_bears_the_time_of_the_broker(client: Redis, connection: Connection) -> None:
    before = await client.time()
    taken_at = (await read(connection)).taken_at
    after = await client.time()
    assert taken_at is not None
    assert before[0] + before[1] / 1e6 <= taken_at.timestamp() <= after[0] + after[1] / 1e6


async def test_a_small_queue_is_read_in_two_round_trips(client: Redis, connection: Connection) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}") for number in range(2000)))
    counting = Interrupted(connection, nothing)
    assert len(ids(await read(counting))) == 2000
    assert counting.commands == 2


@pytest.mark.parametrize("delivered", [0, 30])
async def test_large_messages_are_asked_for_a_few_at_a_time(
    client: Redis, connection: Connection, delivered: int
) -> None:
    large = [message(f"task-{number}", note="x" * 200_000) for number in range(60)]
    await client.lpush(QUEUE, *large[delivered:])
    for number, raw in enumerate(large[:delivered]):
        await client.hset(OPTIONS.unacked, f"tag-{number}", b'[%s, "", "q"]' % raw)
    noting = Interrupted(connection, nothing)
    found = ids(await read(noting, size=1_000_000))
    assert sorted(found) == sorted(f"task-{number}" for number in range(60))
    assert noting.largest < 2_000_000


async def test_positions_follow_deliveries_during_the_reading(client: Redis, connection: Connection) -> None:
    await client.lpush(QUEUE, *(message(f"task-{number}") for number in range(20)))
    mover = Mover(client, 0)
    steps = itertools.count()

    async def meanwhile() -> None:
        if next(steps) == 5:
            for _ in range(6):
                await mover.deliver()

    reading = await read(Interrupted(connection, meanwhile), atomic=0, batch=4, edge=4)
    states = {task.task_id: (task.state, task.position) for task in reading.tasks}
    gone = {task_id for _, task_id in mover.delivered.values()}
    assert gone
    assert {task_id for task_id, place in states.items() if place == (TaskState.UNACKED, None)} == gone
    queued = [place[1] for place in states.values() if place[0] is TaskState.QUEUED]
    assert queued == list(range(20 - len(gone)))


async def test_foreign_messages_in_a_long_queue_are_shown_too(client: Redis, connection: Connection) -> None:
    await client.lpush(QUEUE, b"\x80junk", b"{}", message("ours"), message("beat", task="other.task"), b"[1]")
    reading = await read(connection, atomic=0, batch=2, edge=2)
    assert ids(reading) == ["ours"]
    assert sorted(foreign.name for foreign in reading.foreign) == ["other.task"] + ["undecodable"] * 3


# --- the decoder of long queues ---------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_TIMES = (
    st.none()
    | _JSON
    | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59", "0001-01-01"])
)
_NUMBERS = st.sampled_from([42, 0, -1, 2**31 - 1, 2**31, 99999999999999, 10**40, 42.0, True])
_HEADERS = st.fixed_dictionaries(
    {"task": st.just(TASK) | _JSON, "id": st.text(max_size=5) | _JSON},
    optional={
        "retries": st.integers(0, 3) | _NUMBERS | _JSON,
        "eta": _TIMES,
        "sitegenctl_enqueued_at": _TIMES,
        "sitegenctl_actor": _JSON,
        "lang": _JSON,
    },
)
_ARGUMENTS = st.tuples(
    st.lists(_NUMBERS | _JSON, max_size=2), st.dictionaries(st.just("order_id"), _NUMBERS | _JSON), st.none()
)
_BODIES = (_ARGUMENTS | _JSON).map(lambda body: base64.b64encode(json.dumps(body).encode()).decode())
_MESSAGES = st.fixed_dictionaries(
    {
        "headers": _HEADERS | _JSON,
        "body": _BODIES | _JSON,
        "properties": st.just({"body_encoding": "base64"}) | _JSON,
        "content-type": st.just("application/json") | _JSON,
    }
)


@given(_MESSAGES | _JSON, st.sampled_from([TaskState.QUEUED, TaskState.UNACKED]))
def test_both_decoders_agree_on_any_message(raw: object, state: TaskState) -> None:
    _same(json.dumps(raw).encode(), state)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[" * 100_000, b'{"headers": {"task": "\xff"}}'])
def test_both_decoders_agree_on_invalid_json(raw: bytes) -> None:
    _same(raw, TaskState.QUEUED)


def _with_body(body: bytes) -> bytes:
    return json.dumps(json.loads(message("task")) | {"body": base64.b64encode(body).decode()}).encode()


def _cases() -> Iterator[bytes]:
    yield message("task")
    yield message("task", expires=(NOW - timedelta(minutes=5)).isoformat())
    yield message("task", timelimit=[600, 540])
    yield message("a\0b")
    yield message("task", compression="gzip")
    yield message("task", task="other.task")
    yield message("task", task="other.task", argsrepr=f"('{TASK}', 42)")
    yield message("task", sitegenctl_enqueued_at="yesterday")
    # Not UTF-8, where nothing is asked for.
    yield message("task").replace(b'"lang": "py"', b'"lang": "\xff"')
    yield _with_body(b'[[42], {}, {"chord": "\xff"}]')
    yield _with_body(b"[[42, true], {}]")
    yield _with_body(b"[[42]]")
    yield _with_body(b'[[], {"order_id": 42}, {}]')
    yield message("task", retries=2, eta=(NOW + timedelta(hours=1)).isoformat(), sitegenctl_actor="ana@crm")
    yield message("task", **{"content-type": "x"}).replace(b"application/json", b"application/x-python-serialize")
    for time in (
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59",
    ):
        yield message("task", eta=time)
        yield message("task", sitegenctl_enqueued_at=time)
    for order_id in (99999999999999, 2**31, 0, -1, 10**40):
        yield message("task", order_id=order_id)
    for retries in (-1, 10**40, True):
        yield message("task", retries=retries)


@pytest.mark.parametrize("raw", list(_cases()))
def test_both_parsers_lead_to_the_same_items(raw: bytes) -> None:
    _same(raw, TaskState.QUEUED)


def _same(raw: bytes, state: TaskState) -> None:
    place = Place(state, 3)
    skipped: list[Counter[str]] = [Counter(), Counter()]
    found = [
        decoder.decode(raw, place)
        for decoder in (
            FastDecoder(TASK, now=NOW, skipped=skipped[0], parse=parse),
            Decoder(TASK, now=NOW, skipped=skipped[1]),
        )
    ]
    assert (found[0], skipped[0]) == (found[1], skipped[1])
