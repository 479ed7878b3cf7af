"""Reading every unfinished message of a queue while messages move, without blocking Redis.

A small queue is read in one MULTI/EXEC. A long one is read in batches, which is not atomic; the order of reading makes
up for it:

1. Each list from its head on. Publishing shifts unread messages away from the head, towards what is read next, and
   taking from the tail shifts nothing: a message that stays is met.
2. Then, in one MULTI/EXEC, both ends of every list and ``unacked``. A task that moved during step 1 is by then in
   ``unacked``, or published again at a head (a retry), or restored at a tail. An end is complete when its inner part is
   known from step 1; otherwise there is more, and it is read again.

A task id may be in several places at once, and each is reported: a message pushed twice, one restored while its task
still runs, a retry whose last delivery is about to be acknowledged. A message that was met twice only because it moved
during the reading is reported once.

Neither this nor one MULTI/EXEC can see a message between the two steps in which kombu takes it and enters it in
``unacked``. Where ``unacked`` itself takes several steps to read, a task that leaves it and returns under another tag
between two of them may be missed. So "no task" is believed only after a grace period.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

from sitegenctl.adapters.broker.json_values import moment
from sitegenctl.adapters.celery.codec import Decoder, Item, Place
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal, without_errors
from sitegenctl.adapters.redis.replies import uptime_in
from sitegenctl.domain.queue.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.errors import SourceError

# More messages than are ever published while a list is read.
_FAR = 10**9


class _Entry(NamedTuple):
    """The hash of a message in a list, and its items."""

    key: int
    items: list[Item]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much is read at once: messages, and about how many bytes, estimated from the messages at the ends.

    Reading 2,000 messages of a kilobyte takes Redis 2 ms. ``rounds`` limits readings of a list that moves.
    """

    atomic: int = 2000
    batch: int = 1000
    edge: int = 64
    size: int = 4_000_000
    rounds: int = 100


@dataclass(kw_only=True)
class _Part:
    """One of the queue's lists, and the entries read so far, from the head on."""

    key: str
    edge: int
    entries: list[_Entry] = field(default_factory=list)
    at_the_tail: Iterator[int] = field(default_factory=count)
    _lowest: int = 0
    # The place of each message, by its hash (a task may return in another message): numbers grow from head to tail.
    known: dict[int, int] = field(default_factory=dict)
    # Messages that are in the list more than once, to the byte: their numbers don't show the order.
    twins: set[int] = field(default_factory=set)

    def knows(self, messages: Iterable[bytes]) -> bool:
        """Whether these were read before, in this order: what was taken and requeued has another."""
        keys = list(map(hash, messages))
        numbers = [self.known[key] for key in keys if key in self.known and key not in self.twins]
        return numbers == sorted(numbers) and all(key in self.known for key in keys)

    def new(self, messages: Iterable[bytes], numbers: Iterator[int], *, copies: bool = False) -> list[bytes]:
        """Those not known yet, which are known from now on.

        With ``copies`` also those that are in the list twice: nothing known is behind what is new.
        """
        fresh: list[bytes] = []
        for raw, number in zip(messages, numbers, strict=False):
            key = hash(raw)
            if self.known.setdefault(key, number) == number:
                fresh.append(raw)
            elif copies and fresh:
                self.twins.add(key)
                fresh.append(raw)
        return fresh

    def left_behind(self, ends: _Ends) -> Iterator[_Entry]:
        """Entries that a worker has taken since they were read, by the present end of the list."""
        still_there = {hash(raw) for raw in (*ends.head, *ends.tail)}
        inner = next((key for key in map(hash, ends.tail) if key in self.known and key not in self.twins), None)
        end = -_FAR * _FAR if inner is None or ends.length <= len(ends.head) else self.known[inner]
        return (entry for entry in self.entries if self.known[entry.key] > end and entry.key not in still_there)

    def before_the_head(self) -> Iterator[int]:
        """Numbers for messages published since the last reading."""
        self._lowest -= _FAR
        return count(self._lowest)


