"""A connection lost during COMMIT: the result is determined, or reported as unknown."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import pytest

from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.task import Publication
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.planner import Selection
from sitegenctl.render.command import hint_text
from sitegenctl.session import Session
from tests.support.commands import Run
from tests.support.faults import LOCK, held, redis_refusing_from, refusing_redis
from tests.support.world import World


class Proxy:
    """Before PostgreSQL; cuts the connection at the nth COMMIT of a write, which it passes on or swallows."""

    def __init__(self, url: str, *, cut_at: int, passes_on: bool, back: bool) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._cut_at = cut_at
        self._passes_on = passes_on
        self._back = back
        self._commits = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = parts._replace(
            netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._listening.getsockname()[1]}"
        ).geturl()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self._commits >= self._cut_at and not self._back:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                for work in (self._to_server, self._to_client):
                    thread = threading.Thread(target=work, args=(client, server))
                    thread.start()
                    self._threads.append(thread)

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        has_written = False
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                has_written = has_written or b"INSERT INTO" in data
                if has_written and b"COMMIT" in data:
                    has_written = False
                    self._commits += 1
                    if self._commits == self._cut_at:
                        client.shutdown(socket.SHUT_RDWR)
                        if self._passes_on:
                            server.sendall(data)
                        break
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(world: World, *, cut_at: int = 1, passes_on: bool = True, back: bool = True) -> Iterator[str]:
    before = Proxy(world.database_url, cut_at=cut_at, passes_on=passes_on, back=back)
    try:
        yield before.url
    finally:
        before.close()


def test_lost_commit_that_succeeded_is_found_and_continued(world: World, run: Run) -> None:
    world.order(42)
    with proxy(world) as url:
        code, report = run("enqueue", "42", DATABASE_URL=url)
    assert (code, report["outcomes"][42]["outcome"]) == (0, "done")
    assert (world.status(), world.queued_ids()) == ("GENERATING", [report["outcomes"][42]["task_id"]])
    assert world.steps() == ["OPERATOR_ENQUEUE"]


def test_lost_commit_that_failed_is_reported(world: World, run: Run) -> None:
    world.order(42)
    with proxy(world, passes_on=False) as url:
        code, report = run("enqueue", "42", DATABASE_URL=url)
    assert code == 1
    assert report["outcomes"][42]["reason"].endswith("; nothing was changed")
    assert (world.status(), world.steps(), world.queued()) == ("BUILDING", [], [])


def test_task_without_a_readable_queue_stays_unknown(world: World, run: Run) -> None:
    world.order(42)
    with proxy(world, back=False) as url:
        code, report = run("enqueue", "42", DATABASE_URL=url)
    assert code == 1
    assert report["outcomes"][42]["reason"].startswith(
        "it is unknown whether the change was made: the connection to the database was lost"
    )
    (error,) = report["errors"]
    assert error["hint"] == "once the database responds again: sitegenctl inspect 42   (repair fixes it if needed)"
    assert world.queued() == []


@pytest.mark.parametrize("passes_on", [True, False])
def test_rollback_happens_once(world: World, run: Run, passes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    world.order(42)
    refusing = redis_refusing_from(world, Failpoint.APPLIED, monkeypatch)
    with refusing, proxy(world, cut_at=2, passes_on=passes_on) as url:
        code, report = run("enqueue", "42", DATABASE_URL=url)
    assert (code, report["outcomes"][42]["after"]) == (1, "BUILDING")
    assert (world.status(), world.steps()) == ("BUILDING", ["OPERATOR_ENQUEUE", "OPERATOR_ENQUEUE_FAILED"])


def test_locked_order_does_not_block_other_rollbacks(world: World) -> None:
    for order_id in (41, 42):
        world.order(order_id)

    async def work(session: Session) -> OperationResult:
        plan = await EnqueuePlanner().plan_all(session, Selection(order_ids=[41, 42]))
        publish = session.queue.publish

        async def locked_meanwhile(publications: Sequence[Publication]) -> Mapping[str, PublishFailure]:
            await asyncio.to_thread(locking.enter_context, held(world, LOCK, application_name="nightly-import"))
            locking.enter_context(refusing_redis(world))
            return await publish(publications)

        session.queue.publish = locked_meanwhile  # type: ignore[method-assign]
        return await execute_plan(session, plan)

    with contextlib.ExitStack() as locking:
        result = world.with_session(work, timeout="1s")
    restored, locked = result.outcomes
    assert (restored.after, world.status(41)) == ("BUILDING", "BUILDING")
    assert "BUILDING could not be restored: it is locked by another transaction: pid" in locked.reason
    assert (locked.after, hint_text(locked.hint)) == (
        "GENERATING",
        "it is GENERATING without a task; later: sitegenctl enqueue 42",
    )
    assert (world.status(42), world.steps(42)) == ("GENERATING", ["OPERATOR_ENQUEUE"])
