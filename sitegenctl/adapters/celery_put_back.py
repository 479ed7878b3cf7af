"""Giving orphaned tasks back to the queue, where kombu would have put them after the visibility timeout.

The guarantee to strive for is that none runs twice when its worker turns out to live: it is asked for once more
just before, moved only if nothing of its delivery has changed since, and asked for again a moment later.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.celery_raw import Delivery, RawMessages
from sitegenctl.adapters.celery_workers import CLAIMS, CeleryWorkers
from sitegenctl.adapters.celery_workload import Workload
from sitegenctl.adapters.redis_errors import Refusal
from sitegenctl.adapters.redis_link import Link
from sitegenctl.adapters.verdicts import answers_again, not_answered
from sitegenctl.domain.task import LiveTask

#: Seconds after which a worker that had lost its connection to Redis, and nothing else, is there again.
_A_MOMENT = 0.25

#: Seconds after Redis' start in which workers that lost it may still be on their way back: they wait longer after
#: each attempt that failed.
_SETTLING = 30

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

# The same keys and arguments, the other way round.
_MOVE_BACK = """
if redis.call('LREM', KEYS[3], -1, ARGV[4]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1]) end
return 1
"""


@dataclass(frozen=True, kw_only=True)
class _Move:
    """A delivery on its way back to a list, and the message as it is to wait there."""

    delivery: Delivery
    key: str
    message: str

    @property
    def arguments(self) -> tuple[str | bytes, ...]:
        return self.delivery.tag, self.delivery.raw, self.delivery.score, self.message


class PuttingBack:
    """One call of ``QueueBackend.put_back``."""

    def __init__(self, link: Link, options: QueueOptions, workers: CeleryWorkers) -> None:
        self._link = link
        self._options = options
        self._workers = workers
        self._messages = RawMessages(link, options)

    async def put_back(self, tasks: Sequence[LiveTask]) -> Mapping[str, str]:
        """Give these tasks back; returns why one was not, by its id."""
        task_ids = {task.task_id for task in tasks}
        # In this order: who had it when it was read in `unacked` says so now.
        deliveries = {delivery.task_id: delivery for delivery in await self._messages.delivered(task_ids)}
        try:
            workload = Workload.of(await self._workers.ask(list(CLAIMS)))
        except Refusal as exc:
            # Out of memory, for one: who can't ask the workers puts nothing back.
            return dict.fromkeys(task_ids, exc.message)
        reasons = {task_id: self._why_not(task_id, workload) for task_id in task_ids}
        left = {task_id: reason for task_id, reason in reasons.items() if reason is not None}
        left = await self._unsettled(deliveries) | left
        for task_id in task_ids - left.keys() - deliveries.keys():
            left[task_id] = f"task {task_id} is no longer in unacked: it was acknowledged or given back meanwhile"
        moves = [await self._move(deliveries[task_id]) for task_id in sorted(task_ids - left.keys())]
        moved: list[_Move] = []
        for move, answer in zip(moves, await self._run(_MOVE, moves), strict=True):
            task_id = move.delivery.task_id
            if isinstance(answer, Refusal):
                left[task_id] = answer.message
            elif not answer:
                left[task_id] = f"task {task_id} was acknowledged or given back this moment"
            else:
                moved.append(move)
        return left | await self._look_again(moved)

    def _why_not(self, task_id: str, workload: Workload) -> str | None:
        if workload.holdings(task_id):
            return _answers_again(task_id, workload)
        if workload.silent:
            return not_answered(workload.silent, f"be running task {task_id}")
        return None

    async def _unsettled(self, deliveries: Mapping[str, Delivery]) -> dict[str, str]:
        """Why tasks that were delivered before a Redis that has only just started may have a worker all the same."""
        info, (seconds, _) = await self._link.execute(("INFO", "server"), ("TIME",), keep_refusals=True)
        # Whoever may not be asked for it has started long ago, as far as anybody knows.
        uptime = re.search(rb"uptime_in_seconds:(\d+)", info) if isinstance(info, bytes) else None
        if uptime is None or int(uptime[1]) >= _SETTLING:
            return {}
        started = int(seconds) - int(uptime[1])
        return {
            task_id: f"Redis has only just started ({uptime[1].decode()}s ago), and the worker of task {task_id}"
            f" may be on its way back: try again after {_SETTLING}s"
            for task_id, delivery in deliveries.items()
            if float(delivery.score or 0) < started
        }

    async def _look_again(self, moved: Sequence[_Move]) -> dict[str, str]:
        """Take those out again that still wait, and that a worker says it has."""
        if not moved:
            return {}
        await asyncio.sleep(_A_MOMENT)
        workload = Workload.of(await self._workers.ask(list(CLAIMS)))
        claimed = [move for move in moved if workload.holdings(move.delivery.task_id)]
        # Only what still waits is taken out: a worker that has taken it from the queue says the same.
        undone = await self._run(_MOVE_BACK, claimed)
        return {
            task_id: f"{_answers_again(task_id, workload)}; it was put back, and taken out of the queue again"
            for task_id in (move.delivery.task_id for move, done in zip(claimed, undone, strict=True) if done == 1)
        }

    async def _run(self, script: str, moves: Sequence[_Move]) -> list[Any]:
        unacked = (self._options.unacked, self._options.unacked_index)
        calls = [((*unacked, move.key), move.arguments) for move in moves]
        return await self._messages.run(script, calls, keep_refusals=True)

    async def _move(self, delivery: Delivery) -> _Move:
        message, exchange, routing_key = (*json.loads(delivery.raw), "", "")[:3]
        # As kombu does it: a message that lacks one of them is restored without.
        with suppress(KeyError, TypeError):
            message["headers"]["redelivered"] = True
            message["properties"]["delivery_info"]["redelivered"] = True
        queue = await self._queue_of(exchange, routing_key)
        return _Move(
            delivery=delivery, key=self._options.list_for(queue, _priority(message)), message=json.dumps(message)
        )

    async def _queue_of(self, exchange: Any, routing_key: Any) -> str:
        """The queue that kombu routes to: the default exchange by the queue's name, others by their bindings."""
        if not exchange and isinstance(routing_key, str) and routing_key:
            return routing_key
        table = f"{self._options.global_keyprefix}_kombu.binding.{exchange}"
        (bindings,) = await self._link.execute(("SMEMBERS", table))
        for binding in bindings:
            key, *_, queue = binding.decode(errors="replace").split(self._options.sep)
            if key == routing_key:
                return str(queue)
        return self._options.queue


def _answers_again(task_id: str, workload: Workload) -> str:
    holding = workload.holdings(task_id)[0]
    return answers_again(task_id, holding.state, holding.worker)


def _priority(message: Mapping[str, Any]) -> int:
    try:
        priority = int(message["properties"]["priority"])
    except (KeyError, TypeError, ValueError):
        return 0
    return min(max(priority, 0), _MAX_PRIORITY)
