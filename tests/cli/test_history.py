"""``history``: runs and operations of all orders; ``logs`` without orders."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.commands import streaming
from tests.support.world import Log, World, eventually


def past(world: World) -> None:
    """Two runs, an enqueue by ana that was rolled back for one order, and a run of maintenance."""
    for order_id in (7, 8, 9):
        world.order(order_id, "GENERATING", steps=())
    log = Log(world)
    log.run(7, ago=50_000, error="an old failure")
    log.run(7, ago=7200)
    log.run(8, ago=3600, seconds=22, error="Template 'x' not found")
    for order_id, step, operation, command in (
        (7, "OPERATOR_ENQUEUE", "1v3k8q2-aaa", "enqueue"),
        (8, "OPERATOR_ENQUEUE", "1v3k8q2-aaa", "enqueue"),
        (8, "OPERATOR_ENQUEUE_FAILED", "1v3k8q2-aaa", "enqueue"),
        (9, "OPERATOR_REPAIR", "1v3k8q2-bbb", "maintain"),
    ):
        details = {
            **{"operation": operation, "command": command, "actor": "ana", "host": "crm", "mark": "m"},
            **{"before": "GENERATING", "task_id": f"task-{order_id}"},
        }
        world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, status, created_at, details)"
            " SELECT r.order_id, r.step, r.message, 'info', localtimestamp - interval '10 minutes', r.details"
            "   FROM json_populate_recordset(NULL::site_generation_logs, $1::json) r",
            json.dumps([{"order_id": order_id, "step": step, "message": "Done; by ana@crm", "details": details}]),
        )


def listed(world: World, *options: str) -> list[tuple[Any, ...]]:
    """Kind, outcome and order or command of what is listed."""
    data = json.loads(world.run("history", *options, "-o", "json").stdout)["data"]
    return [(each["kind"], each["outcome"], each["order_id"] or each["command"]) for each in data["activity"]]


SEVEN, EIGHT = ("run", "generated", 7), ("run", "failed", 8)
ENQUEUE, MAINTAIN = ("operator", "failed", "enqueue"), ("maintenance", "done", "maintain")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [SEVEN, EIGHT, ENQUEUE, MAINTAIN]),
        (("--since", "1d"), [("run", "failed", 7), SEVEN, EIGHT, ENQUEUE, MAINTAIN]),
        (("--since", "90m"), [EIGHT, ENQUEUE, MAINTAIN]),
        (("--until", "30m"), [SEVEN, EIGHT]),
        (("--order", "8"), [EIGHT, ENQUEUE]),
        (("--outcome", "failed"), [EIGHT, ENQUEUE]),
        (("--outcome", "generated", "--outcome", "done"), [SEVEN, MAINTAIN]),
        (("--kind", "run"), [SEVEN, EIGHT]),
        (("--kind", "maintenance"), [MAINTAIN]),
        (("--by", "ana"), [ENQUEUE, MAINTAIN]),
        (("--by", "ana@crm", "--kind", "operator"), [ENQUEUE]),
        (("--by", "walter"), []),
        (("--search", "TEMPLATE"), [EIGHT]),
        (("--search", "ana souza", "--kind", "run"), [SEVEN, EIGHT]),
        (("--search", "operator"), [ENQUEUE]),
        (("--search", "mainten"), [MAINTAIN]),
        (("--search", "ru"), []),
        (("--last", "2"), [ENQUEUE, MAINTAIN]),
    ],
)
def test_runs_and_operations_are_listed_oldest_first(
    options: tuple[str, ...], expected: list[tuple[Any, ...]], world: World
) -> None:
    past(world)
    assert listed(world, *options) == expected


def test_lines_name_what_happened_and_by_whom(world: World) -> None:
    past(world)
    lines = world.run("history", "--last", "3").stdout.splitlines()
    assert lines[0] == "(1 earlier; --last 0 shows them)"
    assert re.search(r"✗ failed +order 8  .* in 22s: Template 'x' not found$", lines[1])
    assert re.search(r"✗ enqueue +2 orders: 7 8  by ana@crm  1 rolled back  1v3k8q2-aaa$", lines[2])
    assert re.search(r"· maintain +1 order: 9  by ana@crm  1v3k8q2-bbb$", lines[3])
    assert world.run("history", "--since", "1m").stdout.startswith("nothing since ")


def test_operation_of_a_command_is_found_with_its_orders(world: World) -> None:
    for order_id in (41, 42):
        world.order(order_id)
    done = json.loads(world.run("enqueue", "41", "42", "99", "-o", "json").stdout)["data"]
    shown = json.loads(world.run("history", done["operation"], "-o", "json").stdout)["data"]
    assert (shown["operation"], shown["command"], shown["orders"], shown["rolled_back"]) == (
        *(done["operation"], "enqueue"),
        *(2, 0),
    )
    assert [
        (each["order_id"], each["before"], each["after"], each["outcome"], each["task_id"]) for each in shown["entries"]
    ] == [
        (each["order_id"], "BUILDING", "GENERATING", "done", each["task_id"])
        for each in done["outcomes"]
        if each["outcome"] == "done"
    ]
    text = world.run("history", done["operation"]).stdout
    assert re.search(r"^ +41 .* BUILDING +GENERATING +done +Enqueued$", text, re.MULTILINE)
    missing = world.run("history", "1v3k8q2-zzz")
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (4, "error: no operation 1v3k8q2-zzz")


def test_an_operation_that_changed_nothing_has_no_id(world: World) -> None:
    assert json.loads(world.run("enqueue", "99", "-o", "json").stdout)["data"]["operation"] is None
    world.order(42)
    assert json.loads(world.run("enqueue", "42", "--dry-run", "-o", "json").stdout)["data"]["operation"] is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("history", "42"), "42 is not the id of an operation"),
        (("history", "abc"), "abc is not the id of an operation"),
        (("history", "1v3k8q2-aaa", "--since", "1h"), "cannot be combined"),
        (("history", "--since", "yesterday"), "--since yesterday: neither an age"),
        (("history", "--since", "30m", "--until", "40m"), "the period ends before it begins"),
        (("history", "--since", "2026-01-31T08:00", "--until", "2026-01-31T07:00"), "the period ends before it begins"),
        (("history", "-f", "-o", "csv"), "csv needs one"),
        (("history", "-f", "--until", "1h"), "mutually exclusive"),
        (("logs", "--until-done"), "--until-done needs orders"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], complaint: str, world: World) -> None:
    process = world.run(*arguments)
    assert process.returncode == 2
    assert complaint in process.stderr.splitlines()[0]


def test_hostile_texts_are_shown_escaped(world: World) -> None:
    world.order(42, "GENERATING", steps=())
    Log(world).run(42, ago=60, error="\x1b[2Jforged\nline")
    lines = world.run("history").stdout.splitlines()
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize("name", ["history", "logs"])
def test_following_shows_each_thing_once(name: str, world: World) -> None:
    world.order(42, "GENERATING", steps=("START", "SUCCESS"))
    expected = {
        "history": ["generated", "test", "failed"],
        "logs": ["START", "SUCCESS", "OPERATOR_ENQUEUE", "START", "ERROR", "ERROR"],
    }[name]
    with streaming(world, name, "-f", "--since", "1d", "-o", "ndjson") as stream:
        eventually(lambda: stream.lines)
        world.order(43)
        assert world.enqueue(43).exit_code == 0
        world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, status)"
            " SELECT 43, step, 'it broke', 'info' FROM unnest('{START,ERROR,ERROR}'::text[]) AS step"
        )
        eventually(lambda: len(stream.lines) >= len(expected))
        world.sql("INSERT INTO site_generation_logs (order_id, step, message, status) VALUES (43, 'SKIP', '', 'info')")
        eventually(lambda: len(stream.lines) > len(expected))
        shown = [json.loads(line) for line in stream.lines]
    named = [each.get("step") or each["command"] or each["outcome"] for each in shown]
    assert sorted(named) == sorted([*expected, "SKIP" if name == "logs" else "skipped"])


def test_logs_without_orders_are_the_newest_of_all(world: World) -> None:
    past(world)
    shown = json.loads(world.run("logs", "--last", "3", "-o", "json").stdout)["data"]["rows"]
    assert [(each["order_id"], each["step"]) for each in shown] == [
        (8, "OPERATOR_ENQUEUE"), (8, "OPERATOR_ENQUEUE_FAILED"), (9, "OPERATOR_REPAIR"),
    ]  # fmt: skip
    assert all(re.match(r"[789]  ", line) for line in world.run("logs", "--since", "20m").stdout.splitlines())
    assert world.run("logs", "--since", "1s", "--level", "error").stdout == "no rows\n"
