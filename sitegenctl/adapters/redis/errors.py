"""Redis's error replies as ``SourceError``, by the code with which a reply begins, such as ``NOAUTH``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import NotListening, SourceError, Unreachable

_LOGIN = ("WRONGPASS", "NOAUTH")
_UNAVAILABLE = ("LOADING", "MASTERDOWN")
# The whole reply of a server that accepts the connection only to refuse it. It has no code of its own.
_TOO_MANY_CLIENTS = "ERR max number of clients reached"
_CHANNEL_COMMANDS = ("PUBLISH", "SUBSCRIBE", "PSUBSCRIBE")


class Refusal(SourceError):
    """Redis refused one command, and no other: ``code`` is the first word of its reply, ``reason`` the rest."""

    def __init__(
        self, message: str, *, code: str = "", reason: str = "", hint: str | None = None, source: str = "broker"
    ) -> None:
        super().__init__(message, hint=hint, source=source)
        self.code = code
        self.reason = reason


class NotPermitted(Refusal):
    """The ACL of Redis does not allow the user a command, a key or a channel.

    The key or channel is named if the refused ``command`` is known.
    """

    def __init__(self, reason: str, *, command: Sequence[Any] = ()) -> None:
        user = re.search(r"\bUser (\S+) has no permissions", reason)
        self.user = user[1] if user else "USER"
        refused = re.search(r"run the '([^']+)' command", reason)
        words = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in command]
        name, arguments = (words[0], words[1:]) if words else ("", [])
        if name == "EVAL":
            # The script and the number of keys come before the keys.
            arguments = arguments[2:]
        self.is_channel = refused is None and name in _CHANNEL_COMMANDS
        if refused is not None:
            message, rule = f"execute {refused[1].upper()}", f"+{refused[1]}"
        elif not arguments:
            message, rule = f"do that: {reason}", "+@all"
        else:
            kind, prefix = ("channel", "&") if self.is_channel else ("key", "~")
            message, rule = f"use the {kind} {arguments[0]} with {name}", f"{prefix}{arguments[0]}"
        super().__init__(f"Redis does not let this user {message}", code="NOPERM", reason=reason, hint=self.grant(rule))

    def grant(self, *rules: str) -> str:
        """How to grant the user ACL rules."""
        return f"grant it to the user of REDIS_URL: ACL SETUSER {self.user} " + " ".join(f"'{rule}'" for rule in rules)


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


def login_refused(reason: str) -> SourceError:
    """The password or user name is wrong or missing."""
    return SourceError(f"Redis refuses the login: {reason}", hint="check the password in REDIS_URL", source="broker")


def error_of(reply: str) -> SourceError:
    """The error for an error reply."""
    code, _, reason = reply.partition(" ")
    if code == "NOPERM":
        return NotPermitted(reason)
    if code in _LOGIN:
        return login_refused(reason)
    if code in _UNAVAILABLE or reply == _TOO_MANY_CLIENTS:
        return unreachable(reason)
    return Refusal(f"Redis refused: {reason or reply}", code=code, reason=reason or reply)


def without_errors(
    replies: Sequence[Any], *, commands: Sequence[Sequence[Any]] = (), keep_refusals: bool = False
) -> list[Any]:
    """The replies; raises the first error among them, except a ``Refusal`` with ``keep_refusals``.

    With the ``commands``, a missing permission names the key or channel of its command.
    """
    checked: list[Any] = []
    for number, reply in enumerate(replies):
        if isinstance(reply, NotPermitted) and commands:
            reply = NotPermitted(reply.reason, command=commands[number])
        if isinstance(reply, SourceError) and not (keep_refusals and isinstance(reply, Refusal)):
            raise reply
        checked.append(reply)
    return checked
