"""Settings: names, defaults, parsing and precedence.

Precedence: flag, then the context of ``--context`` or the file of ``--env-file`` (both are flags and must beat an
environment that points to another system), then ``SITEGENCTL_*``, then ``DATABASE_URL``, ``REDIS_URL`` and
``SITES_BASE_DIR``, then the context selected otherwise, then the default.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sitegenctl.config.backends import BACKENDS
from sitegenctl.config.env_file import URL_PARTS, composed_urls, read_env_file
from sitegenctl.config.file import DEMO_CONTEXT, config_path, contexts_of, demo_context_path, read_toml
from sitegenctl.config.secrets import (
    COMMAND_TIMEOUT,
    has_password,
    password_in,
    password_of,
    sentinel_urls,
    shown_name,
    with_password,
)
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.promise import DEFAULT_DUE_SOON
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, DEFAULT_RECONNECT
from sitegenctl.errors import UsageProblem

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOLEANS = {
    **{"1": True, "true": True, "yes": True, "on": True},
    **{"0": False, "false": False, "no": False, "off": False, "": False},
}


# Datetimes and PostgreSQL cannot subtract much more from today.
_LONGEST = timedelta(days=36500)
_MAX_CONCURRENCY = 1000
# Characters of an invalid duration in its error.
_SHOWN = 40


class DurationError(ValueError):
    """A text is not a duration; ``hint`` is set if only the unit is missing."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def parse_duration(text: str | float) -> timedelta:
    """Parse ``500ms``, ``90s``, ``1.5h`` or ``7d``. Raises ``DurationError``, also for a number without a unit."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*", str(text))
    shown = repr(text[:_SHOWN]) if isinstance(text, str) else repr(text)
    if match is None:
        raise DurationError(f"{shown} is not a duration such as 90s, 2m or 1h")
    if not match[2]:
        raise DurationError(f"{shown} has no unit", hint="write 7d, 90s or 5m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise DurationError(f"duration {shown} is too large: at most {_LONGEST.days}d")
    return timedelta(seconds=seconds)


def bad_value(name: str, exc: Exception) -> UsageProblem:
    """The error for an invalid value of an option or setting, with the parser's hint."""
    return UsageProblem(f"{name}: {exc}", hint=getattr(exc, "hint", None))


def _parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    parsed = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if parsed is None:
        raise ValueError(f"{value!r} is neither true nor false")
    return parsed


def _parse_backend(value: str) -> str:
    if value not in BACKENDS:
        raise ValueError(f"{value!r} is not a backend; choose {' or '.join(BACKENDS)}")
    return value


def _parse_concurrency(value: str | int) -> int:
    number = int(value) if re.fullmatch(r"\s*[0-9]{1,9}\s*", str(value)) else 0
    if not 1 <= number <= _MAX_CONCURRENCY:
        raise ValueError(f"{value!r} is not a number of processes from 1 to {_MAX_CONCURRENCY}")
    return number


def _parse_fanout_prefix(value: str | bool) -> str:
    if value is True:  # kombu accepts a truth value as well
        return Settings.fanout_prefix
    prefix = str(value or "")
    try:
        prefix.format(db=0)
    except (LookupError, ValueError) as exc:
        raise ValueError(f"{prefix!r} is not a valid prefix; {{db}} in it stands for the database number") from exc
    return prefix


def _parse_steps(value: Any) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", str(part)) for part in parts):
        raise ValueError(f"{value!r} is not a list of numbers such as 0,3,6,9")
    return tuple(int(part) for part in parts)


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("not valid UTF-8") from None
    return value


def _parse_key_prefix(value: Any) -> str:
    prefix = _parse_text(value)
    # RQ puts the prefix into templates and scripts.
    if not re.fullmatch(r"[A-Za-z0-9_.:{}-]+", prefix):
        raise ValueError(f"{prefix!r} is not a valid key prefix: use letters, digits and _ . : - {{ }}")
    return prefix


def _parse_notify_format(value: Any) -> str:
    if value not in ("json", "slack"):
        raise ValueError(f"{value!r} is neither json nor slack")
    return str(value)


_NOT_A_URL = "not a valid URL; in a password, / ? # and @ must be percent-encoded"
_BAD_PORT = "its port is not a number up to 65535; in a password, / ? # and @ must be percent-encoded"


def _parse_path(value: Any) -> Path:
    # Not limited to UTF-8: a file name may consist of any bytes.
    if not isinstance(value, str):
        raise ValueError("must be a string")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"the home directory in {value} is unknown") from None


