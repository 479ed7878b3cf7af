"""One task id in several places: only the places given are removed, and no other task's process is ever signalled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sitegenctl.adapters.broker import revocation
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.session import Session
from tests.support.celery_tasks import DEPLOYED, bare_message, deliveries, held, live, revoke, revoked, start
from tests.support.fake_worker import FakeWorker, request
from tests.support.processes import Running
from tests.support.world import QUEUE, World, eventually


def in_list(task_id: str = "T", position: int | None = 0) -> LiveTask:
    return live(task_id, TaskState.QUEUED, position)


def claim(worker: str, state: TaskState = TaskState.RUNNING, task_id: str = "T", **known: Any) -> LiveTask:
    return replace(live(task_id, state), worker=worker, **known)


def tags(world: World) -> list[str]:
    """The delivery tags in the queue's lists, the next one first."""
    with world.redis() as client:
        keys = [QUEUE, *(f"{QUEUE}\x06\x16{step}" for step in (3, 6, 9))]
        messages = [json.loads(raw) for key in keys for raw in reversed(client.lrange(key, 0, -1))]
    return [message["properties"]["delivery_tag"] for message in messages]


# --- several list entries ---


@pytest.mark.parametrize("priorities", [(0, 0, 0), (0, 3, 9), (9, 0, 0)])
@pytest.mark.parametrize("number", [1, 2])
def test_entries_furthest_from_delivery_are_removed(world: World, priorities: Sequence[int], number: int) -> None:
    for priority in priorities:
        world.publish(1, task_id="T", priority=priority)
        world.publish(2, priority=priority)
    before = tags(world)
    with world.redis() as client:
        ours = [
            tag
            for tag in before
            if any(
                tag.encode() in raw and b'"T"' in raw
                for key in client.keys("site*")
                for raw in client.lrange(key, 0, -1)
            )
        ]
    assert revoke(world, [in_list()] * number, keep={"T"}) == {}
    gone = ours[len(ours) - number :]
    assert tags(world) == [tag for tag in before if tag not in gone]


@pytest.mark.parametrize("position", [0, None], ids=["read as a whole", "read for some orders"])
def test_one_of_identical_entries_stays(world: World, position: int | None) -> None:
    world.publish(1, task_id="T")
    with world.redis() as client:
        raw = client.lrange(QUEUE, 0, 0)[0]
        client.lpush(QUEUE, raw, raw)
    assert revoke(world, [in_list(position=position)] * 2, keep={"T"}) == {}
    assert world.queued_ids() == ["T"]
    # A second operator with the same intention is too late, and must not remove the last copy.
    left = revoke(world, [in_list(position=position)] * 2, keep={"T"})
    assert "no longer in the queue" in left["T"]
    assert world.queued_ids() == ["T"]


def test_copies_are_found_far_apart_in_a_long_queue(world: World) -> None:
    world.publish(1, task_id="T")
    with world.redis() as client:
        raw = client.lrange(QUEUE, 0, 0)[0]
        others = [bare_message(f"t{number}") for number in range(5000)]
        client.lpush(QUEUE, *others)
        client.lpush(QUEUE, raw)
        assert revoke(world, [in_list()], keep={"T"}) == {}
        assert client.lpos(QUEUE, raw, count=0) == [5000]
        client.lpush(QUEUE, raw)
        assert revoke(world, [in_list()] * 2) == {}
        assert client.lpos(QUEUE, raw, count=0) == []
        assert client.llen(QUEUE) == 5000


# --- places at workers that answer as a test wants it ---


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "REVOKE_TIMEOUT", 1.0)


class Listening(FakeWorker):
    """Records the arguments of revoke requests."""

    def __init__(self, world: World, answers: Mapping[str, Any]) -> None:
        super().__init__(world, {"revoke": self._revoke, **answers})
        self.revoked: list[Mapping[str, Any]] = []

    def _revoke(self, _: Redis, arguments: Mapping[str, Any]) -> dict[str, str]:
        self.revoked.append(arguments)
        return {"ok": "done"}


def active(task_id: str, pid: int | None = 4711, started: float = 1000.0, order_id: int = 1) -> dict[str, Any]:
    return {**request(task_id, order_id), "worker_pid": pid, "time_start": started}


