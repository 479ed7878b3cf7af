from __future__ import annotations

import base64
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.errors import SourceError
from sitegenctl.operations.inspect import OrderView, inspect_order
from sitegenctl.operations.overview import overview
from sitegenctl.session import Session
from tests.support.doctor_stage import odd_process
from tests.support.world import QUEUE, TASK, World, eventually, with_grace

#: A silent worker is named.
SILENT = r"the living worker did not respond: \S+@\S+"

EVERY_INSPECT = [["inspect"], ["inspect", "orders"], ["inspect", "42"], ["inspect", "queue"], ["inspect", "workers"]]


def seen(world: World, *arguments: str) -> dict[str, Any]:
    return json.loads(world.run(*arguments, "-o", "json").stdout)


def asked(world: World, command: Callable[[], object]) -> Counter[str]:
    """How often each method of remote control was asked for meanwhile."""
    methods: Counter[str] = Counter()
    with world.redis() as client, client.monitor() as monitor:
        command()
        client.echo("that was all")
        while (command := monitor.next_command()["command"]) != "ECHO that was all":
            if command.startswith("PUBLISH") and ".celery.pidbox" in command:
                body = re.search(r"body\W+([A-Za-z0-9+/=]{40,})", command)
                methods[json.loads(base64.b64decode(body[1]))["method"]] += 1
    return methods


def test_a_task_that_no_reply_names_is_unaccounted(world: World) -> None:
    world.order(42, "GENERATING")
    task = world.publish(42)
    assert seen(world, "inspect", "task", task)["data"]["state"] == "queued"
    world.deliver(ago=1)
    may_run = (
        "no worker that responds has it; a worker that is shutting down, paused or cut off may still be running it"
    )
    assert seen(world, "inspect", "task", task)["data"]["state"] == "unaccounted"
    assert may_run in seen(world, "inspect", "42")["data"]["evidence"][-1]
    worker = world.worker("-c", "1")
    assert seen(world, "inspect", "task", task)["data"]["state"] == "unaccounted"
    assert may_run in seen(world, "inspect", "42")["data"]["evidence"][-1]
    os.kill(worker.pid, signal.SIGSTOP)
    report = seen(world, "inspect", "task", task, "--timeout", "1s")
    assert (report["exit_code"], report["data"]["state"]) == (3, "unaccounted")
    assert re.fullmatch(SILENT, report["errors"][0]["message"])
    report = seen(world, "inspect", "task", "nowhere", "--timeout", "1s")
    assert (report["exit_code"], report["errors"][0]["source"]) == (3, "workers")


def test_every_inspect_reports_a_silent_worker(world: World) -> None:
    world.order(42, steps=["START", "ERROR"])
    os.kill(world.worker("-c", "1").pid, signal.SIGSTOP)
    for command in EVERY_INSPECT:
        process = world.run(*command, "--timeout", "1s", "-o", "json")
        found = json.loads(process.stdout)
        assert (process.returncode, found["ok"], found["exit_code"]) == (3, False, 3), command
        (error,) = found["errors"]
        assert error["source"] == "workers"
        assert re.fullmatch(SILENT, error["message"])
        assert found["data"]
        shown = world.run(*command, "--timeout", "1s")
        assert shown.returncode == 3
        assert re.fullmatch(f"error: {SILENT}", shown.stderr.splitlines()[0])
        assert shown.stdout
        assert shown.stdout.splitlines()[0] != "all well"


def test_one_silent_worker_among_several_is_reported_too(world: World) -> None:
    world.worker("-c", "1")
    os.kill(world.worker("-c", "1").pid, signal.SIGSTOP)
    for command in (["inspect"], ["inspect", "workers"]):
        found = json.loads(world.run(*command, "--timeout", "2s", "-o", "json").stdout)
        (message,) = [error["message"] for error in found["errors"]]
        assert re.fullmatch(r"1 of 2 living workers did not respond: \S+@\S+", message)
        assert len(found["data"]["workers"]) == 1
    text = world.run("inspect", "--timeout", "2s").stdout
    assert text.splitlines()[0] == "no faults found, but the workers did not respond fully"


