"""Broker URLs of deployments, for sitegenctl and for a worker's kombu, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from celery import Celery
from hiredis import pack_command
from redis import Redis

from sitegenctl.adapters.celery.backend import CeleryBackend
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.redis.blocking import blocking_client
from sitegenctl.adapters.redis.connection import open_connection
from sitegenctl.domain.queue.task import BrokerReading, TaskDetails
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.errors import SourceError, Unreachable, UsageProblem
from sitegenctl.session import open_session
from tests.support.servers import Certificates, free_port, server
from tests.support.world import QUEUE, TASK, World, eventually


def test_sentinels_without_a_master_name_name_the_setting() -> None:
    queue = CeleryQueue("sentinel://127.0.0.1:1", QueueOptions(), timeout=1)
    for call in (queue.read, queue.survey):
        with pytest.raises(UsageProblem) as caught:
            asyncio.run(call())
        assert "SENTINEL_MASTER" in (caught.value.hint or "")


def check(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real worker and this console meet at this URL, and Celery's messages there are read."""
    world.redis_url = url
    monkeypatch.setenv("REDIS_URL", url)
    world.order(1)
    broker, transport_options, result_options = CeleryBackend(world.settings()).kombu_options()
    with Celery(
        broker=broker,
        backend=broker,
        broker_transport_options=transport_options,
        result_backend_transport_options=result_options,
        set_as_current=False,
    ) as app:
        sent = str(app.send_task(TASK, args=[1], queue=QUEUE).id)
        assert [task.task_id for task in read(world).tasks] == [sent]
        world.worker("-c", "1")

        def details() -> TaskDetails | None:
            found = world.with_session(lambda session: session.queue.task_details(sent))
            return found if found is not None and found.result is not None else None

        # A message that a worker is taking is neither in the queue nor delivered.
        assert eventually(details).order_id == 1
        eventually(lambda: not read(world).tasks)
    asyncio.run(measure(world))


async def measure(world: World) -> None:
    """The check-up, too, sees Redis and the worker there."""
    async with open_session(world.settings(), "test") as session:
        probe = session.probes.broker
        facts = await probe.facts()
        assert facts.connections is not None
        assert facts.connections[facts.database].may_be_workers
        assert (facts.role, facts.saves, facts.policy) == ("master", "", "noeviction")
        assert (await probe.head()).depth == (await probe.messages()).total == 0
        assert (await probe.leftovers()).bindings == 0
        (worker,) = (await probe.workers()).workers
        assert worker.queues == (QUEUE,)


def read(world: World) -> BrokerReading:
    return world.with_session(lambda session: session.queue.read())


def survey(world: World) -> WorkerSurvey:
    return world.with_session(lambda session: session.queue.survey())


CALLS = pytest.mark.parametrize("call", [read, survey])


def test_unix_socket(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--requirepass", "pw", "--save", ""]
    with server(*arguments, url=f"unix://:pw@{path}"):
        check(world, f"redis+socket://:pw@{path}?virtual_host=3", monkeypatch)
        with Redis.from_url(f"unix://:pw@{path}?db=3") as client:
            assert client.keys("celery-task-meta-*")
        world.close()


def test_sentinels(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, watcher = free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {watcher}\nbind 127.0.0.1\nrequirepass secret\n"
        f"sentinel monitor orders 127.0.0.1 {port} 1\nsentinel auth-pass orders pw\n"
    )
    monkeypatch.setenv("SITEGENCTL_SENTINEL_MASTER", "orders")
    monkeypatch.setenv("SITEGENCTL_SENTINEL_PASSWORD", "secret")
    with (
        server("--port", str(port), "--requirepass", "pw", "--save", "", url=f"redis://:pw@127.0.0.1:{port}"),
        server(str(config), "--sentinel", url=f"redis://:secret@127.0.0.1:{watcher}"),
    ):
        url = f"sentinel://:pw@127.0.0.1:{watcher}/2"
        check(world, url, monkeypatch)
        world.close()
        # The first is down: the second is asked.
        world.redis_url = f"sentinel://:pw@127.0.0.1:{free_port()}/2;{url}"
        assert (read(world).tasks, survey(world).workers) == ((), ())
        with blocking_client(world.redis_url, sentinel_master="orders", sentinel_password="secret") as client:
            assert client.role()[0] == b"master"
        monkeypatch.setenv("SITEGENCTL_SENTINEL_MASTER", "unknown")
        for call in (read, survey):
            with pytest.raises(SourceError, match="can't be reached"):
                call(world)


@contextlib.asynccontextmanager
async def sentinel_that_names(port: int) -> AsyncIterator[str]:
    """The address of a stand-in for a sentinel. Its reply to every command is this port."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(pack_command((b"127.0.0.1", str(port).encode())))
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as listening:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("acl", ["+@all", "+@all -@dangerous"])
async def test_replica_that_a_stale_sentinel_names_is_not_read(tmp_path: Path, acl: str) -> None:
    master, replica = free_port(), free_port()
    arguments = ["--save", "", "--dir", str(tmp_path), "--user", *f"clerk on >pw ~* &* {acl}".split()]
    with (
        server("--port", str(master), *arguments, url=f"redis://127.0.0.1:{master}"),
        server(
            "--port",
            str(replica),
            *arguments,
            "--replicaof",
            "127.0.0.1",
            str(master),
            url=f"redis://127.0.0.1:{replica}",
        ),
    ):
        async with sentinel_that_names(replica) as stale, sentinel_that_names(master) as current:
            options = QueueOptions(sentinel_master="orders")
            url = f"sentinel://clerk:pw@{stale}/1"
            async with open_connection(url, options, timeout=20) as connection:
                with pytest.raises(
                    Unreachable, match=f"sentinel {stale} names 127.0.0.1:{replica}, but its role is (slave|replica)$"
                ):
                    await connection.execute(("LLEN", QUEUE))
            async with open_connection(f"{url};sentinel://clerk:pw@{current}", options, timeout=20) as connection:
                await connection.execute(("RPUSH", QUEUE, "message"))
                assert await connection.execute(("LLEN", QUEUE)) == [1]


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cert_reqs", ["ssl_cert_reqs=required", "ssl_cert_reqs=CERT_REQUIRED", ""])
def test_tls_with_certificates(
    world: World, tls: str, certificates: Certificates, cert_reqs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    url = f"{tls}{own}&ssl_ca_certs={certificates.certificate}&{cert_reqs}"
    if cert_reqs == "ssl_cert_reqs=CERT_REQUIRED":
        check(world, url, monkeypatch)
        return
    world.redis_url = url
    assert (read(world).tasks, survey(world).workers) == ((), ())


def test_tls_without_verifying(world: World, tls: str, certificates: Certificates) -> None:
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    world.redis_url = f"{tls}{own}&ssl_cert_reqs=none&ssl_check_hostname=false"
    assert (read(world).tasks, survey(world).workers) == ((), ())


@CALLS
@pytest.mark.parametrize("missing", ["authority", "own"])
def test_missing_certificate_is_reported_in_one_line(
    world: World, tls: str, certificates: Certificates, missing: str, call: Callable[[World], object]
) -> None:
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    authority = f"ssl_ca_certs={certificates.certificate}"
    world.redis_url = tls + (own if missing == "authority" else authority)
    with pytest.raises(SourceError, match="can't be reached") as caught:
        call(world)
    assert "\n" not in caught.value.message
