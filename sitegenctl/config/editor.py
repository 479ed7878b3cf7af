"""Changing the settings file as a person would: what stands in it stays as it is, comments and all.

What comes out is read again before it is believed: where the file is written in a way that isn't understood here, it is
left alone, and a person is asked to edit it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitegenctl.errors import Refused, UsageProblem

_HEADING = "# Settings of sitegenctl. `sitegenctl config show` tells which value holds, and why.\n"

_TABLE = re.compile(r"\s*\[")
_CHOSEN = re.compile(r"""(\s*(?:context|"context"|'context')\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')""")
# As it is written here, and as people write it.
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read_text(path: Path) -> str:
    """The file as it stands; empty where there is none. Raises ``UsageProblem``."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageProblem(f"{path} can't be read: {getattr(exc, 'strerror', None) or 'not a text'}") from exc


def with_context(text: str, name: str, values: Mapping[str, Any], *, replace: bool = False) -> str:
    """The file's text with one context more, which ``replace`` may have the place of one of that name.

    Where no context is chosen yet, it becomes the chosen one. Raises ``Refused`` for one that is there already, and
    where it can't be done without a person.
    """
    before = _read(text)
    contexts = before.get("contexts", {})
    if not isinstance(contexts, dict):
        raise Refused("contexts in the settings file are no tables", hint="edit it")
    after = {**before, "contexts": {**contexts, name: dict(values)}}
    if name in contexts:
        if not replace:
            raise Refused(f"context {name} is there already", hint="choose another --name, or --force writes over it")
        text = _without_table(text, name)
    lines = [f"[contexts.{_key(name)}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    if not text:
        text = _HEADING
    elif not text.endswith("\n"):
        text += "\n"
    made = text + "\n" + "\n".join(lines) + "\n"
    if "context" not in before:
        made, after = _choosing(made, name), {**after, "context": name}
    return _checked(made, after)


def with_chosen(text: str, name: str) -> str:
    """The file's text with this context chosen. Raises ``Refused`` where it can't be done without a person."""
    return _checked(_choosing(text or _HEADING, name), {**_read(text), "context": name})


def _choosing(text: str, name: str) -> str:
    lines = text.splitlines(keepends=True)
    top = next((place for place, line in enumerate(lines) if _TABLE.match(line)), len(lines))
    for place in range(top):
        if match := _CHOSEN.match(lines[place]):
            lines[place] = match[1] + _value(name) + lines[place][match.end() :]
            return "".join(lines)
    # Behind the comment that the file begins with.
    first = next((place for place, line in enumerate(lines[:top]) if not line.startswith("#")), top)
    lines.insert(first, f"context = {_value(name)}\n")
    return "".join(lines)


def _without_table(text: str, name: str) -> str:
    """Without the context's table, from its heading to the next; comments above the next one are the next one's."""
    lines = text.splitlines(keepends=True)
    headings = [f"[contexts.{key}]" for key in (name, json.dumps(name, ensure_ascii=False), f"'{name}'")]
    first = next((place for place, line in enumerate(lines) if line.split("#")[0].strip() in headings), None)
    if first is None:
        return text
    last = next((place for place in range(first + 1, len(lines)) if _TABLE.match(lines[place])), len(lines))
    while last > first + 1 and lines[last - 1].lstrip().startswith("#"):
        last -= 1
    # With the empty line above it, which comes with it.
    above = lines[: first - 1] if first and not lines[first - 1].strip() else lines[:first]
    return "".join([*above, *lines[last:]])


def _checked(text: str, expected: Mapping[str, Any]) -> str:
    try:
        if tomllib.loads(text) == expected:
            return text
    except tomllib.TOMLDecodeError:
        pass
    raise Refused("the settings file is written in a way that can't be changed without a person", hint="edit it")


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageProblem(f"the settings file is not valid TOML: {exc}") from exc


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """As TOML has it: JSON's way of writing texts, numbers, truth and lists of them is TOML's too."""
    if isinstance(value, Path):
        value = str(value)
    # TOML takes no bare DEL, and JSON writes it as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
