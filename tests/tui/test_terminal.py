"""`sitegenctl live` on a real terminal, which it restores whatever ends it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack

import pytest
from textual.drivers._writer_thread import MAX_QUEUED_WRITES, WriterThread

from sitegenctl.tui.terminal_driver import TerminalOutput
from tests.support.world import World, eventually

ENTERED, LEFT = b"\x1b[?1049h", b"\x1b[?1049l"
SHOWN, HIDDEN = b"\x1b[?25h", b"\x1b[?25l"

#: The command, with a clock that fails after the first data.
CRASHING = """
import sys
from datetime import UTC, datetime
from sitegenctl.cli import app
from sitegenctl.tui.app import LiveApp

def now(calls=[]):
    calls.append(1)
    if len(calls) > 2:
        raise ZeroDivisionError("the clock [red]broke[/]")
    return datetime.now(UTC)

LiveApp.__init__.__kwdefaults__["now"] = now
sys.exit(app.run(sys.argv[1:]))
"""


#: The command, which waits between the database and the queue.
WAITING = """
import time
from pathlib import Path
from sitegenctl.__main__ import main
from sitegenctl.adapters.postgres.orders import PostgresOrders

apply = PostgresOrders.apply

async def slow(self, *arguments, **options):
    import asyncio
    result = await apply(self, *arguments, **options)
    Path("begun").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    return result

PostgresOrders.apply = slow
main()
"""


@dataclass
class Terminal:
    """A terminal that shows the live view."""

    process: subprocess.Popen[bytes]
    ours: int
    before: list[object]
    got: bytes = b""
    ended: bool = field(default=False, init=False)
    is_closed: bool = field(default=False, init=False)

    def hang_up(self) -> None:
        """Close the terminal, as a closed window or a lost connection would."""
        if not self.is_closed:
            self.is_closed = True
            os.close(self.ours)

    def read(self, patience: float) -> bool:
        """Read available output; False if there is none."""
        if not select.select([self.ours], [], [], patience)[0]:
            return False
        try:
            chunk = os.read(self.ours, 65536)
        except OSError:
            chunk = b""  # Linux: no process has the terminal open
        self.got += chunk
        self.ended = not chunk
        return bool(chunk)

    def sees(self, text: str, patience: float = 30) -> None:
        deadline = time.monotonic() + patience
        while text.encode() not in self.got:
            assert not self.ended, self.got
            assert time.monotonic() < deadline, self.got
            self.read(0.1)

    def comes_back(self, text: str) -> None:
        """Wait until the view has entered the terminal again and shows the text."""
        self.sees(ENTERED.decode())
        self.got = self.got[self.got.index(ENTERED) :]
        self.sees(text)

    def press(self, key: bytes) -> None:
        os.write(self.ours, key)

    def leaves(self, patience: float = 20) -> int:
        """Wait for the exit code."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.got[-2000:]
            self.read(0.05)
        while self.read(0.2):
            pass
        return self.process.returncode

    def is_restored(self) -> bool:
        """Whether screen, cursor, mouse and line discipline are restored."""
        assert ENTERED in self.got
        return (
            self.got.rfind(LEFT) > self.got.rfind(ENTERED)
            and self.got.rfind(SHOWN) > self.got.rfind(HIDDEN)
            and self.got.rfind(b"\x1b[?1003l") > self.got.rfind(b"\x1b[?1003h")
            and termios.tcgetattr(self.ours) == self.before
        )

    @property
    def afterwards(self) -> str:
        """Output after the view has left the screen."""
        text = self.got.rpartition(LEFT)[2].decode()
        return re.sub(r"\x1b\[[<?]?[0-9;]*[a-z]", "", text).replace("\r\n", "\n").strip()


@contextlib.contextmanager
def terminal(
    *command: str,
    columns: int = 100,
    lines: int = 30,
    cwd: Path | None = None,
    program: str = sys.executable,
    term: str = "xterm-256color",
) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, pack("HHHH", lines, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [program, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": term},
        cwd=cwd,
        start_new_session=True,
        # A controlling terminal, for Ctrl-C.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    # Kept open, so that the state of the terminal can be read after the process has exited.
    shown = Terminal(process=process, ours=ours, before=list(before))
    try:
        yield shown
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        shown.hang_up()


LIVE = ("-m", "sitegenctl", "live")


def test_terminal_is_larger_or_smaller_than_exported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], name="Ana")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "30")
    for columns, lines in ((80, 20), (150, 40)):
        with terminal(*LIVE, columns=columns, lines=lines) as screen:
            screen.sees("Padaria Ana")
            screen.press(b"q")
            assert screen.leaves() == 0
            places = [tuple(map(int, place)) for place in re.findall(rb"\x1b\[(\d+);(\d+)H", screen.got)]
        assert max(row for row, _ in places) == lines
        assert max(column for _, column in places) <= columns + 1


