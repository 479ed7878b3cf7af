"""Output that programs read: its encoding, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess

import pytest

from tests.support import processes
from tests.support.terminal import on_terminal
from tests.support.world import World

NAME = "São João 日本 € 🍞"
ENCODINGS = ["latin-1", "cp1252", "ascii", "utf-8"]


@pytest.mark.parametrize("backend", ["celery", "rq"])
@pytest.mark.parametrize("output", ["json", "ndjson", "csv"])
def test_machine_output_is_utf8_in_every_locale(world: World, output: str) -> None:
    world.order(42, "GENERATING", name=NAME, steps=["START", NAME])
    for command in ("inspect 42", "inspect orders", "logs 42", "enqueue 42 --dry-run", "inspect", "stats", "metrics"):
        for encoding in ENCODINGS:
            written = world.run(*command.split(), "-o", output, encoding=encoding).stdout
            for document in {"json": [written], "ndjson": written.splitlines(), "csv": []}[output]:
                json.loads(document)
            assert written or output == "ndjson"
            assert NAME in written or command not in ("inspect 42", "inspect orders", "logs 42"), (command, encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", ["inspect order-é -o json", "enqueue é -o json", "é -o json", "stats --html -"])
def test_errors_and_pages_are_utf8_in_every_locale(world: World, command: str, encoding: str) -> None:
    assert world.run(*command.split(), encoding=encoding).stdout


def test_csv_has_a_byte_order_mark_on_request(world: World) -> None:
    world.order(42, name=NAME)
    (plain, marked) = (world.run("inspect", "orders", "-o", "csv", *bom).stdout for bom in ([], ["--bom"]))
    assert marked == f"\ufeff{plain}"
    (row,) = csv.DictReader(io.StringIO(marked.removeprefix("\ufeff"), newline=""))
    assert row["customer_name"] == NAME
    process = world.run("inspect", "orders", "-o", "json", "--bom")
    assert (process.returncode, process.stderr) == (2, "error: --bom needs -o csv\n")


def test_watched_csv_has_one_heading(world: World) -> None:
    world.order(42)
    with processes.start(
        *("-m", "sitegenctl", "inspect", "orders", "--watch", "100ms", "-o", "csv", "--bom"),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
    assert lines[0].startswith("\ufefforder_id,")
    assert all(line.startswith("42,") for line in lines[1:])


def test_watched_json_is_one_envelope_per_line(world: World) -> None:
    world.order(42)
    with processes.start(
        *("-m", "sitegenctl", "inspect", "--watch", "100ms", "-o", "json"), stdout=subprocess.PIPE, text=True
    ) as process:
        envelopes = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
    assert [envelope["command"] for envelope in envelopes] == ["inspect"] * 2


def test_dumb_terminal_gets_plain_frames(world: World) -> None:
    world.order(42)
    shown = on_terminal(
        *("inspect", "--watch", "100ms"),
        answers=[("unstarted", None), ("unstarted", signal.SIGINT)],
        TERM="dumb",
    ).stdout
    assert "\x1b" not in shown
    assert "BUILDING\n\nno worker is alive\n" in shown
