"""Giving orphaned tasks back to the queue, where kombu would have put them after the visibility timeout.

The guarantee to strive for is that none runs twice when its worker turns out to live: it is asked for once more
just before, moved only if nothing of its delivery has changed since, and asked for again a moment later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sitegenctl.adapters.broker.revocation import answers_again, not_answered, not_removable
from sitegenctl.adapters.celery.messages import RawMessages, UnackedMessage, is_encodable
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.celery.workload import QUESTIONS, Workload
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.redis.info import uptime_in
from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Seconds after which a worker that had lost its connection to Redis, and nothing else, is there again.
_A_MOMENT = 0.25

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

    delivery: UnackedMessage
    key: str
    message: str

    @property
    def arguments(self) -> tuple[str | bytes, ...]:
        return self.delivery.tag, self.delivery.raw, self.delivery.score, self.message


@dataclass(frozen=True, kw_only=True)
class _Starting:
    """When a Redis started, by its own clock in seconds since 1970."""

    at: int
    seconds_ago: int


class Restorer:
    """One call of ``QueueBackend.requeue``."""

    def __init__(self, link: Link, options: QueueOptions, workers: CeleryWorkers) -> None:
        self._link = link
        self._options = options
        self._workers = workers
        self._messages = RawMessages(link, options)

    async def put_back(self, tasks: Sequence[LiveTask], *, worker_dead: bool = False) -> Mapping[str, str]:
        """Give these deliveries back; returns why one was not, by the task's id."""
        # In this order: who had it when it was read in `unacked` says so now.
        deliveries = await self._messages.delivered({task.task_id for task in tasks})
        try:
            workload = Workload.of(await self._workers.ask(QUESTIONS))
        except Refusal as exc:
            # Redis may be out of memory: without the workers' answers nothing is put back.
            return {task.task_id: exc.message for task in tasks}
        started = None if worker_dead else await self._starting()
        left: dict[str, str] = {}
        moves: list[_Move] = []
        for task in {(task.task_id, task.delivery): task for task in tasks}.values():
            found = [delivery for delivery in deliveries if delivery.is_at(task)]
            reason = _why_not(task, found, workload, worker_dead=worker_dead) or _unsettled(found, started)
            move = await self._move(found[0]) if reason is None else reason
            if isinstance(move, str):
                left[task.task_id] = move
            else:
                moves.append(move)
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

    async def _starting(self) -> _Starting | None:
        """When Redis started, where that was so recently that workers may still be on their way back."""
        info, now = await self._link.execute(("INFO", "server"), ("TIME",), keep_refusals=True)
        # Whoever may not be asked for it has started long ago, as far as anybody knows.
        uptime = uptime_in(info)
        if uptime is None or isinstance(now, Refusal) or uptime >= self._options.reconnect_time:
            return None
        seconds = int(uptime.total_seconds())
        return _Starting(at=int(now[0]) - seconds, seconds_ago=seconds)

    async def _look_again(self, moved: Sequence[_Move]) -> dict[str, str]:
        """Take those out again that still wait, and that a worker says it has."""
        if not moved:
            return {}
        await asyncio.sleep(_A_MOMENT)
        workload = Workload.of(await self._workers.ask(QUESTIONS))
        claimed = [move for move in moved if workload.live_holdings(move.delivery.task_id)]
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

    async def _move(self, delivery: UnackedMessage) -> _Move | str:
        """How this delivery goes back; why it can't, where its message can't be read as its worker reads it."""
        try:
            message, exchange, routing_key = (*json.loads(delivery.raw), "", "")[:3]
            # As kombu does it: a message that lacks one of them is restored without.
            with suppress(KeyError, TypeError):
                message["headers"]["redelivered"] = True
                message["properties"]["delivery_info"]["redelivered"] = True
            priority = _priority(message)
            with suppress(KeyError, TypeError):
                if not isinstance(message["properties"]["priority"], int):
                    # Kombu fails on an infinite one when it restores the message.
                    message["properties"]["priority"] = priority
            # NaN and the infinite elsewhere stay what they are, which is no JSON: kombu reads them as they came.
            text = json.dumps(message)
        except (ValueError, TypeError, RecursionError) as exc:
            return f"the message of task {delivery.task_id} can't be read: {exc}"
        try:
            queue = await self._queue_of(exchange, routing_key)
        except Refusal as exc:
            return exc.message
        return _Move(delivery=delivery, key=self._options.list_for(queue, priority), message=text)

    async def _queue_of(self, exchange: Any, routing_key: Any) -> str:
        """The queue that kombu routes to: the default exchange by the queue's name, others by their bindings."""
        if not _is_name(routing_key) or (exchange and not _is_name(exchange)):
            return self._options.queue
        if not exchange:
            return str(routing_key)
        table = f"{self._options.global_keyprefix}_kombu.binding.{exchange}"
        (bindings,) = await self._link.execute(("SMEMBERS", table))
        for binding in bindings:
            key, *_, queue = binding.decode(errors="replace").split(self._options.sep)
            if key == routing_key:
                return str(queue)
        return self._options.queue


def _why_not(task: LiveTask, found: Sequence[UnackedMessage], workload: Workload, *, worker_dead: bool) -> str | None:
    """Why this task is not put back, from its deliveries and what the workers answer."""
    task_id = task.task_id
    if workload.live_holdings(task_id):
        return _answers_again(task_id, workload)
    if workload.silent and not worker_dead:
        return not_answered(workload.silent, f"be running task {task_id}")
    if not (worker_dead and task.state is TaskState.UNACCOUNTED) and (reason := not_removable(task)) is not None:
        return reason
    if not found:
        return f"task {task_id} is no longer in unacked as it was: it was acknowledged, given back or delivered again"
    if len(found) > 1:
        return f"task {task_id} was delivered {len(found)} times: look again"
    return None


def _unsettled(found: Sequence[UnackedMessage], starting: _Starting | None) -> str | None:
    """Why a task that was delivered before a Redis that has only just started may have a worker all the same."""
    if starting is None or all(float(delivery.score or 0) >= starting.at for delivery in found):
        return None
    return (
        f"Redis has only just started ({starting.seconds_ago}s ago), and the worker of task {found[0].task_id}"
        " may be on its way back: try again in a moment"
    )


def _answers_again(task_id: str, workload: Workload) -> str:
    holding = workload.live_holdings(task_id)[0]
    return answers_again(task_id, holding.state, holding.worker)


def _is_name(value: Any) -> bool:
    """Whether this can be the name of an exchange or a queue, and be sent to Redis."""
    return isinstance(value, str) and bool(value) and is_encodable(value)


def _priority(message: Mapping[str, Any]) -> int:
    try:
        priority = int(message["properties"]["priority"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0
    return min(max(priority, 0), _MAX_PRIORITY)
