"""Settings: where each value comes from, and what it is.

Precedence: flag, then the context named by ``--context`` or the file by ``--env-file`` (a flag too, so it must beat an
environment that points elsewhere), then ``SITEGENCTL_*``, then ``DATABASE_URL``/``REDIS_URL``/``SITES_BASE_DIR``, then
the context chosen otherwise, then the default. Every value keeps its origin for ``config show``. What they are read
from, and how, is ``configuration/``'s.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sitegenctl.config.file import (
    DEMO_CONTEXT,
    config_path,
    contexts_of,
    demo_context_path,
    exposures,
    read_config,
    read_toml,
)
from sitegenctl.config.sources import Layers, leave_to_each_its_password
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, DEFAULT_RECONNECT
from sitegenctl.errors import UsageProblem

#: The backends, and the task that each publishes where no other is set: the system's own paths.
TASKS = {
    "celery": "app.tasks.site_generation.generate_site_task",
    "rq": "app.workers.site_generation_worker.generate_site_job",
}


class Secret(str):
    """A text that shows itself as ``***`` wherever it is printed; ``reveal`` has it as it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def reveal(self) -> str:
        """The text itself."""
        return "".join(self)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one invocation; ``origins`` says of each where it came from.

    ``warnings`` are for the person who runs it: a file with a password that others can read.
    """

    database_url: str | None = None
    redis_url: str | None = None
    sites_dir: Path | None = None
    context: str | None = None
    production: bool | None = None
    backend: str = "celery"
    queue: str = "site_generation"
    task: str = TASKS["celery"]
    grace: timedelta = timedelta(minutes=2)
    timeout: timedelta = timedelta(seconds=5)
    hard_time_limit: timedelta = DEFAULT_HARD_LIMIT
    reconnect_time: timedelta = DEFAULT_RECONNECT
    read_only: bool = False
    site_url_base: str = "https://sites.example.com"
    generator: str = "builtin"
    pace: timedelta = timedelta(0)
    retry_base: timedelta = timedelta(seconds=60)
    concurrency: int = 2
    # Kombu's transport options, with kombu's own defaults.
    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    visibility_timeout: timedelta = timedelta(hours=1)
    fanout_prefix: str = "/{db}."
    sentinel_master: str | None = None
    sentinel_password: Secret | None = None
    # RQ's.
    rq_key_prefix: str = "rq"
    rq_serializer: str = "pickle"
    # Where the passwords are that the URLs don't have.
    database_password_command: tuple[str, ...] | None = None
    database_password_file: Path | None = None
    redis_password_command: tuple[str, ...] | None = None
    redis_password_file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def is_production(self) -> bool:
        """Whether a mistake would be a customer's; told by ``production``, else by the context's name."""
        if self.production is not None:
            return self.production
        return self.context is not None and self.context.lower().startswith("prod")

    def require_database_url(self) -> str:
        """The database's URL, its password from where it is kept. Raises ``UsageProblem`` when none is configured."""
        url = self.database_url or _not_configured("database", "DATABASE_URL")
        return _with_password(url, "database", self.database_password_command, self.database_password_file)

    def require_redis_url(self) -> str:
        """The broker's URL, its password from where it is kept. Raises ``UsageProblem`` when none is configured."""
        url = self.redis_url or _not_configured("Redis", "REDIS_URL")
        return _with_password(url, "redis", self.redis_password_command, self.redis_password_file)

    def require_sites_dir(self) -> Path:
        """The directory of generated sites. Raises ``UsageProblem`` when none is configured."""
        return self.sites_dir or Path(_not_configured("sites directory", "SITES_BASE_DIR"))


def _not_configured(what: str, variable: str) -> str:
    raise UsageProblem(
        f"no {what} is configured",
        hint=f"set {variable}, choose a --context, or try the demo: sitegenctl demo up",
    )


def _with_password(url: str, kind: str, command: tuple[str, ...] | None, file: Path | None) -> str:
    if command is None and file is None:
        return url
    from sitegenctl.config.secrets import has_password, password_in, password_of, with_password

    if has_password(url):
        return url
    if command is not None:
        return with_password(url, password_of(command, f"{kind}_password_command"))
    assert file is not None  # noqa: S101 - for the type checker
    return with_password(url, password_in(file, f"{kind}_password_file"))


