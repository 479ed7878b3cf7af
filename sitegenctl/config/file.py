"""Locations of sitegenctl's own files, and reading the settings file."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sitegenctl.config.urls import has_password
from sitegenctl.errors import UsageProblem

DEMO_CONTEXT = "demo"


def config_path(environ: Mapping[str, str]) -> Path:
    """The settings file: ``SITEGENCTL_CONFIG``, else in the user's configuration directory."""
    if explicit := environ.get("SITEGENCTL_CONFIG"):
        return Path(explicit).expanduser()
    import platformdirs

    return platformdirs.user_config_path("sitegenctl") / "config.toml"


def state_dir(environ: Mapping[str, str]) -> Path | None:
    """The directory for state between runs; None for an account without a home.

    ``SITEGENCTL_STATE_DIR``, else systemd's ``STATE_DIRECTORY``, else the user's state directory.
    """
    if explicit := environ.get("SITEGENCTL_STATE_DIR"):
        return Path(explicit).expanduser()
    if service := environ.get("STATE_DIRECTORY"):
        return Path(service.partition(":")[0])
    import platformdirs

    path = platformdirs.user_state_path("sitegenctl")
    return path if path.is_absolute() else None


def data_dir(environ: Mapping[str, str]) -> Path:
    """The directory for the demo's data: ``SITEGENCTL_DATA_DIR``, else the user's data directory."""
    if explicit := environ.get("SITEGENCTL_DATA_DIR"):
        return Path(explicit).expanduser()
    import platformdirs

    return platformdirs.user_data_path("sitegenctl")


def demo_context_path(environ: Mapping[str, str]) -> Path:
    """The file in which a running demo stores the context ``demo``."""
    return data_dir(environ) / DEMO_CONTEXT / "context.toml"


def read_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings file; empty if it does not exist. Raises ``UsageProblem``."""
    return read_toml(config_path(environ))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; empty if it does not exist. Raises ``UsageProblem``."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not valid UTF-8'}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise UsageProblem(f"{path} is not valid TOML: {exc}") from exc


def contexts_of(file: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The contexts of the settings file, by name. Raises ``UsageProblem`` if they are not a table."""
    contexts = file.get("contexts", {})
    if not isinstance(contexts, dict):
        raise UsageProblem(f"{config_path(environ)}: contexts must be tables, such as [contexts.production]")
    return contexts


def exposed_passwords(
    config: Path, tables: Mapping[str, Any], env_file: str | Path | None, values: Mapping[str, Any]
) -> Iterator[str]:
    """Warnings about files that contain a password and are readable by every user.

    ``tables`` is the content of the settings file, ``values`` are the resolved settings.
    """
    if _contains_password(tables):
        yield from _warn_if_exposed(config)
    if env_file and any(has_password(value) for name, value in values.items() if name.endswith("_url")):
        yield from _warn_if_exposed(Path(env_file))
    for name, value in values.items():
        # Docker makes its secrets readable for every user of the container, which has only one.
        if name.endswith("_password_file") and value.parent != Path("/run/secrets"):
            yield from _warn_if_exposed(value)


def _warn_if_exposed(path: Path) -> Iterator[str]:
    try:
        is_exposed = bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return
    if is_exposed:
        yield f"{path} contains a password and is readable by every user: chmod 600 {path}"


def _contains_password(table: Mapping[str, Any]) -> bool:
    for key, value in table.items():
        if isinstance(value, dict) and _contains_password(value):
            return True
        if isinstance(value, str) and (has_password(value) or (value and key.endswith("_password"))):
            return True
    return False
