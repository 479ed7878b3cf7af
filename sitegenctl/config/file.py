"""Locations of sitegenctl's own files; reading and editing the settings file.

An edit keeps everything else in the file, comments and order included. The result is parsed again before it is used: a
file that tomlkit cannot change faithfully is left to its owner.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from sitegenctl.errors import Refused, UsageProblem

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

_HEADING = "# Settings of sitegenctl. `sitegenctl config show` prints each value and its origin.\n"

DEMO_CONTEXT = "demo"


def config_path(environ: Mapping[str, str]) -> Path | None:
    """The settings file: ``SITEGENCTL_CONFIG``, else in the user's configuration directory, if there is one."""
    if explicit := _named_path(environ, "SITEGENCTL_CONFIG"):
        return explicit
    folder = _user_dir("config")
    return folder and folder / "config.toml"


def require_config_path(environ: Mapping[str, str]) -> Path:
    """The settings file. Raises ``UsageProblem`` if there is no place for it."""
    return config_path(environ) or _no_home("settings file", "SITEGENCTL_CONFIG")


def state_dir(environ: Mapping[str, str]) -> Path | None:
    """The directory for state between runs; None if there is no place for it.

    ``SITEGENCTL_STATE_DIR``, else systemd's ``STATE_DIRECTORY``, else the user's state directory.
    """
    if explicit := _named_path(environ, "SITEGENCTL_STATE_DIR"):
        return explicit
    if service := environ.get("STATE_DIRECTORY"):
        return Path(service.partition(":")[0])
    return _user_dir("state")


def data_dir(environ: Mapping[str, str]) -> Path | None:
    """The directory for the demo's data: ``SITEGENCTL_DATA_DIR``, else the user's data directory, if there is one."""
    return _named_path(environ, "SITEGENCTL_DATA_DIR") or _user_dir("data")


def require_data_dir(environ: Mapping[str, str]) -> Path:
    """The directory for the demo's data. Raises ``UsageProblem`` if there is no place for it."""
    return data_dir(environ) or _no_home("data of the demo", "SITEGENCTL_DATA_DIR")


def demo_context_path(environ: Mapping[str, str]) -> Path | None:
    """The file in which a running demo stores the context ``demo``."""
    folder = data_dir(environ)
    return folder and folder / DEMO_CONTEXT / "context.toml"


def _named_path(environ: Mapping[str, str], variable: str) -> Path | None:
    if not (text := environ.get(variable)):
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:
        raise UsageProblem(f"{variable}: the home directory in {text} is unknown") from exc


def _user_dir(kind: Literal["config", "state", "data"]) -> Path | None:
    """One of the user's directories for sitegenctl; None if it cannot exist, as for an account without a home."""
    import platformdirs

    try:
        path = Path(getattr(platformdirs, f"user_{kind}_dir")("sitegenctl"))
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError):
        return None
    return path if path.is_absolute() else None


def _no_home(what: str, variable: str) -> NoReturn:
    raise UsageProblem(f"there is no usable home directory for the {what}", hint=f"set {variable}")


def read_text(path: Path | None) -> str:
    """The content of the file without a byte order mark; empty if it does not exist. Raises ``UsageProblem``."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not valid UTF-8'}") from exc


def read_toml(path: Path | None) -> dict[str, Any]:
    """A TOML file; empty if it does not exist. Raises ``UsageProblem``."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as exc:
        raise UsageProblem(f"{path} is not valid TOML: {exc}") from exc


def contexts_of(file: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The contexts of the settings file, by name. Raises ``UsageProblem`` if they are not a table."""
    contexts = file.get("contexts", {})
    if not isinstance(contexts, dict):
        raise UsageProblem(f"{config_path(environ)}: contexts must be tables, such as [contexts.production]")
    return contexts


def with_context(text: str, name: str, values: Mapping[str, Any], *, replace: bool = False) -> str:
    """Add a context, and select it if none is selected yet.

    Raises ``Refused`` for an existing context unless ``replace`` is true, and for a file that cannot be edited.
    """
    import tomlkit

    document = _parse(text or _HEADING)
    before = document.unwrap()
    contexts = before.get("contexts", {})
    if not isinstance(contexts, dict):
        raise Refused("contexts in the settings file is not a table", hint="edit the file")
    if name in contexts and not replace:
        raise Refused(f"context {name} already exists", hint="choose another --name, or overwrite it with --force")
    values = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    document.setdefault("context", name)
    tables = document.setdefault("contexts", tomlkit.table(is_super_table=True))
    table = tables.get(name)
    if isinstance(table, tomlkit.items.Table):
        # Keep the comments behind the last value: they belong to the table that follows.
        body = table.value.body
        trailing: list[Any] = [item for _, item in itertools.takewhile(lambda entry: entry[0] is None, reversed(body))]
        table.clear()
        body.clear()
        table.update(values)
        for item in reversed(trailing):
            table.add(item)
    else:
        table = tomlkit.table()
        table.update(values)
        tables[name] = table
    return _checked(document, {"context": name, **before, "contexts": {**contexts, name: values}})


def with_chosen(text: str, name: str) -> str:
    """Select a context. Raises ``Refused`` for a file that cannot be edited."""
    document = _parse(text or _HEADING)
    expected = {**document.unwrap(), "context": name}
    document["context"] = name
    return _checked(document, expected)


def _parse(text: str) -> TOMLDocument:
    import tomlkit

    try:
        return tomlkit.parse(text)
    except tomlkit.exceptions.ParseError as exc:
        raise UsageProblem(f"the settings file is not valid TOML: {exc}") from exc


def _checked(document: TOMLDocument, expected: Mapping[str, Any]) -> str:
    text = document.as_string()
    try:
        if tomllib.loads(text) == expected:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise Refused("the settings file is written in a way that sitegenctl can't edit", hint="edit the file")
