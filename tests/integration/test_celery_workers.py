"""Surveys of workers with invalid replies: nothing is concluded from them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sitegenctl.adapters.celery.control import LATE_REPLY, Replies
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.celery.workload import QUESTIONS, Workload, running
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.domain.queue.task import LiveTask, TaskState
from tests.support.commands import Run
from tests.support.doctor_stage import odd_process
from tests.support.fake_worker import IDLE, FakeWorker, request
from tests.support.faults import faulty_orders
from tests.support.world import QUEUE, TASK, Log, World, eventually


def ask(world: World, *methods: str, timeout: float = 5, **how: Any) -> Replies:
    return asyncio.run(CeleryWorkers(world.redis_url, QueueOptions(), timeout=timeout).ask(methods, **how))


def test_error_reply_does_not_mean_idle(world: World) -> None:
    with odd_process(world, queue=QUEUE, tasks=[TASK], options={"acks_late": True}, broken_methods=["scheduled"]):
        eventually(lambda: ask(world, "ping").answers)
        world.order(1, "GENERATING")
        task_id = world.publish(1, countdown=3600)
        eventually(lambda: not world.queued())
        survey = world.with_session(lambda session: session.queue.survey())
        assert (survey.workers, survey.silent) == ((), 1)
        # The worker has the task and cannot report it: taking it for orphaned would run it twice.
        order = json.loads(world.run("inspect", "1", "-o", "json").stdout)["data"]
        assert order["condition"] == "unknown"
        assert [task["task_id"] for task in order["tasks"]] == [task_id]
        assert world.run("inspect", "workers").stdout.splitlines()[0] == "0 workers respond, 1 does not: odd@crm"


SILENT = dict.fromkeys(IDLE)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times in seconds that Redis was asked to wait for a reply, where none came."""
    unanswered: list[float] = []
    execute = Connection.execute

    async def recorded(self: Connection, *commands: Command, **options: Any) -> list[Any]:
        replies = await execute(self, *commands, **options)
        unanswered.extend(float(command[-1]) for command in commands if command[0] == "BRPOP" and replies == [None])
        return replies

    monkeypatch.setattr(Connection, "execute", recorded)
    return unanswered


async def test_silent_worker_is_waited_for_once(world: World, waits: list[float]) -> None:
    answers: dict[str, Any] = dict(SILENT)
    workers = CeleryWorkers(world.redis_url, QueueOptions(), timeout=2)
    with FakeWorker(world, {}, name="a@box"), FakeWorker(world, answers, name="b@box") as late:
        assert (await workers.survey()).silent == 1
        assert waits.pop() > LATE_REPLY
        for _ in range(3):
            survey = await workers.survey()
            assert (len(survey.workers), survey.silent) == (1, 1)
        assert len(waits) == 3
        assert max(waits) <= LATE_REPLY
        # A request that is not a survey waits the whole time, as those before a change do.
        waits.clear()
        assert (await workers.ask(["active"])).unresponsive == 1
        assert max(waits) > LATE_REPLY

        # It is asked each time: once it responds, it counts, and is waited for again.
        late.answers.update(IDLE)
        assert (await workers.survey()).silent == 0
        late.answers.update(SILENT)
        waits.clear()
        assert (await workers.survey()).silent == 1
        assert max(waits) > LATE_REPLY


async def test_new_claims_are_seen_beside_a_silent_worker(world: World) -> None:
    workers = CeleryWorkers(world.redis_url, QueueOptions(), timeout=2)
    with FakeWorker(world, {}, name="a@box") as living, FakeWorker(world, SILENT, name="b@box"):
        await workers.survey()
        living.answers["active"] = [request("T")]
        ((worker,), silent) = (survey := await workers.survey()).workers, survey.silent
        assert ([task.task_id for task in worker.tasks], silent) == (["T"], 1)


@pytest.mark.parametrize("with_faults", [False, True], ids=["idle", "with faults"])
def test_maintain_waits_once_for_a_silent_worker(world: World, run: Run, waits: list[float], with_faults: bool) -> None:
    if with_faults:
        faulty_orders(world)
    with FakeWorker(world, SILENT):
        assert run("maintain", "--timeout", "2s")[0] == (4 if with_faults else 0)
    # A task is revoked: before, meanwhile and afterwards it is waited for as long as ever.
    assert sum(wait > LATE_REPLY for wait in waits) == (4 if with_faults else 1)


def test_unknown_method_is_rejected_with_its_error(world: World) -> None:
    world.worker("-c", "1")
    replies = ask(world, "ping", "no_such_method")
    assert replies.answers == {}
    assert (replies.unresponsive, replies.unknown) == (0, 1)
    assert list(replies.rejected.values()) == ["KeyError('no_such_method')"]