TWO = {
    "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2, "processes": [4711, 4712]}
}


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        pytest.param(
            [active("T"), active("Y", started=2000.0)],
            "worker fake@box reports task T at process 4711, which is running task Y: nothing was stopped",
            id="an older claim on the process of another",
        ),
        pytest.param(
            [active("Y"), active("T", started=2000.0)],
            "worker fake@box reports task T at process 4711, which is running task Y: nothing was stopped",
            id="a newer claim on the process of another",
        ),
        pytest.param(
            [active("T"), {**active("Y"), "name": "app.tasks.send_invoice"}],
            "which is running task Y",
            id="the process of another program's task",
        ),
        pytest.param(
            [active("T"), {**active("Y"), "id": ["Y"]}],
            "which is running task without an id",
            id="an id that is no text",
        ),
        pytest.param([active("T", pid=None)], "reports task T at no process", id="no process"),
        pytest.param([active("T", pid=99)], "at process 99, which is not one of its pool", id="not of the pool"),
        pytest.param([active("T"), active("T", pid=4712)], "reports task T 2 times", id="twice at one worker"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
def test_no_process_is_signalled_that_may_run_something_else(
    world: World, listed: list[Any], reason: str, keep: bool
) -> None:
    world.publish(1, task_id="T")
    world.deliver()
    given = [claim("fake@box")]
    with Listening(world, {"active": listed, "stats": TWO}) as worker:
        left = revoke(world, given, terminate=True, keep={"T"} if keep else ())
        assert worker.revoked == []  # it may be running, and would be dropped at its next retry
    assert reason in left["T"] or "cannot be stopped safely" in left["T"]
    assert held(world) == (1, 1)


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ([active("T"), active("Y", started=2000.0)], "which is running task Y"),
        ([active("T", pid=4712)], "now runs task T at another process"),
        ([], "does not report task T as running: nothing was stopped"),
        ([active("Y")], "does not report task T as running: nothing was stopped"),
    ],
)
def test_claim_is_read_again_before_the_signal(world: World, later: list[Any], reason: str) -> None:
    world.publish(1, task_id="T")
    world.deliver()

    def look(_client: Redis, _: Mapping[str, Any]) -> list[Any]:
        # The first reading decides, the second follows the revoke, and the third is the last before the signal.
        return [active("T")] if worker.asked.count("active") < 3 else later

    with Listening(world, {"active": look, "stats": TWO}) as worker:
        left = revoke(world, [claim("fake@box")], terminate=True)
        assert all("signal" not in arguments for arguments in worker.revoked)
    assert reason in left["T"]
    assert held(world) == (1, 1)


def test_claim_with_a_changed_process_is_left(world: World) -> None:
    with Listening(world, {"active": [active("T")], "stats": TWO}) as worker:
        left = revoke(world, [claim("fake@box", pid=4712)], terminate=True)
        assert all("signal" not in arguments for arguments in worker.revoked)
    assert "now runs task T at another process" in left["T"]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "REVOKED"])
def test_claim_on_a_finished_task_is_not_signalled(world: World, status: str) -> None:
    with world.redis() as client:
        client.set("celery-task-meta-T", json.dumps({"status": status, "result": None}))
    with Listening(world, {"active": [active("T")], "stats": TWO}) as worker:
        left = revoke(world, [claim("fake@box")], terminate=True)
        assert all("signal" not in arguments for arguments in worker.revoked)
    assert f"which has the result {status} and no message: nothing was stopped" in left["T"]


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("result", [None, "no JSON", '{"status": ["SUCCESS"]}', '{"status": "RETRY"}'])
def test_claim_without_a_final_result_is_stopped(world: World, result: str | None) -> None:
    with world.redis() as client:
        if result is not None:
            client.set("celery-task-meta-T", result)
    with Listening(world, {"active": [active("T")], "stats": TWO}) as worker:
        revoke(world, [claim("fake@box")], terminate=True)
        assert [arguments.get("signal") for arguments in worker.revoked] == [None, "SIGKILL"]


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("listed", ["reserved", "nowhere"])
def test_task_running_by_its_log_is_not_reserved(world: World, terminate: bool, keep: bool, listed: str) -> None:
    """After a lost connection a worker lists a running task as reserved, or not at all."""
    world.publish(1, task_id="T")
    world.deliver()
    answers = {"reserved": [request("T")], "active": [active("Y")]} if listed == "reserved" else {}
    with Listening(world, answers) as worker:
        left = revoke(world, [claim("fake@box")], terminate=terminate, keep={"T"} if keep else ())
        assert worker.revoked == []
    expected = "it cannot be stopped safely" if terminate else "task T started at fake@box"
    assert expected in left["T"]
    assert held(world) == (1, 1)


