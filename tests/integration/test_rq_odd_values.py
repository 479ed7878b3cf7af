"""Unexpected values in Redis are dropped and counted, and everything else is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from redis import Redis

from sitegenctl.adapters.rq.job import FIELDS
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.queue import RqQueue
from sitegenctl.adapters.rq.records import WORKER_FIELDS
from sitegenctl.domain.queue.task import BrokerReading
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey
from tests.support.rq_world import JOB
from tests.support.world import judge

OPTIONS = RqOptions()
FINE = f"{JOB}(42, resume=True)"

ANYTHING = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\x00",
            b"\xff\xfe",
            b"-1",
            b"9" * 5000,
            b"1e400",
            b"Infinity",
            b"nan",
            b"0001-01-01T00:00:00",
            b"9999-12-31T23:59:59-23:59",
            f"{JOB}(".encode() + b"(" * 5000,
            b"started",
            b"busy",
        ]
    ),
)
SCORES = st.one_of(st.floats(allow_nan=False), st.sampled_from([float("inf"), float("-inf"), -1.0, 0.0, 1e300]))


@pytest.fixture(scope="module")
def client(_redis: str) -> Iterator[Redis]:
    """A database of the session's Redis, for the whole module."""
    with Redis.from_url(f"{_redis.rsplit('/', 1)[0]}/15") as made:
        yield made
        made.flushdb()


def read(client: Redis) -> tuple[BrokerReading, WorkerSurvey, WorkerRoster]:
    options = client.connection_pool.connection_kwargs
    url = f"redis://:{options['password']}@{options['host']}:{options['port']}/{options['db']}"
    queue = RqQueue(url, OPTIONS, timeout=10)

    async def ask() -> tuple[BrokerReading, WorkerSurvey, WorkerRoster]:
        reading, survey, roster = await queue.read(), await queue.survey(), await queue.worker_details()
        await queue.finished(["fine", "odd"])
        await queue.unusable(["fine", "odd"])
        for task in reading.tasks:
            await queue.task_details(task.task_id)
        return reading, survey, roster

    return asyncio.run(ask())


def prepare(client: Redis) -> None:
    client.flushdb()
    client.hset(OPTIONS.job("fine"), mapping={"description": FINE, "status": "queued", "origin": OPTIONS.queue})
    client.rpush(OPTIONS.list_key, "fine")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), ANYTHING),
    record=st.dictionaries(st.sampled_from(WORKER_FIELDS), ANYTHING),
    member=ANYTHING,
    score=SCORES,
    created_at=ANYTHING,
)
def test_odd_values_stop_nothing(
    client: Redis, fields: dict[str, bytes], record: dict[str, bytes], member: bytes, score: float, created_at: bytes
) -> None:
    prepare(client)
    odd = b"odd:" + b"e" * 32
    client.hset("rq:job:odd", mapping={"timeout": "180", **fields})
    client.hset(b"rq:execution:" + odd, "created_at", created_at)
    client.zadd(OPTIONS.started, {odd: score, member: score, b"odd": score})
    client.zadd(OPTIONS.registry("scheduled"), {member: score, b"odd": score})
    client.rpush(OPTIONS.list_key, member, b"odd")
    client.rpush(OPTIONS.intermediate, member, b"odd")
    client.sadd(OPTIONS.workers, b"rq:worker:W", member)
    client.hset("rq:worker:W", mapping={"birth": "2026-01-01T00:00:00Z", **record})
    client.sadd("rq:worker:W:executions", odd, member)
    reading, survey, _ = read(client)
    assert 42 in {task.order_id for task in reading.tasks if task.task_id == "fine"}
    assert judge(reading, survey)


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("rq:job:odd", "job that is no hash"),
        ("rq:worker:W", "worker record that is no hash"),
        ("rq:worker:W:executions", "jobs of a worker that are no set"),
    ],
)
def test_value_of_another_type_is_counted(client: Redis, key: str, where: str) -> None:
    prepare(client)
    client.rpush(OPTIONS.list_key, "odd")
    client.sadd(OPTIONS.workers, "rq:worker:W")
    client.rpush(key, "a list") if key != "rq:worker:W:executions" else client.set(key, "a text")
    reading, survey, _ = read(client)
    assert {**reading.skipped, **survey.skipped} == {where: 1}
    assert [task.task_id for task in reading.tasks] == ["fine"]


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("timeout", b"1h", "timeout of a job"),
        ("started_at", b"yesterday", "started_at of a job"),
        ("sitegenctl_retries", b"\xff", "sitegenctl_retries of a job"),
    ],
)
def test_field_that_does_not_fit_is_counted(client: Redis, field: str, value: bytes, where: str) -> None:
    prepare(client)
    client.hset(OPTIONS.job("fine"), field, value)
    reading, _, _ = read(client)
    assert reading.skipped == {where: 1}
    assert [task.order_id for task in reading.tasks] == [42]


@pytest.mark.parametrize("score", [float("inf"), float("-inf")])
def test_delivery_with_an_odd_deadline_is_live(client: Redis, score: float) -> None:
    prepare(client)
    client.hset(OPTIONS.job("lost"), mapping={"description": f"{JOB}(7)", "status": "started", "timeout": "180"})
    client.zadd(OPTIONS.started, {"lost": score})
    reading, survey, _ = read(client)
    lost: Any = next(task for task in judge(reading, survey) if task.task_id == "lost")
    assert (lost.order_id, lost.state, lost.delivered_at) == (7, "unaccounted", None)
    assert reading.skipped == {"heartbeat deadline of a started job": 1}