@contextlib.contextmanager
def answering(world: World, *replies: str) -> Iterator[None]:
    """A client that pushes exactly these replies to the reply list; ``{}`` is the ticket."""
    with world.redis() as client:
        listening = client.pubsub()
        listening.subscribe(f"/{parse_url(world.redis_url).database}.celery.pidbox")
        listening.get_message(timeout=5)

        def answer() -> None:
            asked = listening.get_message(timeout=10)
            assert asked is not None
            request = json.loads(base64.b64decode(json.loads(asked["data"])["body"]))
            for reply in replies:
                where = f"{request['reply_to']['routing_key']}.reply.celery.pidbox"
                client.lpush(where, reply.replace("TICKET", request["ticket"]))

        answerer = threading.Thread(target=answer)
        answerer.start()
        yield
        answerer.join()
        listening.close()


def reply(body: object, ticket: object = "TICKET") -> str:
    return json.dumps(
        {"body": base64.b64encode(json.dumps(body).encode()).decode(), "headers": {"ticket": ticket}, "properties": {}}
    )


@pytest.mark.parametrize(
    "raw",
    [
        "not json",
        "[]",
        '{"body": "!", "headers": {"ticket": "TICKET"}}',
        '{"body": "gAR9lC4=", "headers": {"ticket": "TICKET"}, "content-type": "application/x-python-serialize"}',
        '{"body": ""}',
        reply([1]),
        reply({"odd@box": []}, ticket="another"),
        reply({"odd@box": []}, ticket=None),
    ],
)
def test_unreadable_reply_counts_as_none(world: World, raw: str) -> None:
    with answering(world, raw):
        replies = ask(world, "active")
    assert (replies.answers, replies.unknown) == ({}, 1)
    with world.redis() as client:
        assert [key for key in client.scan_iter() if b"reply" in key] == []