class _Ends(NamedTuple):
    """Both ends of a list at one moment; either holds all of a short list."""

    length: int
    head: list[bytes]
    tail: list[bytes]


class QueueReading:
    """One reading of the queue; with ``only``, of the tasks of these orders, which have no positions then.

    ``now`` is the time where the broker does not report its own.
    """

    def __init__(
        self,
        connection: Connection,
        options: QueueOptions,
        bounds: Bounds,
        *,
        now: datetime,
        only: Collection[int] | None = None,
    ) -> None:
        self._connection = connection
        self._options = options
        self._bounds = bounds
        self._now = now
        self._taken_at: datetime | None = None
        self._decoder: Decoder
        self._only = only
        self._batch_size = bounds.batch
        self._retries_left = bounds.rounds
        self._skipped: Counter[str] = Counter()
        self._uptime: timedelta | None = None

    async def read(self) -> BrokerReading:
        """Read every place of every task, in the order of delivery."""
        lists = [
            command
            for key in self._options.lists
            for command in (("LLEN", key), ("LRANGE", key, 0, 1), ("LRANGE", key, -2, -1))
        ]
        unacked = self._options.unacked
        time, info, *others = await self._connection.execute(
            ("TIME",),
            ("INFO", "server"),
            *lists,
            ("HLEN", unacked),
            ("ZCARD", self._options.unacked_index),
            ("HSCAN", unacked, 0, "COUNT", 2),
            keep_refusals=True,
        )
        *answers, delivered, indexed, (_, sample) = without_errors(others, keep_refusals=False)
        if not isinstance(time, Refusal):
            self._taken_at = moment(int(time[0]) + int(time[1]) / 1e6)
            self._now = self._taken_at or self._now
        self._uptime = uptime_in(info)
        lengths = answers[0::3]
        messages = [raw for part in (*answers[1::3], *answers[2::3], sample[1::2]) for raw in part]
        size = self._adapt(messages)
        messages_in_all = sum(lengths) + delivered
        if max(messages_in_all, indexed) > self._bounds.atomic or messages_in_all * size > self._bounds.size:
            # Imports msgspec.
            from sitegenctl.adapters.celery.fast import FastDecoder, parse

            self._decoder = FastDecoder(self._options.task, now=self._now, skipped=self._skipped, parse=parse)
            with _collector_paused():
                return await self._in_batches()
        self._decoder = Decoder(self._options.task, now=self._now, skipped=self._skipped)
        *queues, entries, index = await self._transaction(
            *(("LRANGE", key, 0, -1) for key in self._options.lists),
            ("HGETALL", unacked),
            ("ZRANGE", self._options.unacked_index, 0, -1, "WITHSCORES"),
        )
        queued = self._queued(raw for queue in queues for raw in reversed(queue))
        scores = dict(zip(index[::2], index[1::2], strict=True))
        deliveries = zip(entries[::2], entries[1::2], strict=True)
        return self._reading(
            [entry.items for entry in queued], [self._delivered(tag, raw, scores.get(tag)) for tag, raw in deliveries]
        )

    async def _in_batches(self) -> BrokerReading:
        edge = max(1, min(self._bounds.edge, self._batch_size))
        parts = [_Part(key=key, edge=edge) for key in self._options.lists]
        for part in parts:
            part.entries = await self._from_head(part, part.at_the_tail)
        unacked, ends = await self._settle(parts)
        scores = await self._in_steps([("ZSCORE", self._options.unacked_index, tag) for tag in unacked])
        delivered = {
            tag: self._delivered(tag, raw, score) for (tag, raw), score in zip(unacked.items(), scores, strict=True)
        }
        queued = [entry.items for part in parts for entry in reversed(part.entries)]
        left = [entry.items for part, each in zip(parts, ends, strict=True) for entry in part.left_behind(each)]
        moved = await self._moved(queued, delivered, left)
        return self._reading(
            [items for items in queued if id(items) not in moved],
            [items for items in delivered.values() if id(items) not in moved],
        )

    async def _moved(
        self, queued: Iterable[list[Item]], delivered: Mapping[bytes, list[Item]], left: Iterable[list[Item]]
    ) -> set[int]:
        """Places that a task has left for another one that was also read; returns the ids of the lists of items.

        ``left`` are the items of messages that are in no list any more.
        """
        left = list(left)
        if not left and not delivered:
            return set()
        places = Counter(map(_id_of, (*queued, *delivered.values())))
        repeated = {tag: items for tag, items in delivered.items() if places[_id_of(items)] > 1}
        there = await self._in_steps([("HEXISTS", self._options.unacked, tag) for tag in repeated])
        gone = [items for items, is_there in zip(repeated.values(), there, strict=True) if not is_there]
        moved: set[int] = set()
        for items in (*gone, *left):
            task_id = _id_of(items)
            if task_id is not None and places[task_id] > 1:
                places[task_id] -= 1
                moved.add(id(items))
        return moved

    async def _in_steps(self, commands: Sequence[Command]) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(commands), self._batch_size):
            replies += await self._connection.execute(*commands[start : start + self._batch_size])
        return replies

    async def _from_head(self, part: _Part, numbers: Iterator[int], *, until_known: int = 0) -> list[_Entry]:
        """The new entries of the list, to its end or until this number of messages in a row is known."""

        async def decoded_later(messages: Iterable[bytes]) -> list[_Entry]:
            # The concurrent command is sent first: some pool send in the second turn of the event loop.
            await asyncio.sleep(0)
            return self._queued(messages)

        entries: list[_Entry] = []
        messages: list[Any]
        undecoded: list[bytes] = []
        start = 0
        while True:
            overlap, wanted = min(start, 1), self._batch_size
            # Redis prepares a batch while the one before it is decoded.
            (messages,), decoded = await asyncio.gather(
                self._connection.execute(("LRANGE", part.key, start - overlap, start + wanted - 1)),
                decoded_later(undecoded),
            )
            entries += decoded
            undecoded = []
            if overlap and messages and not part.knows(messages[:1]):
                # Either more was published at once than was read so far, or messages were removed from the middle, and
                # unread ones have come nearer to the head.
                self._count_retry()
                before = len(part.known)
                entries[:0] = await self._from_head(part, part.before_the_head(), until_known=1)
                newer = len(part.known) - before
                start = start + newer if newer else max(0, start - wanted)
                continue
            del messages[:overlap]
            ends = len(messages) < wanted or (until_known and part.knows(messages[-until_known:]))
            undecoded = part.new(messages, numbers, copies=not until_known)
            if ends:
                return entries + self._queued(undecoded)
            self._adapt(messages)
            start += len(messages)

    async def _settle(self, parts: Sequence[_Part]) -> tuple[dict[bytes, bytes], list[_Ends]]:
        """Read ``unacked`` together with the ends of all lists until nothing is missing; returns both."""
        unacked: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            commands: list[Command] = []
            for part in parts:
                head, tail = ("LRANGE", part.key, 0, part.edge - 1), ("LRANGE", part.key, -part.edge, -1)
                commands += ("LLEN", part.key), head, tail
            commands.append(("HSCAN", self._options.unacked, cursor, "COUNT", self._batch_size))
            *answers, (cursor_after, values) = await self._transaction(*commands)
            ends = list(map(_Ends, answers[0::3], answers[1::3], answers[2::3]))
            unacked |= dict(zip(values[::2], values[1::2], strict=True))
            # Not a generator: every part must be completed.
            if not all([await self._is_complete(part, each) for part, each in zip(parts, ends, strict=True)]):
                continue
            cursor = int(cursor_after)
            if not cursor:
                return unacked, ends

    async def _is_complete(self, part: _Part, ends: _Ends) -> bool:
        """Add what is new at the ends; False when there may be more, and the ends must be read again."""
        run = max(1, part.edge // 4)
        whole = ends.length <= len(ends.head)
        if not whole and not part.knows(ends.head[-run:]):
            self._count_retry()
            part.entries[:0] = await self._from_head(part, part.before_the_head(), until_known=run)
            return False
        if not whole and not part.knows(ends.tail[:run]):
            self._count_retry()
            part.edge *= 2
            return False
        old = next((place for place, raw in enumerate(ends.head) if part.knows([raw])), ends.length)
        part.entries[:0] = self._queued(part.new(ends.head[:old], part.before_the_head(), copies=True))
        part.entries += self._queued(part.new([*ends.head[old:], *ends.tail], part.at_the_tail))
        return True

    def _count_retry(self) -> None:
        self._retries_left -= 1
        if self._retries_left < 0:
            raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")

    def _adapt(self, messages: Sequence[bytes]) -> int:
        """Read fewer messages at once where they are large; returns the size of the largest, in bytes."""
        size = max(map(len, messages), default=0)
        self._batch_size = max(1, min(self._bounds.batch, self._bounds.size // 3 // max(size, 1)))
        return size

    async def _transaction(self, *commands: Command) -> list[Any]:
        """The replies to these commands, executed at one moment."""
        *accepted, replies = await self._connection.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
        refusal = next((reply for reply in accepted if isinstance(reply, Refusal)), None)
        if refusal is not None and refusal.code == "OOM":
            # A Redis that is out of memory (6.2) refuses even a MULTI that only reads.
            return await self._connection.execute(*commands)
        without_errors(accepted if isinstance(replies, Refusal) else replies, keep_refusals=False)
        return list(without_errors([replies], keep_refusals=False)[0])

    def _queued(self, messages: Iterable[bytes]) -> list[_Entry]:
        decode, place = self._decoder.decode, Place(TaskState.QUEUED)
        if self._only is None:
            return [_Entry(hash(raw), decode(raw, place)) for raw in messages]
        return [_Entry(hash(raw), items) for raw in messages if (items := self._wanted(decode(raw, place)))]

    def _delivered(self, tag: bytes, raw: bytes, score: bytes | None) -> list[Item]:
        delivered_at = moment(float(score)) if score is not None else None
        place = Place(TaskState.UNACKED, None, tag.decode(errors="backslashreplace"), delivered_at)
        return self._wanted(self._decoder.decode_unacked(raw, place))

    def _wanted(self, items: list[Item]) -> list[Item]:
        if self._only is None:
            return items
        return [item for item in items if isinstance(item, LiveTask) and item.order_id in self._only]

    def _reading(self, queued: Sequence[list[Item]], delivered: Sequence[list[Item]]) -> BrokerReading:
        if self._only is None:
            for position, items in enumerate(queued):
                for item in items:
                    # Not by replace(), which would double the time of a long queue: the item is not shared yet.
                    object.__setattr__(item, "position", position)
        items = [item for part in (queued, delivered) for each in part for item in each]
        tasks = [item for item in items if isinstance(item, LiveTask)]
        return BrokerReading(
            tasks=tuple(tasks if all(task.carrier is None for task in tasks) else _once(tasks)),
            foreign=tuple(item for item in items if isinstance(item, ForeignMessage)),
            taken_at=self._taken_at,
            uptime=self._uptime,
            skipped=dict(self._skipped),
        )


def _id_of(items: Sequence[Item]) -> str | None:
    """The id of the task in whose message these items are."""
    if not items:
        return None
    first = items[0]
    return (first.carrier if isinstance(first, LiveTask) else None) or first.task_id


def _once(tasks: Sequence[LiveTask]) -> Iterator[LiveTask]:
    """Each carried task once: all messages of a chain or a chord carry the steps to come.

    A step that has been published by now is reported as a message.
    """
    ids = {task.task_id for task in tasks if not _is_published_later(task)}
    for task in tasks:
        if _is_published_later(task):
            if task.task_id in ids:
                continue
            ids.add(task.task_id)
        yield task


def _is_published_later(task: LiveTask) -> bool:
    """Whether the task will be in a message of its own; an item of a map never is."""
    return task.carrier is not None and not task.task_id.startswith(f"{task.carrier}#")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for reference cycles, which takes long: decoded tasks have none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