@pytest.mark.parametrize("how", ["q", "ctrl-c", "SIGTERM", "SIGINT"])
def test_any_exit_restores_the_terminal(world: World, how: str) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], name="Ana")
    with terminal(*LIVE) as screen:
        screen.sees("Padaria Ana")
        if how.startswith("SIG"):
            screen.process.send_signal(signal.Signals[how])
        else:
            screen.press({"q": b"q", "ctrl-c": b"\x03"}[how])
        code = screen.leaves()
        assert screen.is_restored()
        assert "Traceback" not in screen.afterwards
        if how == "q":
            assert (code, screen.afterwards) == (0, "")
        assert len(screen.afterwards.splitlines()) <= 1
        assert code in (0, 130, 143)


def test_closed_terminal_completes_the_current_batch(world: World, tmp_path: Path) -> None:
    world.order(42, name="Ana")
    with terminal("-c", WAITING, "live", cwd=tmp_path) as screen:
        screen.sees("Padaria Ana")
        screen.press(b"e")
        screen.sees("would be enqueued")
        screen.press(b"y")
        eventually((tmp_path / "begun").exists)
        assert (world.status(), world.queued_ids()) == ("GENERATING", [])
        screen.hang_up()
        for _ in range(5):
            # SIGCONT accompanies SIGHUP; each makes Textual write to the terminal.
            screen.process.send_signal(signal.SIGCONT)
        (tmp_path / "gate").touch()
        assert screen.process.wait(timeout=20) >= 0  # not killed by the signal
    assert len(world.queued_ids()) == 1
    with world.redis() as redis:
        assert redis.keys("*reply*") == []


def test_job_control_by_the_shell(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], name="Ana")
    job = f"set -m; {shlex.join([sys.executable, *LIVE])}; echo stopped with $?; read line; fg; echo left with $?"
    with terminal("-c", job, program="/bin/sh") as screen:
        screen.sees("Padaria Ana")
        screen.press(b"m")  # also in a plan
        screen.sees("fix order 42?")
        screen.press(b"\x1a")
        screen.sees("stopped with 148")  # 128 and SIGTSTP
        assert screen.is_restored()
        assert "fg resumes" not in screen.afterwards
        screen.got = b""
        screen.press(b"\n")
        screen.comes_back("fix order 42?")
        screen.press(b"\x03")
        screen.sees("left with 0")
        assert screen.leaves() == 0
        assert screen.is_restored()


def test_stop_signals_without_a_shell(world: World) -> None:
    world.order(42, name="Ana")
    with terminal(*LIVE) as screen:
        screen.sees("Padaria Ana")
        threads = len(os.listdir(f"/proc/{screen.process.pid}/task"))
        for _ in range(3):
            screen.got = b""
            screen.process.send_signal(signal.SIGSTOP)
            screen.process.send_signal(signal.SIGCONT)
            screen.comes_back("Padaria Ana")
        # Without a shell it could never be resumed, and does not stop.
        screen.got = b""
        screen.process.send_signal(signal.SIGTSTP)
        screen.comes_back("Padaria Ana")
        screen.press(b"\x1a")
        screen.sees("could resume this")
        # Threads that read files come and go.
        eventually(lambda: len(os.listdir(f"/proc/{screen.process.pid}/task")) <= threads)
        screen.press(b"q")
        assert screen.leaves() == 0
        assert screen.is_restored()


def test_writing_to_a_closed_terminal_does_not_block() -> None:
    ours, theirs = pty.openpty()
    output = TerminalOutput(os.fdopen(theirs, "w"))
    os.close(ours)
    writer = WriterThread(output)  # type: ignore[arg-type]
    writer.start()
    for _ in range(MAX_QUEUED_WRITES * 3):
        writer.write("more than waits in line")
    writer.stop()
    with contextlib.suppress(OSError):
        output.close()


def test_crash_is_one_line_and_restores_the_terminal(world: World) -> None:
    world.order(42, name="Ana")
    with terminal("-c", CRASHING, "live") as screen:
        assert screen.leaves() == 1
        assert screen.is_restored()
        assert "Traceback" not in screen.got.decode(errors="replace")
        first, *more = screen.afterwards.splitlines()
        assert "unexpected error" in first
        assert len(more) <= 1  # the hint


@pytest.mark.parametrize(
    ("options", "term", "message"),
    [
        (["--interval", "1ms"], "xterm-256color", b"--interval: interval must be from 200ms to 1h"),
        ([], "dumb", b"live needs a terminal that can be drawn on, and TERM is dumb"),
    ],
    ids=["setting", "terminal"],
)
def test_usage_errors_do_not_touch_the_screen(world: World, options: list[str], term: str, message: bytes) -> None:
    with terminal(*LIVE, *options, term=term) as screen:
        assert screen.leaves() == 2
        assert ENTERED not in screen.got
        assert term != "dumb" or b"\x1b" not in screen.got
        assert message in screen.got


def test_without_a_terminal(world: World) -> None:
    process = world.run("live")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.splitlines()[0].endswith("live needs a terminal")
    assert len(process.stderr.splitlines()) == 2  # and the hint
