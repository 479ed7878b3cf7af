"""What goes wrong with Redis, in one line each, whichever client meets it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import SourceError

_LOGIN = ("WRONGPASS", "NOAUTH")
# It is there, and is not to be had for now.
_AWAY = ("LOADING", "MASTERDOWN")
#: Why Redis accepts no writes at all, by the code of its reply, with what to do.
_READ_ONLY = {
    "OOM": ("Redis is out of memory", "free memory there, or raise maxmemory"),
    "READONLY": ("Redis is a read-only replica", "name the primary in REDIS_URL"),
    "MISCONF": ("Redis cannot save to disk", "free disk space there; redis-cli INFO persistence shows the error"),
    "NOREPLICAS": ("Redis has too few replicas", "start its replicas, or lower min-replicas-to-write"),
}


class Refusal(SourceError):
    """Redis would not do one command; others, and the connection, are none the worse for it.

    ``code`` is that of its reply.
    """

    code: str = ""


def unreachable(reason: str) -> SourceError:
    """No connection, or one that was lost."""
    return SourceError(
        f"Redis can't be reached: {reason.splitlines()[0]}",
        hint=Remedy.run(Command.CONFIG_SHOW, advice="check that Redis is running and that REDIS_URL is right"),
        source="broker",
    )


def late() -> SourceError:
    """No answer within the time limit."""
    return unreachable("it did not answer in time")


def login_refused(why: str) -> SourceError:
    """Nobody may come in with these credentials."""
    return SourceError(f"Redis refuses the login: {why}", hint="check the password in REDIS_URL", source="broker")


class NotPermitted(Refusal):
    """The ACL of Redis does not let this user execute a command, or use a key or a channel.

    ``command`` is the one that was refused, where it is known: then the key or channel is named.
    """

    def __init__(self, why: str, *, command: Sequence[Any] = ()) -> None:
        self.why = why
        user = re.search(r"\bUser (\S+) has no permissions", why)
        verb = re.search(r"run the '([^']+)' command", why)
        self.user = user[1] if user else "USER"
        name, *used = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in command] or [
            ""
        ]
        # EVAL has its script and the number of its keys before them.
        used = used[2:] if name == "EVAL" else used
        self.is_channel = verb is None and "channel" in why.lower()
        if verb is not None:
            message, rule = f"execute {verb[1].upper()}", f"+{verb[1]}"
        elif self.is_channel:
            message, rule = "use the channel", "&CHANNEL"
        elif "key" in why.lower():
            message, rule = "use the key", "~KEY"
        else:
            message, rule, used = f"do that: {why}", "+@all", []
        if verb is None and used:
            message, rule = f"{message} {used[0]} with {name}", f"{rule[0]}{used[0]}"
        super().__init__(f"Redis does not let this user {message}", hint=self.grant(rule), source="broker")
        self.code = "NOPERM"

    def grant(self, *rules: str) -> str:
        """How to give the user of REDIS_URL the permission; ``rules`` are of Redis' ACL."""
        return f"grant it to the user of REDIS_URL: ACL SETUSER {self.user} " + " ".join(f"'{rule}'" for rule in rules)


def not_permitted(why: str) -> Refusal:
    """This user may not do that."""
    return NotPermitted(why)


def explained(commands: Sequence[Sequence[Any]], replies: Sequence[Any]) -> list[Any]:
    """The replies; where one says that a permission is missing, it names what its command needs."""
    return [
        NotPermitted(reply.why, command=command) if isinstance(reply, NotPermitted) else reply
        for command, reply in zip(commands, replies, strict=True)
    ]


def refused(why: str, code: str = "") -> Refusal:
    """Redis will not do that."""
    refusal = Refusal(f"Redis refused: {why}", source="broker")
    refusal.code = code
    return refusal


def write_refused(refusal: Refusal) -> SourceError:
    """Why a write that would change nothing was refused, as it says of all writes."""
    if isinstance(refusal, NotPermitted):
        return refusal
    cause, hint = _READ_ONLY.get(refusal.code, ("Redis refuses writes", None))
    return SourceError(f"{cause}: {refusal.message.partition(': ')[2]}", hint=hint, source="broker")


def error_of(reply: str) -> SourceError:
    """What an error reply means: a code in capitals, and words for people."""
    code, _, why = reply.partition(" ")
    # First: what is not permitted may have a name with any word in it.
    if code == "NOPERM":
        return not_permitted(why)
    if code in _LOGIN or "password" in why.lower():
        return login_refused(why)
    if code in _AWAY or why == "max number of clients reached":
        return unreachable(why)
    return refused(why or reply, code)


def without_errors(replies: Sequence[Any], *, keep_refusals: bool) -> list[Any]:
    """The replies, unless there is an error among them, which is raised; ``Refusal`` may be let through."""
    for reply in replies:
        if isinstance(reply, SourceError) and not (keep_refusals and isinstance(reply, Refusal)):
            raise reply
    return list(replies)
