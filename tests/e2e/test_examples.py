"""The documents' examples, run in this order on one demo stack: each is a command that works, and prints what is shown.

Numbers, times and ids are other ones each time; everything else has to be there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sitegenctl.cli.app import COMMANDS
from sitegenctl.demo.stack import Stack
from tests.support import processes
from tests.support.world import eventually

ROOT = Path(__file__).parents[2]

DOCUMENTS = (
    "docs/promises.md",  # while its orders are late
    "README.md",
    *(f"docs/commands/{name}.md" for name in ("fix", "look", "automate", "set-up")),
    "docs/trash.md",
    "docs/undo.md",
    "docs/reference/configuration.md",
)

#: Examples that can't be run here, and why. Their own tests run them.
UNRUN = {
    "live": "a screen that stays open",
    "events": "doesn't end by itself",
    "worker": "doesn't end by itself",
    "completion": "nothing to see: a script, tested with real shells elsewhere",
}

_OPERATION = re.compile(r"\b[0-9a-z]{7}-[0-9a-z]{3}\b")

#: Commands whose example is not a success: refused orders, and faults of the demo that need an operator.
EXITS = {"enqueue": 4, "reset": 4, "doctor": 5, "maintain": 4}


@dataclass(frozen=True)
class Example:
    command: str
    shown: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.command)[1:]

    @property
    def name(self) -> str:
        words = self.words
        return words[2] if words[0] == "--context" else words[0]

    @property
    def exit_code(self) -> int:
        return 0 if {"--quick", "--no-enqueue"} & set(self.words) else EXITS.get(self.name, 0)


def _examples() -> list[Example]:
    found = []
    text = "\n".join((ROOT / document).read_text() for document in DOCUMENTS)
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            found.append(Example(command, tuple(line for line in shown if line.strip() not in ("", "…"))))
    return found


EXAMPLES = _examples()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a running demo whose worker has emptied the queue."""
    folder = tmp_path_factory.mktemp("demo")
    environ = {
        **os.environ,
        "SITEGENCTL_DATA_DIR": str(folder),
        "SITEGENCTL_CONFIG": str(folder / "config.toml"),
        "SITEGENCTL_STATE_DIR": str(folder / "state"),
        # The demo's Redis has just started, and no worker needs to reconnect to it.
        "SITEGENCTL_RECONNECT_TIME": "0s",
    }

    def idle() -> bool:
        report = run(["--context", "demo", "inspect", "workers"], environ).stdout
        return "0 of 2 busy" in report and "  held" in report

    try:
        up = run(["demo", "up", "--pace", "0s"], environ)
        assert up.returncode == 0, up.stderr
        eventually(idle)
        yield environ
    finally:
        # Stop the parts that are running even if `up` failed.
        Stack(root=folder / "demo").down()


def run(words: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return processes.run("-m", "sitegenctl", *words, env=environ)


def test_every_example_works_as_documented(demo: dict[str, str]) -> None:
    complaints = []
    operations: dict[str, str] = {}
    for example in EXAMPLES:
        if example.name in UNRUN:
            continue
        done = run([operations.get(word, word) for word in example.words], demo)
        # An operation has another id each time.
        operations |= zip(_OPERATION.findall("\n".join(example.shown)), _OPERATION.findall(done.stdout), strict=False)
        lines = {_masked(line) for line in (done.stdout + done.stderr).splitlines()}
        missing = [line for line in example.shown if _masked(line) not in lines]
        if done.returncode != example.exit_code or missing:
            complaints.append(
                f"$ {example.command}\nexit {done.returncode}, not shown: {missing}\n{done.stdout}{done.stderr}"
            )
    assert not complaints, "\n".join(complaints)


def test_every_command_has_an_example_or_a_reason() -> None:
    known = set(COMMANDS)
    assert {example.name for example in EXAMPLES} | set(UNRUN) == known
    assert set(UNRUN) <= known


def _masked(line: str) -> str:
    """Mask the parts of a line that differ between runs: numbers, times, ids, hosts and folders."""
    line = re.sub(r"[\w-]+@\S+", "@", line)
    line = re.sub(r"\d{4}-\d\d-\d\d (?=\d\d:)", "", line)  # shown only of another day
    line = re.sub(r"(/[\w.-]+)+/demo/", "/demo/", line)
    line = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{8}\b", "#", line)
    line = _OPERATION.sub("#", line)
    line = re.sub(r"\d[\d.:]*(ms|[smhd%])?( \d+[smhd])?\b%?", "#", line)
    line = re.sub(r"[▁▂▃▄▅▆▇█ ]{3,}", " ", line)
    return " ".join(line.split())
