from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from sitegenctl.adapters.celery.events import CeleryEvents
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.domain.queue.event import Event, EventFilter
from sitegenctl.operations.events import stream
from sitegenctl.operations.follow import Notice
from sitegenctl.session import Session
from tests.support.commands import Stream, streaming
from tests.support.world import TASK, World, eventually

HOSTILE = "RuntimeError('\x1b[2J\u202eevil[bold]\nforged')"


@contextlib.contextmanager
def listening(world: World, *arguments: str, **environ: str) -> Iterator[Stream]:
    """Run the command, and begin once it receives events."""
    with world.redis() as client:
        before = client.pubsub_numpat()
        with streaming(world, "events", *arguments, **environ) as stream:
            eventually(lambda: client.pubsub_numpat() >= before + 2 or stream.process.poll() is not None)
            yield stream


def send(world: World, *events: tuple[str, dict[str, Any]], worker: str = "celery@box", prefix: str = "") -> None:
    """Send events as a worker does: those of workers one by one, those of tasks in a batch."""
    options = {"global_keyprefix": prefix} if prefix else {}
    with (
        Celery(broker=world.redis_url, broker_transport_options=options, set_as_current=False) as app,
        app.connection_for_write() as connection,
    ):
        dispatcher = app.events.Dispatcher(connection, hostname=worker, buffer_group=["task"])
        for kind, fields in events:
            dispatcher.send(kind, **fields)
        dispatcher.flush()
        dispatcher.close()


def received(task_id: str, args: str, name: str = TASK) -> tuple[str, dict[str, Any]]:
    return "task-received", {"uuid": task_id, "name": name, "args": args, "kwargs": "{}"}


def test_events_of_a_worker_have_orders_and_write_nothing(world: World) -> None:
    world.order(42)
    world.worker()
    with world.redis() as client, listening(world, "-o", "ndjson") as stream:
        before = set(client.scan_iter("_kombu*"))
        world.enqueue(42)
        stream.shows("task-succeeded")
        events = [row for row in stream.rows if row["type"].startswith("task-")]
        assert [row["type"] for row in events] == ["task-received", "task-started", "task-succeeded"]
        assert {row["order_id"] for row in events} == {42}
        assert events[0]["args"] == "[42]"
        assert {"uuid", "hostname", "timestamp", "runtime", "result"} <= set(events[-1])
        assert not any(row["type"] == "worker-heartbeat" for row in stream.rows)
        assert set(client.scan_iter("_kombu*")) == before
        assert stream.interrupt() == 130
        assert "Traceback" not in stream.notes


def test_a_task_received_before_listening_has_its_order(world: World) -> None:
    world.order(42)
    worker = world.worker(generator="gated")
    world.enqueue(42)
    eventually((world.folder / "started").exists)
    with listening(world, "--order", "42", "--type", "task-succeeded") as stream:
        world.gate.touch()
        stream.shows("task-succeeded")
        (line,) = stream.lines
        assert " 42  " in line
        assert f"at sitegenctl-{worker.pid}@" in line


def test_streaming_goes_on_after_the_connections_were_cut(world: World) -> None:
    with world.redis() as client, listening(world) as stream:
        for number in range(2):
            before = client.pubsub_numpat()
            client.client_kill_filter(_type="pubsub")
            eventually(lambda n=number: stream.notes.count("connected again") == n + 1)
            eventually(lambda b=before: client.pubsub_numpat() >= b)
            send(world, received(f"task-{number}", "[42]"))
            stream.shows(f"task-{number}"[:8])
        assert stream.notes.startswith("note: Redis can't be reached")
        assert "Traceback" not in stream.notes


def test_events_need_no_database(world: World) -> None:
    with listening(world, DATABASE_URL="") as stream:
        send(world, received("task-1", "[42]"))
        stream.shows("task-1"[:8])
        assert stream.interrupt() == 130
    assert world.run("events", REDIS_URL="").stderr.startswith("error: no Redis is configured")


