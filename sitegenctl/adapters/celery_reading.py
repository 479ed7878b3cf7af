"""Reading every unfinished message of a queue, whatever moves meanwhile, without holding Redis up.

A queue that is small is read in one MULTI/EXEC. A long one is read in chunks, which can't be atomic, so the
order of reading has to make up for it:

1. Each list from its head on. Publishing shifts what is not read yet away from the head, towards what is read
   next, and taking from the tail shifts nothing: a message that stays is met.
2. Then, in one MULTI/EXEC, both ends of every list and ``unacked``. A task that was on the move in step 1 is
   by then in ``unacked``, or published anew at a head (a retry), or restored at a tail. An end counts as read
   when its inner part is known from step 1; otherwise there is more, and it is looked at again.

What this can't see, nor could one MULTI/EXEC: kombu takes a message and enters it in ``unacked`` in two steps,
and between them it is nowhere. Where ``unacked`` itself takes several steps to read, a task that goes from it
and comes back under another tag between two of them may be missed. Hence the rule that "no task" is believed
only after a grace period.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Protocol

from sitegenctl.adapters.celery_messages import Place, decode as decode_any, decode_unacked
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.adapters.redis_errors import Refusal, without_errors
from sitegenctl.adapters.redis_link import Link
from sitegenctl.adapters.redis_wire import Command
from sitegenctl.domain.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.errors import SourceError

Item = LiveTask | ForeignMessage

# More than are ever published while a list is read.
_FAR = 10**9


class _Decode(Protocol):
    def __call__(self, raw: bytes, place: Place, *, task_name: str, now: datetime) -> Item: ...


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much is asked of Redis at once: messages, and about how many bytes.

    Reading 2,000 messages of a kilobyte takes Redis 2 ms. The size is estimated from messages at the ends:
    Redis can't tell it of a list without looking at each.
    """

    atomic: int = 2000
    chunk: int = 1000
    edge: int = 64
    size: int = 4_000_000
    rounds: int = 100


@dataclass(kw_only=True)
class _Part:
    """One of the queue's lists, and what has been read of it, from the head on."""

    key: str
    edge: int
    items: list[Item] = field(default_factory=list)
    at_the_tail: Iterator[int] = field(default_factory=count)
    _lowest: int = 0
    # By the hash of the message itself (a task may come back as another message), where it stood: a number
    # that only grows from the head to the tail.
    known: dict[int, int] = field(default_factory=dict)

    def knows(self, messages: Iterable[bytes]) -> bool:
        """Whether these were seen before, in this order: what was taken and given back has another."""
        numbers = [self.known.get(hash(raw), -_FAR * _FAR) for raw in messages]
        return numbers == sorted(numbers) and (not numbers or numbers[0] > -_FAR * _FAR)

    def new(self, messages: Iterable[bytes], numbers: Iterator[int]) -> list[bytes]:
        """Those not known yet; from now on they are known."""
        return [
            raw
            for raw, number in zip(messages, numbers, strict=False)
            if self.known.setdefault(hash(raw), number) == number
        ]

    def before_the_head(self) -> Iterator[int]:
        """Numbers for what was published since the list was read last."""
        self._lowest -= _FAR
        return count(self._lowest)


@dataclass(frozen=True, kw_only=True)
class _Ends:
    """Both ends of a list at one moment; a short list is in either as a whole."""

    length: int
    head: list[bytes]
    tail: list[bytes]


