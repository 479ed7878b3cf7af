"""Checks: how one is declared and run, and what it results in.

A check is a function with ``@check``. Its parameters declare what it needs: a fact of that type, which a probe
measures, or the ``System``. One with a default is used if it was measured. The docstring is the check's row in the
documentation.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, get_args

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 message``, ``2 messages``; ``many`` where an s is not enough."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Collection[object], *, limit: int = 5) -> str:
    """The first names, and how many more there are."""
    shown = [str(name) for name in names][:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def seconds(span: timedelta | None) -> str:
    """``600 s``, or ``none`` for no limit."""
    return "none" if span is None else f"{round(span.total_seconds(), 1):g} s"


def milliseconds(span: timedelta) -> str:
    """``0.4 ms``, ``12 ms``."""
    number = span.total_seconds() * 1000
    return f"{number:.1f} ms" if number < 10 else f"{number:.0f} ms"


def size(number: int) -> str:
    """Bytes as in ``977 kB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


SOURCE_NAMES = {
    Source.BROKER: "Redis",
    Source.DATABASE: "PostgreSQL",
    Source.WORKERS: "the workers",
    Source.FILES: "the sites directory",
}


class CheckStatus(StrEnum):
    """The result of one check."""

    OK = "ok"
    WARNING = "warning"  # it works, but it is unwise or about to break
    FAILED = "failed"
    UNCHECKED = "unchecked"  # it could not be checked: never counts as passed


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found, with the most telling evidence first; ``unreachable`` if the source did not respond."""

    status: CheckStatus
    evidence: tuple[str, ...]
    remedy: Hint | None = None
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class Check(Finding):
    """The finding of the check with this name, about this source."""

    name: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Why a fact could not be measured.

    Not ``unreachable`` where its source responded and refused; ``stopped`` where nothing listens at its address.
    """

    source: Source
    message: str
    remedy: Hint | None = None
    unreachable: bool = False
    stopped: bool = False

    @property
    def finding(self) -> Finding:
        """The finding of a check that needs the fact; the source's own check shows why it is unreachable."""
        if self.unreachable:
            return unchecked(f"{SOURCE_NAMES[self.source]} could not be reached")
        return unchecked(self.message, remedy=self.remedy)

    def reported(self, *, start: Remedy) -> Finding:
        """The finding of the source's own check: start it only if nothing listens there."""
        remedy = start if self.stopped else self.remedy or Remedy.run(Command.CONFIG_SHOW, advice="check the URL")
        return failed(self.message, remedy=remedy, unreachable=True)


class Problems(dict[Source, Missing]):
    """The first problem with each source, in this or any other check."""


@dataclass(frozen=True)
class Definition:
    """A check of the registry; ``backends`` are those that have it, None for all."""

    name: str
    source: Source
    function: Callable[..., Finding]
    quick: bool
    backends: Collection[str] | None

    @property
    def description(self) -> str:
        """When the check fails or warns."""
        return " ".join((self.function.__doc__ or "").split())

    @cached_property
    def parameters(self) -> Mapping[str, tuple[tuple[type, ...], bool]]:
        """The types that each parameter takes, and whether the check needs it."""
        return {
            parameter.name: (get_args(parameter.annotation) or (parameter.annotation,), parameter.default is not None)
            for parameter in inspect.signature(self.function, eval_str=True).parameters.values()
        }

    @property
    def needs(self) -> set[type]:
        """The facts without which the check is not made."""
        return {types[0] for types, is_needed in self.parameters.values() if is_needed}

    def run(self, facts: Mapping[type, object]) -> Check:
        """Make the check; it is unchecked where a fact that it needs is missing."""
        arguments: dict[str, Any] = {}
        for name, (types, is_needed) in self.parameters.items():
            fact = facts.get(types[0])
            if not isinstance(fact, Missing) or Missing in types:
                arguments[name] = fact
            elif is_needed:
                return Check(**vars(fact.finding), name=self.name, source=fact.source)
        return Check(**vars(self.function(**arguments)), name=self.name, source=self.source)


def check(
    name: str, source: Source, *, quick: bool = False, backends: Collection[str] | None = None
) -> Callable[[Callable[..., Finding]], Definition]:
    """Declare a check; a ``quick`` one is made with ``--quick`` too."""
    return lambda function: Definition(name, source, function, quick, backends)


@dataclass(frozen=True, kw_only=True)
class CheckUp:
    """The results of all checks."""

    checks: Sequence[Check]
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """3 when a source can't be reached, 5 for a failed check (with ``strict`` also a warning), else 0."""
        if any(check.unreachable for check in self.checks):
            return 3
        bad = {CheckStatus.FAILED, CheckStatus.WARNING} if self.strict else {CheckStatus.FAILED}
        return 5 if any(check.status in bad for check in self.checks) else 0

    @property
    def summary(self) -> str:
        """One line, as in ``unhealthy: 2 failed, 1 warning, 3 could not be checked``."""
        counts = Counter(check.status for check in self.checks)
        parts = [
            (counts[CheckStatus.FAILED], "failed", "failed"),
            (counts[CheckStatus.WARNING], "warning", "warnings"),
            (counts[CheckStatus.UNCHECKED], "could not be checked", "could not be checked"),
        ]
        if self.exit_code == 0:
            parts.insert(0, (counts[CheckStatus.OK], "check passed", "checks passed"))
        verdict = "unhealthy" if self.exit_code else "healthy"
        return f"{verdict}: " + (", ".join(counted(*part) for part in parts if part[0]) or "nothing was checked")


def run_checks(definitions: Iterable[Definition], facts: Mapping[type, object], *, strict: bool) -> CheckUp:
    """Make these checks with the facts, by type; one that could not be measured is ``Missing``."""
    problems = Problems()
    for fact in facts.values():
        if isinstance(fact, Missing):
            problems.setdefault(fact.source, fact)
    facts = {**facts, Problems: problems}
    return CheckUp(checks=[definition.run(facts) for definition in definitions], strict=strict)


def ok(*evidence: str) -> Finding:
    """A check that passed."""
    return Finding(status=CheckStatus.OK, evidence=evidence)


def warning(*evidence: str, remedy: Hint) -> Finding:
    """A check that found something unwise."""
    return Finding(status=CheckStatus.WARNING, evidence=evidence, remedy=remedy)


def failed(*evidence: str, remedy: Hint, unreachable: bool = False) -> Finding:
    """A check that found something broken; ``unreachable`` when it is the source itself."""
    return Finding(status=CheckStatus.FAILED, evidence=evidence, remedy=remedy, unreachable=unreachable)


def unchecked(*evidence: str, remedy: Hint | None = None) -> Finding:
    """A check that could not be made."""
    return Finding(status=CheckStatus.UNCHECKED, evidence=evidence, remedy=remedy)
