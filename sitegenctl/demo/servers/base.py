"""What the private Redis and the private PostgreSQL have in common: a folder, a port, a password and a log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from sitegenctl.config.atomic_write import PRIVATE, write_whole
from sitegenctl.demo.servers.processes import Account, Daemon, Process, StopSteps, wait_until
from sitegenctl.errors import SourceError

HOST: Final = "127.0.0.1"

_PORT_ATTEMPTS: Final = 10
# The C library's text for EADDRINUSE; LC_ALL=C below keeps it English.
_PORT_TAKEN: Final = "Address already in use"
_LOOKS_LIKE_AN_ERROR: Final = re.compile(r"FATAL|PANIC|ERROR|error|[Ff]ailed|[Cc]ould not|[Cc]an't|[Cc]annot")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server keeps over restarts."""

    port: int
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """A part of the stack at one moment; ``process`` is None unless it runs.

    ``url`` contains the password. It is empty before the first start, and for a worker. ``identity`` changes when the
    data is created again.
    """

    name: str
    log: Path
    process: Process | None
    url: str = field(default="", repr=False)
    port: int = 0
    identity: str = ""

    @property
    def alive(self) -> bool:
        """Whether its process runs now."""
        return self.process is not None and self.process.alive()


class PrivateServer(ABC):
    """A server in the folder ``home``: ``server.json`` (settings), ``server.pid``, ``server.log`` and its data."""

    name: ClassVar[str]
    source: ClassVar[str]  # as in SourceError.source
    process_names: ClassVar[tuple[str, ...]]
    start_timeout: ClassVar[float]
    stop_steps: ClassVar[StopSteps]

    def __init__(self, home: Path, account: Account | None = None) -> None:
        self.home = home
        self.account = account

    @property
    def log(self) -> Path:
        """The file that the server writes to."""
        return self.home / "server.log"

    @property
    def daemon(self) -> Daemon:
        """Its process."""
        return Daemon(self.home / "server.pid", self.process_names)

    @property
    def _settings_file(self) -> Path:
        return self.home / "server.json"

    @abstractmethod
    def prepare(self) -> Settings:
        """Create the data if there is none; return the settings to start with."""

    @abstractmethod
    def command(self, settings: Settings) -> list[str]:
        """Return the command line; write the configuration files that it names."""

    @abstractmethod
    def is_ready(self, settings: Settings) -> bool:
        """Whether the server responds and accepts our password."""

    @abstractmethod
    def url(self, settings: Settings) -> str:
        """Return the URL for clients, with the password."""

    def state(self) -> ServerState:
        """Return the state of the server, running or not. Reads only."""
        settings = self.settings()
        if settings is None:
            return ServerState(name=self.name, log=self.log, process=None)
        return ServerState(
            name=self.name,
            log=self.log,
            process=self.daemon.process(),
            url=self.url(settings),
            port=settings.port,
            identity=hashlib.sha256(settings.password.encode()).hexdigest()[:16],
        )

    def start(self) -> ServerState:
        """Start the server unless it runs, and wait until it responds.

        A server that this call started is stopped again if the call fails or is interrupted.

        Raises ``SourceError`` if it does not start or does not respond in time.
        """
        settings, process = self.settings(), self.daemon.process()
        if settings is not None and process is not None:
            if self._await_ready(settings, process):
                return self.state()
            if process.alive():
                raise SourceError(
                    f"{self.name} runs (pid {process.pid}) but does not respond",
                    hint=f"see {self.log}",
                    source=self.source,
                )
        if settings is not None:
            self.daemon.stop()
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self.state()

    def stop(self) -> bool:
        """Stop the server and all of its children; return whether anything ran.

        Raises ``SourceError`` if it belongs to another user or cannot be ended.
        """
        return self._settings_file.exists() and self.daemon.stop(self.stop_steps)

    def remove(self) -> bool:
        """Stop the server and remove its folder; return whether anything ran. Leaves other folders alone."""
        stopped = self.stop()
        if self._settings_file.exists():
            # The settings last: if the removal is interrupted, the folder is still recognised as ours.
            empty(self.home, keep={self._settings_file.name})
            self._settings_file.unlink()
        with contextlib.suppress(OSError):
            self.home.rmdir()
        return stopped

    @contextlib.contextmanager
    def running(self) -> Iterator[ServerState]:
        """Run the server for the length of a ``with`` block; remove it and its folder afterwards."""
        try:
            yield self.start()
        finally:
            self.remove()

    def settings(self) -> Settings | None:
        """Read the settings of this folder; None if there are none."""
        values = read_json(self._settings_file)
        return None if values is None else Settings(port=int(values["port"]), password=str(values["password"]))

    def write_settings(self, settings: Settings) -> None:
        """Write the settings, readable for this user only."""
        write_json(self._settings_file, {"port": settings.port, "password": settings.password})

    def _launch(self) -> None:
        settings = self.prepare()
        output = ""
        for _ in range(_PORT_ATTEMPTS):
            # Before the server starts: if we are killed in between, its port is still known.
            self.write_settings(settings)
            offset = self.log.stat().st_size if self.log.exists() else 0
            process = self.daemon.start(self.command(settings), log=self.log, env=environment(), account=self.account)
            if self._await_ready(settings, process):
                return
            output = read_log(self.log, offset)
            if process.alive() or _PORT_TAKEN not in output:
                break
            settings = replace(settings, port=free_port())
        raise SourceError(
            f"{self.name} did not start: {relevant_line(output)}", hint=f"see {self.log}", source=self.source
        )

    def _await_ready(self, settings: Settings, process: Process) -> bool:
        is_over = wait_until(lambda: not process.alive() or self.is_ready(settings), self.start_timeout)
        # Not a dead one's successor on the same port.
        return is_over and process.alive()


def new_settings() -> Settings:
    """Return a free port and a new password."""
    return Settings(port=free_port(), password=secrets.token_hex(16))


def free_port() -> int:
    """Return a port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Return the environment for a server: no secrets and nothing that changes its behaviour."""
    wanted = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    kept = {name: value for name in wanted if (value := os.environ.get(name))}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def relevant_line(text: str) -> str:
    """Return the line of a log that most likely explains a failure, without control characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "its log is empty"
    chosen = next((line for line in reversed(lines) if _LOOKS_LIKE_AN_ERROR.search(line)), lines[-1])
    return "".join(character for character in chosen if character.isprintable())[:300]


def read_log(log: Path, offset: int) -> str:
    """Return the text of a log after its first ``offset`` bytes."""
    with log.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def empty(folder: Path, *, keep: Collection[str]) -> None:
    """Remove everything in a folder except the entries with these names."""
    for entry in folder.iterdir():
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no file. Raises ``SourceError`` for anything else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SourceError(f"{path} is damaged", hint="remove the demo with: sitegenctl demo down")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by this JSON object, readable for this user only."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode=PRIVATE)
