"""Commands and shells on pseudo-terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from struct import pack

from tests.support import processes


def on_terminal(
    *arguments: str,
    columns: int = 200,
    lines: int = 50,
    answers: Sequence[tuple[str, str | signal.Signals | None]] = (),
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command on a terminal of its own, without colours; stderr goes there too.

    Each of the ``answers`` is a text to wait for, and the line to type or the signal to send then, or None.
    """
    # These would override the size of the terminal.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", lines, columns, 0, 0))
    process = processes.start(
        *("-m", "sitegenctl", *arguments),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "NO_COLOR": "1", **environ},
    )
    os.close(theirs)
    output, expected, start = b"", list(answers), 0
    with contextlib.suppress(OSError):  # Linux: no process has the terminal open any more
        while chunk := os.read(ours, 65536):
            output += chunk
            while expected and (place := output.find(expected[0][0].encode(), start)) >= 0:
                text, answer = expected.pop(0)
                start = place + len(text.encode())
                if isinstance(answer, signal.Signals):
                    process.send_signal(answer)
                elif answer is not None:
                    os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    code = process.wait(timeout=30)
    assert not expected, (expected, output)
    return subprocess.CompletedProcess(process.args, code, stdout=output.decode().replace("\r\n", "\n"))


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
