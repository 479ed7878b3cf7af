"""Requeueing orphaned tasks where kombu would have put them after the visibility timeout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable
from sitegenctl.adapters.broker.restore import Holder, Restorer, responds_again
from sitegenctl.adapters.broker.revocation import not_removable, unresponsive_workers
from sitegenctl.adapters.celery.messages import RawMessages, UnackedMessage
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.celery.workload import QUESTIONS, Workload
from sitegenctl.adapters.redis.connection import Connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.redis.replies import uptime_in
from sitegenctl.domain.queue.task import LiveTask, TaskState

_MAX_PRIORITY = 9

# KEYS: unacked, unacked_index, list. ARGV: tag, value, score, message. What may be refused comes first.
_MOVE = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if (redis.call('ZSCORE', KEYS[2], ARGV[1]) or '') ~= ARGV[3] then return 0 end
local pushed = redis.pcall('RPUSH', KEYS[3], ARGV[4])
if type(pushed) == 'table' and pushed.err then return pushed end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""

# The same keys and arguments.
_UNDO = """
if redis.call('LREM', KEYS[3], -1, ARGV[4]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) end
return 1
"""


@dataclass(frozen=True, kw_only=True)
class _Move:
    """A delivery, the list that it returns to, and the message as it waits there."""

    delivery: UnackedMessage
    key: str
    message: str


class CeleryRestorer(Restorer[_Move]):
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, connection: Connection, options: QueueOptions, workers: CeleryWorkers) -> None:
        self._connection = connection
        self._options = options
        self._workers = workers
        self._messages = RawMessages(connection, options)

    async def _plan(
        self, tasks: Sequence[LiveTask], *, worker_dead: bool
    ) -> tuple[dict[str, str], list[tuple[str, _Move]]]:
        # In this order: a worker that had a task when `unacked` was read reports it now.
        deliveries = await self._messages.find_unacked({task.task_id for task in tasks})
        try:
            workload = Workload.of(await self._workers.ask(QUESTIONS))
        except Refusal as exc:
            # Redis may be out of memory: without the workers' replies nothing is requeued.
            return {task.task_id: exc.message for task in tasks}, []
        # After a restart of Redis workers need time to reconnect. The times are by its clock.
        info, now = await self._connection.execute(("INFO", "server"), ("TIME",), keep_refusals=True)
        uptime = uptime_in(info)
        restarted_at: int | None = None
        if uptime is not None and not isinstance(now, Refusal) and uptime < self._options.reconnect_time:
            restarted_at = int(now[0]) - int(uptime.total_seconds())
        left: dict[str, str] = {}
        moves: list[tuple[str, _Move]] = []
        for task in {(task.task_id, task.delivery): task for task in tasks}.values():
            matches = [delivery for delivery in deliveries if delivery.is_at(task)]
            reason = _why_not(task, matches, workload, worker_dead=worker_dead)
            if reason is not None or worker_dead or restarted_at is None:
                pass
            elif float(matches[0].score or 0) < restarted_at:
                reason = (
                    f"Redis has only just started ({int(now[0]) - restarted_at}s ago), and the worker of task"
                    f" {task.task_id} may be on its way back: try again in a moment"
                )
            move = await self._move(matches[0]) if reason is None else reason
            if isinstance(move, str):
                left[task.task_id] = move
            else:
                moves.append((task.task_id, move))
        return left, moves

    async def _holders(self) -> Holder:
        return Workload.of(await self._workers.ask(QUESTIONS)).holder

    async def _run(self, moves: Sequence[_Move], *, undo: bool = False) -> list[Any]:
        unacked = (self._options.unacked, self._options.unacked_index)
        calls = [
            ((*unacked, move.key), (move.delivery.tag, move.delivery.raw, move.delivery.score, move.message))
            for move in moves
        ]
        return await self._messages.run(_UNDO if undo else _MOVE, calls, keep_refusals=True)

    async def _move(self, delivery: UnackedMessage) -> _Move | str:
        """How this delivery returns to its queue; why it cannot, where kombu could not read its message either."""
        try:
            message, exchange, routing_key = (*json.loads(delivery.raw), "", "")[:3]
            # As kombu does: a message that lacks one of them is restored without.
            with suppress(KeyError, TypeError):
                message["headers"]["redelivered"] = True
                message["properties"]["delivery_info"]["redelivered"] = True
            priority = _priority(message)
            with suppress(KeyError, TypeError):
                if not isinstance(message["properties"]["priority"], int):
                    # Kombu fails on an infinite priority when it restores the message.
                    message["properties"]["priority"] = priority
            # Other infinite numbers stay what they are, which is not JSON: kombu reads them as they came.
            text = json.dumps(message)
        except (ValueError, TypeError, RecursionError) as exc:
            return f"the message of task {delivery.task_id} cannot be read: {exc}"
        try:
            queue = await self._queue_of(exchange, routing_key)
        except Refusal as exc:
            return exc.message
        return _Move(delivery=delivery, key=self._options.list_for(queue, priority), message=text)

    async def _queue_of(self, exchange: Any, routing_key: Any) -> str:
        """The queue that kombu routes to: by its name for the default exchange, by its binding for others."""
        if not _is_name(routing_key) or (exchange and not _is_name(exchange)):
            return self._options.queue
        if not exchange:
            return str(routing_key)
        table = f"{self._options.global_keyprefix}_kombu.binding.{exchange}"
        (bindings,) = await self._connection.execute(("SMEMBERS", table))
        for binding in bindings:
            key, *_, queue = binding.decode(errors="replace").split(self._options.sep)
            if key == routing_key:
                return str(queue)
        return self._options.queue


def _why_not(task: LiveTask, matches: Sequence[UnackedMessage], workload: Workload, *, worker_dead: bool) -> str | None:
    """Why this task is not requeued, by its deliveries and the workers' replies."""
    task_id = task.task_id
    if (holder := workload.holder(task_id)) is not None:
        return responds_again(task_id, holder)
    if workload.unresponsive and not worker_dead:
        return unresponsive_workers(workload.unresponsive, f"be running task {task_id}")
    if not (worker_dead and task.state is TaskState.UNACCOUNTED) and (reason := not_removable(task)) is not None:
        return reason
    if not matches:
        return f"task {task_id} is no longer in unacked as it was: it was acknowledged, requeued or delivered again"
    if len(matches) > 1:
        return f"task {task_id} was delivered {len(matches)} times: try again"
    return None


def _is_name(value: Any) -> bool:
    """Whether this can be the name of an exchange or a queue, and be sent to Redis."""
    return isinstance(value, str) and bool(value) and is_encodable(value)


def _priority(message: Mapping[str, Any]) -> int:
    try:
        priority = int(message["properties"]["priority"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0
    return min(max(priority, 0), _MAX_PRIORITY)
