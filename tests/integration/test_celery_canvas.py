"""Our task inside other tasks' messages, as Celery itself publishes them: newest and as deployed."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.reader import Bounds, QueueReading
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.domain.queue.task import BrokerReading
from tests.support.world import QUEUE, TASK

DEPLOYED = Path(__file__).parents[2] / ".venv-deployed" / "bin" / "python"
PYTHONS = pytest.mark.parametrize("python", [sys.executable, str(DEPLOYED)], ids=["installed", "deployed"])

# Publishes each form into a list of its own.
_PUBLISH = f"""
import sys
from celery import Celery, chain, chord, group
from redis import Redis

app = Celery(broker=sys.argv[1], backend=sys.argv[1])
app.conf.task_default_queue = {QUEUE!r}
app.conf.task_protocol = int(sys.argv[2])
app.conf.task_compression = (*sys.argv[3:], None)[0]

@app.task(name={TASK!r})
def gen(order_id, resume=True):
    pass

@app.task(name="other.task")
def other(*args):
    pass

forms = {{
    "text": gen.si("42"),
    "keyword": gen.si(order_id=42),
    "chain": chain(other.si(1), gen.si(42), gen.si(43)),
    "chain that begins with ours": chain(gen.si(42), other.si(1), gen.si(43)),
    "step that names its order": chain(other.si(1), gen.s(order_id=42)),
    "step given its order": chain(other.si(1), gen.s()),
    "group": group(gen.si(42), gen.s(43)),
    "chord": chord([other.si(1), other.si(2)], gen.si(42)),
    "header of a chord": chord([gen.si(42), gen.s(43)], other.si()),
    "map": gen.map([42, 43]),
    "starmap": gen.starmap([(42, True), (43, False)]),
    "chunks": gen.chunks([(42,), (43,), (44,)], 2),
    "group in a chain": chain(other.si(1), group(gen.si(42), gen.si(43))),
    "chord in a chain": chain(other.si(1), chord([gen.si(42), gen.si(43)], gen.si(44))),
    "chunks in a chain": chain(other.si(1), gen.chunks([(42,), (43,)], 1).group()),
    "callback": other.si(1).set(link=gen.si(42)),
    "errback": gen.si(42).set(link_error=gen.si(43)),
    "chord unlock": app.signature("celery.chord_unlock", args=["group", gen.si(42)], kwargs={{"result": []}}),
    "accumulate": app.signature("celery.accumulate", args=[gen.si(42)]),
    "old group": app.signature("celery.group", args=[[gen.si(42)], [], "group", []]),
    "old chord": app.signature("celery.chord", kwargs={{"header": [gen.si(42)], "body": gen.si(43)}}),
    "of others": chain(other.si(1), other.map([42])),
}}
redis = Redis.from_url(sys.argv[1])
for name, form in forms.items():
    form.apply_async()
    redis.rename({QUEUE!r}, name)
"""

EXPECTED: dict[str, dict[int, str | None]] = {
    "text": {42: None},
    "keyword": {42: None},
    "chain": {42: "other.task", 43: "other.task"},
    "chain that begins with ours": {42: None, 43: TASK},
    "step that names its order": {42: "other.task"},
    "step given its order": {},
    "group": {42: None, 43: None},
    "chord": {42: "other.task"},
    "header of a chord": {42: None, 43: None},
    "map": {42: "celery.map", 43: "celery.map"},
    "starmap": {42: "celery.starmap", 43: "celery.starmap"},
    "chunks": {42: "celery.starmap", 43: "celery.starmap", 44: "celery.starmap"},
    "group in a chain": {42: "other.task", 43: "other.task"},
    "chord in a chain": {42: "other.task", 43: "other.task", 44: "other.task"},
    "chunks in a chain": {42: "other.task", 43: "other.task"},
    "callback": {42: "other.task"},
    "errback": {42: None, 43: TASK},
    "chord unlock": {42: "celery.chord_unlock"},
    "accumulate": {42: "celery.accumulate"},
    "old group": {42: "celery.group"},
    "old chord": {42: "celery.chord", 43: "celery.chord"},
    "of others": {},
}


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(atomic=0, batch=2)], ids=["at once", "in batches"])
@PYTHONS
@pytest.mark.parametrize("how", [("2",), ("2", "bzip2"), ("1",)], ids=["protocol 2", "compressed", "protocol 1"])
def test_every_call_of_our_task_is_found(redis_url: str, python: str, how: tuple[str, ...], bounds: Bounds) -> None:
    subprocess.run([python, "-c", _PUBLISH, redis_url, *how], check=True, timeout=60, capture_output=True)
    for name, expected in EXPECTED.items():
        reading = asyncio.run(read(redis_url, bounds, name))
        assert {task.order_id: task.part_of for task in reading.tasks} == expected, name
        assert len(reading.tasks) == len(expected), name
        reasons = [message.reason for message in reading.unattributed]
        given = ["part of other.task; the step before decides its order"]
        assert reasons == (given if name == "step given its order" else []), name
        assert {task.name for task in reading.tasks} <= {TASK}, name


async def read(redis_url: str, bounds: Bounds, key: str) -> BrokerReading:
    options = QueueOptions(queue=key, priority_steps=(0,))
    connection = Connection(redis_url, options, timeout=10)
    reading = await QueueReading(connection, options, bounds, now=datetime.now(UTC)).read()
    await connection.aclose()
    return reading


@PYTHONS
def test_published_step_is_a_message_of_its_own(redis_url: str, python: str) -> None:
    subprocess.run([python, "-c", _PUBLISH, redis_url, "2"], check=True, timeout=60, capture_output=True)
    with Redis.from_url(redis_url) as client:
        carrier = json.loads(client.lpop("chain") or b"")
        _, _, embed = json.loads(base64.b64decode(carrier["body"]))
        *rest, step = embed["chain"]
        own: dict[str, Any] = {
            **carrier,
            "headers": {**carrier["headers"], "task": TASK, "id": step["options"]["task_id"]},
        }
        own["body"] = base64.b64encode(json.dumps([step["args"], step["kwargs"], {"chain": rest}]).encode()).decode()
        client.hset("unacked", "tag", json.dumps([carrier, "", QUEUE]))
        client.lpush("chain", json.dumps(own))
    reading = asyncio.run(read(redis_url, Bounds(), "chain"))
    assert {task.order_id: task.part_of for task in reading.tasks} == {42: None, 43: TASK}
    assert len(reading.tasks) == 2
