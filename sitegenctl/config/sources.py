"""Where a setting's value is taken from: flag, named context or file, environment, chosen context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sitegenctl.config.env_file import read_env_file
from sitegenctl.errors import UsageProblem

#: One place that values are taken from: what it has under a setting's name, and what it is called.
Layer = Callable[[str], tuple[Any, str]]


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The places, the strongest first; the system's own ``variables`` are by the name of the setting."""

    places: Sequence[Layer]

    @classmethod
    def of(
        cls,
        flags: Mapping[str, Any],
        environ: Mapping[str, str],
        from_context: Mapping[str, Any],
        *,
        context: str | None,
        names: Iterable[str],
        variables: Mapping[str, str],
    ) -> Layers:
        """Those of one invocation. Raises ``UsageProblem`` for a file that can't be read."""
        in_context: Layer = lambda name: (from_context.get(name), f"context {context}")  # noqa: E731 - one of several
        places: list[Layer] = [lambda name: (flags.get(name), "flag")]
        # One that was named is a flag, too: it must beat an environment that points elsewhere.
        is_named = flags.get("context") is not None
        if is_named:
            places.append(in_context)
        if env_file := flags.get("env_file"):
            known = [*variables.values(), *map(own_variable, names)]
            places += _variables(read_env_file(Path(env_file), known), variables, f" in {env_file}")
        places += _variables(environ, variables, "")
        if not is_named:
            places.append(in_context)
        return cls(places=places)

    def pick(self, name: str) -> tuple[Any, str, int]:
        """The value of the strongest place that has one, where that is, and how many are stronger."""
        for rank, place in enumerate(self.places):
            value, origin = place(name)
            if value is not None:
                return value, origin, rank
        return None, "default", len(self.places)


def own_variable(name: str) -> str:
    """The variable that sets a setting and nothing else."""
    return f"SITEGENCTL_{name.upper()}"


def _variables(environ: Mapping[str, str], variables: Mapping[str, str], where: str) -> list[Layer]:
    return [
        lambda name: (environ.get(own_variable(name)) or None, f"{own_variable(name)}{where}"),
        lambda name: (environ.get(variables.get(name, "")) or None, f"{variables.get(name)}{where}"),
    ]


def leave_to_each_its_password(
    kind: str, values: dict[str, Any], origins: dict[str, str], ranks: Mapping[str, int]
) -> None:
    """Forget where a password is that is for another server: one that a weaker place names than the one of the URL.

    Else the password of a context would be sent to whatever server a variable names. Raises ``UsageProblem`` where one
    place names two.
    """
    ways = [f"{kind}_password_command", f"{kind}_password_file"]
    given = [name for name in ways if name in values]
    if len(given) == 2 and ranks[ways[0]] == ranks[ways[1]]:
        raise UsageProblem(f"{ways[0]} and {ways[1]} ({origins[ways[0]]}) are two ways of one thing: give one")
    strongest = min((ranks[name] for name in given), default=0)
    for name in given:
        if ranks[name] > ranks[f"{kind}_url"] or ranks[name] > strongest:
            del values[name]
            origins[name] += ", not used"
