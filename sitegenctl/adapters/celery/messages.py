"""Messages as they are in Redis: found by the ids of their tasks, taken out of the queue or of ``unacked``.

Nothing is judged here. Every removal names the exact message it means and is confirmed by Redis, so that one which
moved meanwhile is left alone and reported. Long lists are read, and many messages removed, in small steps: no
command keeps Redis from its other clients for longer than it takes to walk half a list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from itertools import repeat
from types import MappingProxyType
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, moment, text
from sitegenctl.adapters.celery.decoder import task_id_in_list, task_id_in_unacked
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.domain.queue.task import LiveTask
from sitegenctl.errors import SourceError

_CHUNK = 500
#: Messages in a list that is always read as a whole.
_SHORT = 2000
#: Bytes asked of Redis or sent to it at once, about.
_SIZE = 500_000
_COMMANDS = 100
#: Messages that Redis walks past for what is sent to it at once: a millisecond or two.
_WAY = 5000
#: Chunks that may have to be read again because the list moved.
_PATIENCE = 1000

#: Celery's states of a task that has ended.
_FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})

_ONCE: Mapping[str, int] = MappingProxyType({})

#: Two readings of one delivery time may differ by this, because a time holds fewer digits than a score.
_SAME_TIME = timedelta(milliseconds=1)

# KEYS: list. ARGV: message, how many of this very text have to stay. The one furthest from delivery goes.
_REMOVE_COPY = """
if #redis.call('LPOS', KEYS[1], ARGV[1], 'COUNT', 0) <= tonumber(ARGV[2]) then return 0 end
return redis.call('LREM', KEYS[1], 1, ARGV[1])
"""

# KEYS: unacked, unacked_index. ARGV: tag, value, score.
_FORGET = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if (redis.call('ZSCORE', KEYS[2], ARGV[1]) or '') ~= ARGV[3] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""


@dataclass(frozen=True, kw_only=True)
class QueuedMessage:
    """A message in one of the queue's lists; how far from either end it was when the list was read."""

    task_id: str
    key: str
    raw: bytes
    from_tail: int
    from_head: int

    @property
    def way(self) -> int:
        """How many messages are between it and the nearer end."""
        return min(self.from_tail, self.from_head)


