"""Edits of the settings file that keep everything else in it, comments and order included.

The result is parsed again before it is used: a file that tomlkit cannot change faithfully is left to its owner.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sitegenctl.errors import Refused, UsageProblem

if TYPE_CHECKING:
    from tomlkit import TOMLDocument
    from tomlkit.items import Table

_HEADING = "# Settings of sitegenctl. `sitegenctl config show` prints each value and its origin.\n"


def read_text(path: Path) -> str:
    """The content of the file; empty if it does not exist. Raises ``UsageProblem``."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not valid UTF-8'}") from exc


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
        _refill(table, values)
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


def _refill(table: Table, values: Mapping[str, Any]) -> None:
    """Replace everything but the comments behind the last value: they belong to the table that follows."""
    body = table.value.body
    trailing: list[Any] = [item for _, item in itertools.takewhile(lambda entry: entry[0] is None, reversed(body))]
    table.clear()
    body.clear()
    table.update(values)
    for item in reversed(trailing):
        table.add(item)


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