class QueueReading:
    """One reading of the queue; ``now`` decides which ETA is in the future.

    With ``only``, nothing is kept but tasks of these orders, and they have no positions.
    """

    def __init__(
        self,
        link: Link,
        options: QueueOptions,
        bounds: Bounds,
        *,
        now: datetime,
        only: Collection[int] | None = None,
    ) -> None:
        self._link = link
        self._options = options
        self._bounds = bounds
        self._now = now
        self._only = only
        self._chunk = bounds.chunk
        self._patience = bounds.rounds
        self._decode: _Decode = decode_any

    async def read(self) -> BrokerReading:
        """Read what is unfinished, each task once, in the order of delivery."""
        lists = [
            command
            for key in self._options.lists
            for command in (("LLEN", key), ("LRANGE", key, 0, 1), ("LRANGE", key, -2, -1))
        ]
        unacked = self._options.unacked
        *answers, delivered, (_, sample) = await self._link.execute(
            *lists, ("HLEN", unacked), ("HSCAN", unacked, 0, "COUNT", 2)
        )
        lengths = answers[0::3]
        messages = [raw for part in (*answers[1::3], *answers[2::3], sample[1::2]) for raw in part]
        size = self._adapt(messages)
        messages_in_all = sum(lengths) + delivered
        if messages_in_all <= self._bounds.atomic and messages_in_all * size <= self._bounds.size:
            return await self._at_once()
        with _collector_paused():
            return await self._in_chunks()

    async def _at_once(self) -> BrokerReading:
        *lists, unacked = await self._transaction(
            *(("LRANGE", key, 0, -1) for key in self._options.lists), ("HVALS", self._options.unacked)
        )
        queued = self._queued(raw for part in lists for raw in reversed(part))
        return self._reading(queued, self._delivered(unacked))

    async def _in_chunks(self) -> BrokerReading:
        # Here, because importing it takes longer than decoding a short queue.
        from sitegenctl.adapters.celery_decoding import decode

        self._decode = decode
        edge = max(1, min(self._bounds.edge, self._chunk))
        parts = [_Part(key=key, edge=edge) for key in self._options.lists]
        for part in parts:
            part.items = await self._from_head(part, part.at_the_tail)
        unacked, at_the_ends = await self._settle(parts)
        delivered = self._delivered(unacked.values())
        # What was in a list when that was read, and is delivered now, is in the list no longer; what stands at
        # an end even now is in both: a retry, whose last delivery is about to be acknowledged.
        left = {item.task_id for item in delivered if item.task_id is not None} - at_the_ends
        queued = [item for part in parts for item in reversed(part.items) if item.task_id not in left]
        return self._reading(queued, delivered)

    async def _from_head(self, part: _Part, numbers: Iterator[int], *, until_known: int = 0) -> list[Item]:
        """What is new in the list, to its end or until so many messages in a row are known already."""
        found: list[Item] = []
        messages: list[Any]
        undecoded: list[bytes] = []
        start = 0
        while True:
            overlap, wanted = min(start, 1), self._chunk
            # Redis is at a chunk while the one before it is decoded.
            (messages,), decoded = await asyncio.gather(
                self._link.execute(("LRANGE", part.key, start - overlap, start + wanted - 1)),
                self._decoded(undecoded),
            )
            found += decoded
            undecoded = []
            if overlap and messages and not part.knows(messages[:1]):
                # Either more was published at once than was read so far; or messages were taken out of the
                # middle, and what is not read yet has come nearer to the head.
                self._lose_patience()
                before = len(part.known)
                found[:0] = await self._from_head(part, part.before_the_head(), until_known=1)
                newer = len(part.known) - before
                start = start + newer if newer else max(0, start - wanted)
                continue
            del messages[:overlap]
            ends = len(messages) < wanted or (until_known and part.knows(messages[-until_known:]))
            undecoded = part.new(messages, numbers)
            if ends:
                return found + self._queued(undecoded)
            self._adapt(messages)
            start += len(messages)

    async def _settle(self, parts: Sequence[_Part]) -> tuple[dict[bytes, bytes], set[str]]:
        """Read ``unacked`` together with the ends of all lists.

        Returns what is in ``unacked``, and the ids of the tasks at the ends.
        """
        unacked: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            ends, cursor_after, values = await self._ends(parts, cursor)
            unacked |= values
            # All of them, also when one isn't: each is looked at further.
            if not all([await self._is_complete(part, each) for part, each in zip(parts, ends, strict=True)]):
                continue
            cursor = cursor_after
            if not cursor:
                messages = [raw for each in ends for raw in (*each.head, *each.tail)]
                return unacked, {item.task_id for item in self._queued(messages) if item.task_id is not None}

    async def _ends(self, parts: Sequence[_Part], cursor: int) -> tuple[list[_Ends], int, dict[bytes, bytes]]:
        lists: list[Command] = []
        for part in parts:
            lists += ("LLEN", part.key), ("LRANGE", part.key, 0, part.edge - 1), ("LRANGE", part.key, -part.edge, -1)
        scan = ("HSCAN", self._options.unacked, cursor, "COUNT", self._chunk)
        *answers, (cursor_after, found) = await self._transaction(*lists, scan)
        each = zip(answers[0::3], answers[1::3], answers[2::3], strict=True)
        ends = [_Ends(length=length, head=head, tail=tail) for length, head, tail in each]
        return ends, int(cursor_after), dict(zip(found[::2], found[1::2], strict=True))

    async def _is_complete(self, part: _Part, ends: _Ends) -> bool:
        """Take in what is new at the ends; False when there may be more, and the ends must be read again."""
        run = max(1, part.edge // 4)
        whole = ends.length <= len(ends.head)
        if not whole and not part.knows(ends.head[-run:]):
            self._lose_patience()
            part.items[:0] = await self._from_head(part, part.before_the_head(), until_known=run)
            return False
        if not whole and not part.knows(ends.tail[:run]):
            self._lose_patience()
            part.edge *= 2
            return False
        old = next((place for place, raw in enumerate(ends.head) if part.knows([raw])), ends.length)
        part.items[:0] = self._queued(part.new(ends.head[:old], part.before_the_head()))
        part.items += self._queued(part.new([*ends.head[old:], *ends.tail], part.at_the_tail))
        return True

    def _lose_patience(self) -> None:
        self._patience -= 1
        if self._patience < 0:
            raise SourceError("the queue moves faster than it can be read", hint="try again", source="broker")

    def _adapt(self, messages: Sequence[bytes]) -> int:
        """Ask for fewer messages at once where they are large; returns the size of the largest, in bytes."""
        size = max(map(len, messages), default=0)
        self._chunk = max(1, min(self._bounds.chunk, self._bounds.size // 3 // max(size, 1)))
        return size

    async def _transaction(self, *commands: Command) -> list[Any]:
        """The replies to these commands, which Redis serves at one moment."""
        *accepted, replies = await self._link.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
        refusal = next((reply for reply in accepted if isinstance(reply, Refusal)), None)
        if refusal is not None and "maxmemory" in refusal.message:
            # A Redis that is out of memory (6.2) refuses even a MULTI that only reads.
            return await self._link.execute(*commands)
        without_errors(accepted if isinstance(replies, Refusal) else replies, keep_refusals=False)
        return list(without_errors([replies], keep_refusals=False)[0])

    async def _decoded(self, messages: Iterable[bytes]) -> list[Item]:
        """``_queued``, when the command given before it is sent: some links send it in their second turn."""
        await asyncio.sleep(0)
        return self._queued(messages)

    def _queued(self, messages: Iterable[bytes]) -> list[Item]:
        decode, place, task, now = self._decode, Place(TaskState.QUEUED), self._options.task, self._now
        return self._wanted([decode(raw, place, task_name=task, now=now) for raw in messages])

    def _delivered(self, values: Iterable[bytes]) -> list[Item]:
        place, task, now = Place(TaskState.UNACKED), self._options.task, self._now
        return self._wanted([decode_unacked(raw, place, task_name=task, now=now) for raw in values])

    def _wanted(self, items: list[Item]) -> list[Item]:
        if self._only is None:
            return items
        return [item for item in items if isinstance(item, LiveTask) and item.order_id in self._only]

    def _reading(self, queued: Sequence[Item], delivered: Sequence[Item]) -> BrokerReading:
        """Each task once, under its place in the list if it has one.

        A retry is published before its old delivery is acknowledged, and a restore moves a message back: the
        same task may stand in both places for a moment.
        """
        if self._only is None:
            for position, item in enumerate(queued):
                # Not by replace(): nobody has seen it yet, and 100,000 copies would take as long as all the rest.
                object.__setattr__(item, "position", position)
        tasks: dict[str, LiveTask] = {}
        foreign: dict[str | int, ForeignMessage] = {}
        for place, item in enumerate((*queued, *delivered)):
            if isinstance(item, LiveTask):
                tasks.setdefault(item.task_id, item)
            else:
                # Without an id there is nothing to know it again by.
                foreign.setdefault(place if item.task_id is None else item.task_id, item)
        return BrokerReading(tasks=tuple(tasks.values()), foreign=tuple(foreign.values()))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Let nobody look for cycles among the tasks decoded inside: there are none, and looking takes long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
