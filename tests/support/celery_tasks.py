"""Celery tasks in Redis as the deployed worker leaves them, and what is left of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.workers import CeleryWorkers
from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.session import Session
from tests.support.processes import Running
from tests.support.world import TASK, World

REPOSITORY = Path(__file__).parents[2]


DEPLOYED = REPOSITORY / ".venv-deployed" / "bin" / "python"


def live(task_id: str, state: TaskState = TaskState.UNACKED, position: int | None = None) -> LiveTask:
    return LiveTask(task_id=task_id, name=TASK, order_id=1, state=state, position=position)


def bare_message(task_id: str) -> str:
    """As much of a message as names its task."""
    return json.dumps({"headers": {"id": task_id, "task": TASK}})


def as_orphans(tasks: Sequence[LiveTask]) -> list[LiveTask]:
    """The same tasks; those that were delivered are known to run nowhere."""
    return [replace(each, state=TaskState.ORPHANED) if each.state is TaskState.UNACKED else each for each in tasks]


def deliveries(world: World, *deliver: Callable[[], object]) -> list[LiveTask]:
    """Deliver messages; returns these deliveries, as they are known when they are found to be orphaned."""
    found: list[LiveTask] = []
    for each in deliver:
        with world.redis() as client:
            before = set(client.hkeys("unacked"))
            each()
            (tag,) = set(client.hkeys("unacked")) - before
            task_id = json.loads(client.hget("unacked", tag))[0]["headers"]["id"]
            at = datetime.fromtimestamp(client.zscore("unacked_index", tag), UTC)
        found.append(replace(live(task_id, TaskState.ORPHANED), delivery=tag.decode(), delivered_at=at))
    return found


def revoke(
    world: World, tasks: Sequence[LiveTask], *, terminate: bool = False, keep: Collection[str] = (), **flags: Any
) -> Mapping[str, str]:
    return world.with_session(
        lambda session: session.queue.revoke(tasks, terminate=terminate, keep=keep), **{"timeout": "3s", **flags}
    )


def held(world: World) -> tuple[int, int]:
    """How much is in ``unacked`` and in its index."""
    with world.redis() as client:
        return client.hlen("unacked"), client.zcard("unacked_index")


class Meddled:
    """A connection that calls ``meddle`` before each command of one kind."""

    def __init__(self, connection: Connection, command: str, meddle: Callable[[], object]) -> None:
        self._connection = connection
        self._command = command
        self._meddle = meddle

    async def execute(self, *commands: Command, keep_refusals: bool = False) -> list[Any]:
        if commands and commands[0][0] == self._command:
            self._meddle()
        return await self._connection.execute(*commands, keep_refusals=keep_refusals)

    async def aclose(self) -> None:
        await self._connection.aclose()


def start(world: World, python: str | Path | None = None, *arguments: str) -> Running:
    chosen = {} if python is None else {"python": str(python)}
    return world.worker("-c", "1", *arguments, generator="stubborn", **chosen)


def revoked(world: World) -> set[str]:

    async def ask(session: Session) -> set[str]:
        replies = await CeleryWorkers(world.redis_url, QueueOptions(), timeout=5).ask(["revoked"])
        return {task_id for given in replies.answers.values() for task_id in given["revoked"]}

    return world.with_session(ask)


def lists(world: World) -> dict[bytes, Sequence[bytes]]:
    with world.redis() as client:
        return {key: client.lrange(key, 0, -1) for key in client.scan_iter() if client.type(key) == b"list"}