def _parse_url(value: Any) -> str:
    """A URL with a valid port. Errors do not quote the URL: it may contain a password."""
    url = _parse_text(value)
    for each in sentinel_urls(url):
        # Without the slashes, parsers see a path without a host.
        if re.match(r"(postgres|redis|valkey|sentinel)[a-z0-9+]*:(?!//)", each):
            raise ValueError("not a valid URL: // is missing after its scheme")
        try:
            # A database may have several hosts.
            hosts = [urlsplit(f"//{host}") for host in urlsplit(each).netloc.rpartition("@")[2].split(",")]
            for host in hosts:
                # As the resolver does; not for the directory of a socket.
                if "%" not in host.netloc:
                    (host.hostname or "").encode("idna")
        except ValueError:
            raise ValueError(_NOT_A_URL) from None
        try:
            for host in hosts:
                _ = host.port  # raises for an invalid port
        except ValueError:
            # What a parser takes for the port may be part of a password.
            raise ValueError(_NOT_A_URL if "@" in urlsplit(each)._replace(netloc="").geturl() else _BAD_PORT) from None
    return url


def _parse_command(value: Any) -> tuple[str, ...]:
    words = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError('must be a command such as ["pass", "show", "crm/database"]')
    return tuple(_parse_text(word) for word in words)


def _parse_timeout(value: Any) -> timedelta:
    timeout = parse_duration(value)
    if not timedelta(milliseconds=10) <= timeout <= timedelta(hours=1):
        raise ValueError("must be between 10ms and 1h")
    return timeout


