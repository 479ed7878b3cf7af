"""Celery's and RQ's queues behind the same few handles: what is done to them is done by Celery and by RQ."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from sitegenctl.domain.diagnosis.liveness import Liveness, attribute
from sitegenctl.domain.ports import QueueBackend
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from tests.support.processes import Running
from tests.support.rq_world import JOB, RqWorld
from tests.support.world import QUEUE, TASK, World, eventually

T = TypeVar("T")

REPOSITORY = Path(__file__).parents[2]
AT = datetime(2026, 1, 1, tzinfo=UTC)

#: Of this order there is none: its task fails before it begins.
MISSING = 99


def publication(order_id: int = 42, task_id: str = "task-1", *, resume: bool = False) -> Publication:
    return Publication(task_id=task_id, order_id=order_id, resume=resume, actor="ana@crm", enqueued_at=AT)


def judged(reading: BrokerReading, survey: WorkerSurvey | None) -> tuple[LiveTask, ...]:
    """What a command concludes from broker and workers, where it knows nothing of the orders."""
    liveness = Liveness(reading=replace(reading, uptime=None), survey=survey, now=datetime.now(UTC))
    return liveness.decide(attribute(reading.tasks, survey), {})


class System:
    """One of them. Order ids below 90 are orders whose generation waits for the gate."""

    task: str
    world: World

    # --- what is asked of the backend ---------------------------------------------------------------------

    def ask(self, question: Callable[[QueueBackend], Awaitable[T]], **flags: Any) -> T:
        return self.world.with_session(lambda session: question(session.queue), **{"timeout": "3s", **flags})

    def read(self, only: Collection[int] | None = None) -> BrokerReading:
        return self.ask(lambda queue: queue.read(only))

    def survey(self, **flags: Any) -> WorkerSurvey:
        return self.ask(lambda queue: queue.survey(), **flags)

    def claims(self) -> dict[str, TaskState]:
        return {task.task_id: task.state for worker in self.survey().workers for task in worker.tasks}

    def revoke(
        self,
        *task_ids: str,
        terminate: bool = False,
        keep: Collection[str] = (),
        orphaned: Collection[str] = (),
        **flags: Any,
    ) -> Mapping[str, str]:
        """Revoke these tasks wherever they are; of those to be kept only the copies in the queue."""
        known = [
            replace(task, state=TaskState.ORPHANED) if task.task_id in orphaned else task
            for task in self.read().tasks
            if task.task_id in task_ids
        ]
        tasks = [task for task in known if task.task_id not in keep or task.state is TaskState.QUEUED]
        nowhere = set(task_ids) - {task.task_id for task in tasks}
        tasks += [self.live(task_id, TaskState.QUEUED if task_id in keep else TaskState.UNACKED) for task_id in nowhere]
        return self.ask(lambda queue: queue.revoke(tasks, terminate=terminate, keep=keep), **flags)

    def requeue(self, *task_ids: str, **flags: Any) -> Mapping[str, str]:
        tasks = [self.live(task_id, TaskState.ORPHANED) for task_id in task_ids]
        return self.ask(lambda queue: queue.requeue(tasks), **flags)

    def details(self, task_id: str) -> TaskDetails | None:
        return self.ask(lambda queue: queue.task_details(task_id))

    def live(self, task_id: str, state: TaskState = TaskState.UNACKED) -> LiveTask:
        return LiveTask(task_id=task_id, name=self.task, order_id=1, state=state)

    def judged(self) -> tuple[LiveTask, ...]:
        return judged(self.read(), self.survey())

    def ids(self) -> list[str]:
        return [task.task_id for task in self.read().tasks]

    # --- what is done to it by others ---------------------------------------------------------------------

    def publish(self, order_id: int, *, task_id: str | None = None, due: timedelta | None = None) -> str:
        raise NotImplementedError

    def publish_foreign(self, function: str) -> None:
        raise NotImplementedError

    def publish_garbage(self) -> None:
        raise NotImplementedError

    def lose(self) -> None:
        """Have the next task delivered to a worker that dies."""
        raise NotImplementedError

    def start(self) -> Running:
        raise NotImplementedError

    def kill(self, worker: Running) -> None:
        """As a container is killed: the worker, and what it has begun, at once."""
        raise NotImplementedError

    def expire(self) -> None:
        """Let the time pass after which what a killed worker had is known to run no more."""
        raise NotImplementedError

    def begun(self) -> list[int]:
        """The orders whose generations were begun, once for each time."""
        raise NotImplementedError

    def ended(self, order_id: int) -> bool:
        raise NotImplementedError

    def hang(self, worker: Running) -> None:
        os.kill(worker.pid, signal.SIGSTOP)

    def wake(self, worker: Running) -> None:
        os.kill(worker.pid, signal.SIGCONT)

    def open_gate(self) -> None:
        (self.world.sites_dir.parent / "gate").touch()

    def dumped(self) -> dict[bytes, Any]:
        return self.world.dumped()

    def run_one(self, order_id: int) -> str:
        """Publish an order's task, and wait until its generation runs."""
        task_id = self.publish(order_id)
        eventually(lambda: order_id in self.begun())
        eventually(lambda: self.claims().get(task_id) is TaskState.RUNNING)
        return task_id


