"""Settings: where each value comes from, and what it is.

Precedence: flag, then the context named by ``--context`` (a flag too, so it must beat an environment that
points elsewhere), then ``SITEGENCTL_*``, then ``DATABASE_URL``/``REDIS_URL``/``SITES_BASE_DIR``, then the
context chosen otherwise, then the default. Every value keeps its origin for ``config show``.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sitegenctl.errors import UsageProblem

DEMO_CONTEXT = "demo"


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
    """The settings of one invocation; ``origins`` says of each where it came from."""

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
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_production(self) -> bool:
        """Whether a mistake would be a customer's; told by ``production``, else by the context's name."""
        if self.production is not None:
            return self.production
        return self.context is not None and self.context.lower().startswith("prod")

    def of_backend(self, backend: str) -> Settings:
        """The same system by another backend, whose task is its own: one that is set is that of the chosen one."""
        known = {self.backend: self}
        return known.get(backend) or replace(self, backend=backend, task=TASKS[backend])

    def require_database_url(self) -> str:
        """The database's URL. Raises ``UsageProblem`` when none is configured."""
        return self.database_url or _not_configured("database", "DATABASE_URL")

    def require_redis_url(self) -> str:
        """The broker's URL. Raises ``UsageProblem`` when none is configured."""
        return self.redis_url or _not_configured("Redis", "REDIS_URL")

    def require_sites_dir(self) -> Path:
        """The directory of generated sites. Raises ``UsageProblem`` when none is configured."""
        return self.sites_dir or Path(_not_configured("sites directory", "SITES_BASE_DIR"))


def _not_configured(what: str, variable: str) -> str:
    raise UsageProblem(
        f"no {what} is configured",
        hint=f"set {variable}, choose a --context, or try the demo: sitegenctl demo up",
    )


_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str | float) -> timedelta:
    """Read ``90s``, ``2m``, ``1.5h``, ``7d`` or a plain number of seconds; raises ``ValueError``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 2m or 1h")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than anything lasts") from None


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
    try:
        number = int(text)
    except (TypeError, ValueError):
        number = 0
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
    try:
        return tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a list of numbers such as 0,3,6,9") from None


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
}

_SYSTEM_VARIABLES = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "sites_dir": "SITES_BASE_DIR",
    "rq_key_prefix": "RQ_KEY_PREFIX",
}


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the settings file lies: ``SITEGENCTL_CONFIG``, else the user's configuration directory."""
    if explicit := environ.get("SITEGENCTL_CONFIG"):
        return Path(explicit).expanduser()
    base = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "sitegenctl" / "config.toml"


def data_dir(environ: Mapping[str, str]) -> Path:
    """Where the demo keeps its data: ``SITEGENCTL_DATA_DIR``, else the user's data directory."""
    if explicit := environ.get("SITEGENCTL_DATA_DIR"):
        return Path(explicit).expanduser()
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "sitegenctl"


def demo_context_path(environ: Mapping[str, str]) -> Path:
    """The file that a running demo leaves for the context ``demo``."""
    return data_dir(environ) / DEMO_CONTEXT / "context.toml"


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Resolve every setting.

    ``flags`` holds the values given on the command line under their setting's name, None where not given, and
    ``context``. Raises ``UsageProblem`` for a file, context or value that is no good.
    """
    file = read_config(environ)
    named = flags.get("context")
    context = named or environ.get("SITEGENCTL_CONTEXT") or file.get("context")
    if context is not None and not isinstance(context, str):
        raise UsageProblem(f"{config_path(environ)}: context must be the name of one")
    from_context = _context_values(context, file, environ) if context else {}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, parse in _PARSERS.items():
        raw, origin = _pick(name, flags, environ, from_context, context_is_flag=named is not None, label=context)
        origins[name] = origin
        if raw is None:
            continue
        try:
            values[name] = parse(raw)
        except (ValueError, TypeError) as exc:
            raise UsageProblem(f"{name} ({origin}): {exc}") from exc
    values.setdefault("task", TASKS[values.get("backend", Settings.backend)])
    return Settings(context=context, origins=origins, **values)


def _pick(
    name: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    from_context: Mapping[str, Any],
    *,
    context_is_flag: bool,
    label: str | None,
) -> tuple[Any, str]:
    own = f"SITEGENCTL_{name.upper()}"
    system = _SYSTEM_VARIABLES.get(name)
    candidates: list[tuple[Any, str]] = [(flags.get(name), "flag")]
    in_context = (from_context.get(name), f"context {label}")
    if context_is_flag:
        candidates.append(in_context)
    candidates.append((environ.get(own) or None, own))
    if system:
        candidates.append((environ.get(system) or None, system))
    if not context_is_flag:
        candidates.append(in_context)
    for value, origin in candidates:
        if value is not None:
            return value, origin
    return None, "default"


def read_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings file; empty where there is none. Raises ``UsageProblem`` for one that can't be read."""
    return _read_toml(config_path(environ))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not a text'}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageProblem(f"{path} is not valid TOML: {exc}") from exc


def _context_values(name: str, file: Mapping[str, Any], environ: Mapping[str, str]) -> Mapping[str, Any]:
    contexts = file.get("contexts", {})
    if not isinstance(contexts, dict):
        raise UsageProblem(f"{config_path(environ)}: contexts must be tables, such as [contexts.production]")
    if name in contexts:
        values = contexts[name]
    elif name == DEMO_CONTEXT:
        values = _read_toml(demo_context_path(environ))
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


def initial_config(name: str, settings: Settings) -> str:
    """A settings file with one context, from settings that are known already, for a person to finish."""
    known = {
        "database_url": (settings.database_url, "postgresql://user:password@host:5432/innexarcrm"),
        "redis_url": (settings.redis_url, "redis://host:6379/0"),
        "sites_dir": (settings.sites_dir, "/app/generated_sites"),
    }
    lines = [
        "# Settings of sitegenctl. `sitegenctl config show` tells which value holds, and why.",
        f"context = {json.dumps(name)}",
        "",
        f"[contexts.{json.dumps(name)}]",
    ]
    for key, (value, example) in known.items():
        comment = "" if value else "# "
        lines.append(f"{comment}{key} = {json.dumps(str(value or example))}")
    if settings.origins.get("backend", "default") != "default":
        lines.append(f"backend = {json.dumps(settings.backend)}")
    lines += ['# grace = "2m"        # how long an order may be on the move before anything is concluded', ""]
    return "\n".join(lines)


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, all of it or nothing. Raises ``UsageProblem``."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise UsageProblem(f"{path} can't be written: {exc.strerror}") from exc
