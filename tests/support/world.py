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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from unittest import mock

import asyncpg
import pytest
from celery import Celery
from redis import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from sitegenctl.adapters.postgres.connection import asyncpg_dsn
from sitegenctl.adapters.postgres.schema import metadata
from sitegenctl.cli.app import run
from sitegenctl.config.settings import Settings, load_settings
from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.operations import execute as applying
from sitegenctl.operations.planners import EnqueuePlanner, Selection
from sitegenctl.session import Session, open_session
from tests.support import processes
from tests.support.processes import Running
from tests.support.sql import sql

T = TypeVar("T")

QUEUE = "site_generation"
TASK = "app.tasks.site_generation.generate_site_task"
PATIENCE = 30.0


async def create_schema(url: str) -> None:
    """Create the contract's tables."""
    engine = create_async_engine(asyncpg_dsn(url).replace("postgresql:", "postgresql+asyncpg:", 1))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()


def eventually(condition: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Wait until the condition holds, and return what it returned; fail when it never does."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"it never came true: {condition}")
        time.sleep(0.05)  # between two looks at a condition, not instead of one


def with_grace(session: Session, grace: timedelta) -> Session:
    """The same session with another grace period."""
    return replace(session, settings=replace(session.settings, grace=grace))


@dataclass
class World:
    database_url: str
    redis_url: str
    sites_dir: Path
    _processes: list[Running] = field(default_factory=list)
    backend: ClassVar[str] = "celery"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SITES_BASE_DIR": str(self.sites_dir),
        }

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
        """Write an order that last moved ``age`` ago, with the rows of its log."""
        order = (
            "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)"
            " VALUES ($1, $2, 'ana@example.com', $3::text::siteorderstatus, 499, timezone('utc', now()) - $4::interval,"
            " timezone('utc', now()) - $4::interval)",
            order_id,
            name,
            status,
            _interval(age),
        )
        onboardings = []
        if onboarding != "missing":
            row = (
                "INSERT INTO site_onboardings (order_id, business_name, business_email, business_phone, niche,"
                " primary_city, state, services, primary_service, is_complete)"
                " VALUES ($1, $2, 'loja@example.com', '+55 11 90000-0000', 'RESTAURANT', 'São Paulo', 'SP',"
                ' \'["Pão", "Bolo", "Café"]\', \'Pão\', $3)',
                order_id,
                f"Padaria {name}",
                onboarding == "complete",
            )
            onboardings.append(row)
        log = [
            (
                "INSERT INTO site_generation_logs (order_id, step, message, created_at)"
                " VALUES ($1, $2::text, $2::text, localtimestamp - $3::interval)",
                order_id,
                step,
                _interval(age),
            )
            for step in steps
        ]
        sql(self.database_url)(order, *onboardings, *log)
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
        """The messages in the queue's list, the one that is next first."""
        with self.redis() as client:
            return [json.loads(raw) for raw in reversed(client.lrange(QUEUE, 0, -1))]

    def queued_ids(self) -> list[str]:
        return [message["headers"]["id"] for message in self.queued()]

    def publish(self, order_id: int | str = 42, *, task: str = TASK, **options: Any) -> str:
        """Publish as the backend does."""
        with Celery(broker=self.redis_url, set_as_current=False) as app:
            sent = app.send_task(task, args=[order_id], kwargs={"resume": True}, queue=QUEUE, **options)
            return str(sent.id)

    def deliver(self, *, ago: float = 1200) -> None:
        """Move the next message to ``unacked``, as a worker does that takes it ``ago`` seconds ago and then dies.

        By default that is longer ago than any run lasts.
        """
        with self.redis() as client:
            raw = client.rpop(QUEUE)
            assert raw is not None
            tag = json.loads(raw)["properties"]["delivery_tag"]
            client.hset("unacked", tag, json.dumps([json.loads(raw), "", QUEUE]))
            client.zadd("unacked_index", {tag: time.time() - ago})

    def dumped(self) -> dict[bytes, Any]:
        """Everything in Redis, and of what it is going to forget that it is."""
        with self.redis() as client:
            read = {
                b"string": client.get,
                b"hash": client.hgetall,  # DUMP would tell of its order, which means nothing
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

    def run(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process."""
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
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

    # --- workers ------------------------------------------------------------------------------------------

    def worker(
        self,
        *arguments: str,
        python: str = sys.executable,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        fresh: bool = False,
    ) -> Running:
        """Start a real worker and wait until it answers."""
        fresh = fresh or python != sys.executable
        begin = partial(processes.start_fresh, python=python) if fresh else processes.start
        return self._at_work(
            *("-m", "sitegenctl", "worker", *arguments), begin=begin, env={**os.environ, **(environ or {})}, cwd=cwd
        )

    def _at_work(
        self, *arguments: str, begin: Callable[..., Running] = processes.start, log: str = "worker", **options: Any
    ) -> Running:
        """Start a worker of some kind in a session of its own, and wait until it answers."""
        known = self.worker_names()
        told = self.sites_dir.parent / f"{log}{len(self._processes)}.log"
        with told.open("wb") as file:
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
            assert process.poll() is None, told.read_text()
            return bool(self.worker_names() - known)

        eventually(up)
        return process

    def worker_names(self) -> set[str]:
        async def ask(session: Session) -> set[str]:
            return {worker.name for worker in (await session.queue.survey()).workers}

        return self.with_session(ask, timeout="2s")

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _interval(text: str) -> Any:
    from sitegenctl.config.settings import parse_duration

    number, unit = text.split()
    return parse_duration(f"{number}{unit[0]}")
