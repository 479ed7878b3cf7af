"""Redis's error replies as ``SourceError``, by the code with which a reply begins, such as ``NOAUTH``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.errors import NotListening, SourceError, Unreachable

_LOGIN = ("WRONGPASS", "NOAUTH")
_UNAVAILABLE = ("LOADING", "MASTERDOWN")
# The whole reply of a server that accepts the connection only to refuse it. It has no code of its own.
_TOO_MANY_CLIENTS = "ERR max number of clients reached"

# Where the commands that we send name keys or channels: in the first argument, unless they are listed here.
_CHANNEL_COMMANDS = ("PUBLISH", "SUBSCRIBE", "PSUBSCRIBE", "PUBSUB")
_SUBCOMMANDS = ("ACL", "CLIENT", "CONFIG", "OBJECT", "PUBSUB", "SCRIPT", "SENTINEL")
_SCRIPTS = ("EVAL", "EVALSHA")
_ALL_ARGUMENTS = ("DEL", "EXISTS", "MGET", "PSUBSCRIBE", "SUBSCRIBE", "UNLINK")
_WITHOUT_KEYS = (
    *("AUTH", "CLIENT ID", "CLIENT LIST", "CONFIG GET", "EXEC", "HELLO", "INFO", "MULTI", "PING", "ROLE", "SCAN"),
    *("SELECT", "SENTINEL GET-MASTER-ADDR-BY-NAME", "TIME"),
)

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNTYPED = re.compile(r"[^ -~]")

# Why Redis refuses all writes and what to do, by the code of its reply.
_READ_ONLY = {
    "OOM": ("Redis is out of memory", "free memory there, or raise maxmemory"),
    "READONLY": ("Redis is a read-only replica", "name the primary in REDIS_URL"),
    "MISCONF": ("Redis cannot save to disk", "free disk space there; redis-cli INFO persistence shows the error"),
    "NOREPLICAS": ("Redis has too few replicas", "start its replicas, or lower min-replicas-to-write"),
}


class Refusal(SourceError):
    """Redis refused one command, and no other: ``code`` is the first word of its reply, ``reason`` the rest."""

    def __init__(
        self, message: str, *, code: str = "", reason: str = "", hint: Hint | None = None, source: str = "broker"
    ) -> None:
        super().__init__(message, hint=hint, source=source)
        self.code = code
        self.reason = reason


class NotPermitted(Refusal):
    """The ACL of Redis does not allow the user this ``command``, or a key or channel in it.

    Redis has one code for all three, so the rules for all of them are named. One that the user has is granted in vain.
    """

    def __init__(self, reason: str, *, command: Sequence[Any] = (), user: str | None = None) -> None:
        words = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in command]
        self.command = words[0] if words else ""
        self.user = user or "default"
        name, *arguments = words or ["that"]
        if name in _SUBCOMMANDS and arguments:
            name, arguments = f"{name} {arguments[0]}", arguments[1:]
        kind, prefix = ("channel", "&") if self.command in _CHANNEL_COMMANDS else ("key", "~")
        places = _places(name, arguments)
        rules = [f"+{name.lower().replace(' ', '|')}" if words else "+@all"]
        # A pattern to subscribe to is permitted as it is written; a key of one task for all tasks. A character that
        # cannot be typed becomes any one character.
        keys = [_UNTYPED.sub("?", _TASK_ID.sub("*", literally(each))) for each in places]
        patterns = places if self.command == "PSUBSCRIBE" else keys
        rules += [f"'{prefix}{pattern}'" for pattern in dict.fromkeys(patterns)]
        where = f" on the {kind}{'s' if len(places) > 1 else ''} {', '.join(places)}" if places else ""
        super().__init__(
            f"Redis does not let the user {self.user} execute {name}{where}: {reason}",
            code="NOPERM",
            reason=reason,
            hint=self.grant(*rules),
        )

    def grant(self, *rules: str) -> str:
        """How to grant the user ACL rules."""
        return f"grant it to the user of REDIS_URL: ACL SETUSER {self.user} {' '.join(rules)}"


def _places(name: str, arguments: Sequence[str]) -> list[str]:
    """The keys or channels among the arguments of a command that we send."""
    if name in _SCRIPTS:
        count = int(arguments[1]) if len(arguments) > 1 else 0
        return list(dict.fromkeys(arguments[2 : 2 + count]))
    if name in _ALL_ARGUMENTS:
        return list(dict.fromkeys(arguments))
    return [] if name in _WITHOUT_KEYS else list(arguments[:1])


def unreachable(reason: str, cause: Exception | None = None) -> Unreachable:
    """No connection, or a connection that was lost."""
    error = NotListening if isinstance(cause, ConnectionRefusedError | FileNotFoundError) else Unreachable
    return error(
        f"Redis can't be reached: {reason.splitlines()[0]}",
        hint=Remedy.run(Command.CONFIG_SHOW, advice="check that Redis is running and that REDIS_URL is right"),
        source="broker",
    )


def late() -> SourceError:
    """No reply within the time limit."""
    return unreachable("it did not respond in time")


class LoginRefused(SourceError):
    """The password or user name is wrong or missing; ``user_only``: there is a user, and no password."""

    def __init__(self, reason: str, *, user_only: bool = False) -> None:
        hint = "check the password in REDIS_URL"
        if user_only:
            hint = "REDIS_URL has a user and no password; write a password alone as redis://:PASSWORD@host"
        super().__init__(f"Redis refuses the login: {reason}", hint=hint, source="broker")
        self.reason = reason


def error_of(reply: str) -> SourceError:
    """The error for an error reply."""
    code, _, reason = reply.partition(" ")
    if code == "EXECABORT" and ": " in reason:
        # Redis 6.2 refuses EXEC with this code, followed by the error with its own.
        return error_of(reason.partition(": ")[2])
    if code == "NOPERM":
        return NotPermitted(reason)
    if code in _LOGIN:
        return LoginRefused(reason)
    if code in _UNAVAILABLE or reply == _TOO_MANY_CLIENTS:
        return unreachable(reason)
    if code in _READ_ONLY:
        cause, hint = _READ_ONLY[code]
        return Refusal(f"{cause}: {reason}", code=code, reason=reason, hint=hint)
    return Refusal(f"Redis refused: {reason or reply}", code=code, reason=reason or reply)


def without_errors(
    replies: Sequence[Any],
    *,
    commands: Sequence[Sequence[Any]] = (),
    user: str | None = None,
    keep_refusals: bool = False,
) -> list[Any]:
    """The replies; raises the first error among them, except a ``Refusal`` with ``keep_refusals``.

    With the ``commands`` and their ``user``, a missing permission names both, and the key or channel.
    """
    checked: list[Any] = []
    for number, reply in enumerate(replies):
        if isinstance(reply, NotPermitted) and commands:
            reply = NotPermitted(reply.reason, command=commands[number], user=user)
        if isinstance(reply, SourceError) and not (keep_refusals and isinstance(reply, Refusal)):
            raise reply
        checked.append(reply)
    return checked


def literally(text: str) -> str:
    """The text as a Redis pattern that matches nothing else."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
