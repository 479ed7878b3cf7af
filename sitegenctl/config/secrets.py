"""Passwords from where they are kept: a file, or a command that tells them. They are never shown.

A command is run without a shell, without stdin, and for half a minute at most; what it says on stderr is nobody's
business, since it may be the password too.
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
from pathlib import Path
from urllib.parse import quote

from sitegenctl.errors import UsageProblem

#: Seconds that a command may take: somebody may have to touch a key.
LONGEST = 30.0

#: Bytes: no password is longer, and a command without an end has one here.
_LARGEST = 8192

_AUTHORITY = re.compile(r"(?P<scheme>[\w+.-]+://)(?:(?P<user>[^@/?#]*)@)?(?P<rest>.*)", re.DOTALL)


def with_password(url: str, password: str) -> str:
    """The URL with this password in it, for each of several servers; a URL that has one keeps it."""
    return ";".join(_with_password(part, password) for part in re.split(r";(?=sentinel://)", url))


def has_password(url: str) -> bool:
    """Whether the URL has a password of its own."""
    if re.search(r"[?&]password=[^&]", url):
        return True
    # As far as the last @, as in masking: one in a password that nobody escaped is no end of it.
    userinfo, at, _ = url.partition("://")[2].rpartition("@")
    return bool(at) and bool(userinfo.partition(":")[2])


def _with_password(url: str, password: str) -> str:
    match = _AUTHORITY.fullmatch(url)
    if match is None or has_password(url):
        return url
    user = (match["user"] or "").rstrip(":")
    return f"{match['scheme']}{user}:{quote(password, safe='')}@{match['rest']}"


def password_in(path: Path, setting: str) -> str:
    """The first line of the file. Raises ``UsageProblem``, which names the setting that named the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as exc:
        raise UsageProblem(f"{setting}: {path} can't be read: {exc.strerror}") from exc
    return _first_line(content, setting, str(path))


@functools.lru_cache(maxsize=8)
def password_of(command: tuple[str, ...], setting: str, *, longest: float = LONGEST) -> str:
    """The first line that the command writes, as ``pass show`` does. It is run once, however often it is asked for.

    Raises ``UsageProblem``, which names the setting.
    """
    name = os.path.basename(command[0])
    try:
        process = subprocess.Popen(  # noqa: S603 - the owner of the settings says what to run
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    except OSError as exc:
        raise UsageProblem(f"{setting}: {name} can't be run: {exc.strerror}") from exc
    with process:
        try:
            content = _read(process, time.monotonic() + longest)
        finally:
            # With whatever it has started: a pipe that is held open would be waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if content is None:
        raise UsageProblem(f"{setting}: {name} took longer than {longest:g} s", hint="run it yourself to see why")
    if process.returncode and len(content) <= _LARGEST:
        raise UsageProblem(f"{setting}: {name} failed (exit {process.returncode})", hint="run it yourself to see why")
    return _first_line(content, setting, name)


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What it writes until it closes its stdout and ends, or has written too much; None when it takes too long."""
    assert process.stdout is not None  # noqa: S101 - for the type checker
    content = b""
    while len(content) <= _LARGEST:
        ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return None
        chunk = os.read(process.stdout.fileno(), _LARGEST)
        if not chunk:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                return None
            break
        content += chunk
    return content


def _first_line(content: bytes, setting: str, where: str) -> str:
    if len(content) > _LARGEST:
        raise UsageProblem(f"{setting}: {where} has more to say than a password")
    try:
        password = content.decode().partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{setting}: what {where} says is not a text") from exc
    if not password:
        raise UsageProblem(f"{setting}: {where} has no password in its first line")
    return password