_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class DurationError(ValueError):
    """A text is not a duration; ``hint`` says how to write one, if it looks like it was meant to be one."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def parse_duration(text: str | float) -> timedelta:
    """Read ``500ms``, ``90s``, ``1.5h`` or ``7d``. Raises ``DurationError``, also for a number without a unit."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*", str(text))
    if match is None:
        raise DurationError(f"{text!r} is not a duration such as 90s, 2m or 1h")
    if not match[2]:
        raise DurationError(f"{text!r} has no unit", hint="write 7d, 90s or 5m")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise DurationError(f"{text!r} is too large for a duration") from None


def bad_value(place: str, exc: Exception) -> UsageProblem:
    """The problem with a value that came from this place, with the parser's hint."""
    return UsageProblem(f"{place}: {exc}", hint=getattr(exc, "hint", None))


def _parse_bool(text: Any) -> bool:
    if isinstance(text, bool):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is neither true nor false")
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False}
    if text.strip().lower() not in {*words, "off", ""}:
        raise ValueError(f"{text!r} is neither true nor false")
    return words.get(text.strip().lower(), False)


def _parse_backend(text: str) -> str:
    if text not in TASKS:
        raise ValueError(f"{text!r} is not a backend; this release knows {' and '.join(TASKS)}")
    return text


def _parse_concurrency(text: str | int) -> int:
    number = int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", str(text)) else 0
    if number < 1:
        raise ValueError(f"{text!r} is not a number of processes")
    return number


def _parse_fanout_prefix(text: str | bool) -> str:
    if text is True:  # kombu takes a truth value here too
        return Settings.fanout_prefix
    prefix = str(text or "")
    try:
        prefix.format(db=0)
    except (LookupError, ValueError) as exc:
        raise ValueError(f"{prefix!r} is no prefix; {{db}} in it stands for the database's number") from exc
    return prefix


def _parse_steps(value: Any) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", str(part)) for part in parts):
        raise ValueError(f"{value!r} is not a list of numbers such as 0,3,6,9")
    return tuple(int(part) for part in parts)


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid UTF-8") from None
    return value


def _parse_key_prefix(value: Any) -> str:
    prefix = _parse_text(value)
    # RQ puts it into templates and scripts, and takes no other.
    if not re.fullmatch(r"[A-Za-z0-9_.:{}-]+", prefix):
        raise ValueError(f"{prefix!r} is no prefix of RQ's: letters, digits and _ . : - {{ }} are allowed")
    return prefix


def _parse_path(value: Any) -> Path:
    # Of any bytes: a file system asks for no more.
    if not isinstance(value, str):
        raise ValueError("it must be a text")
    return Path(value).expanduser()


def _parse_url(value: Any) -> str:
    """A URL that can be taken apart. What is wrong with it is said without quoting it: it holds a password."""
    url = _parse_text(value)
    try:
        urlsplit(url).port  # noqa: B018 - it raises for a port that is none
    except ValueError:
        raise ValueError("not a valid URL; in a password, / ? # and @ must be percent-encoded") from None
    return url


def _parse_command(value: Any) -> tuple[str, ...]:
    words = shlex.split(value) if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError('it must be a command such as ["pass", "show", "crm/database"]')
    return tuple(_parse_text(word) for word in words)


