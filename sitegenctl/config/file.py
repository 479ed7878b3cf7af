"""The settings file: where it lies, reading it, and writing it so that nobody else can read it."""

from __future__ import annotations

import contextlib
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sitegenctl.errors import UsageProblem

DEMO_CONTEXT = "demo"


def config_path(environ: Mapping[str, str]) -> Path:
    """Where the settings file lies: ``SITEGENCTL_CONFIG``, else the user's configuration directory."""
    if explicit := environ.get("SITEGENCTL_CONFIG"):
        return Path(explicit).expanduser()
    base = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "sitegenctl" / "config.toml"


def state_dir(environ: Mapping[str, str]) -> Path | None:
    """Where state between runs is kept; None where there is no place for it.

    ``SITEGENCTL_STATE_DIR``, else the user's state directory, or systemd's for the service.
    """
    if explicit := environ.get("SITEGENCTL_STATE_DIR"):
        return Path(explicit).expanduser()
    if service := environ.get("STATE_DIRECTORY"):
        return Path(service.partition(":")[0])
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "sitegenctl"
    try:
        return Path.home() / ".local" / "state" / "sitegenctl"
    except RuntimeError:  # an account without a home
        return None


def data_dir(environ: Mapping[str, str]) -> Path:
    """Where the demo keeps its data: ``SITEGENCTL_DATA_DIR``, else the user's data directory."""
    if explicit := environ.get("SITEGENCTL_DATA_DIR"):
        return Path(explicit).expanduser()
    base = environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "sitegenctl"


def demo_context_path(environ: Mapping[str, str]) -> Path:
    """The file that a running demo leaves for the context ``demo``."""
    return data_dir(environ) / DEMO_CONTEXT / "context.toml"


def read_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings file; empty where there is none. Raises ``UsageProblem`` for one that can't be read."""
    return read_toml(config_path(environ))


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables; empty where there is none. Raises ``UsageProblem`` for one that can't be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not a text'}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageProblem(f"{path} is not valid TOML: {exc}") from exc


def contexts_of(file: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The contexts of the settings file by their names. Raises ``UsageProblem`` where they are no tables."""
    contexts = file.get("contexts", {})
    if not isinstance(contexts, dict):
        raise UsageProblem(f"{config_path(environ)}: contexts must be tables, such as [contexts.production]")
    return contexts


def exposures(
    config: Path, tables: Mapping[str, Any], env_file: str | Path | None, values: Mapping[str, Any]
) -> Iterator[str]:
    """What to say of files that hold a password and that anybody may read.

    ``tables`` are what was read of the settings file, ``values`` the settings that were made of everything.
    """
    if any(map(holds_password, _texts(tables))):
        yield from _exposed(config)
    if env_file and any(holds_password(value) for name, value in values.items() if name.endswith("_url")):
        yield from _exposed(Path(env_file))
    for name, value in values.items():
        # What Docker mounts there can be read by everybody in the container, who is nobody else.
        if name.endswith("_password_file") and value.parent != Path("/run/secrets"):
            yield from _exposed(value)


def _exposed(path: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        if path.stat().st_mode & stat.S_IROTH:
            yield f"{path} holds a password, and everybody on this machine can read it: chmod 600 {path}"


def holds_password(value: str) -> bool:
    """Whether a text is a URL with a password in it."""
    # As far as the last @: a password may have one.
    return re.search(r"://[^@]*:[^@]+@|[?&]password=[^&]", value) is not None


def _texts(values: Mapping[str, Any]) -> list[str]:
    """Every text in it, at any depth; that of a password alone as a URL with it."""
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _texts(value)
        elif isinstance(value, str):
            found.append(f"x://:{value}@" if key.endswith("_password") and value else value)
    return found
