"""Messages as they are in Redis: found by the ids of their tasks, and removed from the queue or from ``unacked``.

Nothing is judged here. Every removal names the exact message and is confirmed by Redis, so that a message that moved
meanwhile is left alone and reported. Long lists are read, and many messages removed, in small steps: no command keeps
Redis from its other clients for longer than it takes to walk half a list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

from sitegenctl.adapters.broker.json_values import is_encodable, mapping, moment, number, text
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.celery.codec import Decoder, Place, envelope, task_id_of
from sitegenctl.adapters.celery.fast import parse
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.domain.queue.task import LiveTask, TaskDetails, TaskPlace, TaskResult, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import SourceError

#: Messages read at once, and those in a list that is always read as a whole.
_BATCH_SIZE = 500
_SHORT_LIST = 2000

#: Commands, and about how many bytes, in one round trip.
_MAX_COMMANDS = 100
_MAX_BYTES = 500_000

#: List entries that Redis walks past for the commands of one round trip: a millisecond or two.
_MAX_WALK = 5000

#: Batches that may have to be read again because the list moved.
_MAX_RETRIES = 1000

#: Results read at once; one may be as long as a traceback.
_RESULTS = 200

_FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

#: Readings of queue and ``unacked``: the task may move from one to the other meanwhile.
_MAX_READINGS = 2

#: Two readings of one delivery time may differ by this, because a datetime holds fewer digits than a score.
_SAME_TIME = timedelta(milliseconds=1)

# KEYS: list. ARGV: message, how many of this very text must stay. The one furthest from delivery goes.
_REMOVE_COPY = """
if #redis.call('LPOS', KEYS[1], ARGV[1], 'COUNT', 0) <= tonumber(ARGV[2]) then return 0 end
return redis.call('LREM', KEYS[1], 1, ARGV[1])
"""

# KEYS: unacked, unacked_index. ARGV: tag, value, score.
_DROP = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if (redis.call('ZSCORE', KEYS[2], ARGV[1]) or '') ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""


@dataclass(frozen=True, kw_only=True)
class QueuedMessage:
    """A message in one of the queue's lists; its distances from both ends are those when the list was read.

    ``position`` is its position in the order of delivery, 0 being next.
    """

    task_id: str
    key: str
    raw: bytes
    from_tail: int
    from_head: int
    position: int

    @property
    def walk(self) -> int:
        """The number of messages between it and the nearer end."""
        return min(self.from_tail, self.from_head)


@dataclass(frozen=True, kw_only=True)
class UnackedMessage:
    """An entry of ``unacked``: a delivered message under its tag, and the score that says when.

    A message that was requeued and delivered again has the same tag, and often the same text, but another score.
    """

    task_id: str
    tag: bytes
    raw: bytes
    score: bytes

    def is_at(self, place: LiveTask) -> bool:
        """Whether this is the delivery that the place names; without a tag it names every delivery of its task."""
        if place.task_id != self.task_id:
            return False
        if place.delivery is not None and place.delivery != self.tag.decode(errors="replace"):
            return False
        if place.delivered_at is None:
            return True
        delivered_at = moment(float(self.score or 0))
        return delivered_at is not None and abs(delivered_at - place.delivered_at) <= _SAME_TIME


class RawMessages:
    """The messages of one queue, and of ``unacked``, over a connection."""

    def __init__(self, connection: Connection, options: QueueOptions) -> None:
        self._connection = connection
        self._options = options

    async def find(self, task_ids: Collection[str], *, to_the_end: bool = False) -> list[QueuedMessage]:
        """Find these tasks' messages in the queue's lists, the next one first.

        The search of a long list ends where each task was found as often as a ``Counter`` of ids says, or once, unless
        ``to_the_end``.
        """
        missing = Counter(task_ids)
        messages: list[QueuedMessage] = []
        before = 0
        for key in self._options.lists:
            (length,) = await self._connection.execute(("LLEN", key))
            if not task_ids or (not missing and length > _SHORT_LIST and not to_the_end):
                continue
            async with aclosing(self._batches(key)) as batches:
                async for batch in batches:
                    for from_tail, raw in batch:
                        task_id = task_id_of(envelope(raw, parse))
                        if task_id is None or task_id not in task_ids:
                            continue
                        missing[task_id] -= 1
                        if missing[task_id] <= 0:
                            del missing[task_id]
                        message = QueuedMessage(
                            task_id=task_id,
                            key=key,
                            raw=raw,
                            from_tail=from_tail,
                            from_head=max(0, length - 1 - from_tail),
                            position=before + from_tail,
                        )
                        messages.append(message)
                    if not missing and length > _SHORT_LIST and not to_the_end:
                        break
            before += length
        return messages

    async def find_copies(self, task_ids: Collection[str]) -> dict[str, list[QueuedMessage]]:
        """Find every message of these tasks in the queue's lists, the next one first.

        For few tasks: Redis walks a whole list for each message found.
        """
        # A message that was met twice because the list moved looks like two of the same text: Redis counts them.
        messages = {(each.key, each.raw): each for each in await self.find(task_ids, to_the_end=True)}
        indexes = await self._execute(
            [("LPOS", key, raw, "RANK", -1, "COUNT", 0) for key, raw in messages],
            [_MAX_WALK] * len(messages),
        )
        entries: dict[str, list[tuple[int, int, QueuedMessage]]] = {}
        for each, at in zip(messages.values(), indexes, strict=True):
            order = self._options.lists.index(each.key)
            # Index 0 is the head, which is furthest from delivery.
            entries.setdefault(each.task_id, []).extend((order, -index, each) for index in at)
        return {
            task_id: [each for *_, each in sorted(each_entry, key=lambda entry: entry[:2])]
            for task_id, each_entry in entries.items()
        }

    async def remove_copies(self, copies: Sequence[QueuedMessage], kept: Sequence[QueuedMessage]) -> list[bool]:
        """Remove these messages, but none of those to keep, which may have the same text; returns whether each was.

        For few messages, as ``find_copies``.
        """
        staying = Counter((each.key, each.raw) for each in kept)
        calls = [((each.key,), (each.raw, str(staying[each.key, each.raw]))) for each in copies]
        return [bool(count) for count in await self.run(_REMOVE_COPY, calls)]

    async def final_states(self, task_ids: Collection[str]) -> dict[str, str]:
        """The final state of each of these tasks that has one."""
        return {task_id: result.status for task_id, result in (await self.final_results(task_ids)).items()}

    async def final_results(self, task_ids: Collection[str]) -> dict[str, TaskResult]:
        """The final result of each of these tasks that has one; one in another format than JSON is none."""
        final: dict[str, TaskResult] = {}
        wanted = [task_id for task_id in dict.fromkeys(task_ids) if is_encodable(task_id)]
        for start in range(0, len(wanted), _RESULTS):
            batch = wanted[start : start + _RESULTS]
            replies = await self._connection.execute(
                *(("MGET", *self._options.result_keys(task_id)) for task_id in batch)
            )
            for task_id, results in zip(batch, replies, strict=True):
                for raw in filter(None, results):
                    result = _result_of(parse_result(raw))
                    if result.status in _FINAL:
                        final.setdefault(task_id, result)
        return final

    async def remove(self, messages: Iterable[QueuedMessage]) -> set[str]:
        """Remove these messages from the lists; returns the task ids of those that Redis confirms.

        LREM walks the list until it meets the message. So it starts from the nearer end, the nearest messages go
        first, and where the walks are long few commands share a round trip: Redis serves no other client between them.
        """
        nearest = sorted(messages, key=lambda message: message.walk)
        commands: list[Command] = [
            ("LREM", message.key, -1 if message.from_tail <= message.from_head else 1, message.raw)
            for message in nearest
        ]
        # Those that were nearer are gone by then.
        walks = [max(0, message.walk - number) for number, message in enumerate(nearest)]
        counts = await self._execute(commands, walks)
        return {message.task_id for message, count in zip(nearest, counts, strict=True) if count}

    async def find_unacked(self, task_ids: Collection[str]) -> list[UnackedMessage]:
        """Find these tasks' entries in ``unacked``."""
        entries: dict[bytes, tuple[str, bytes]] = {}
        cursor: Any = 0
        while task_ids:
            ((cursor, values),) = await self._connection.execute(
                ("HSCAN", self._options.unacked, cursor, "COUNT", _BATCH_SIZE)
            )
            for tag, raw in zip(values[::2], values[1::2], strict=True):
                task_id = task_id_of(envelope(raw, parse, unacked=True))
                if task_id is not None and task_id in task_ids:
                    entries[tag] = task_id, raw
            if int(cursor) == 0:
                break
        scores = await self._execute([("ZSCORE", self._options.unacked_index, tag) for tag in entries])
        return [
            UnackedMessage(task_id=task_id, tag=tag, raw=raw, score=score or b"")
            for (tag, (task_id, raw)), score in zip(entries.items(), scores, strict=True)
        ]

    async def drop_unacked(self, deliveries: Sequence[UnackedMessage]) -> set[bytes]:
        """Remove these entries of ``unacked`` for good; returns the tags of those that were still as read.

        Kombu restores nothing without its entry: not when a worker stops, nor after the visibility timeout.
        """
        keys = (self._options.unacked, self._options.unacked_index)
        done = await self.run(_DROP, [(keys, (each.tag, each.raw, each.score)) for each in deliveries])
        return {delivery.tag for delivery, count in zip(deliveries, done, strict=True) if count}

    async def run(
        self,
        script: str,
        calls: Iterable[tuple[Sequence[str | bytes], Sequence[str | bytes]]],
        *,
        keep_refusals: bool = False,
    ) -> list[Any]:
        """Run a script once for each pair of keys and arguments, each run at one moment; returns the replies.

        With ``keep_refusals`` the reply to a run that Redis refuses is a ``Refusal``.
        """
        commands: list[Command] = [("EVAL", script, len(keys), *keys, *arguments) for keys, arguments in calls]
        return await self._execute(commands, keep_refusals=keep_refusals)

    async def _execute(
        self, commands: Sequence[Command], walks: Sequence[int] = (), *, keep_refusals: bool = False
    ) -> list[Any]:
        replies: list[Any] = []
        batch: list[Command] = []
        size = walked = 0
        for count, (command, walk) in enumerate(zip(commands, walks or repeat(0), strict=False), 1):
            batch.append(command)
            size += sum(len(part) for part in command if isinstance(part, str | bytes))
            walked += walk
            is_full = len(batch) == _MAX_COMMANDS or size >= _MAX_BYTES or walked >= _MAX_WALK
            if is_full or count == len(commands):
                replies += await self._connection.execute(*batch, keep_refusals=keep_refusals)
                batch, size, walked = [], 0, 0
        return replies

    async def _batches(self, key: str) -> AsyncGenerator[list[tuple[int, bytes]]]:
        """The list's messages from its tail on, with their distances from it.

        Each batch must begin where the last one ended: if messages were taken meanwhile, others have moved towards
        the tail, behind what is read next, and the reading goes back. A message that is met twice is returned twice.
        """
        known: set[int] = set()
        start, size, retries = 0, _BATCH_SIZE, _MAX_RETRIES
        while True:
            overlap = min(start, 1)
            (messages,) = await self._connection.execute(("LRANGE", key, -start - size, overlap - start - 1))
            if overlap and not (messages and hash(messages[-1]) in known):
                retries -= 1
                if retries < 0:
                    raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")
                start = max(0, start - _BATCH_SIZE)
                continue
            messages.reverse()
            known.update(map(hash, messages))
            yield list(enumerate(messages[overlap:], start))
            if len(messages) < size + overlap:
                return
            start += size
            size = max(1, min(_BATCH_SIZE, _MAX_BYTES // max(map(len, messages))))


def parse_result(raw: bytes) -> Any:
    """A result as its backend stores it; None for one that is not JSON."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a pickle, for one, which is never loaded
        return None


# --- one task ---


async def find_task(
    connection: Connection, options: QueueOptions, task_id: str, *, now: datetime
) -> TaskDetails | None:
    """Find the task's message and its result; None when there is neither."""
    if not is_encodable(task_id):
        return None
    messages = RawMessages(connection, options)
    details = None
    for _ in range(_MAX_READINGS):
        if queued := await messages.find({task_id}):
            message, place = envelope(queued[0].raw), Place(TaskState.QUEUED, queued[0].position)
            details = _details_in(task_id, mapping(message), place, options.task, now)
            details = replace(details, place=TaskPlace.QUEUE, list_key=queued[0].key)
            break
        if unacked := await messages.find_unacked({task_id}):
            message, place = envelope(unacked[0].raw, unacked=True), Place(TaskState.UNACKED)
            details = _details_in(task_id, mapping(message), place, options.task, now)
            details = replace(details, delivered_at=moment(float(unacked[0].score or 0)))
            break
    (results,) = await connection.execute(("MGET", *options.result_keys(task_id)))
    raw = next(filter(None, results), None)
    if raw is None:
        return details
    meta = parse_result(raw)
    return replace(details or _from_meta(task_id, mapping(meta), options.task), result=_result_of(meta))


def _details_in(task_id: str, message: Mapping[str, Any], place: Place, task_name: str, now: datetime) -> TaskDetails:
    headers = mapping(message.get("headers"))
    name = headers.get("task")
    details = TaskDetails(
        task_id=task_id,
        place=TaskPlace.UNACKED,
        name=name if isinstance(name, str) else None,
        state=place.state,
        position=place.position,
        headers=headers,
    )
    # Only its own call, whichever task it is, not those that it carries.
    task, *_ = Decoder(details.name or "", now=now).decode_message(message, place)
    if not isinstance(task, LiveTask):
        return replace(details, undecodable=task.reason)
    return replace(
        details,
        # Another task's first argument is no order.
        order_id=task.order_id if task.name == task_name else None,
        state=task.state,
        attempt=task.attempt,
        enqueued_at=task.enqueued_at,
        eta=task.eta,
        actor=task.actor,
    )


def with_claim(task_id: str, details: TaskDetails | None, survey: WorkerSurvey) -> TaskDetails | None:
    """Add what the workers report of the task. Without a claim it stays ``unacked``: it may move at this moment."""
    claim = next((task for worker in survey.workers for task in worker.tasks if task.task_id == task_id), None)
    if claim is None:
        return details
    if details is None or details.place is TaskPlace.RESULT:
        details = TaskDetails(
            task_id=task_id,
            place=TaskPlace.WORKER,
            name=claim.name,
            order_id=claim.order_id,
            eta=claim.eta,
            result=details.result if details else None,
        )
    is_retrying = claim.state is TaskState.SCHEDULED and (details.attempt or 1) > 1
    return replace(details, state=TaskState.RETRYING if is_retrying else claim.state, worker=claim.worker)


def _result_of(meta: Any) -> TaskResult:
    if not isinstance(meta, dict):
        return TaskResult(status="UNDECODABLE")
    return TaskResult(
        status=text(meta.get("status")) or "UNDECODABLE",
        value=json.dumps(meta.get("result"), ensure_ascii=False),
        traceback=text(meta.get("traceback")),
        date_done=parse_time(meta.get("date_done")),
    )


def _from_meta(task_id: str, meta: Mapping[str, Any], task: str) -> TaskDetails:
    """What a result alone shows: name, arguments and worker are only there with ``result_extended``."""
    retries = number(meta.get("retries"))
    order_id = order_of(meta.get("args"), meta.get("kwargs"))
    if order_id is None:
        order_id = order_of([mapping(meta.get("result")).get("order_id")], None)
    return TaskDetails(
        task_id=task_id,
        place=TaskPlace.RESULT,
        name=text(meta.get("name")),
        # Another task's first argument is no order; usually a result has no name.
        order_id=order_id if text(meta.get("name")) in (None, task) else None,
        worker=text(meta.get("worker")),
        attempt=None if retries is None else retries + 1,
    )
