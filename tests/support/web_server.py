"""Run ``live --web`` in a process, and find its child processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

PATIENCE = 60.0
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?>$]*[ -/]*[@-~]|\].*?(?:\x07|\x1b\\)|[()].|[=>])", re.DOTALL)


@dataclass(frozen=True)
class WebServer:
    process: subprocess.Popen[str]
    link: str
    log: Path

    @property
    def address(self) -> str:
        return f"http://{urlsplit(self.link).netloc}"

    @property
    def token(self) -> str:
        return urlsplit(self.link).query.removeprefix("token=")

    @property
    def websocket(self) -> str:
        return f"{self.address}/ws/{self.token}?width=160&height=40"

    def browsers(self) -> dict[int, str]:
        """Command lines of its child processes by their ids."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
        return {int(pid): args for pid, parent, args in rows if int(parent) == self.process.pid}


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[WebServer]:
    """Start the server without a terminal, as systemd would; stop it afterwards."""
    log_path = folder / "web.log"
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sitegenctl", "live", "--web", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        link = process.stdout.readline()
        assert link.endswith("\n"), log_path.read_text()
        yield WebServer(process=process, link=link.rstrip("\n"), log=log_path)
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()


async def read_until(socket: aiohttp.ClientWebSocketResponse, *wanted: str) -> str:
    """Read output, without escape sequences, until it contains all texts."""
    got = ""
    deadline = time.monotonic() + PATIENCE
    while not all(each in _ESCAPES.sub("", got) for each in wanted):
        message = await socket.receive(timeout=deadline - time.monotonic())
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), (message, _ESCAPES.sub("", got))
        if message.type is aiohttp.WSMsgType.BINARY:
            got += message.data.decode(errors="replace")
    return _ESCAPES.sub("", got)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return not listed.stdout.strip() or listed.stdout.strip().startswith("Z")
