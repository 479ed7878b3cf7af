"""What shows that workers are there, or were, where none responds to remote control: real workers of both versions."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.domain.queue.worker import WorkerSurvey
from tests.support.world import QUEUE, eventually

DEPLOYED = Path(__file__).parents[2] / ".venv-deployed" / "bin" / "python"
PYTHONS = pytest.mark.parametrize("python", [sys.executable, str(DEPLOYED)], ids=["installed", "deployed"])

_APP = f"""
import sys
from celery import Celery
from kombu import Exchange, Queue

url, how, *arguments = sys.argv[1:]
app = Celery(broker=url)
app.conf.task_default_queue = {QUEUE!r}
if "deaf" in how:
    app.conf.worker_enable_remote_control = False
if "exchange" in how:
    app.conf.task_queues = [Queue({QUEUE!r}, Exchange("custom"), routing_key="custom")]
if "default" in how:
    app.conf.task_queues = [Queue({QUEUE!r})]
if "control" in how:
    app.conf.control_exchange = "elsewhere"
if "prefix" in how:
    app.conf.broker_transport_options = {{"global_keyprefix": "crm:"}}
app.worker_main(["worker", "-P", "solo", "--loglevel=ERROR", *arguments])
"""


def survey(url: str, **options: str) -> WorkerSurvey:
    return asyncio.run(CeleryWorkers(url, QueueOptions(**options), timeout=2).survey())


@contextlib.contextmanager
def worker(python: str, url: str, how: str, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that consumes while the block lasts, and is killed then if it has not ended."""
    command = [python, "-c", _APP, url, how, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def consumes() -> bool:
        assert process.poll() is None
        with Redis.from_url(url) as client:
            number = str(client.connection_pool.connection_kwargs["db"])
            return any(each["db"] == number and each["cmd"] == "brpop" for each in client.client_list())

    try:
        eventually(consumes)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _no_other_client(redis_url: str) -> None:
    """Disconnect what earlier tests of this process left connected to any database of its Redis."""
    with Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@PYTHONS
@pytest.mark.parametrize(
    ("how", "arguments", "options"),
    [
        ("deaf", ("--without-gossip", "--without-mingle", "--without-heartbeat"), {}),
        ("deaf exchange", ("--without-gossip", "--without-mingle", "--without-heartbeat"), {}),
        ("deaf default", ("--without-gossip", "--without-mingle", "--without-heartbeat"), {}),
        ("control", (), {}),
        ("deaf prefix", ("--without-gossip", "--without-mingle", "--without-heartbeat"), {"global_keyprefix": "crm:"}),
    ],
)
def test_worker_without_remote_control_is_a_consumer(
    redis_url: str, python: str, how: str, arguments: tuple[str, ...], options: dict[str, str]
) -> None:
    before = survey(redis_url, **options)
    assert (before.workers, before.silent, before.consumers, before.ever_consumed) == ((), 0, 0, False)
    with worker(python, redis_url, how, arguments) as process:
        seen = survey(redis_url, **options)
        assert (seen.workers, seen.silent, seen.consumers, seen.ever_consumed) == ((), 0, 1, True)
        process.terminate()
        process.wait(30)
    after = survey(redis_url, **options)
    assert (after.workers, after.silent, after.consumers, after.ever_consumed) == ((), 0, 0, True)


def test_own_connections_are_not_counted(redis_url: str) -> None:
    async def look() -> WorkerSurvey:
        queue = CeleryQueue(redis_url, QueueOptions(), timeout=5)
        # The second connection of this process is in use meanwhile.
        _, found = await asyncio.gather(queue.read(), queue.survey())
        await queue.close()
        return found

    found = asyncio.run(look())
    assert (found.consumers, found.ever_consumed) == (0, False)


def test_other_clients_may_be_workers(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.ping()
        found = survey(redis_url)
        assert (found.consumers, found.ever_consumed) == (0, True)
        elsewhere = redis_url.rsplit("/", 1)[0] + "/0"
    with Redis.from_url(elsewhere) as client:
        client.ping()
        assert survey(redis_url).ever_consumed is False


@pytest.mark.parametrize(
    ("key", "ever"),
    [
        (f"_kombu.binding.{QUEUE}", True),
        ("_kombu.binding.celeryev", True),
        ("_kombu.binding_permanent.celery.pidbox", True),
        ("_kombu.binding.custom", True),
        ("_kombu.binding.reply.celery.pidbox", False),
        ("celery-task-meta-1", False),
    ],
)
def test_binding_shows_that_a_worker_consumed(redis_url: str, key: str, ever: bool) -> None:
    with Redis.from_url(redis_url) as client:
        client.sadd(key, "member")
    assert survey(redis_url).ever_consumed is ever


@pytest.mark.parametrize("command", ["client", "exists", "scan"])
def test_unreadable_clients_prove_nothing(redis_url: str, command: str) -> None:
    with Redis.from_url(redis_url) as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", f"-{command}")
    limited = "redis://limited:secret@" + redis_url.rpartition("@")[2]
    try:
        found = survey(limited)
    finally:
        with Redis.from_url(redis_url) as client:
            client.execute_command("ACL", "DELUSER", "limited")
    assert found.ever_consumed is True
    assert (found.consumers is None) is (command == "client")


def test_clients_are_not_read_if_a_worker_responds(redis_url: str) -> None:
    with worker(sys.executable, redis_url, ""):
        found = eventually(lambda: (seen := survey(redis_url)).workers and seen)
        assert (len(found.workers), found.consumers, found.ever_consumed) == (1, None, True)
        assert found.workers[0].slots == 1
