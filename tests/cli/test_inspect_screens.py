from __future__ import annotations

import re
import signal

import pytest
from rich.cells import cell_len

from tests.support.terminal import on_terminal
from tests.support.world import World

ERROR = "Generation failed: " + "the provider 日本 answered 429 " * 6 + "at last"
LONG = "a long story of what went well " * 4 + "to its end"


def story(world: World) -> None:
    world.order(42, "GENERATING", steps=["START"])
    tell(world)


def tell(world: World) -> None:
    for step, message, status in (("AI_STRATEGY", LONG, "info"), ("ERROR", ERROR, "error")):
        world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, status, created_at)"
            " VALUES (42, $1, $2, $3, localtimestamp - interval '1 hour')",
            step,
            message,
            status,
        )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_an_order_s_error_and_evidence_are_readable_whole(world: World, columns: int) -> None:
    story(world)
    shown = on_terminal("inspect", "42", columns=columns, lines=24)
    assert shown.stdout.splitlines()[0].startswith("order 42  FAILED")
    assert all(cell_len(line) <= columns for line in shown.stdout.splitlines() if "→" not in line)
    evidence, timeline = shown.stdout.split("timeline, UTC")
    assert " ".join(ERROR.split()) in " ".join(evidence.split())
    assert " ".join(ERROR.split()) in " ".join(timeline.split())


def test_successful_rows_take_one_line_on_a_short_screen(world: World) -> None:
    story(world)
    short = on_terminal("inspect", "42", columns=100, lines=22)
    (line,) = [line for line in short.stdout.splitlines() if "AI_STRATEGY" in line]
    assert line.endswith("…")
    assert "to its end" not in " ".join(short.stdout.split())
    assert len(short.stdout.splitlines()) < 22
    tall = on_terminal("inspect", "42", columns=100, lines=60)
    assert "to its end" in " ".join(tall.stdout.split())
    assert len(tall.stdout.splitlines()) > len(short.stdout.splitlines())
    piped = world.run("inspect", "42")
    (line,) = [line for line in piped.stdout.splitlines() if "AI_STRATEGY" in line]
    assert line.endswith("to its end")


def test_a_long_history_is_shortened_unless_requested(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "FETCH_DATA", "BUILD_PROMPT"])
    tell(world)
    low = on_terminal("inspect", "42", columns=100, lines=18)
    assert "timeline, UTC; " in low.stdout
    assert " earlier, --last 5 shows them" in low.stdout
    assert low.stdout.splitlines()[-1].endswith("answered 429 at last")
    asked = on_terminal("inspect", "42", "--last", "10", columns=100, lines=18)
    assert "timeline, UTC\n" in asked.stdout
    assert "to its end" in " ".join(asked.stdout.split())


@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_timeline_counts_what_it_leaves_out_and_keeps_the_operator(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], age="3 days")
    world.enqueue(42)
    world.sql("UPDATE site_generation_logs SET created_at = localtimestamp - interval '2 days' WHERE step LIKE 'OP%'")
    for _ in range(6):
        tell(world)
    piped = world.run("inspect", "42").stdout
    # The newest ten of the log, and what the operator did.
    assert "timeline, UTC; 4 earlier, --last 15 shows them" in piped
    low = on_terminal("inspect", "42", columns=100, lines=18).stdout
    match = re.search(r"timeline, UTC; (\d+) earlier, --last 15 shows them", low)
    assert int(match[1]) > 4
    for shown in (piped, low):
        assert "OPERATOR_ENQUEUE" in shown
        assert " START " not in shown.split("timeline")[1]
    whole = world.run("inspect", "42", "--last", "15").stdout
    assert "timeline, UTC\n" in whole
    first = whole.split("timeline, UTC\n")[1].splitlines()[0]
    assert re.match(r"  \d{4}-\d\d-\d\d \d\d:", first)


@pytest.mark.parametrize(("columns", "lines"), [(60, 18), (150, 40)])
def test_terminal_is_larger_or_smaller_than_exported(world: World, columns: int, lines: int) -> None:
    world.order(42, "GENERATING", steps=["START", "FETCH_DATA", "BUILD_PROMPT"])
    tell(world)
    exported = {"COLUMNS": "100", "LINES": "25"}
    expected = on_terminal("inspect", "42", columns=columns, lines=lines).stdout.splitlines()
    shown = on_terminal("inspect", "42", columns=columns, lines=lines, **exported).stdout.splitlines()
    assert (len(shown), max(map(len, shown))) == (len(expected), max(map(len, expected)))
    drawn = on_terminal(
        *("inspect", "42", "--watch", "300ms"),
        columns=columns,
        lines=lines,
        answers=[("\x1b[J", signal.SIGINT)],
        **exported,
    ).stdout.partition("\x1b[H")[2]
    assert len(drawn.splitlines()) <= lines
    helped, expected_help = (
        on_terminal("enqueue", "--help", columns=columns, TERM="dumb", **variables).stdout
        for variables in (exported, {})
    )
    assert helped == expected_help
    assert max(map(len, helped.splitlines())) <= columns


def test_watching_shows_unreachable_sources_without_scrolling(world: World) -> None:
    story(world)
    shown = on_terminal(
        *("inspect", "42", "--watch", "300ms"),
        columns=80,
        lines=15,
        answers=[("\x1b[J", None), ("\x1b[J", signal.SIGINT)],
        REDIS_URL="redis://127.0.0.1:1/0",
    )
    drawn = [screen.splitlines() for screen in shown.stdout.split("\x1b[H")[1:]]
    assert len(drawn) > 1
    assert all(screen[0].startswith("error: Redis can't be reached") for screen in drawn)
    assert all(len(screen) <= 15 for screen in drawn)
    assert shown.returncode == 130