class Secret(str):
    """A string that prints as ``***``; ``reveal`` returns its value."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def reveal(self) -> str:
        """The value itself."""
        return "".join(self)


# `_setting` returns a dataclass field.
# ruff: noqa: RUF009
def _setting(description: str, parse: Callable[[Any], Any], default: Any = None) -> Any:
    return field(default=default, metadata={"parse": parse, "description": description})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one invocation.

    ``origins`` describes where each value came from, ``variables`` names the environment variable for those that came
    from one. ``warnings`` are about files with passwords that other users can read.
    """

    database_url: str | None = _setting("PostgreSQL with the orders, as a libpq or SQLAlchemy URL", _parse_url)
    redis_url: str | None = _setting("the broker; also `rediss`, `unix`, `sentinel` and `valkey` URLs", _parse_url)
    sites_dir: Path | None = _setting("directory of the generated sites", _parse_path)
    production: bool | None = _setting(
        "show the context as production; default: its name begins with `prod`", _parse_bool
    )
    backend: str = _setting("`celery` or `rq`", _parse_backend, "celery")
    queue: str = _setting("name of the queue", _parse_text, "site_generation")
    task: str = _setting("name of the task; on RQ, of the function", _parse_text, BACKENDS["celery"].task)
    grace: timedelta = _setting("how long after a change an order is left alone", parse_duration, timedelta(minutes=2))
    due_soon: timedelta = _setting(
        "how long before its due date an order is due soon", parse_duration, DEFAULT_DUE_SOON
    )
    timeout: timedelta = _setting("time limit of each source, from 10ms to 1h", _parse_timeout, timedelta(seconds=5))
    read_only: bool = _setting("refuse every change", _parse_bool, False)
    site_url_base: str = _setting("reference worker: address of the sites", _parse_text, "https://sites.example.com")
    generator: str = _setting(
        "reference worker: generator, as `module:callable` or the name of an entry point", _parse_text, "builtin"
    )
    pace: timedelta = _setting("reference worker: pause after each step", parse_duration, timedelta(0))
    hard_time_limit: timedelta = _setting(
        "when a run counts as over, if neither its message nor a worker has a limit", parse_duration, DEFAULT_HARD_LIMIT
    )
    reconnect_time: timedelta = _setting(
        "how long after a start of Redis workers may take to connect again", parse_duration, DEFAULT_RECONNECT
    )
    retry_base: timedelta = _setting(
        "reference worker: delay before the first retry", parse_duration, timedelta(seconds=60)
    )
    concurrency: int = _setting("reference worker: number of processes", _parse_concurrency, 2)
    # Kombu's transport options with kombu's defaults.
    global_keyprefix: str = _setting(
        "Celery: prefix of every key, as in the broker's transport options", _parse_text, ""
    )
    sep: str = _setting("Celery: separator between the name of a queue and a priority", _parse_text, "\x06\x16")
    priority_steps: tuple[int, ...] = _setting(
        "Celery: priorities that have a list of their own", _parse_steps, (0, 3, 6, 9)
    )
    unacked_key: str = _setting("Celery: key of the delivered messages", _parse_text, "unacked")
    unacked_index_key: str = _setting(
        "Celery: key of the times at which they were delivered", _parse_text, "unacked_index"
    )
    visibility_timeout: timedelta = _setting(
        "Celery: when Redis delivers a message again that was not acknowledged", parse_duration, timedelta(hours=1)
    )
    fanout_prefix: str = _setting("Celery: prefix of the channels of remote control", _parse_fanout_prefix, "/{db}.")
    sentinel_master: str | None = _setting("name of the master that the sentinels know", str)
    sentinel_password: Secret | None = _setting("password of the sentinels", Secret)
    # RQ's options with RQ's defaults.
    rq_key_prefix: str = _setting("RQ: prefix of every key", _parse_key_prefix, "rq")
    rq_serializer: str = _setting("RQ: `pickle` or `json`", _parse_text, "pickle")
    # Sources of passwords that the URLs lack.
    database_password_command: tuple[str, ...] | None = _setting("command that prints the password", _parse_command)
    database_password_file: Path | None = _setting("file whose first line is the password", _parse_path)
    redis_password_command: tuple[str, ...] | None = _setting("command that prints the password", _parse_command)
    notify: Secret | None = _setting("`maintain`: URL to which news is posted", Secret)
    notify_format: str = _setting("`maintain`: `json` or `slack`", _parse_notify_format, "json")
    redis_password_file: Path | None = _setting("file whose first line is the password", _parse_path)

    context: str | None = None
    env_file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    is_default_context: bool = False  # a command without --context would act on the same system

    @property
    def is_production(self) -> bool:
        """The ``production`` setting, else whether the name of the context begins with ``prod``."""
        if self.production is not None:
            return self.production
        return self.context is not None and self.context.lower().startswith("prod")

    @property
    def selector(self) -> str | None:
        """The option without which a copied command would act on another system; None if there is no need."""
        if self.is_default_context:
            return None
        if self.context is not None:
            return f"--context {shlex.quote(self.context)}"
        return f"--env-file {shlex.quote(str(self.env_file))}" if self.env_file is not None else None

    def require_url(self, kind: Literal["database", "redis"]) -> str:
        """The URL of the database or the broker, with its password. Raises ``UsageProblem`` if none is configured."""
        url: str | None = getattr(self, f"{kind}_url")
        if url is None:
            raise self._not_configured("Redis" if kind == "redis" else kind, f"{kind}_url")
        command, file = (getattr(self, f"{kind}_password_{source}") for source in ("command", "file"))
        if (command is None and file is None) or has_password(url):
            return url
        if command is not None:
            limit = (
                COMMAND_TIMEOUT if self.origins.get("timeout", "default") == "default" else self.timeout.total_seconds()
            )
            return with_password(url, password_of(command, f"{kind}_password_command", timeout=limit))
        return with_password(url, password_in(file, f"{kind}_password_file"))

    def require_sites_dir(self) -> Path:
        """The directory of generated sites. Raises ``UsageProblem`` if none is configured."""
        if self.sites_dir is None:
            raise self._not_configured("sites directory", "sites_dir")
        return self.sites_dir

    def _not_configured(self, what: str, setting: str) -> UsageProblem:
        hint: Hint = Remedy.run(
            Command.DEMO_UP, advice=f"set {SYSTEM_VARIABLES[setting]}, choose a --context, or try the demo"
        )
        if self.env_file is not None:
            hint = f"set {' or '.join((SYSTEM_VARIABLES[setting], *URL_PARTS.get(setting, ())[:1]))} in {self.env_file}"
        elif (demo := demo_context_path(os.environ)) and demo.exists():
            hint = "the demo is up: add --context demo, or make it the default with: sitegenctl config use demo"
        return UsageProblem(f"no {what} is configured", hint=hint)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    each.name: each.metadata["parse"] for each in fields(Settings) if "parse" in each.metadata
}


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting.

    ``flags`` holds the values of the command line by setting (None where not given), and ``context`` and ``env_file``.
    Raises ``UsageProblem`` for an invalid file, context or value.
    """
    path, env_file = config_path(environ), flags.get("env_file")
    file = read_toml(path)
    if flags.get("context") and env_file:
        raise UsageProblem("--context and --env-file are mutually exclusive")
    default = environ.get("SITEGENCTL_CONTEXT") or file.get("context")
    context = flags.get("context") or default
    if env_file:
        # The file means its own system: a context must not fill in the database of another one.
        context = None
    if context is not None and not isinstance(context, str):
        raise UsageProblem(f"{path}: context must be the name of a context")
    context_values = _context_values(context, file, environ) if context else {}
    in_context: _Source = {name: (value, f"context {context}") for name, value in context_values.items()}
    environment = _read_variables(environ)
    # Strongest first. A context or file named on the command line must beat an environment that points to another
    # system.
    sources: list[_Source] = [{name: (value, "flag") for name, value in flags.items() if value is not None}]
    if flags.get("context") is not None:
        sources.append(in_context)
    in_file: Mapping[str, str] = {}
    if env_file:
        known = [*SYSTEM_VARIABLES.values(), *itertools.chain(*URL_PARTS.values()), *_OWN_VARIABLES.values()]
        in_file, where = read_env_file(Path(env_file), known), f" in {env_file}"
        sources += [*_read_variables(in_file, where), composed_urls(in_file, where)]
    sources += environment
    if flags.get("context") is None:
        sources.append(in_context)

    values: dict[str, Any] = {}
    origins = dict.fromkeys(_PARSERS, "default")
    ranks = dict.fromkeys(_PARSERS, len(sources))
    variables: dict[str, str] = {}
    for name, parse in _PARSERS.items():
        rank, source = next(((rank, source) for rank, source in enumerate(sources) if name in source), (0, None))
        if source is None:
            continue
        value, origins[name] = source[name]
        ranks[name] = rank
        if source in environment:
            variables[name] = origins[name]
        try:
            values[name] = parse(value)
        except (ValueError, TypeError) as exc:
            raise bad_value(f"{name} ({origins[name]})", exc) from exc
    values.setdefault("task", BACKENDS[values.get("backend", Settings.backend)].task)
    for kind in ("database", "redis"):
        _drop_foreign_password(kind, values, origins, ranks)
    with_passwords = [path] if path and context_values and _contains_password(file) else []
    if env_file and _contains_password(in_file):
        with_passwords.append(Path(env_file))
    # Docker makes its secrets readable for every user of the container, which has only one.
    with_passwords += [
        value
        for name, value in values.items()
        if name.endswith("_password_file") and value.parent != Path("/run/secrets")
    ]
    return Settings(
        context=context,
        # A variable beats the default context, but not --context.
        is_default_context=context is not None
        and context == default == file.get("context")
        and not (flags.get("context") and any(context_values.keys() & source.keys() for source in environment)),
        env_file=env_file,
        origins=origins,
        variables=variables,
        warnings=tuple(
            f"{each} contains a password and is readable by every user: chmod o= {each}"
            for each in with_passwords
            if _is_exposed(each)
        ),
        **values,
    )


#: The variables that the system itself uses, by setting.
SYSTEM_VARIABLES = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "sites_dir": "SITES_BASE_DIR",
    "rq_key_prefix": "RQ_KEY_PREFIX",
}

_OWN_VARIABLES = {name: f"SITEGENCTL_{name.upper()}" for name in _PARSERS}

# By setting: its value, and its origin for ``config show``.
_Source = dict[str, tuple[Any, str]]


def _read_variables(values: Mapping[str, str], where: str = "") -> list[_Source]:
    """The settings from our own variables, and from the system's; empty ones count as unset."""
    return [
        {name: (values[variable], f"{variable}{where}") for name, variable in names.items() if values.get(variable)}
        for names in (_OWN_VARIABLES, SYSTEM_VARIABLES)
    ]


