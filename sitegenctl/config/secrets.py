"""Passwords in URLs, and from a file or the output of a command, such as ``pass show``.

Passwords with unescaped ``/``, ``?``, ``#`` or ``@`` are common. So everything up to the last ``@`` of a URL counts as
user and password, whatever a URL parser would return.

A command runs without a shell and without stdin. Its stderr is discarded: that may contain the password too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec
from urllib.parse import quote

from sitegenctl.config.url_options import DATABASE_OPTIONS, REDIS_OPTIONS, UrlOptions, may_show
from sitegenctl.errors import UsageProblem

#: Seconds that a command may take, unless a time limit is set: its user may have to touch a key.
COMMAND_TIMEOUT = 30.0

_POLL_INTERVAL = 0.02

#: Longer output is not a password, and a command may write without end.
_MAX_BYTES = 8192

_BETWEEN_SENTINELS = re.compile(r";(?=sentinel://)")
_BREAKS = re.compile(r"[/?#@]")
_PARTS = re.compile(r"(?P<scheme>[\w+.-]+://)(?:(?P<user>[^@/?#]*)@)?(?P<rest>.*)", re.DOTALL)


P = ParamSpec("P")


def sentinel_urls(url: str) -> list[str]:
    """The URLs of several sentinels, which Celery takes as one setting; or the URL itself."""
    return _BETWEEN_SENTINELS.split(url)


def _of_each_sentinel(change: Callable[Concatenate[str, P], str]) -> Callable[Concatenate[str, P], str]:
    """Let a function of one URL also take the URLs of several sentinels."""

    @functools.wraps(change)
    def changed(url: str, /, *args: P.args, **kwargs: P.kwargs) -> str:
        return ";".join(change(each, *args, **kwargs) for each in sentinel_urls(url))

    return changed


def has_password(url: str) -> bool:
    """Whether the URL contains a password."""
    if re.search(r"[?&]password=[^&]", url):
        return True
    login, _, _ = url.partition("://")[2].rpartition("@")
    return bool(login.partition(":")[2])


@_of_each_sentinel
def with_password(url: str, password: str) -> str:
    """Add the password to the URL, or to each of several sentinel URLs, unless it has one."""
    match = _PARTS.fullmatch(url)
    if match is None or has_password(url):
        return url
    user = (match["user"] or "").rstrip(":")
    return f"{match['scheme']}{user}:{quote(password, safe='')}@{match['rest']}"


@_of_each_sentinel
def without_password(url: str) -> str:
    """The URL, or each of several sentinel URLs, without its password."""
    scheme, separator, rest = url.partition("://")
    login, at, address = rest.rpartition("@")
    address = re.sub(r"(?<=[?&])password=[^&]*(&|$)", "", address).rstrip("?&")
    return f"{scheme}{separator}{login.partition(':')[0]}{at}{address}"


@_of_each_sentinel
def mask_url(url: str) -> str:
    """The URL with ``***`` for what may be a secret; a text that is not a URL of ours is masked completely."""
    scheme, separator, rest = url.partition("://")
    is_database = scheme.startswith("postgres")
    if not separator or not re.fullmatch(r"[\w+.-]+", scheme):
        return "***"
    if not is_database and not re.fullmatch(r"(redis|valkey)s?|sentinel|unix|redis\+socket", scheme):
        return f"{scheme}://***"
    login, at, address = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    if "=" in login.partition("?")[2]:
        # An @ in the query, or a password with ? and = before the host.
        return f"{scheme}://***"
    if colon:
        login = f"{user}:***"
    elif at and (not is_database or _BREAKS.search(user)):
        # Redis takes a password alone after a colon: without it, it is typed in the user's place.
        login = "***" if user else ""
    place, mark, fragment = address.partition("#")
    place, question, query = place.partition("?")
    hosts, slash, path = place.partition("/")
    if re.fullmatch(r"(redis|valkey)s?|sentinel", scheme) and not re.fullmatch(r"[0-9]*/?", path):
        # Not the number of a database: probably a password.
        path = "***"
    if not at:
        # Not a port: probably a password without a host.
        hosts = ",".join(re.sub(r":(?!\d*$|[^\[]*\]).*", ":***", host) for host in hosts.split(","))
    options = DATABASE_OPTIONS if is_database else REDIS_OPTIONS
    query = re.sub("[^&;]+", lambda option: _shown_option(option[0], options), query)
    return f"{scheme}://{login}{at}{hosts}{slash}{path}{question}{query}{mark}{'***' if fragment else ''}"


def shown_name(name: str) -> str:
    """A name that a user typed, for an error: a URL that was pasted in its place is masked."""
    return mask_url(name) if "://" in name else name


def _shown_option(option: str, options: UrlOptions) -> str:
    name, _, value = option.partition("=")
    if not value:
        return "***"  # not a name, but maybe the end of a password
    return option if may_show(name, value, options) else f"{name}=***"


def password_in(path: Path, setting: str) -> str:
    """The first line of the file. Raises ``UsageProblem``, which names the setting."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise UsageProblem(f"{setting}: {path} can't be read: {exc.strerror}") from exc
    return _first_line(content, setting, str(path))


@functools.lru_cache(maxsize=8)
def password_of(command: tuple[str, ...], setting: str, *, timeout: float = COMMAND_TIMEOUT) -> str:
    """The first line that the command writes. A command runs once per process.

    Raises ``UsageProblem``, which names the setting.
    """
    name = os.path.basename(command[0])
    try:
        process = subprocess.Popen(  # noqa: S603 - the settings of the operator name the command
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
        )
    except OSError as exc:
        raise UsageProblem(f"{setting}: {name} can't be run: {exc.strerror}") from exc
    try:
        content = _output(process, time.monotonic() + timeout)
    except TimeoutError:
        raise UsageProblem(
            f"{setting}: {name} took longer than {timeout:g} s", hint="run it yourself to see why"
        ) from None
    finally:
        _kill_group(process)
    if process.returncode and len(content) <= _MAX_BYTES:
        raise UsageProblem(f"{setting}: {name} failed (exit {process.returncode})", hint="run it yourself to see why")
    return _first_line(content, setting, name)


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What the command itself writes, up to the limit: a child may keep the pipe open after its end.

    Raises ``TimeoutError`` if it has not ended by the deadline.
    """
    assert process.stdout is not None  # noqa: S101 - for the type checker
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    content, is_open = b"", True
    while len(content) <= _MAX_BYTES:
        # Before the read, which then returns all that the command has written.
        has_ended = process.poll() is not None
        try:
            chunk = os.read(pipe, _MAX_BYTES + 1 - len(content)) if is_open else None
        except BlockingIOError:
            chunk = None
        is_open = is_open and chunk != b""
        if chunk:
            content += chunk
        elif has_ended:
            break
        elif time.monotonic() > deadline:
            raise TimeoutError
        else:
            select.select([pipe] if is_open else [], [], [], _POLL_INTERVAL)
    return content


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and the children that it leaves behind in its process group, unless they are another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout is not None  # noqa: S101 - for the type checker
    process.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)


def _first_line(content: bytes, setting: str, origin: str) -> str:
    if len(content) > _MAX_BYTES:
        raise UsageProblem(f"{setting}: the output of {origin} is too long for a password")
    try:
        password = content.decode().partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{setting}: the output of {origin} is not valid UTF-8") from exc
    if not password:
        raise UsageProblem(f"{setting}: the first line of {origin} is empty")
    return password
