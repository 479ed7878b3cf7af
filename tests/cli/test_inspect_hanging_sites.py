from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.processes import Running
from tests.support.world import World

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> Running:
    return processes.start(
        *("-m", "tests.support.hanging_sites", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "42"], ["inspect", "orders"], ["doctor"]], ids=" ".join)
def test_a_dead_mount_is_a_source_that_does_not_answer(world: World, command: Sequence[str]) -> None:
    world.order(41, "GENERATING", steps=["START", "ERROR"])
    world.order(42, "GENERATING", steps=["START"])
    process = start(*command, "--timeout", "500ms", "-o", "json")
    stdout, stderr = process.communicate(timeout=60)
    assert "hanging" in stderr
    assert process.returncode == 3
    result = json.loads(stdout)
    if command != ["doctor"]:
        (error,) = result["errors"]
        assert error["source"] == "files"
        assert "did not respond in time" in error["message"]
    orders = {order["order_id"]: order["condition"] for order in result["data"].get("orders", ())}
    if orders:
        assert orders == {41: "failed", 42: "unknown"}


@pytest.mark.parametrize("command", [["inspect"], ["doctor"], ["reset", "42", "--yes"]], ids=" ".join)
def test_a_dead_mount_does_not_keep_the_process(world: World, command: Sequence[str]) -> None:
    world.order(42, "GENERATING", steps=["START"])
    process = start(*command, "--timeout", "1h")
    assert process.stderr.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_nothing_is_begun_in_a_directory_that_does_not_answer(world: World) -> None:
    world.order(1, "DELIVERED", files=8)
    world.order(42, "GENERATING", steps=["START"], files=3)
    process = start("reset", "42", "--yes", "--timeout", "500ms")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "did not respond in time" in stderr
    assert (world.status(), world.queued(), world.steps()) == ("GENERATING", [], ["START"])


class Silent:
    """Takes connections, as the kernel does for a stopped process, and never says a word."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


EVERY_INSPECT = [["inspect"], ["inspect", "orders"], ["inspect", "42"], ["inspect", "queue"]]


def errors_of(world: World, *arguments: str, **environ: str) -> list[dict[str, Any]]:
    process = world.run(*arguments, "--timeout", "1s", "-o", "json", **environ)
    assert process.returncode == 3, process.stderr
    return list(json.loads(process.stdout)["errors"])


@pytest.mark.parametrize("command", EVERY_INSPECT, ids=" ".join)
def test_a_database_that_is_silent_is_asked_once(world: World, silent: Silent, command: Sequence[str]) -> None:
    """Each question that is not answered takes the whole timeout."""
    world.order(42, "GENERATING")
    world.publish(42)
    errors = errors_of(world, *command, DATABASE_URL=f"postgresql://crm:pw@127.0.0.1:{silent.port}/crm")
    assert [error["source"] for error in errors] == ["database"]
    assert "did not respond in time" in errors[0]["message"]
    assert len(silent.connections) == 1


@pytest.mark.parametrize("command", [*EVERY_INSPECT, ["inspect", "workers"]], ids=" ".join)
def test_a_redis_that_is_silent_is_asked_once(world: World, silent: Silent, command: Sequence[str]) -> None:
    world.order(42, "GENERATING")
    errors = errors_of(world, *command, REDIS_URL=f"redis://127.0.0.1:{silent.port}/0")
    assert [error["source"] for error in errors] == ["broker"]
    assert "did not respond in time" in errors[0]["message"]
    assert len(silent.connections) == 1


def test_a_stopped_server_costs_one_timeout(world: World, silent: Silent) -> None:
    """Both of them at once, too: only the broker is read before the database."""
    environ = {
        "DATABASE_URL": f"postgresql://crm:pw@127.0.0.1:{silent.port}/crm",
        "REDIS_URL": f"redis://127.0.0.1:{silent.port}/0",
    }
    errors = errors_of(world, "inspect", **environ)
    assert {error["source"] for error in errors} == {"database", "broker"}
    assert len(silent.connections) == 2
