"""Read a system's own ``.env`` file (``--env-file``). Only known variables are used.

A reference such as ``${DB_PASSWORD}`` is resolved against earlier lines of the file, never against the environment.
Errors never quote a value: it may be a password.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from sitegenctl.errors import UsageProblem

_MAX_BYTES = 1 << 20

_QUOTE = re.compile(r"[^=]*=[ \t]*(['\"]?)")
_REFERENCE = re.compile(r"\\\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?-)([^}]*))?\}")


def read_env_file(path: Path, known: Collection[str]) -> dict[str, str]:
    """The values of the known variables; empty ones are left out.

    Raises ``UsageProblem`` for a file that cannot be read or sets none of them.
    """
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    unresolved: dict[str, list[str]] = {}
    for binding in parse_stream(io.StringIO(_read_text(path))):
        source = binding.original.string
        if binding.error:
            blank_lines = source[: len(source) - len(source.lstrip())].count("\n")
            raise UsageProblem(
                f"{path}, line {binding.original.line + blank_lines}: not a valid NAME=value",
                hint="a quoted value must end with its quote, and only a comment may follow",
            )
        # A name without = passes on a variable of the environment in Compose; the environment is not used here.
        if binding.key is not None and binding.value is not None:
            quote = _QUOTE.match(source)
            unresolved[binding.key] = []
            values[binding.key] = _expand(
                binding.value, quote[1] if quote else "", values, unresolved[binding.key].append
            )
    for name in known:
        if references := unresolved.get(name):
            raise UsageProblem(f"{path}: {name} refers to {references[0]}, which the file does not set before it")
    result = {name: values[name] for name in known if values.get(name)}
    if not result:
        raise UsageProblem(f"{path} sets no variable that sitegenctl knows", hint=f"such as {next(iter(known))}")
    return result


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as exc:
        raise UsageProblem(f"{path} can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{path} can't be read: it is not valid UTF-8") from exc
    if len(content) > _MAX_BYTES:
        raise UsageProblem(f"{path} is too large for an environment file (more than 1 MiB)")
    return text


def _expand(value: str, quote: str, values: Mapping[str, str], report_unset: Callable[[str], None]) -> str:
    """Replace ``${NAME}``, ``${NAME:-default}`` and ``${NAME-default}``; a dollar sign without braces is literal."""
    if quote == "'":
        return value

    def replacement(match: re.Match[str]) -> str:
        name, operator, default = match.groups()
        if name is None:
            return "$" if quote == '"' else match[0]
        known = values.get(name)
        if operator is not None:
            return known if known or (operator == "-" and known is not None) else default
        if known is None:
            report_unset(name)
        return known or ""

    return _REFERENCE.sub(replacement, value)