@pytest.mark.parametrize("command", EVERY_INSPECT, ids=" ".join)
def test_workers_are_asked_once(world: World, command: Sequence[str]) -> None:
    world.order(42, steps=["START", "ERROR"])
    world.enqueue(42)
    world.worker("-c", "1", "--pace", "30s")
    eventually(lambda: seen(world, "inspect", "42")["data"]["condition"] == "running")
    methods = asked(world, lambda: world.run(*command))
    assert methods
    assert set(methods.values()) == {1}


def test_the_overview_counts_tasks_reported_by_workers(world: World) -> None:
    for order_id in (1, 2):
        world.order(order_id, "GENERATING")
    world.worker("-c", "1", "--pace", "30s")
    world.publish(2, eta=datetime.now(UTC) + timedelta(hours=1))
    world.publish(7, task="app.tasks.other", eta=datetime.now(UTC) + timedelta(hours=1))
    eventually(lambda: seen(world, "inspect")["data"]["depth"].keys() == {"scheduled"})
    world.publish(1)
    found = eventually(
        lambda: (data := seen(world, "inspect")["data"])["depth"].keys() == {"running", "scheduled"} and data
    )
    assert [task["order_id"] for task in found["workers"][0]["active"]] == [1]
    assert found["depth"]["scheduled"]["count"] == 1
    assert found["by_condition"].keys() == {"running", "scheduled"}


def test_an_order_known_only_from_a_worker_is_not_missing(world: World) -> None:
    world.order(42, "PAID", name="Ana")
    world.publish(42)
    # The worker acknowledges a task as it takes it. Its name is untrusted, too.
    name = "w\x1b[2J\u202e[bold]日本\nforged@box"
    with odd_process(world, queue=QUEUE, tasks=[TASK], seconds=60, name=name):
        (task,) = eventually(lambda: [t for t in seen(world, "inspect", "queue")["data"]["tasks"] if t["worker"]])
        assert (task["order_id"], task["customer_name"]) == (42, "Ana")
        (order,) = seen(world, "inspect", "orders")["data"]["orders"]
        assert (order["order_id"], order["status"], order["condition"]) == (42, "PAID", "running")
        assert seen(world, "inspect")["data"]["by_condition"].keys() == {"running"}
        assert seen(world, "inspect", "orders", "--status", "building")["data"]["orders"] == []
        for command in (*EVERY_INSPECT, ["inspect", "task", task["task_id"]], ["doctor"]):
            shown = world.run(*command)
            assert all(line.isprintable() for line in (shown.stdout + shown.stderr).splitlines()), command
            assert not any(line.strip().startswith("forged") for line in shown.stdout.splitlines())


def test_without_the_database_a_task_has_no_order(world: World) -> None:
    world.publish(42)
    process = world.run("inspect", "queue", DATABASE_URL="postgresql://crm:pw@127.0.0.1:1/crm")
    assert process.returncode == 3
    assert "no such order" not in process.stdout
    assert "unknown" in process.stdout


def test_without_redis_the_queue_is_unknown_and_not_empty(world: World) -> None:
    away = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    text = world.run("inspect", **away).stdout
    assert "queue      unknown" in text
    assert "empty" not in text
    found = json.loads(world.run("inspect", "-o", "json", **away).stdout)["data"]
    assert (found["depth"], found["foreign"], found["workers"]) == (None, None, None)


async def away(*_: object, **__: object) -> Any:
    raise SourceError("it went away", source="database")


def test_a_source_lost_in_the_middle_is_reported(world: World) -> None:
    """The snapshot has been taken, and then a source that answered it no longer does."""
    world.order(42, steps=["START", "ERROR"])

    async def order(session: Session) -> OrderView:
        session = with_grace(session, timedelta(0))
        session.orders.read_log = away
        return await inspect_order(session, 42)

    async def everything(session: Session) -> Any:
        session = with_grace(session, timedelta(0))
        session.orders.log_window = away
        return await overview(session)

    view = world.with_session(order)
    assert view.unanswered == {Source.DATABASE: "it went away"}
    assert view.snapshot.diagnose(42).condition == "unstarted"
    whole = world.with_session(everything)
    assert whole.unanswered == {Source.DATABASE: "it went away"}
    assert whole.by_condition is not None


def test_several_missing_sources_are_a_list(world: World) -> None:
    down = {"DATABASE_URL": "postgresql://u@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    assert re.search(r"the \w+(, the \w+)* and the \w+ could not be read", world.run("status", **down).stdout)
