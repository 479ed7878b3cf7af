"""The messages that are not finished and what dead clients left in Redis, and the checks of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.check import Finding, check, counted, failed, listed, ok, unchecked, warning
from sitegenctl.domain.health.system import System

#: More bindings of reply lists slow down remote control: each answer is matched against all of them.
_MAX_BINDINGS = 100


@dataclass(frozen=True, kw_only=True)
class MessageFacts:
    """Facts about unfinished messages."""

    total: int  # of all messages
    read: int  # of those, the ones that were read
    unreadable: Mapping[str, int]  # those that are not in `format`, by what they are in
    format: str = "JSON"  # the workers' own
    longest_hold: timedelta | None = None  # until an ETA, from the delivery, or from now in the queue
    beat: int = 0  # beat's own messages
    limits: Mapping[timedelta | None, int] | None = None  # of RQ: our jobs by their own time limit (None: no limit)
    held: int = 0  # of RQ: jobs that are due later
    has_scheduler: bool = True  # of RQ: whether a worker enqueues them
    unimportable: Mapping[str, int] = field(default_factory=dict)  # of RQ: failed imports, by reason
    skipped: Mapping[str, int] = field(default_factory=dict)  # what did not fit, by problem


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """Leftovers of dead clients in Redis."""

    reply_lists: int  # not accessed for a minute
    bindings: int
    undated: int = 0  # reply lists whose last access Redis does not report
    complete: bool = True  # False when the keyspace was too large to be searched to its end


@check("serialization", Source.BROKER)
def serialization(messages: MessageFacts, system: System) -> Finding:
    """Fails if a message is not JSON, or on RQ not in the format of `rq_serializer`.

    A job is recognised by its first byte and never unpickled. Warns of messages with values that can't be read.
    """
    skipped = skipped_lines(messages.skipped)
    unreadable = sum(messages.unreadable.values())
    if unreadable:
        kinds = listed([f"{kind} ({number})" for kind, number in messages.unreadable.items()])
        return failed(
            f"{unreadable} of {counted(messages.read, 'message')} not {messages.format}: {kinds}",
            system.texts.unreadable,
            *skipped,
            remedy=system.texts.serialization,
        )
    part = f"{messages.read} of " if messages.read < messages.total else ""
    answer = f"{part}{counted(messages.total, 'message')}, all {messages.format}"
    if skipped:
        remedy = Remedy.run(Command.INSPECT_QUEUE, note="shows them; correct their publisher")
        return warning(answer, *skipped, remedy=remedy)
    return ok(answer)


def skipped_lines(skipped: Mapping[str, int]) -> list[str]:
    """A line for each kind of value that did not fit and was skipped."""
    return [f"skipped {number}: {kind}" for kind, number in sorted(skipped.items())]


@check("leftovers", Source.BROKER, backends={"celery"})
def leftovers(facts: Leftovers, system: System) -> Finding:
    """Warns of reply lists and bindings that dead clients left in Redis."""
    searched = "" if facts.complete else " (the keyspace was searched in part)"
    if facts.reply_lists:
        lists = counted(facts.reply_lists, "reply list")
        return warning(f"{lists} of disconnected clients{searched}", remedy=Remedy.run(Command.MAINTAIN))
    if facts.bindings > _MAX_BINDINGS:
        bindings = f"{system.keyprefix}_kombu.binding.reply.celery.pidbox"
        return warning(
            f"{facts.bindings} bindings of reply lists: every remote control command is matched against all of them",
            remedy=Remedy(
                command=system.commands.redis_cli.followed_by("DEL", bindings),
                note="then restart Flower, if it is used",
            ),
        )
    if facts.undated:
        lists = counted(facts.undated, "reply list")
        return unchecked(f"{lists}, and Redis does not report whether they are in use{searched}")
    return ok(f"none{searched}")
