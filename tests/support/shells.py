"""Real shells on pseudo-terminals, with the completion scripts loaded."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "completions"
FILES = {"bash": "sitegenctl.bash", "zsh": "_sitegenctl", "fish": "sitegenctl.fish", "powershell": "sitegenctl.ps1"}

COMMANDS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], f"source {SCRIPTS / FILES['bash']}"),
    "zsh": (["zsh", "-f", "-i"], f"fpath=({SCRIPTS} $fpath); autoload -Uz compinit && compinit -u -D"),
    "fish": (["fish", "--no-config", "-i"], f"source {SCRIPTS / FILES['fish']}"),
}


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, shell: str, folder: Path) -> None:
        command, self.setup = COMMANDS[shell]
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # fish exits at once where it does not own the terminal.
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        self.descriptor = ours
        self.screen = ""

    def type(self, keys: str, until: str) -> None:
        """Type, and read the screen until it shows a text."""
        self.screen = ""
        os.write(self.descriptor, keys.encode())
        deadline = time.monotonic() + 60
        while until not in self.screen:
            assert time.monotonic() < deadline, f"{until!r} never appeared: {self.screen!r}"
            try:
                self.screen += os.read(self.descriptor, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.02)  # between two reads of the screen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.descriptor)
