"""A system's own ``.env``: the few variables in it that are known here, read as Compose and python-dotenv read them.

Nothing is run and nothing is taken from elsewhere: a reference such as ``${POSTGRES_PASSWORD}`` is to a variable of the
file itself. What is wrong is said without quoting a value: it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from sitegenctl.errors import UsageProblem

_LARGEST = 1 << 20

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(=[ \t]*|(?=[\r\n]|$))")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|$)")
_BARE = re.compile(r"[^\r\n]*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "$": "$"}
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?-)([^}]*))?\}")


def read_env_file(path: Path, known: Collection[str]) -> dict[str, str]:
    """The values of the known variables; an empty one is as good as none.

    Raises ``UsageProblem`` for a file that can't be read or has none of them.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode("utf-8-sig")
    except OSError as exc:
        raise UsageProblem(f"{path} can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{path} can't be read: not a text") from exc
    if len(content) > _LARGEST:
        raise UsageProblem(f"{path} is larger than any .env")
    found = {name: value for name, value in _parse(text, path, known).items() if value}
    if not found:
        raise UsageProblem(f"{path} sets nothing that is known here", hint=f"such as {next(iter(known))}")
    return found


def _parse(text: str, path: Path, known: Collection[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    missing: dict[str, str] = {}
    place = 0
    while place < len(text):
        line = text.count("\n", 0, place) + 1
        if blank := _REST.match(text, place):
            place = max(blank.end(), place + 1)
            continue
        name = _NAME.match(text, place)
        if name is None:
            raise UsageProblem(f"{path}, line {line}: it is not NAME=value")
        raw, is_literal, place = _value(text, name.end(), path, line)
        # Without an = it is Compose's way of passing on what is set outside, where nothing is looked for.
        if not name[2]:
            continue
        lacking: list[str] = []
        values[name[1]] = raw if is_literal else _filled(raw, values, lacking)
        if lacking:
            missing[name[1]] = lacking[0]
        else:
            missing.pop(name[1], None)
    for wanted in known:
        if wanted in missing:
            raise UsageProblem(f"{path}: {wanted} refers to {missing[wanted]}, which the file does not set before it")
    return {wanted: values[wanted] for wanted in known if wanted in values}


def _value(text: str, place: int, path: Path, line: int) -> tuple[str, bool, int]:
    """The value that begins there, whether it is to be taken literally, and where the next line begins."""
    quote = text[place : place + 1]
    if quote in ("'", '"') and quote:
        match = (_SINGLE if quote == "'" else _DOUBLE).match(text, place)
        rest = _REST.match(text, match.end()) if match else None
        if match is None or rest is None:
            raise UsageProblem(f"{path}, line {line}: the quoted value has no end, or something stands behind it")
        if quote == "'":
            return match[1], True, rest.end()
        # A dollar that was escaped is no reference: it is kept apart until references are filled in.
        unescaped = re.sub(r"\\(.)", _unescaped, match[1], flags=re.DOTALL)
        return unescaped, False, rest.end()
    match = _BARE.match(text, place)
    assert match is not None  # noqa: S101 - for the type checker: it matches the empty text
    # A comment needs a space before it: passwords have a #.
    bare = re.split(r"(?:^|[ \t])#", match[0], maxsplit=1)[0].rstrip(" \t")
    return bare, False, match.end()


_DOLLAR = "\x00"


def _unescaped(match: re.Match[str]) -> str:
    if match[1] == "$":
        return _DOLLAR
    return _ESCAPES.get(match[1], match[0])


def _filled(raw: str, values: dict[str, str], lacking: list[str]) -> str:
    """The value with its references filled in; a dollar without braces stands for itself, as in many a password."""

    def referred(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if match[2] == ":-":
            return value or match[3]
        if match[2] == "-":
            return match[3] if value is None else value
        if value is None:
            lacking.append(match[1])
            return ""
        return value

    return _REFERENCE.sub(referred, raw).replace(_DOLLAR, "$")
