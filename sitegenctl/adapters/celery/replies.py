"""Reply lists of remote control that nobody will read: found, and removed together with their bindings.

Kombu binds a reply list anew for every question, so that a binding is needed only while one is being asked. Who asks
pops each reply at once; a list that nobody has touched for a minute is of a client that died, or came too late for
one that asks no more. A binding without a list is another matter: its client may be waiting for the first reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Link, literally
from sitegenctl.adapters.redis.errors import Refusal

#: Seconds without a touch after which a reply list is nobody's.
ABANDONED = 60

#: Steps of SCAN and keys in each: together the most keys that are looked at.
_SCAN_STEPS = 200
_SCAN_COUNT = 1000

_EXCHANGE = "reply.celery.pidbox"

# KEYS: list, bindings. ARGV: seconds, member. Idle for so long at this very moment, too.
_PRUNE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('OBJECT', 'IDLETIME', KEYS[1]) < tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[2])
return 1
"""


@dataclass(frozen=True, kw_only=True)
class ReplyLists:
    """The reply lists found, with the seconds since somebody touched each; None where Redis doesn't tell.

    ``complete`` is False when the keyspace is too large to have been searched to its end.
    """

    idle: Mapping[bytes, int | None]
    complete: bool

    @property
    def abandoned(self) -> list[bytes]:
        """Those that are certainly nobody's."""
        return [key for key, seconds in self.idle.items() if seconds is not None and seconds >= ABANDONED]


def bindings_key(options: QueueOptions) -> str:
    """The key of the set of bindings."""
    return f"{options.global_keyprefix}_kombu.binding.{_EXCHANGE}"


async def find_reply_lists(link: Link, options: QueueOptions) -> ReplyLists:
    """Search the keyspace for reply lists, in steps and not beyond a limit. Writes nothing."""
    pattern = f"{literally(options.global_keyprefix)}*.{_EXCHANGE}"
    found: set[bytes] = set()
    cursor = b"0"
    for _ in range(_SCAN_STEPS):
        ((cursor, keys),) = await link.execute(("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT, "TYPE", "list"))
        found.update(keys)
        if cursor == b"0":
            break
    # Redis forgets idle times under an LFU policy, and refuses then; a list may also be gone by now.
    idle = await link.execute(*(("OBJECT", "IDLETIME", key) for key in found), keep_refusals=True)
    told = {
        key: None if isinstance(seconds, Refusal) else seconds or 0 for key, seconds in zip(found, idle, strict=True)
    }
    return ReplyLists(idle=told, complete=cursor == b"0")


async def prune_reply_lists(link: Link, options: QueueOptions) -> int:
    """Remove abandoned reply lists with their bindings; returns how many lists there were."""
    lists = await find_reply_lists(link, options)
    bindings = bindings_key(options)
    pruned = await link.execute(
        *(("EVAL", _PRUNE, 2, key, bindings, ABANDONED, _binding(key, options)) for key in lists.abandoned)
    )
    return sum(pruned)


def _binding(key: bytes, options: QueueOptions) -> bytes:
    """The member of the set of bindings that leads to this list: routing key, pattern and queue."""
    queue = key.removeprefix(options.global_keyprefix.encode())
    return options.sep.encode().join((queue.removesuffix(f".{_EXCHANGE}".encode()), b"", queue))
