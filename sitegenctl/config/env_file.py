r"""Read a system's own ``.env`` file (``--env-file``). Only known variables are used.

A reference such as ``${DB_PASSWORD}`` is resolved against earlier lines of the file, never against the environment.
``${NAME:-default}`` and ``${NAME-default}`` are supported; a dollar sign without braces is literal. In double quotes,
``\$`` is a literal dollar sign. Errors never quote a value: it may be a password.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from sitegenctl.errors import UsageProblem

_MAX_BYTES = 1 << 20

_SINGLE_QUOTED = re.compile(r"[^=]*=[^\S\r\n]*'")
_DOUBLE_QUOTED = re.compile(r'[^=]*=[^\S\r\n]*"((?:\\.|[^"\\])*)"', re.DOTALL)
_REFERENCE = r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<operator>:?-)(?P<default>[^}]*))?\}"
_UNQUOTED_PART = re.compile(_REFERENCE)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_DOUBLE_QUOTED_PART = re.compile(rf"{_ESCAPE.pattern}|{_REFERENCE}", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "$": "$"}
# python-dotenv decodes these to control characters, which the author of a password hardly means.
_CONTROL_ESCAPES = "abfv"


#: By setting: the parts that some systems give instead of a URL. Without the first, there is no URL.
URL_PARTS = {
    "database_url": ("DB_NAME", "DB_USER", "DB_PASSWORD", "DB_HOST", "DB_PORT"),
    "redis_url": ("REDIS_HOST", "REDIS_USER", "REDIS_PASSWORD", "REDIS_PORT", "REDIS_DB"),
}


def composed_urls(values: Mapping[str, str], where: str) -> dict[str, tuple[str, str]]:
    """The URLs that the variables of a file make up, and their origins, by setting. The default host is localhost."""

    def compose(scheme: str, prefix: str, path: str) -> str:
        user, password, host, port = (
            values.get(f"{prefix}_{part}", "") for part in ("USER", "PASSWORD", "HOST", "PORT")
        )
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        # Only an IPv6 address has several colons; a single one may precede a port.
        host = f"[{host}]" if host.count(":") > 1 and "[" not in host else quote(host or "localhost", safe=":[]")
        return f"{scheme}://{login}{'@' if login else ''}{host}{port and ':'}{port}/{quote(path, safe='')}"

    urls = {
        "database_url": compose("postgresql", "DB", values.get("DB_NAME", "")),
        "redis_url": compose("redis", "REDIS", values.get("REDIS_DB", "0")),
    }
    return {
        setting: (url, f"{', '.join(part for part in URL_PARTS[setting] if part in values)}{where}")
        for setting, url in urls.items()
        if URL_PARTS[setting][0] in values
    }


@dataclass
class _Variables:
    """The values so far, and why some of them cannot be used."""

    values: dict[str, str] = field(default_factory=dict)
    unset_references: dict[str, str] = field(default_factory=dict)
    control_escapes: set[str] = field(default_factory=set)

    def assign(self, name: str, value: str, source: str) -> None:
        """Set a variable to its value in the file; ``source`` is the text of the whole assignment."""
        self.unset_references.pop(name, None)
        is_control = False

        def decode(escape: re.Match[str]) -> str:
            nonlocal is_control
            is_control = is_control or escape[1] in _CONTROL_ESCAPES
            return _ESCAPED.get(escape[1], escape[0])

        def replace(part: re.Match[str]) -> str:
            nonlocal is_control
            if part["name"] is None:
                return decode(part)
            known = self.values.get(part["name"])
            if part["operator"] is not None and not (known or (part["operator"] == "-" and known is not None)):
                return _ESCAPE.sub(decode, part["default"]) if double_quoted else part["default"]
            if known is None:
                self.unset_references.setdefault(name, part["name"])
            is_control = is_control or part["name"] in self.control_escapes
            return known or ""

        double_quoted = _DOUBLE_QUOTED.match(source)
        if double_quoted:
            # The raw text: in the decoded value, an escaped backslash before a reference looks like an escaped dollar.
            value = _DOUBLE_QUOTED_PART.sub(replace, double_quoted[1])
        elif not _SINGLE_QUOTED.match(source):
            value = _UNQUOTED_PART.sub(replace, value)
        self.values[name] = value
        self.control_escapes.discard(name)
        if is_control:
            self.control_escapes.add(name)


def read_env_file(path: Path, known: Collection[str]) -> dict[str, str]:
    """The values of the known variables; empty ones are left out.

    Raises ``UsageProblem`` for a file that cannot be read or sets none of them.
    """
    from dotenv.parser import parse_stream

    variables = _Variables()
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(_read_text(path))):
        source = binding.original.string
        blank_lines = source[: len(source) - len(source.lstrip())].count("\n")
        line = binding.original.line + blank_lines
        if binding.error:
            raise UsageProblem(
                f"{path}, line {line}: not a valid NAME=value",
                hint="a quoted value must end with its quote, and only a comment may follow",
            )
        # A name without = passes on a variable of the environment in Compose; the environment is not used here.
        if binding.key is not None and binding.value is not None:
            lines[binding.key] = line
            variables.assign(binding.key, binding.value, source)
    for name in known:
        if reference := variables.unset_references.get(name):
            raise UsageProblem(f"{path}: {name} refers to {reference}, which the file does not set before it")
        if name in variables.control_escapes:
            raise UsageProblem(
                f"{path}, line {lines[name]}: {name} has a backslash escape for a control character",
                hint="put the value in single quotes if the backslash belongs to it",
            )
    result = {name: variables.values[name] for name in known if variables.values.get(name)}
    if not result:
        names = [name for name in known if not name.startswith("SITEGENCTL_")]
        raise UsageProblem(
            f"{path} sets no variable that sitegenctl knows", hint=f"it looks for {', '.join(names)} and SITEGENCTL_*"
        )
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
