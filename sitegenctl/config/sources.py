"""The sources of settings in order of precedence: flags, context, environment file, environment variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sitegenctl.config.env_file import read_env_file
from sitegenctl.errors import UsageProblem

#: The variables that the system itself uses, by setting.
SYSTEM_VARIABLES = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "sites_dir": "SITES_BASE_DIR",
    "rq_key_prefix": "RQ_KEY_PREFIX",
}


@dataclass(frozen=True)
class Source:
    """Values by setting, with their origins for ``config show``, and environment variables that hold them."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: str) -> Source:
        """A source whose values all have the same origin."""
        return cls(values, dict.fromkeys(values, origin))

    @classmethod
    def of_variables(cls, environ: Mapping[str, str], variables: Mapping[str, str], file: object = None) -> Source:
        """Variables of the environment or of a file, by setting; empty ones count as unset."""
        values = {name: environ[variable] for name, variable in variables.items() if environ.get(variable)}
        names = {name: variables[name] for name in values}
        if file is None:
            return cls(values, names, names)
        return cls(values, {name: f"{variable} in {file}" for name, variable in names.items()})


def all_sources(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    context: str | None,
    context_values: Mapping[str, Any],
    names: Iterable[str],
) -> list[Source]:
    """The sources of one invocation, strongest first. Raises ``UsageProblem`` for an unreadable file."""
    own_variables = {name: f"SITEGENCTL_{name.upper()}" for name in names}
    in_context = Source.of(context_values, f"context {context}")
    # A context or file named on the command line must beat an environment that points to another system.
    sources = [Source.of(flags, "flag")]
    if flags.get("context") is not None:
        sources.append(in_context)
    if env_file := flags.get("env_file"):
        variables = read_env_file(Path(env_file), [*SYSTEM_VARIABLES.values(), *own_variables.values()])
        sources += [
            Source.of_variables(variables, own_variables, env_file),
            Source.of_variables(variables, SYSTEM_VARIABLES, env_file),
        ]
    sources += [Source.of_variables(environ, own_variables), Source.of_variables(environ, SYSTEM_VARIABLES)]
    if flags.get("context") is None:
        sources.append(in_context)
    return sources


def drop_foreign_password(kind: str, values: dict[str, Any], origins: dict[str, str], ranks: Mapping[str, int]) -> None:
    """Ignore a password file or command from a weaker source than the URL's.

    Otherwise the password of a context would be sent to a server that an environment variable names. Raises
    ``UsageProblem`` if one source sets both a file and a command.
    """
    settings = [f"{kind}_password_command", f"{kind}_password_file"]
    given = [name for name in settings if name in values]
    if len(given) == 2 and ranks[given[0]] == ranks[given[1]]:
        raise UsageProblem(f"{given[0]} and {given[1]} ({origins[given[0]]}) are mutually exclusive")
    strongest = min((ranks[name] for name in given), default=0)
    for name in given:
        if ranks[name] > ranks[f"{kind}_url"] or ranks[name] > strongest:
            del values[name]
            origins[name] += ", not used"