ODD: list[object] = [
    *(None, True, 0, -1, 10**30, 1.5, float("inf"), float("nan"), "", "text", "\0", "\ud800", [], {}),
    *([None], [[1]], [{}], [{"id": [1]}], {"error": {}}, {"ok": []}, {"id": {"a": 1}}),
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_any_json_reply_is_read(world: World, odd: object) -> None:
    """Wherever a worker, or another program with the same channel, may put it."""
    entry = {"id": odd, "name": odd, "args": odd, "kwargs": odd, "worker_pid": odd, "time_start": odd, "eta": odd}
    answers = {"active": [entry, odd], "reserved": odd, "scheduled": [{"request": entry}], "stats": {"pool": odd}}
    given = LiveTask(task_id="T", name="t", order_id=1, state=TaskState.ORPHANED)
    with FakeWorker(world, answers), FakeWorker(world, {"stats": odd, "active": [odd]}, name="other@box"):
        replies = ask(world, *QUESTIONS, timeout=0.8)
        assert Workload.of(replies).claims("T") == ()
        with_queue = {"timeout": "800ms"}
        world.with_session(lambda session: session.queue.revoke([given], terminate=True), **with_queue)
        world.with_session(lambda session: session.queue.requeue([given]), **with_queue)


@pytest.mark.parametrize(
    ("name", "shown"), [("\0", "\\x00"), ("\ud800", "\\ud800"), ("a\nb", "a\nb"), ("\x1b[2J", "\x1b[2J")]
)
def test_worker_with_any_name_is_read(world: World, name: str, shown: str) -> None:
    """Celery takes any; what no text may hold is escaped, and what no terminal should be sent is for the screens."""
    with answering(world, reply({name: []})):
        replies = ask(world, "active", timeout=1)
    assert (replies.answers, replies.unknown) == ({shown: {"active": []}}, 0)


def test_reply_without_a_name_is_ignored(world: World) -> None:
    with answering(world, reply({"": []})):
        replies = ask(world, "active", timeout=1)
    assert (replies.answers, replies.unknown) == ({}, 1)


def test_two_workers_with_one_name_reply_twice(world: World) -> None:
    with FakeWorker(world, {"active": [request("a")]}), FakeWorker(world, {"active": [request("b")]}):
        replies = ask(world, *QUESTIONS)
        workload = Workload.of(replies)
    assert (replies.unresponsive, replies.shared) == (0, {"fake@box"})
    assert all(running(workload.claims(task_id)) for task_id in ("a", "b"))
    assert "several workers are named fake@box" in str(workload.why_not_stop("a", "fake@box"))


# What an idle worker answers to all questions.
_SHOWN: dict[str, Any] = {"active_queues": [{"name": QUEUE}], "registered": [TASK], "report": {"ok": ""}, "conf": {}}


def test_unresponsive_namesake_is_counted(world: World) -> None:
    with FakeWorker(world, {"active": [request("a")]}), FakeWorker(world, {"active": None}):
        replies = ask(world, "active", timeout=1)
    assert (list(replies.answers), replies.unresponsive) == (["fake@box"], 1)


@pytest.mark.parametrize("command", ["inspect", "inspect workers", "doctor"])
@pytest.mark.parametrize("second", [{}, {"active": None}], ids=["responding", "partly silent"])
def test_workers_with_one_name_are_reported(world: World, command: str, second: dict[str, Any]) -> None:
    with FakeWorker(world, _SHOWN), FakeWorker(world, _SHOWN | second):
        ran = world.run(*command.split(), "--timeout", "1s")
    assert "several workers have the node name fake@box" in ran.stdout


@pytest.mark.parametrize("command", ["inspect", "inspect workers", "doctor"])
@pytest.mark.parametrize(
    "answers",
    [{"active": None}, {"active": {"error": "broken"}}, dict.fromkeys((*IDLE, *_SHOWN, "conf"))],
    ids=["partly", "with an error", "not at all"],
)
def test_silent_worker_is_named(world: World, command: str, answers: dict[str, Any]) -> None:
    with world.redis() as client:  # as every worker binds its queue
        for name in ("fake@box", "mute@box"):
            client.sadd("_kombu.binding.celery.pidbox", f"\x06\x16\x06\x16{name}.celery.pidbox")
    with FakeWorker(world, _SHOWN), FakeWorker(world, _SHOWN | answers, name="mute@box"):
        ran = world.run(*command.split(), "--timeout", "1s")
    assert re.search(r"(respond|no response|does not).*: mute@box", ran.stdout + ran.stderr)
    assert "node name" not in ran.stdout


@pytest.mark.parametrize("command", ["inspect", "inspect workers", "doctor"])
@pytest.mark.parametrize(
    ("dead", "named"),
    [
        (("dead@box",), "one of dead@box, mute@box"),
        # No host of these is connected, which the client list shows.
        (("dead@192.0.2.1", "dead@192.0.2.2"), "mute@localhost"),
        # As after many deployments, each with host names of its own.
        (tuple(f"dead{number}@box" for number in range(6)), None),
    ],
    ids=["perhaps", "by its address", "too many"],
)
def test_silent_worker_is_not_confused_with_dead_ones(
    world: World, command: str, dead: Sequence[str], named: str | None
) -> None:
    mute = named if named and "one of" not in named else "mute@box"
    with world.redis() as client:
        for name in ("fake@box", mute, *dead):
            client.sadd("_kombu.binding.celery.pidbox", f"\x06\x16\x06\x16{name}.celery.pidbox")
    with FakeWorker(world, _SHOWN), FakeWorker(world, dict.fromkeys(_SHOWN | IDLE), name=mute):
        ran = world.run(*command.split(), "--timeout", "1s")
    found = re.findall(r"(?:does not|no response|did not respond within .*?s)(?:: (.*))?$", ran.stdout, re.MULTILINE)
    assert found == [named or ""]


def test_silent_worker_is_named_by_its_earlier_reply(world: World) -> None:
    answers: dict[str, Any] = dict(_SHOWN)
    workers = CeleryWorkers(world.redis_url, QueueOptions(), timeout=2)
    with world.redis() as client:
        for name in ("dead@box", "mute@box"):
            client.sadd("_kombu.binding.celery.pidbox", f"\x06\x16\x06\x16{name}.celery.pidbox")
    with FakeWorker(world, answers, name="mute@box") as worker:
        assert asyncio.run(workers.worker_details()).silent_names == ()
        worker.answers = dict.fromkeys(IDLE | _SHOWN)
        assert asyncio.run(workers.worker_details()).silent_names == ("mute@box",)


def test_argument_of_another_task_is_no_order(world: World) -> None:
    other = {**request("t2", 7), "name": "app.tasks.send_invoice"}
    answers = {"active": [request("t1", 42), other], "scheduled": [{"request": other}]}
    with FakeWorker(world, {**answers, "active_queues": [], "registered": [], "report": {"ok": ""}}):
        (worker,) = world.with_session(lambda session: session.workers.worker_details(), timeout="2s").workers
    assert [(task.task_id, task.order_id) for task in (*worker.active, *worker.scheduled)] == [
        ("t1", 42),
        ("t2", None),
        ("t2", None),
    ]


def test_reply_of_another_shape_is_read_in_part(world: World) -> None:
    odd = [None, 1, {"request": 7}, {"id": "t", "name": "other", "time_start": "soon", "args": {}, "eta": 3}]
    with answering(world, reply({"odd@box": odd})):
        assert ask(world, "active").answers == {"odd@box": {"active": odd}}


def test_reserved_task_whose_log_shows_progress_is_running(world: World, log: Log) -> None:
    """A worker that reconnects gets its task delivered again, and lists it as reserved while it runs."""
    world.order(42, "GENERATING")
    world.publish(42, task_id="T")
    world.deliver(ago=30)
    log.rows(42, [("START", 60), ("WRITE_PROGRESS", 10)])
    with FakeWorker(world, _SHOWN | {"reserved": [request("T", 42)]}):
        shown = world.run("inspect", "42").stdout
    assert shown.startswith("order 42  RUNNING")