def test_worker_with_the_kept_place_revokes_neither(world: World) -> None:
    busy = {"active": [active("Y")], "reserved": [request("T"), request("T")]}
    with Listening(world, busy) as worker:
        left = revoke(world, [claim("fake@box", TaskState.RESERVED)], keep={"T"})
        assert worker.revoked == []
    assert "fake@box also has the place of task T that is kept" in left["T"]


def test_reserved_copy_of_a_running_task_is_revoked(world: World) -> None:
    """As when it was redelivered to its own worker: the only one there is."""
    _, copy = (world.publish(1, task_id="T"), world.publish(1, task_id="T"))
    first, second = deliveries(world, world.deliver, world.deliver)
    with Listening(world, {"active": [active("T")], "reserved": [request(copy)]}) as worker:
        given = replace(second, state=TaskState.RESERVED, worker="fake@box")
        assert revoke(world, [given], keep={"T"}) == {}
        assert worker.revoked == [{"task_id": ["T"]}]
    with world.redis() as client:
        assert client.hkeys("unacked") == [str(first.delivery).encode()]


def test_task_started_while_another_is_revoked_is_left(world: World) -> None:
    """Revoking it would drop it at its next retry."""
    busy: dict[str, list[Any]] = {"active": [active("Y")], "reserved": [request("copy"), request("T", 2)]}

    def revoke_and_start(client: Redis, arguments: Mapping[str, Any]) -> dict[str, str]:
        if arguments["task_id"] == ["copy"]:
            busy["active"], busy["reserved"] = [active("T", order_id=2)], []
        return worker._revoke(client, arguments)

    for task_id in ("copy", "copy"):
        world.publish(1, task_id=task_id)
    _, delivery = deliveries(world, world.deliver, world.deliver)
    copy = replace(delivery, state=TaskState.RESERVED, worker="fake@box")
    answers = {name: lambda *_, name=name: busy[name] for name in busy}
    with Listening(world, {**answers, "revoke": revoke_and_start}) as worker:
        left = revoke(world, [copy, claim("fake@box", TaskState.RESERVED)], keep={"copy"})
        assert worker.revoked == [{"task_id": ["copy"]}]
    assert "task T started at fake@box" in left["T"]


def test_ended_tasks_do_not_make_a_worker_busy(world: World) -> None:
    """What it has reserved is about to start then, whatever it lists as active."""
    ended = {"active": [active("Y"), active("Z", started=2000.0)], "reserved": [request("T")], "stats": TWO}
    world.publish(1, task_id="T")
    world.deliver()
    with Listening(world, ended), pytest.MonkeyPatch.context() as patch:
        patch.setattr(revocation, "REVOKE_TIMEOUT", 0.3)
        left = revoke(world, [claim("fake@box", TaskState.RESERVED)])
    assert "is about to start at fake@box" in left["T"]


def test_superseded_claim_does_not_keep_an_orphan(world: World) -> None:
    world.publish(1, task_id="T")
    (orphan,) = deliveries(world, world.deliver)
    with FakeWorker(world, {"active": [active("T"), active("Y", started=2000.0)], "stats": TWO}):
        assert revoke(world, [orphan]) == {}
    assert held(world) == (0, 0)


# --- real workers ---


@pytest.fixture
def gate(world: World) -> Iterator[Path]:
    folder = world.folder
    yield folder / "gate"
    (folder / "gate").touch()


Claims = set[tuple[str, str, TaskState]]


def claims(world: World) -> Claims:
    """The tasks of each worker, including those that it will drop."""

    async def ask(session: Session) -> Claims:
        replies = await CeleryWorkers(world.redis_url, QueueOptions(), timeout=5).ask(
            ["active", "reserved", "scheduled"]
        )
        return {
            (name, entry.get("request", entry)["id"], state)
            for name, given in replies.answers.items()
            for method, state in (
                ("active", TaskState.RUNNING),
                ("reserved", TaskState.RESERVED),
                ("scheduled", TaskState.SCHEDULED),
            )
            for entry in given[method]
        }

    return world.with_session(ask)


def processes(world: World) -> dict[str, int]:
    """The process that runs a task, by worker."""

    async def ask(session: Session) -> dict[str, int]:
        replies = await CeleryWorkers(world.redis_url, QueueOptions(), timeout=5).ask(["active"])
        return {name: given["active"][0]["worker_pid"] for name, given in replies.answers.items() if given["active"]}

    return world.with_session(ask)


