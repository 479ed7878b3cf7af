"""What goes wrong with Redis, in one line each, whichever client meets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    "NOPERM": ("this Redis user must not write", "grant its commands and keys to the user in REDIS_URL (ACL SETUSER)"),
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
        hint="is Redis up, and REDIS_URL right? (sitegenctl config show)",
        source="broker",
    )


def late() -> SourceError:
    """No answer within the time limit."""
    return unreachable("it did not answer in time")


def login_refused(why: str) -> SourceError:
    """Nobody may come in with these credentials."""
    return SourceError(f"Redis refuses the login: {why}", hint="check the password in REDIS_URL", source="broker")


def not_permitted(why: str) -> Refusal:
    """This user may not do that."""
    login = login_refused(why)
    refusal = Refusal(login.message, hint=login.hint, source=login.source)
    refusal.code = "NOPERM"
    return refusal


def refused(why: str, code: str = "") -> Refusal:
    """Redis will not do that."""
    refusal = Refusal(f"Redis refused: {why}", source="broker")
    refusal.code = code
    return refusal


def write_refused(refusal: Refusal) -> SourceError:
    """Why a write that would change nothing was refused, as it says of all writes."""
    cause, hint = _READ_ONLY.get(refusal.code, ("Redis refuses writes", None))
    return SourceError(f"{cause}: {refusal.message.partition(': ')[2]}", hint=hint, source="broker")


def error_of(reply: str) -> SourceError:
    """What an error reply means: a code in capitals, and words for people."""
    code, _, why = reply.partition(" ")
    if code in _LOGIN or "password" in why.lower():
        return login_refused(why)
    if code == "NOPERM":
        return not_permitted(why)
    if code in _AWAY or why == "max number of clients reached":
        return unreachable(why)
    return refused(why or reply, code)


def without_errors(replies: Sequence[Any], *, keep_refusals: bool) -> list[Any]:
    """The replies, unless there is an error among them, which is raised; ``Refusal`` may be let through."""
    for reply in replies:
        if isinstance(reply, SourceError) and not (keep_refusals and isinstance(reply, Refusal)):
            raise reply
    return list(replies)