@dataclass(frozen=True, kw_only=True)
class UnackedMessage:
    """An entry of ``unacked``: a delivered message under its tag, and the score that says when.

    A message that was given back and delivered again has the same tag, and often the same text, but another score.
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
        delivered_at = moment(_seconds(self.score))
        return delivered_at is not None and abs(delivered_at - place.delivered_at) <= _SAME_TIME


class RawMessages:
    """The messages of one queue, and of ``unacked``, over a link."""

    def __init__(self, link: Link, options: QueueOptions) -> None:
        self._link = link
        self._options = options

    async def waiting(
        self, task_ids: Collection[str], copies: Mapping[str, int] = _ONCE, *, to_the_end: bool = False
    ) -> list[QueuedMessage]:
        """Find these tasks' messages in the queue's lists, from the one that is next on.

        A long list is not searched beyond where each of them has been found, as often as ``copies`` says (once where
        it does not), unless it is to be searched ``to_the_end``.
        """
        missing = Counter({task_id: copies.get(task_id, 1) for task_id in task_ids})
        found: list[QueuedMessage] = []
        for key in self._options.lists:
            (length,) = await self._link.execute(("LLEN", key))
            if not task_ids or (not missing and length > _SHORT and not to_the_end):
                continue
            async with aclosing(self._chunks(key)) as chunks:
                async for chunk in chunks:
                    for from_tail, raw in chunk:
                        task_id = task_id_in_list(raw)
                        if task_id is None or task_id not in task_ids:
                            continue
                        missing[task_id] -= 1
                        if missing[task_id] <= 0:
                            del missing[task_id]
                        from_head = max(0, length - 1 - from_tail)
                        found.append(
                            QueuedMessage(task_id=task_id, key=key, raw=raw, from_tail=from_tail, from_head=from_head)
                        )
                    if not missing and length > _SHORT and not to_the_end:
                        break
        return found

    async def copies(self, task_ids: Collection[str]) -> dict[str, list[QueuedMessage]]:
        """Find every message of these tasks in the queue's lists, the one that is next first.

        For few tasks: Redis walks a whole list for each message found.
        """
        # One that was met twice, because the list moved, and two of the same text look alike: Redis counts them.
        messages = {(each.key, each.raw): each for each in await self.waiting(task_ids, to_the_end=True)}
        places = await self._execute(
            [("LPOS", key, raw, "RANK", -1, "COUNT", 0) for key, raw in messages],
            [_WAY] * len(messages),
        )
        found: dict[str, list[tuple[int, int, QueuedMessage]]] = {}
        for each, indexes in zip(messages.values(), places, strict=True):
            order = self._options.lists.index(each.key)
            # Index 0 is the head, which is furthest from delivery.
            found.setdefault(each.task_id, []).extend((order, -index, each) for index in indexes)
        return {
            task_id: [each for *_, each in sorted(entries, key=lambda entry: entry[:2])]
            for task_id, entries in found.items()
        }

    async def remove_copies(self, copies: Sequence[QueuedMessage], kept: Sequence[QueuedMessage]) -> list[bool]:
        """Remove these messages, but never one of those to be kept, which may have the same text; whether each was.

        For few messages, as ``copies``.
        """
        staying = Counter((each.key, each.raw) for each in kept)
        calls = [((each.key,), (each.raw, str(staying[each.key, each.raw]))) for each in copies]
        return [bool(count) for count in await self.run(_REMOVE_COPY, calls)]

    async def finished(self, task_ids: Collection[str]) -> dict[str, str]:
        """The final state of each of these tasks that has one among the results."""
        known = {task_id: self._options.result_keys(task_id) for task_id in task_ids if is_encodable(task_id)}
        answers = await self._execute([("MGET", *keys) for keys in known.values()])
        final: dict[str, str] = {}
        for task_id, results in zip(known, answers, strict=True):
            for result in filter(None, results):
                state = text(mapping(_json(result)).get("status"))
                if state in _FINAL:
                    final[task_id] = state
        return final

    async def take_out(self, messages: Iterable[QueuedMessage]) -> set[str]:
        """Remove these messages from the lists; returns the ids of those that Redis confirms.

        LREM walks the list until it meets the message: it is sent from the nearer end, and what is nearest goes
        first, so that whoever takes all of a queue's end has each message met at once. Redis serves nobody else
        between commands that arrive together: where the ways are long, few do.
        """
        by_way = sorted(messages, key=lambda message: message.way)
        commands: list[Command] = [
            ("LREM", message.key, -1 if message.from_tail <= message.from_head else 1, message.raw)
            for message in by_way
        ]
        # Those that were nearer are gone by then.
        ways = [max(0, message.way - number) for number, message in enumerate(by_way)]
        counts = await self._execute(commands, ways)
        return {message.task_id for message, count in zip(by_way, counts, strict=True) if count}

    async def delivered(self, task_ids: Collection[str]) -> list[UnackedMessage]:
        """Find these tasks' entries in ``unacked``."""
        entries: dict[bytes, tuple[str, bytes]] = {}
        cursor: Any = 0
        while task_ids:
            ((cursor, found),) = await self._link.execute(("HSCAN", self._options.unacked, cursor, "COUNT", _CHUNK))
            for tag, raw in zip(found[::2], found[1::2], strict=True):
                task_id = task_id_in_unacked(raw)
                if task_id is not None and task_id in task_ids:
                    entries[tag] = task_id, raw
            if int(cursor) == 0:
                break
        scores = await self._execute([("ZSCORE", self._options.unacked_index, tag) for tag in entries])
        return [
            UnackedMessage(task_id=task_id, tag=tag, raw=raw, score=score or b"")
            for (tag, (task_id, raw)), score in zip(entries.items(), scores, strict=True)
        ]

    async def forget(self, deliveries: Sequence[UnackedMessage]) -> set[bytes]:
        """Remove these entries of ``unacked`` for good; returns the tags of those that were as they had been read.

        Kombu restores nothing without its entry: not at a worker's stop, nor after the visibility timeout.
        """
        keys = (self._options.unacked, self._options.unacked_index)
        done = await self.run(_FORGET, [(keys, (each.tag, each.raw, each.score)) for each in deliveries])
        return {delivery.tag for delivery, count in zip(deliveries, done, strict=True) if count}

    async def run(
        self,
        script: str,
        calls: Iterable[tuple[Sequence[str | bytes], Sequence[str | bytes]]],
        *,
        keep_refusals: bool = False,
    ) -> list[Any]:
        """Run a script once for each of these keys and arguments, each run at one moment; returns what each returned.

        With ``keep_refusals`` one that Redis refuses returns a ``Refusal``.
        """
        commands: list[Command] = [("EVAL", script, len(keys), *keys, *given) for keys, given in calls]
        return await self._execute(commands, keep_refusals=keep_refusals)

    async def _execute(
        self, commands: Sequence[Command], ways: Sequence[int] = (), *, keep_refusals: bool = False
    ) -> list[Any]:
        answers: list[Any] = []
        for batch in _batches(commands, ways):
            answers += await self._link.execute(*batch, keep_refusals=keep_refusals)
        return answers

    async def _chunks(self, key: str) -> AsyncGenerator[list[tuple[int, bytes]]]:
        """The list's messages, from its tail on, with their distances from it, in chunks.

        Each chunk must begin where the last one ended: if messages were taken meanwhile, others have come nearer
        to the tail than is going to be read, and it is gone back. What is met twice is given twice.
        """
        seen: set[int] = set()
        start, wanted, patience = 0, _CHUNK, _PATIENCE
        while True:
            overlap = min(start, 1)
            (messages,) = await self._link.execute(("LRANGE", key, -start - wanted, overlap - start - 1))
            if overlap and not (messages and hash(messages[-1]) in seen):
                patience -= 1
                if patience < 0:
                    raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")
                start = max(0, start - _CHUNK)
                continue
            messages.reverse()
            seen.update(map(hash, messages))
            yield list(enumerate(messages[overlap:], start))
            if len(messages) < wanted + overlap:
                return
            start += wanted
            wanted = max(1, min(_CHUNK, _SIZE // max(map(len, messages))))


def _batches(commands: Sequence[Command], ways: Sequence[int]) -> Iterator[list[Command]]:
    batch: list[Command] = []
    size = way = 0
    for command, its_way in zip(commands, ways or repeat(0), strict=False):
        batch.append(command)
        size += sum(len(part) for part in command if isinstance(part, str | bytes))
        way += its_way
        if len(batch) == _COMMANDS or size >= _SIZE or way >= _WAY:
            yield batch
            batch, size, way = [], 0, 0
    if batch:
        yield batch


def _seconds(score: bytes) -> float:
    try:
        return float(score)
    except ValueError:  # there is none
        return 0


def is_encodable(task_id: str) -> bool:
    """Whether it can be sent to Redis: half of a surrogate pair, which JSON may hold, cannot."""
    try:
        task_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):  # a pickle, for one, which is never loaded
        return None
