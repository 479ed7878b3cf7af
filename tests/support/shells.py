"""Real shells that complete a line: bash, zsh and fish, each asked in its own way what it would offer."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import shutil
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

SCRIPTS = Path(__file__).parents[2] / "completions"
NAMES = ("bash", "zsh", "fish")

_BASH = """
source {script}
COMP_WORDS=({words}) COMP_CWORD={place} COMP_TYPE={kind}
_sitegenctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

# What compadd is given is written down instead of shown; the completion system itself is as everywhere.
_ZSH = """
PS1=''
autoload -Uz compinit && compinit -u -D
source {script}
compadd() {{
    if [[ "$*" == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -rl -- "${{hits[@]}}" >> {out}
    builtin compadd "$@"
}}
_capture() {{ _main_complete; print -r -- END >> {out} }}
zle -C capture list-choices _capture
bindkey '^T' capture
print -r -- READY > {out}
"""


class Offers(Protocol):
    def __call__(self, line: str, *, listing: bool = False) -> list[str]: ...


def require(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")


def offers(shell: str, folder: Path, environ: dict[str, str]) -> Offers:
    """A function that says what the shell offers at the end of a line."""
    require(shell)
    return {"bash": _in_bash, "zsh": _in_zsh, "fish": _in_fish}[shell](folder, environ)


def _in_bash(folder: Path, environ: dict[str, str]) -> Offers:
    def ask(line: str, *, listing: bool = False) -> list[str]:
        # As readline takes a line apart.
        words = line.replace("=", " = ").split(" ")
        words = [word for word in words[:-1] if word] + words[-1:]
        script = _BASH.format(
            script=SCRIPTS / "sitegenctl.bash",
            words=" ".join(map(shlex.quote, words)),
            place=len(words) - 1,
            kind=63 if listing else 9,
        )
        return _said(["bash", "--norc", "--noprofile", "-c", script], folder, environ)

    return ask


def _in_fish(folder: Path, environ: dict[str, str]) -> Offers:
    def ask(line: str, *, listing: bool = False) -> list[str]:
        script = f"source {SCRIPTS / 'sitegenctl.fish'}; complete -C {shlex.quote(line)}"
        said = _said(["fish", "--no-config", "-c", script], folder, environ)
        # It offers what is merely similar, too.
        words = [each.partition("\t")[0] for each in said]
        return [word for word in words if word.startswith(line.split(" ")[-1])]

    return ask


def _said(command: list[str], folder: Path, environ: dict[str, str]) -> list[str]:
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def _in_zsh(folder: Path, environ: dict[str, str]) -> Offers:
    """One zsh on a terminal for all lines: its completion works nowhere else."""
    out = folder / "zsh.out"
    setup = folder / "setup.zsh"
    setup.write_text(_ZSH.format(script=SCRIPTS / "_sitegenctl", out=out))
    terminal = Terminal(["zsh", "-f", "-i"], folder, environ)
    terminal.type(f"source {setup}\r")
    terminal.wait(lambda: out.exists() and "READY" in out.read_text())

    def ask(line: str, *, listing: bool = False) -> list[str]:
        assert not listing
        out.write_text("")
        terminal.type(f"\x15{line}\x14")
        terminal.wait(lambda: out.read_text().endswith("END\n"))
        return [found for found in out.read_text().splitlines()[:-1] if found]

    return ask


class Terminal:
    """A shell with somebody at the keyboard."""

    _all: list[Terminal] = []  # noqa: RUF012 - whoever tests closes them

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # fish leaves at once where the terminal isn't its own.
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        self._keyboard = ours
        self.screen = ""
        self._all.append(self)

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def wait(self, condition: Callable[[], bool], *, patience: float = 30.0) -> bool:
        """Read the screen until it holds; False when it never does."""
        deadline = time.monotonic() + patience
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"it never came true; the screen: {self.screen!r}")
            try:
                self.screen += os.read(self._keyboard, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.02)  # between two looks at the screen, not instead of one
        return True

    def shows(self, text: str, *, patience: float = 30.0) -> bool:
        try:
            return self.wait(lambda: text in self.screen, patience=patience)
        except AssertionError:
            return False

    @classmethod
    def close_all(cls) -> None:
        while cls._all:
            terminal = cls._all.pop()
            terminal._process.kill()
            terminal._process.wait()
            os.close(terminal._keyboard)
