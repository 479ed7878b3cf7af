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
    """Facts about unfinished messages; ``read`` of ``total`` were read.

    ``unreadable`` counts those that are not in ``format``, the workers' own, by what they are in. ``beat`` counts
    beat's own messages. ``longest_hold`` is the longest time for which a worker holds a message until its ETA: from its
    delivery, or from now if it is still in the queue. ``skipped`` counts values that did not fit, and messages that may
    be of any order, by what is wrong.

    Of RQ alone: ``limits`` counts our jobs by their own time limit (None: no limit). ``held`` jobs are due later, and
    ``has_scheduler`` is whether a worker enqueues them. ``unimportable`` counts the newest failures to import the job's
    function, by their reasons.
    """

    total: int
    read: int
    unreadable: Mapping[str, int]
    format: str = "JSON"
    longest_hold: timedelta | None = None
    beat: int = 0
    limits: Mapping[timedelta | None, int] | None = None
    held: int = 0
    has_scheduler: bool = True
    unimportable: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """Leftovers of dead clients in Redis: bindings, and reply lists not accessed for a minute.

    ``undated`` counts reply lists whose last access Redis does not report. ``complete`` is False when the keyspace was
    too large to be searched to its end.
    """

    reply_lists: int
    bindings: int
    undated: int = 0
    complete: bool = True


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