def _parse_timeout(value: Any) -> timedelta:
    timeout = parse_duration(value)
    if not timedelta(milliseconds=10) <= timeout <= timedelta(hours=1):
        raise ValueError("it must be from 10ms to 1h")
    return timeout


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "database_url": _parse_url,
    "redis_url": _parse_url,
    "sites_dir": _parse_path,
    "production": _parse_bool,
    "backend": _parse_backend,
    "queue": _parse_text,
    "task": _parse_text,
    "grace": parse_duration,
    "timeout": _parse_timeout,
    "read_only": _parse_bool,
    "site_url_base": _parse_text,
    "generator": _parse_text,
    "pace": parse_duration,
    "hard_time_limit": parse_duration,
    "reconnect_time": parse_duration,
    "retry_base": parse_duration,
    "concurrency": _parse_concurrency,
    "global_keyprefix": _parse_text,
    "sep": _parse_text,
    "priority_steps": _parse_steps,
    "unacked_key": _parse_text,
    "unacked_index_key": _parse_text,
    "visibility_timeout": parse_duration,
    "fanout_prefix": _parse_fanout_prefix,
    "sentinel_master": str,
    "sentinel_password": Secret,
    "rq_key_prefix": _parse_key_prefix,
    "rq_serializer": _parse_text,
    "database_password_command": _parse_command,
    "database_password_file": _parse_path,
    "redis_password_command": _parse_command,
    "redis_password_file": _parse_path,
}

_SYSTEM_VARIABLES = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "sites_dir": "SITES_BASE_DIR",
    "rq_key_prefix": "RQ_KEY_PREFIX",
}


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting.

    ``flags`` holds the values given on the command line under their setting's name, None where not given, and
    ``context`` and ``env_file``. Raises ``UsageProblem`` for a file, context or value that is no good.
    """
    file = read_config(environ)
    named, env_file = flags.get("context"), flags.get("env_file")
    if named and env_file:
        raise UsageProblem("--context and --env-file name a system each: give one")
    # Who names a file means its system, and no other's database where it lacks one.
    context = None if env_file else named or environ.get("SITEGENCTL_CONTEXT") or file.get("context")
    if context is not None and not isinstance(context, str):
        raise UsageProblem(f"{config_path(environ)}: context must be the name of one")
    from_context = _context_values(context, file, environ) if context else {}
    layers = Layers.of(flags, environ, from_context, context=context, names=_PARSERS, variables=_SYSTEM_VARIABLES)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for name, parse in _PARSERS.items():
        raw, origin, ranks[name] = layers.pick(name)
        origins[name] = origin
        if raw is None:
            continue
        try:
            values[name] = parse(raw)
        except (ValueError, TypeError) as exc:
            raise bad_value(f"{name} ({origin})", exc) from exc
    values.setdefault("task", TASKS[values.get("backend", Settings.backend)])
    for kind in ("database", "redis"):
        leave_to_each_its_password(kind, values, origins, ranks)
    warnings = tuple(exposures(config_path(environ), file if from_context else {}, env_file, values))
    return Settings(context=context, origins=origins, warnings=warnings, **values)


def _context_values(name: str, file: Mapping[str, Any], environ: Mapping[str, str]) -> Mapping[str, Any]:
    contexts = contexts_of(file, environ)
    if name in contexts:
        values = contexts[name]
    elif name == DEMO_CONTEXT:
        values = read_toml(demo_context_path(environ))
        if not values:
            raise UsageProblem("the demo is not up", hint="sitegenctl demo up")
    else:
        known = ", ".join([*contexts, DEMO_CONTEXT])
        raise UsageProblem(f"no context {name!r} in {config_path(environ)}", hint=f"known contexts: {known}")
    if not isinstance(values, dict):
        raise UsageProblem(f"context {name} must be a table, such as [contexts.{name}]")
    unknown = set(values) - set(_PARSERS)
    if unknown:
        raise UsageProblem(
            f"context {name}: unknown setting {sorted(unknown)[0]!r}",
            hint=f"known settings: {', '.join(_PARSERS)}",
        )
    return dict(values)


def mask_url(url: str) -> str:
    """The URL with its passwords replaced by ``***``; what doesn't look like a URL is ``***`` as a whole.

    Passwords with unescaped ``/``, ``?``, ``#`` or ``@`` are common: everything up to the last ``@`` is taken for
    user and password, whatever a parser would say.
    """
    several = re.split(r";(?=sentinel://)", url)
    if len(several) > 1:
        return ";".join(map(mask_url, several))
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return "***"
    userinfo, at, place = rest.rpartition("@")
    if at:
        user = userinfo.partition(":")[0]
        rest = f"{user}:***@{place}" if ":" in userinfo else f"{user}@{place}"
    masked = re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", rest, flags=re.IGNORECASE)
    return f"{scheme}://{masked}"