class CelerySystem(System):
    task = TASK

    def __init__(self, **places: Any) -> None:
        self.world = World(**places)

    def publish(self, order_id: int, *, task_id: str | None = None, due: timedelta | None = None) -> str:
        options = {"task_id": task_id} if task_id else {}
        return self.world.publish(order_id, **options, **({"eta": datetime.now(UTC) + due} if due else {}))

    def publish_foreign(self, function: str) -> None:
        self.world.publish(1, task=function)

    def publish_garbage(self) -> None:
        with self.world.redis() as client:
            client.lpush(QUEUE, b"\x80not json", b"{}")
            client.hset("unacked", "tag", b"neither")

    def lose(self) -> None:
        self.world.deliver()

    def start(self) -> Running:
        for order_id in (1, 2, 3):
            if not self.world.sql("SELECT 1 FROM site_orders WHERE id = $1", order_id):
                self.world.order(order_id, "GENERATING")
        environ = {
            "SITEGENCTL_GENERATOR": "tests.support.generators:gated",
            "SITEGENCTL_RETRY_BASE": "1h",
            "PYTHONPATH": str(REPOSITORY),
        }
        return self.world.worker("-c", "1", environ=environ, cwd=self.world.sites_dir.parent)

    def kill(self, worker: Running) -> None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def expire(self) -> None:
        with self.world.redis() as client:
            for tag, _ in client.zscan_iter("unacked_index"):
                # Longer ago than a run may last, and not as long as kombu's visibility timeout.
                client.zadd("unacked_index", {tag: time.time() - 1200})

    def begun(self) -> list[int]:
        rows = self.world.sql("SELECT order_id FROM site_generation_logs WHERE step = 'TEMPLATE_START' ORDER BY id")
        return [row["order_id"] for row in rows]

    def ended(self, order_id: int) -> bool:
        return self.world.status(order_id) == "REVIEW"


class RqSystem(System):
    task = JOB
    world: RqWorld

    def __init__(self, **places: Any) -> None:
        self.world = RqWorld(**places)

    def publish(self, order_id: int, *, task_id: str | None = None, due: timedelta | None = None) -> str:
        return self.world.publish(order_id, task_id=task_id, due=due)

    def publish_foreign(self, function: str) -> None:
        self.world.publish(1, task=function)

    def publish_garbage(self) -> None:
        with self.world.redis() as client:
            client.rpush(f"rq:queue:{QUEUE}", b"\xff\xfe", b"")
            client.rpush(f"rq:job:{'no-job'}", b"a list")
            client.rpush(f"rq:queue:{QUEUE}", b"no-job")

    def lose(self) -> None:
        self.world.deliver(late=3600)

    def start(self) -> Running:
        return self.world.stock_worker()

    def kill(self, worker: Running) -> None:
        self.world.kill(worker)

    def expire(self) -> None:
        self.world.expire()

    def begun(self) -> list[int]:
        file = self.world.sites_dir.parent / "begun"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []

    def ended(self, order_id: int) -> bool:
        with self.world.redis() as client:
            done = client.zrange(f"rq:finished:{QUEUE}", 0, -1)
        return any(self.world.fetch(job_id.decode()).args == (order_id,) for job_id in done)


SYSTEMS: Mapping[str, Callable[..., System]] = {"celery": CelerySystem, "rq": RqSystem}


def tasks_by_id(tasks: Sequence[LiveTask]) -> dict[str, LiveTask]:
    return {task.task_id: task for task in tasks}