def test_only_requested_events_are_shown(world: World) -> None:
    events = [
        received("a", "[42]"),
        received("b", "(43,)"),
        received("c", "[42]", name="another.task"),
        ("task-failed", {"uuid": "a", "exception": "boom"}),
        ("task-failed", {"uuid": "b", "exception": "boom"}),
        ("task-failed", {"uuid": "c", "exception": "boom"}),
        ("worker-offline", {}),
    ]
    with listening(world, "--type", "task-failed", "--type", "worker-offline", "-o", "ndjson") as stream:
        send(world, *events)
        send(world, ("worker-offline", {}), worker="last@box")
        stream.shows("last@box")
        assert [(row["type"], row["order_id"]) for row in stream.rows if "uuid" in row] == [
            ("task-failed", 42),
            ("task-failed", 43),
            ("task-failed", None),
        ]
    with listening(world, "--order", "43", "--worker", "box", "-o", "ndjson") as stream:
        send(world, *events, worker="celery@other")
        send(world, *events)
        stream.shows("task-failed")
        assert {(row["uuid"], row["hostname"]) for row in stream.rows} == {("b", "celery@box")}


def test_the_global_key_prefix_is_honoured(world: World) -> None:
    with listening(world, SITEGENCTL_GLOBAL_KEYPREFIX="crm*[1]_") as stream:
        send(world, received("other", "[1]"))
        send(world, received("ours", "[2]"), prefix="crm*[1]_")
        stream.shows("ours")
        assert "other" not in stream.out.read_text()


def test_hostile_events_keep_the_screen_whole_and_json_exact(world: World) -> None:
    failed = ("task-failed", {"uuid": "x\x1b[2J", "exception": HOSTILE, "runtime": "soon", "timestamp": "never"})
    for arguments in ([], ["-o", "ndjson"]):
        with listening(world, *arguments) as stream, world.redis() as client:
            channel = f"/{world.redis_url.rsplit('/', 1)[1]}.celeryev/task.failed"
            for garbage in (b"\xff", b"[]", b"{}", b"[" * 100_000, json.dumps({"body": "gASVAAAA"}).encode()):
                client.publish(channel, garbage)
            surrogate = base64.b64encode(b'{"type": "task-started", "uuid": "\\ud800"}').decode()
            properties = {"body_encoding": "base64"}
            client.publish(
                channel, json.dumps({"body": surrogate, "content-type": "application/json", "properties": properties})
            )
            send(world, failed)
            stream.shows("task-started", "task-failed")
            assert stream.notes.count("not an event in JSON") == 1
            if arguments:
                assert [row["uuid"] for row in stream.rows] == ["\ud800", "x\x1b[2J"]
                assert stream.rows[-1]["exception"] == HOSTILE
            else:
                assert len(stream.lines) == 2
                assert all(line.isprintable() for line in stream.lines)
                assert "[bold]" in stream.lines[-1]


def first_item(world: World) -> Event | Notice:
    """The first item of the stream, with less patience than the command has."""

    async def work(session: Session) -> Event | Notice:
        source = CeleryEvents(world.redis_url, QueueOptions(), timeout=5, idle=0.2)
        return await anext(stream(source, session.queue, EventFilter(), task_name=TASK))

    return world.with_session(work, timeout="1s")


def test_the_reason_for_missing_events_is_reported(world: World) -> None:
    assert first_item(world) == Notice(message="no worker is alive: no events until one is")
    with world.redis() as client, client.pubsub() as subscriber:
        subscriber.subscribe(f"/{urlsplit(world.redis_url).path[1:]}.celery.pidbox")
        eventually(lambda: subscriber.get_message(timeout=1))
        item = first_item(world)
    assert isinstance(item, Notice)
    assert item.message.startswith("the living worker sends no events: celery -A APP control enable_events")


def test_unreachable_redis_at_the_start_is_one_line(world: World) -> None:
    process = world.run("events", REDIS_URL="redis://:s3cret@127.0.0.1:1/0")
    assert process.returncode == 3
    assert process.stderr.startswith("error: Redis can't be reached")
    assert "s3cret" not in process.stderr