def _drop_foreign_password(
    kind: str, values: dict[str, Any], origins: dict[str, str], ranks: Mapping[str, int]
) -> None:
    """Ignore a password file or command from a weaker source than the URL's.

    Otherwise the password of a context would be sent to a server that an environment variable names. Raises
    ``UsageProblem`` if one source sets both a file and a command.
    """
    given = [name for name in (f"{kind}_password_command", f"{kind}_password_file") if name in values]
    if len(given) == 2 and ranks[given[0]] == ranks[given[1]]:
        raise UsageProblem(f"{given[0]} and {given[1]} ({origins[given[0]]}) are mutually exclusive")
    strongest = min((ranks[name] for name in given), default=0)
    for name in given:
        if ranks[name] > ranks[f"{kind}_url"] or ranks[name] > strongest:
            del values[name]
            origins[name] += ", not used"


def _is_exposed(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _contains_password(table: Mapping[str, Any]) -> bool:
    return any(
        (isinstance(value, dict) and _contains_password(value))
        or (isinstance(value, str) and (has_password(value) or bool(value and key.lower().endswith("_password"))))
        for key, value in table.items()
    )


def _context_values(name: str, file: Mapping[str, Any], environ: Mapping[str, str]) -> Mapping[str, Any]:
    contexts = contexts_of(file, environ)
    if name in contexts:
        values = contexts[name]
    elif name == DEMO_CONTEXT:
        values = read_toml(demo_context_path(environ))
        if not values:
            raise UsageProblem("the demo is not up", hint=Remedy.run(Command.DEMO_UP))
    else:
        known = ", ".join([*contexts, DEMO_CONTEXT])
        raise UsageProblem(
            f"no context {shown_name(name)!r} in {config_path(environ)}", hint=f"known contexts: {known}"
        )
    if not isinstance(values, dict):
        raise UsageProblem(f"context {name} must be a table, such as [contexts.{name}]")
    unknown = sorted(set(values) - set(_PARSERS))
    if unknown:
        raise UsageProblem(
            f"context {name}: unknown setting {unknown[0]!r}", hint=f"known settings: {', '.join(_PARSERS)}"
        )
    return values
