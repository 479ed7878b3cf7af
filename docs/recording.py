"""Write the README's recording, docs/img/recording.svg: an order is found stuck and fixed, on a temporary demo.

make recording
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

PICTURE = Path(__file__).parent / "img" / "recording.svg"
COLUMNS, LINES = 96, 34
_PROMPT = "\x1b[1m$\x1b[0m "
_READING = 3.0  # seconds before the next command is typed

#: What is typed, and the answer to its question.
STORY = (
    ("sitegenctl status", None),
    ("sitegenctl inspect 18", None),
    ("sitegenctl repair 18", "y"),
    ("sitegenctl logs 18 --until-done", None),
)


class Recording:
    """Events of an asciicast."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str]] = []
        self._now = 0.0

    def write(self, text: str, after: float = 0.0) -> None:
        """Text that appears after this many seconds."""
        self._now += after
        self.events.append((round(self._now, 2), "o", text))

    def type(self, text: str) -> None:
        """Text that is typed."""
        for letter in text:
            self.write(letter, 0.05)
        self.write("\r\n", 0.4)


def main() -> None:
    """Record the story."""
    recording = Recording()
    with tempfile.TemporaryDirectory(prefix="sitegenctl-") as folder:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SITEGENCTL_", "NO_COLOR"))},
            "SITEGENCTL_DATA_DIR": folder,
            "SITEGENCTL_CONFIG": str(Path(folder) / "config.toml"),
            "SITEGENCTL_RECONNECT_TIME": "0s",
            "TERM": "xterm-256color",
            "LOGNAME": "ana",
        }
        program = [sys.executable, "-m", "sitegenctl"]
        subprocess.run([*program, "demo", "up"], env=environ, check=True)
        try:
            subprocess.run([*program, "config", "use", "demo"], env=environ, check=True)
            for line, answer in STORY:
                recording.write("\x1b[2J\x1b[H" + _PROMPT)
                recording.type(line)
                _run([*program, *line.split()[1:]], environ, answer, recording)
                recording.write("", _READING)
        finally:
            subprocess.run([*program, "demo", "down"], env=environ, check=True)
        cast = Path(folder) / "recording.cast"
        header = {"version": 2, "width": COLUMNS, "height": LINES}
        cast.write_text("\n".join(map(json.dumps, (header, *recording.events))) + "\n")
        render = [sys.executable, "-m", "termtosvg", "render", str(cast), str(PICTURE)]
        subprocess.run(render, check=True)
    # termtosvg writes a font of its own first.
    PICTURE.write_text(
        PICTURE.read_text().replace(
            "'DejaVu Sans Mono', monospace", "ui-monospace, Menlo, 'DejaVu Sans Mono', monospace"
        )
    )
    print(f"{PICTURE.name}: {PICTURE.stat().st_size // 1024} KiB")


def _run(command: list[str], environ: dict[str, str], answer: str | None, recording: Recording) -> None:
    """Run a command on a terminal of its own, and answer its question."""
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(command, env=environ, stdin=other, stdout=other, stderr=other, start_new_session=True)
    os.close(other)
    before = time.monotonic()
    while True:
        ready, _, _ = select.select([terminal], [], [], 30)
        try:
            text = os.read(terminal, 65536).decode() if ready else ""
        except OSError:
            text = ""
        waited, before = time.monotonic() - before, time.monotonic()
        if not text:
            break
        text = text.replace(str(Path(environ["SITEGENCTL_DATA_DIR"]) / "demo"), "~/demo")
        recording.write(re.sub(r"sitegenctl-\d+@[\w.-]+|(?<=ana@)[\w.-]+", "crm-worker", text), waited)
        if answer is not None and "[y/N]" in text:
            recording.write("", 1.0)
            os.write(terminal, f"{answer}\n".encode())
            answer = None
    process.wait()
    os.close(terminal)


if __name__ == "__main__":
    main()
