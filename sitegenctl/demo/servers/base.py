"""What the private Redis and the private PostgreSQL have in common: a folder, a port, a password, a log.

A server's folder holds its settings (``server.json``), its claim (``server.pid``, see ``claims``), its log
(``server.log``) and its data. How each server is installed, told its settings and asked whether it is ready is
left to ``redis_server`` and ``postgres_server``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.pidfile import Claim, claimed, running, stop
from sitegenctl.demo.servers.processes import Account, Process, wait_until
from sitegenctl.errors import SourceError

HOST: Final = "127.0.0.1"
INSTALL_HINT: Final = "pip install 'sitegenctl[demo]'"

_PORT_ATTEMPTS: Final = 10
# Both servers say it in the words of the C library; the environment below makes them English.
_PORT_TAKEN: Final = "Address already in use"
_TELLING: Final = re.compile(r"FATAL|PANIC|ERROR|error|[Ff]ailed|[Cc]ould not|[Cc]an't|[Cc]annot")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server is started with each time again."""

    port: int
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Server:
    """One private server: where it is, and its process if it has ever run."""

    name: str
    url: str = field(repr=False)  # with the password
    port: int
    process: Process | None
    log: Path
    identity: str  # of its data: another one when they were made anew

    @property
    def alive(self) -> bool:
        """Whether its process runs now."""
        return self.process is not None and self.process.alive()


class Kind(Protocol):
    """What makes a server a Redis or a PostgreSQL, for one folder."""

    @property
    def name(self) -> str:
        """As people call it."""

    @property
    def source(self) -> str:
        """As errors name it."""

    @property
    def account(self) -> Account | None:
        """Whom its process runs as; None for ourselves."""

    @property
    def stop_steps(self) -> Sequence[tuple[signal.Signals, float]]:
        """The signals that stop it, each with the seconds it gets to obey."""

    def prepare(self, home: Path, claim: Claim) -> Settings:
        """Make the data when there are none; return the settings to start with."""

    def command(self, home: Path, settings: Settings) -> list[str]:
        """The server's command line; writes configuration files that it names."""

    def ready(self, settings: Settings) -> bool:
        """Whether it answers, as ours and with our password."""

    def url(self, settings: Settings) -> str:
        """Where clients reach it, password included."""


def claim_file(home: Path) -> Path:
    """The file that says which process runs in this folder; see ``claims``."""
    return home / "server.pid"


def log_file(home: Path) -> Path:
    """Where the server in this folder writes."""
    return home / "server.log"


def start_server(kind: Kind, home: Path, *, patience: float) -> Server:
    """Start the server in its folder unless it runs already, and wait until it answers.

    What this call started it also ends when it fails or is interrupted.

    Raises:
        SourceError: it did not start, or does not answer within ``patience`` seconds.
    """
    settings = read_settings(home)
    process = running(claim_file(home))
    if settings is not None and process is not None:
        if _await_ready(kind, settings, process, patience):
            return _server(kind, home, settings, process)
        if process.alive():
            raise SourceError(
                f"{kind.name} runs (pid {process.pid}) but does not answer",
                hint=f"see {log_file(home)}",
                source=kind.source,
            )
    with claimed(claim_file(home), what=kind.name) as claim:
        try:
            settings, process = _launch(kind, home, claim, patience)
        except BaseException:
            stop(claim_file(home), kind.stop_steps)
            raise
    return _server(kind, home, settings, process)


def _launch(kind: Kind, home: Path, claim: Claim, patience: float) -> tuple[Settings, Process]:
    settings = kind.prepare(home, claim)
    log = log_file(home)
    printed = ""
    for _ in range(_PORT_ATTEMPTS):
        # Before the server is started: should we be killed in between, its port is known all the same.
        write_settings(home, settings)
        before = log.stat().st_size if log.exists() else 0
        command = kind.command(home, settings)
        process = claim.start(command, log=log, env=environment(), account=kind.account)
        if _await_ready(kind, settings, process, patience):
            return settings, process
        printed = printed_since(log, before)
        if process.alive() or _PORT_TAKEN not in printed:
            break
        settings = replace(settings, port=free_port())
    raise SourceError(f"{kind.name} did not start: {telling_line(printed)}", hint=f"see {log}", source=kind.source)


def _await_ready(kind: Kind, settings: Settings, process: Process, patience: float) -> bool:
    # Asked in this order, a server that dies is not waited for, and one on the same port is not taken for ours.
    ready = False

    def settled() -> bool:
        nonlocal ready
        ready = kind.ready(settings)
        return ready or not process.alive()

    wait_until(settled, patience)
    return ready and process.alive()


def find_server(kind: Kind, home: Path) -> Server | None:
    """The server of this folder, running or not; None when there never was one. Reads only."""
    settings = read_settings(home)
    if settings is None:
        return None
    return _server(kind, home, settings, running(claim_file(home)))


def stop_server(kind: Kind, home: Path) -> bool:
    """Stop the server of this folder with all of its children; True if anything ran.

    Raises:
        SourceError: it belongs to another user, or can't be ended.
    """
    return stop(claim_file(home), kind.stop_steps)


def remove_home(home: Path) -> None:
    """Remove a stopped server's folder with everything in it; a folder that holds no server is left alone."""
    claim = claim_file(home)
    if not home.is_dir():
        return
    if claim.exists():
        # The claim last: a removal that is cut short can still be told from a stranger's folder.
        for entry in home.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != claim:
                entry.unlink()
        claim.unlink()
    with contextlib.suppress(OSError):
        home.rmdir()


def _server(kind: Kind, home: Path, settings: Settings, process: Process | None) -> Server:
    return Server(
        name=kind.name,
        url=kind.url(settings),
        port=settings.port,
        process=process,
        log=log_file(home),
        identity=hashlib.sha256(settings.password.encode()).hexdigest()[:16],
    )


def read_settings(home: Path) -> Settings | None:
    """The settings kept in this folder; None when there are none."""
    kept = read_json(home / "server.json")
    if kept is None:
        return None
    return Settings(port=int(kept["port"]), password=str(kept["password"]))


def write_settings(home: Path, settings: Settings) -> None:
    """Keep the settings, readable for us alone."""
    write_json(home / "server.json", {"port": settings.port, "password": settings.password})


def new_settings() -> Settings:
    """A free port and a new password."""
    return Settings(port=free_port(), password=secrets.token_hex(16))


def free_port() -> int:
    """A port of the loopback interface that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """What a server needs of our environment: nothing that is secret, or that would change what it does."""
    wanted = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    kept = {name: value for name in wanted if (value := os.environ.get(name))}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def telling_line(text: str) -> str:
    """The line of a log that most likely says what went wrong, without what a terminal would act on."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it wrote nothing to its log"
    chosen = next((line for line in reversed(lines) if _TELLING.search(line)), lines[-1])
    return "".join(character for character in chosen if character.isprintable())[:300]


def printed_since(log: Path, offset: int) -> str:
    """What a log holds beyond its first ``offset`` bytes."""
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of ours; None when there is no file.

    Raises:
        SourceError: it holds anything else.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise SourceError(f"{path} is damaged", hint="sitegenctl demo down removes the stack") from exc
    if not isinstance(value, dict):
        raise SourceError(f"{path} is damaged", hint="sitegenctl demo down removes the stack")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by this JSON object, at once and readable for us alone."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode=PRIVATE)
