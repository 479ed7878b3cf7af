"""The system that sitegenctl operates, for tests: orders, queue, files and workers, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import mock

import asyncpg
import pytest
from celery import Celery
from redis import Redis

from sitegenctl.cli.app import run
from sitegenctl.config.settings import Settings, load_settings
from sitegenctl.domain.diagnosis.liveness import Liveness, attribute
from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.domain.ports import QueueBackend
from sitegenctl.domain.queue.task import BrokerReading, LiveTask, Publication, TaskDetails, TaskState
from sitegenctl.domain.queue.worker import WorkerSurvey
from sitegenctl.operations import execute as applying
from sitegenctl.operations.enqueue_planner import EnqueuePlanner
from sitegenctl.operations.planner import Selection
from sitegenctl.session import Session, open_session
from tests.support import processes
from tests.support.databases import sql
from tests.support.processes import Running

T = TypeVar("T")

QUEUE = "site_generation"
TASK = "app.tasks.site_generation.generate_site_task"
PATIENCE = 100.0
AT = datetime(2026, 1, 1, tzinfo=UTC)
#: There is no such order: its task fails before it begins.
MISSING = 99
REPOSITORY = Path(__file__).parents[2]


def eventually(condition: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Wait until the condition returns something true, and return that; fail after the time limit."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition never became true: {condition}")
        time.sleep(0.05)  # between two checks of the condition


def with_grace(session: Session, grace: timedelta) -> Session:
    """The same session with another grace period."""
    return replace(session, settings=replace(session.settings, grace=grace))


def publication(order_id: int = 42, task_id: str = "task-1", *, resume: bool = False) -> Publication:
    return Publication(task_id=task_id, order_id=order_id, resume=resume, actor="ana@crm", enqueued_at=AT)


def judge(reading: BrokerReading, survey: WorkerSurvey | None) -> tuple[LiveTask, ...]:
    """The conclusions of a command from broker and workers, without knowledge of the orders."""
    liveness = Liveness(reading=replace(reading, uptime=None), survey=survey, now=datetime.now(UTC))
    return liveness.decide(attribute(reading.tasks, survey), {})


@dataclass
class World:
    database_url: str
    redis_url: str
    sites_dir: Path
    _processes: list[Running] = field(default_factory=list)
    backend: ClassVar[str] = "celery"
    task_name: ClassVar[str] = TASK

    @property
    def environ(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SITES_BASE_DIR": str(self.sites_dir),
        }

    @property
    def folder(self) -> Path:
        """The system's folder, which contains ``sites`` and is the working directory of its workers."""
        return self.sites_dir.parent

    @property
    def gate(self) -> Path:
        """A file that ends the runs of the generators `gated` and `stubborn`."""
        return self.folder / "gate"

    def configure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Name this system in the environment."""
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)

    def settings(self, **flags: Any) -> Settings:
        return load_settings(flags, {**os.environ, **self.environ})

    # --- the database -------------------------------------------------------------------------------------

    def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run a statement and return its rows."""
        return sql(self.database_url)((statement, *arguments))

    def order(
        self,
        order_id: int = 42,
        status: str | None = "BUILDING",
        *,
        onboarding: str = "complete",
        age: str = "3 hours",
        steps: Sequence[str] = (),
        name: str = "Ana Souza",
        files: int | None = None,
    ) -> int:
        """Write an order that was last changed ``age`` ago, with the rows of its log."""
        statements: list[tuple[Any, ...]] = [
            (
                "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at,"
                " updated_at) SELECT $1, $2, 'ana@example.com', $3::text::siteorderstatus, 499, time, time"
                " FROM (SELECT timezone('utc', now()) - $4::text::interval AS time) AS changed",
                *(order_id, name, status, age),
            )
        ]
        if onboarding != "missing":
            onboarding_row = (
                "INSERT INTO site_onboardings (order_id, business_name, business_email, business_phone, niche,"
                " primary_city, state, services, primary_service, is_complete)"
                " VALUES ($1, $2, 'loja@example.com', '+55 11 90000-0000', 'RESTAURANT', 'São Paulo', 'SP',"
                ' \'["Pão", "Bolo", "Café"]\', \'Pão\', $3)',
                *(order_id, f"Padaria {name}", onboarding == "complete"),
            )
            statements.append(onboarding_row)
        log_row = (
            "INSERT INTO site_generation_logs (order_id, step, message, created_at)"
            " VALUES ($1, $2::text, $2::text, localtimestamp - $3::text::interval)"
        )
        statements += [(log_row, order_id, step, age) for step in steps]
        sql(self.database_url)(*statements)
        if files is not None:
            self.files(order_id, files)
        return order_id

    def status(self, order_id: int = 42) -> str | None:
        return self.sql("SELECT status::text FROM site_orders WHERE id = $1", order_id)[0][0]

    def log(self, order_id: int = 42) -> list[asyncpg.Record]:
        return self.sql("SELECT * FROM site_generation_logs WHERE order_id = $1 ORDER BY id", order_id)

    def steps(self, order_id: int = 42) -> list[str]:
        return [row["step"] for row in self.log(order_id)]

    # --- the queue ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def redis(self) -> Iterator[Redis]:
        with Redis.from_url(self.redis_url) as client:
            yield client

    def queued(self) -> list[dict[str, Any]]:
        """The messages in the queue's list, the next one first."""
        with self.redis() as client:
            return [json.loads(raw) for raw in reversed(client.lrange(QUEUE, 0, -1))]

    def queued_ids(self) -> list[str]:
        return [message["headers"]["id"] for message in self.queued()]

    def publish(
        self, order_id: int | str = 42, *, task: str = TASK, due: timedelta | None = None, **options: Any
    ) -> str:
        """Publish as the backend does."""
        if due is not None:
            options["eta"] = datetime.now(UTC) + due
        with Celery(broker=self.redis_url, set_as_current=False) as app:
            sent = app.send_task(task, args=[order_id], kwargs={"resume": True}, queue=QUEUE, **options)
            return str(sent.id)

    def deliver(self, *, ago: float = 1200) -> None:
        """Move the next message to ``unacked``, as a worker did that took it ``ago`` seconds ago and died.

        The default is longer than any run.
        """
        with self.redis() as client:
            raw = client.rpop(QUEUE)
            assert raw is not None
            tag = json.loads(raw)["properties"]["delivery_tag"]
            client.hset("unacked", tag, json.dumps([json.loads(raw), "", QUEUE]))
            client.zadd("unacked_index", {tag: time.time() - ago})

    def deliver_to_dead_worker(self) -> None:
        """Have the next task delivered to a worker that died long ago."""
        self.deliver()

    def expire(self) -> None:
        """Let the time pass after which the tasks of a killed worker cannot run any more."""
        with self.redis() as client:
            for tag, _ in client.zscan_iter("unacked_index"):
                # Longer ago than a run may last, and not as long as kombu's visibility timeout.
                client.zadd("unacked_index", {tag: time.time() - 1200})

    def dumped(self) -> dict[bytes, Any]:
        """Everything in Redis: each key's value, and whether it expires."""
        with self.redis() as client:
            read = {
                b"string": client.get,
                b"hash": client.hgetall,  # DUMP depends on the order of fields, which means nothing
                b"list": lambda key: client.lrange(key, 0, -1),
                b"set": client.smembers,
                b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
                b"stream": client.xrange,
            }
            return {key: (read[client.type(key)](key), client.ttl(key) >= 0) for key in client.scan_iter()}

    # --- the files ----------------------------------------------------------------------------------------

    def site(self, order_id: int = 42) -> Path:
        return self.sites_dir / f"project_{order_id}"

    def files(self, order_id: int, count: int) -> None:
        self.site(order_id).mkdir(exist_ok=True)
        for number in range(count):
            (self.site(order_id) / f"page{number}.html").write_text("<p>page</p>")

    def site_files(self, order_id: int = 42) -> list[str]:
        folder = self.site(order_id)
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    # --- sitegenctl ---------------------------------------------------------------------------------------

    def with_session(self, work: Callable[[Session], Awaitable[T]], **flags: Any) -> T:
        async def run() -> T:
            async with open_session(self.settings(**flags), "test") as session:
                return await work(session)

        return asyncio.run(run())

    def enqueue(self, *order_ids: int, resume: bool = True, force: bool = False) -> OperationResult:
        async def work(session: Session) -> OperationResult:
            plan = await EnqueuePlanner(resume=resume, force=force).plan_all(session, Selection(order_ids=order_ids))
            return await applying.execute_plan(session, plan)

        return self.with_session(work)

    def run(
        self, *arguments: str, stdin: str = "", encoding: str = "utf-8", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, its stdout in the encoding of the locale; what it writes must be UTF-8."""
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding=name, newline="") for name in (encoding, "utf-8"))
        with (
            mock.patch.dict(os.environ, environ),
            mock.patch("sys.stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            code = run(arguments)
        texts = []
        for stream in (stdout, stderr):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(arguments, code, *texts)

    def run_process(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own."""
        return processes.run("-m", "sitegenctl", *arguments, env={**os.environ, **environ})

    # --- the queue's adapter ------------------------------------------------------------------------------

    def ask(self, question: Callable[[QueueBackend], Awaitable[T]], **flags: Any) -> T:
        return self.with_session(lambda session: question(session.queue), **{"timeout": "3s", **flags})

    def read_queue(self, only: Collection[int] | None = None) -> BrokerReading:
        return self.ask(lambda queue: queue.read(only))

    def task_ids(self) -> list[str]:
        return [task.task_id for task in self.read_queue().tasks]

    def task_details(self, task_id: str) -> TaskDetails | None:
        return self.ask(lambda queue: queue.task_details(task_id))

    def survey(self, **flags: Any) -> WorkerSurvey:
        return self.ask(lambda queue: queue.survey(), **flags)

    def claims(self) -> dict[str, TaskState]:
        """The states of the tasks that workers report."""
        return {task.task_id: task.state for worker in self.survey().workers for task in worker.tasks}

    def live_tasks(self) -> dict[str, LiveTask]:
        """The tasks by their ids, as a command judges them without knowledge of the orders."""
        return {task.task_id: task for task in judge(self.read_queue(), self.survey())}

    def task(self, task_id: str, state: TaskState = TaskState.UNACKED) -> LiveTask:
        return LiveTask(task_id=task_id, name=self.task_name, order_id=1, state=state)

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
            for task in self.read_queue().tasks
            if task.task_id in task_ids
        ]
        tasks = [task for task in known if task.task_id not in keep or task.state is TaskState.QUEUED]
        absent = set(task_ids) - {task.task_id for task in tasks}
        tasks += [self.task(task_id, TaskState.QUEUED if task_id in keep else TaskState.UNACKED) for task_id in absent]
        return self.ask(lambda queue: queue.revoke(tasks, terminate=terminate, keep=keep), **flags)

    def requeue(self, *task_ids: str, **flags: Any) -> Mapping[str, str]:
        tasks = [self.task(task_id, TaskState.ORPHANED) for task_id in task_ids]
        return self.ask(lambda queue: queue.requeue(tasks), **flags)

    # --- workers ------------------------------------------------------------------------------------------

    def worker(
        self,
        *arguments: str,
        generator: str | None = None,
        python: str = sys.executable,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Start a real worker, with a generator of ``tests.support.generators``, and wait until it answers."""
        if generator is not None:
            cwd = cwd or self.folder
            named = {"SITEGENCTL_GENERATOR": f"tests.support.generators:{generator}", "PYTHONPATH": str(REPOSITORY)}
            environ = {**named, **(environ or {})}
        begin = processes.start if python == sys.executable else partial(processes.start_fresh, python=python)
        return self._at_work(
            *("-m", "sitegenctl", "worker", *arguments), begin=begin, env={**os.environ, **(environ or {})}, cwd=cwd
        )

    def _at_work(
        self, *arguments: str, begin: Callable[..., Running] = processes.start, log: str = "worker", **options: Any
    ) -> Running:
        """Start a worker of some kind in a session of its own, and wait until it answers."""
        known = self.worker_names()
        log_file = self.sites_dir.parent / f"{log}{len(self._processes)}.log"
        with log_file.open("wb") as file:
            process = begin(
                *arguments,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
        self._processes.append(process)

        def up() -> bool:
            assert process.poll() is None, log_file.read_text()
            return bool(self.worker_names() - known)

        eventually(up)
        return process

    def start_gated_worker(self) -> Running:
        """Start a worker whose runs of the orders 1 to 3 wait for the gate."""
        for order_id in (1, 2, 3):
            if not self.sql("SELECT 1 FROM site_orders WHERE id = $1", order_id):
                self.order(order_id, "GENERATING")
        return self.worker("-c", "1", generator="gated", environ={"SITEGENCTL_RETRY_BASE": "1h"})

    def kill(self, worker: Running) -> None:
        """Kill the worker and its children at once, as a container is killed."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def begun(self) -> list[int]:
        """The orders of all runs so far."""
        rows = self.sql("SELECT order_id FROM site_generation_logs WHERE step = 'TEMPLATE_START' ORDER BY id")
        return [row["order_id"] for row in rows]

    def has_ended(self, order_id: int) -> bool:
        return self.status(order_id) == "REVIEW"

    def run_one(self, order_id: int) -> str:
        """Publish an order's task, and wait until its generation runs."""
        task_id = self.publish(order_id)
        eventually(lambda: order_id in self.begun())
        eventually(lambda: self.claims().get(task_id) is TaskState.RUNNING)
        return task_id

    def worker_names(self) -> set[str]:
        return {worker.name for worker in self.survey(timeout="2s").workers}

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Log:
    """Writes rows of the generation log at known ages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def rows(self, order_id: int, rows: Sequence[tuple[str, float]], *, message: str = "") -> None:
        """Write steps with their ages in seconds; an ERROR gets the ``message``."""
        self._world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, status, created_at)"
            " SELECT $1, step, CASE step WHEN 'ERROR' THEN $2::text ELSE step END, 'info', localtimestamp - age"
            " FROM unnest($3::text[], $4::interval[]) WITH ORDINALITY AS row(step, age, place) ORDER BY place",
            order_id,
            message,
            [step for step, _ in rows],
            [timedelta(seconds=age) for _, age in rows],
        )

    def run(self, order_id: int, *, ago: float, seconds: float = 40, error: str | None = None) -> None:
        """Write a run that ended ``ago`` seconds ago."""
        began = ago + seconds
        made = [("START", began), ("PHASE_1_START", began - 1), ("FETCH_DATA", ago + seconds / 2)]
        if error is None:
            made += [("WRITE_FILES", ago + 2), ("FINALIZE", ago + 1)]
        self.rows(order_id, [*made, ("SUCCESS" if error is None else "ERROR", ago)], message=error or "")