def name_of(world: World, worker: Running) -> str:
    """The name of a worker; one of another interpreter is started by a process of its own."""
    (name,) = (name for name in world.worker_names() if f"-{worker.pid}@" in name)
    return name


def running(world: World, order_id: int, task_id: str) -> str:
    """Publish a task and wait until an idle worker runs it; returns the name of the worker."""
    before = claims(world)
    world.publish(order_id, task_id=task_id)
    eventually(lambda: [each for each in claims(world) - before if each[1:] == (task_id, TaskState.RUNNING)])
    eventually(lambda: "START" in world.steps(order_id))
    ((name, *_),) = claims(world) - before
    return name


@pytest.mark.parametrize("python", [None, DEPLOYED], ids=["this", "deployed"])
def test_task_running_at_two_workers_is_stopped_at_one(world: World, gate: Path, python: Path | None) -> None:
    # Two orders, because the reference worker generates one order once at a time.
    for order_id in (1, 2):
        world.order(order_id, "GENERATING")
        start(world, python)
    kept = running(world, 1, "T")
    other = running(world, 2, "T")
    pids = processes(world)
    given = claim(other, pid=pids[other])
    assert "started at" in revoke(world, [given], keep={"T"})["T"]
    assert processes(world) == pids

    assert revoke(world, [given], keep={"T"}, terminate=True) == {}
    assert claims(world) == {(kept, "T", TaskState.RUNNING)}
    assert Path(f"/proc/{pids[kept]}").exists()
    assert not Path(f"/proc/{pids[other]}").exists()
    gate.touch()
    eventually(lambda: world.status(1) == "REVIEW")
    assert (world.status(2), world.steps(2).count("START")) == ("GENERATING", 1)
    eventually(lambda: held(world) == (0, 0))


@pytest.mark.parametrize("python", [None, DEPLOYED], ids=["this", "deployed"])
def test_copy_at_another_worker_is_revoked_there_only(world: World, gate: Path, python: Path | None) -> None:
    world.order(1, "GENERATING")
    start(world, python)
    kept = running(world, 1, "T")
    other = name_of(world, start(world, python))
    # The first worker takes no more while it runs one.
    world.publish(1, task_id="T", countdown=3600)
    eventually(lambda: (other, "T", TaskState.SCHEDULED) in claims(world))
    with world.redis() as client:
        scheduled = max(client.zrange("unacked_index", 0, -1, withscores=True), key=lambda entry: entry[1])[0].decode()
    given = replace(claim(other, TaskState.SCHEDULED), delivery=scheduled)
    assert revoke(world, [given], keep={"T"}) == {}
    assert revoked(world) == {"T"}
    assert revoked_at(world, kept) == []
    assert held(world) == (1, 1)
    gate.touch()
    eventually(lambda: world.status(1) == "REVIEW")
    assert world.steps(1).count("START") == 1
    eventually(lambda: held(world) == (0, 0))


def revoked_at(world: World, worker: str) -> list[str]:
    async def ask(session: Session) -> list[str]:
        workers = CeleryWorkers(world.redis_url, QueueOptions(), timeout=5)
        return (await workers.ask(["revoked"], destination=[worker])).answers[worker]["revoked"]

    return world.with_session(ask)


def test_only_the_orphaned_delivery_is_dropped(world: World, gate: Path) -> None:
    world.order(1, "GENERATING")
    start(world)
    worker = running(world, 1, "T")
    with world.redis() as client:
        (kept,) = client.hkeys("unacked")
    world.publish(1, task_id="T")
    (orphan,) = deliveries(world, world.deliver)
    assert held(world) == (2, 2)
    assert revoke(world, [orphan], keep={"T"}) == {}
    with world.redis() as client:
        assert client.hkeys("unacked") == [kept]
    assert (claims(world), revoked(world)) == ({(worker, "T", TaskState.RUNNING)}, set())
    # One delivery and one claim: it is the claim's, whatever the plan believed.
    mistaken = replace(orphan, delivery=kept.decode(), delivered_at=None)
    assert "its worker responds again" in revoke(world, [mistaken], keep={"T"})["T"]
    gate.touch()
    eventually(lambda: world.status(1) == "REVIEW")
    assert world.steps(1).count("START") == 1
    eventually(lambda: held(world) == (0, 0))
