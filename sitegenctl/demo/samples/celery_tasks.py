"""The sample tasks as messages of Celery, published by Celery itself so that they are real."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sitegenctl.adapters.celery.codec import ACTOR_HEADER, ENQUEUED_AT_HEADER, Decoder, Place
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection, open_connection
from sitegenctl.adapters.redis.urls import kombu_url
from sitegenctl.demo.samples.plan import ETA_AHEAD, SampleTask
from sitegenctl.demo.samples.recipes import ForeignKind, Lane
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.errors import SourceError

_FOREIGN = {
    ForeignKind.BEAT: "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders",
    ForeignKind.PICKLED: "erp.tasks.sync_invoices",
}
_OPTIONS = QueueOptions()
_TIMEOUT = 10.0
# For decoding, where neither matters.
_PLACE = Place(state=TaskState.QUEUED)
_DECODER = Decoder(_OPTIONS.task, now=datetime.fromtimestamp(0, UTC))


async def reset_queue(redis_url: str, task_ids: Collection[str]) -> None:
    """Empty the demo's queue: its lists, its bindings, what is unacknowledged, and these tasks' results.

    Every seeding has the same task ids, so a result of an earlier one would belong to a new task.
    """
    async with open_connection(redis_url, _OPTIONS, timeout=_TIMEOUT) as connection:
        keys = [f"_kombu.binding.{_OPTIONS.queue}", *(f"celery-task-meta-{id_}" for id_ in task_ids)]
        # KEYS blocks a large Redis; the demo's is small.
        queued, unacked = await connection.execute(("KEYS", f"{_OPTIONS.queue}*"), ("KEYS", f"{_OPTIONS.unacked_key}*"))
        await connection.execute(("DEL", *keys, *queued, *unacked))


async def publish_samples(redis_url: str, tasks: Iterable[SampleTask], foreign: Collection[ForeignKind] = ()) -> None:
    """Publish in the order of delivery: ready tasks, foreign messages, held tasks. Lost ones go to ``unacked``.

    No worker may run: it would take messages in between.
    """
    by_lane: dict[Lane, list[SampleTask]] = {lane: [] for lane in Lane}
    for task in tasks:
        by_lane[task.lane].append(task)
    async with open_connection(redis_url, _OPTIONS, timeout=_TIMEOUT) as connection:
        # The clock that all readers of the messages share.
        ((seconds, _),) = await connection.execute(("TIME",))
        now = datetime.fromtimestamp(int(seconds), UTC)
        for task in by_lane[Lane.LOST]:
            await asyncio.to_thread(_publish, redis_url, [task], now)
            await _lose(connection, task, now)
        await asyncio.to_thread(_publish, redis_url, [*by_lane[Lane.READY], *foreign, *by_lane[Lane.HELD]], now)


async def remove_tasks(redis_url: str, order_id: int) -> None:
    """Remove every message of one order, delivered or not."""

    def is_of_order(items: Iterable[object]) -> bool:
        return any(isinstance(item, LiveTask) and item.order_id == order_id for item in items)

    async with open_connection(redis_url, _OPTIONS, timeout=_TIMEOUT) as connection:
        for key in _OPTIONS.lists:
            (messages,) = await connection.execute(("LRANGE", key, 0, -1))
            for raw in messages:
                if is_of_order(_DECODER.decode(raw, _PLACE)):
                    await connection.execute(("LREM", key, 1, raw))
        (entries,) = await connection.execute(("HGETALL", _OPTIONS.unacked))
        for tag, raw in zip(entries[::2], entries[1::2], strict=True):
            if is_of_order(_DECODER.decode_unacked(raw, _PLACE)):
                await connection.execute(("HDEL", _OPTIONS.unacked, tag), ("ZREM", _OPTIONS.unacked_index_key, tag))


async def _lose(connection: Connection, task: SampleTask, now: datetime) -> None:
    """Deliver the next message to no worker, with the writes of kombu's ``QoS.append``."""
    (raw,) = await connection.execute(("RPOP", _OPTIONS.queue))
    message = json.loads(raw) if raw is not None else None
    if message is None or message["headers"]["id"] != task.task_id:
        raise SourceError("a worker consumes the sample messages", hint="stop it before seeding", source="workers")
    tag = message["properties"]["delivery_tag"]
    delivery = message["properties"]["delivery_info"]
    entry = json.dumps([message, delivery["exchange"], delivery["routing_key"]])
    await connection.execute(
        ("MULTI",),
        # So long ago that no worker can still run it.
        ("ZADD", _OPTIONS.unacked_index_key, now.timestamp() - task.enqueued, tag),
        ("HSET", _OPTIONS.unacked, tag, entry),
        ("EXEC",),
    )


def _publish(redis_url: str, items: Collection[SampleTask | ForeignKind], now: datetime) -> None:
    from celery import Celery

    app = Celery("sample_orders", broker=kombu_url(redis_url), set_as_current=False)
    app.conf.update(task_serializer="json", broker_connection_retry=False)
    try:
        with app.connection_for_write() as connection:
            for number, item in enumerate(items):
                message = _foreign(item, number) if isinstance(item, ForeignKind) else _message(item, now)
                app.send_task(queue=_OPTIONS.queue, connection=connection, **message)
    finally:
        app.close()


def _message(task: SampleTask, now: datetime) -> dict[str, Any]:
    headers = {}
    if task.actor is not None:
        enqueued_at = now - timedelta(seconds=task.enqueued)
        headers = {ENQUEUED_AT_HEADER: enqueued_at.isoformat(), ACTOR_HEADER: task.actor}
    return {
        "name": _OPTIONS.task,
        "args": [task.order_id],
        "kwargs": {"resume": True},
        "task_id": task.task_id,
        "eta": now + timedelta(seconds=ETA_AHEAD) if task.lane is Lane.HELD else None,
        "retries": task.retries,
        "headers": headers,
    }


def _foreign(kind: ForeignKind, number: int) -> dict[str, Any]:
    is_pickled = kind is ForeignKind.PICKLED
    return {
        "name": _FOREIGN[kind],
        "args": [number] if is_pickled else [],
        "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{number}")),
        "serializer": "pickle" if is_pickled else "json",
    }
