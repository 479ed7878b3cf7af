"""Commands on a real terminal of a given size."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios
from collections.abc import Callable
from dataclasses import dataclass
from struct import pack

from tests.support import processes


@dataclass(frozen=True)
class Shown:
    """What the terminal got, colours and all."""

    returncode: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def on_terminal(
    *arguments: str, columns: int, lines: int = 50, until: Callable[[str], bool] | None = None, **environ: str
) -> Shown:
    """Run the command on a terminal of its own, without colours; stderr goes there too.

    One that goes on for ever is interrupted as soon as what it has shown is what was waited for.
    """
    # Whoever runs the tests may have said there how large another terminal is.
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
    got = b""
    try:
        while chunk := os.read(ours, 65536):
            got += chunk
            if until is not None and until(got.decode(errors="replace")):
                process.send_signal(signal.SIGINT)
                until = None
    except OSError:
        pass  # how Linux says that nobody has the terminal open any more
    finally:
        os.close(ours)
    return Shown(returncode=process.wait(timeout=30), text=got.decode().replace("\r\n", "\n"))
