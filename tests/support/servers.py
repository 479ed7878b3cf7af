"""A system on servers of its own, which can be restarted and made to forget; and what there is on them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from celery import Celery
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.operations.observe import observe_open
from sitegenctl.session import Session, open_session
from tests.support.simulated_worker import SimulatedWorker
from tests.support.world import QUEUE, World

T = TypeVar("T")

WHOLE = 8  # files of a finished site
MARK = "made-by.txt"


class Database:
    """One connection, made anew when it is lost, on a loop of its own: to be used wherever another loop runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database")
        self._thread.start()

    def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async def run() -> list[asyncpg.Record]:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url)
            return await self._connection.fetch(statement, *arguments)

        return self.run(run())

    def disconnect(self) -> None:
        async def run() -> None:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None

        self.run(run())

    def close(self) -> None:
        self.disconnect()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


@dataclass
class OwnServers(World):
    """``folder`` is where the servers keep their data; ``workers`` are those that are connected to them."""

    folder: Path = field(kw_only=True)
    workers: list[SimulatedWorker] = field(default_factory=list, kw_only=True)
    _database: Database = field(kw_only=True)
    _celery: Celery | None = field(default=None, kw_only=True)
    _redis_client: Redis | None = field(default=None, kw_only=True)
    _session: Session | None = field(default=None, kw_only=True)
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack, kw_only=True)

    # --- the servers --------------------------------------------------------------------------------------

    def bury(self) -> None:
        """End all workers."""
        while self.workers:
            self.workers.pop().die()

    def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return self._database.fetch(statement, *arguments)

    @property
    def client(self) -> Redis:
        if self._redis_client is None:
            self._redis_client = Redis.from_url(self.redis_url, retry=Retry(NoBackoff(), 0))
        return self._redis_client

    @property
    def celery(self) -> Celery:
        if self._celery is None:
            self._celery = Celery(broker=self.redis_url, set_as_current=False)
        return self._celery

    def stop_redis(self, *, forgets: bool = False) -> None:
        """Stop Redis; workers lose their connection. What it ``forgets`` is what a Redis without persistence does."""
        if forgets:
            self.redis_forgets()
        self._forget_clients()
        assert PrivateRedis(self.folder / "redis").stop()
        for worker in self.workers:
            worker.lose_connection()
        if forgets:
            (self.folder / "redis" / "appendonly.aof").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "redis" / "appendonlydir", ignore_errors=True)  # Redis 7

    def redis_forgets(self) -> None:
        """What Redis is about to forget."""

    def start_redis(self) -> None:
        """Start Redis again; all workers have come back when this returns, for one that is away is as good as dead."""
        assert PrivateRedis(self.folder / "redis", persistence=True).start().url == self.redis_url
        for worker in self.workers:
            worker.connect()

    def limit_redis(self, memory: int) -> None:
        """Have Redis refuse what would take more memory than so many bytes; 0 is no limit."""
        self.client.config_set("maxmemory", memory)

    def stop_postgres(self) -> None:
        self._forget_clients()
        assert PrivatePostgres(self.folder / "postgres").stop()

    def start_postgres(self) -> None:
        assert PrivatePostgres(self.folder / "postgres", durable=False).start().url == self.database_url

    def close(self) -> None:
        super().close()
        self.bury()
        self._forget_clients()
        self._database.close()

    def _forget_clients(self) -> None:
        """Close every connection of our own."""
        self._database.disconnect()
        self._session = None
        self._database.run(self._closing.aclose())
        if self._celery is not None:
            with suppress(RedisError, OSError):
                self._celery.close()
            self._celery = None
        if self._redis_client is not None:
            self._redis_client.close()
            self._redis_client.connection_pool.disconnect()
            self._redis_client = None

    # --- what is there ------------------------------------------------------------------------------------

    def everything(self) -> tuple[Any, ...]:
        """All that must not change where nothing is done."""
        orders = self.sql("SELECT o::text FROM site_orders o ORDER BY id")
        log = self.sql("SELECT l::text FROM site_generation_logs l ORDER BY id")
        files = sorted(str(path) for path in self.sites_dir.rglob("*"))
        return orders, log, self.queue_as_it_is(), files

    def queue_as_it_is(self) -> Any:
        """All of the queue that must not change where nothing is done."""
        return self.client.lrange(QUEUE, 0, -1), self.client.hgetall("unacked")

    def look(self) -> Snapshot:
        """What sitegenctl sees, over connections that are kept as long as the servers run."""

        async def run() -> Snapshot:
            if self._session is None:
                self._session = await self._closing.enter_async_context(open_session(self.settings(), "look"))
            session = self._session
            return await observe_open(session, check_hollow=True)

        return self._database.run(run())

    def order_status(self, order_id: int) -> str | None:
        rows = self.sql("SELECT status::text FROM site_orders WHERE id = $1", order_id)
        return rows[0]["status"] if rows else None

    def is_ready(self, order_id: int) -> bool:
        """Whether its onboarding is complete."""
        return bool(self.sql("SELECT FROM site_onboardings WHERE order_id = $1 AND is_complete", order_id))

    def made_by(self, order_id: int) -> str | None:
        """What made the order's site, if it is a whole one."""
        return _whole_site(self.site(order_id))

    def whole_sites(self) -> set[str]:
        """Every whole site, in its place or in the trash."""
        trash = self.sites_dir / ".trash"
        folders = [*self.sites_dir.glob("project_*"), *(trash.iterdir() if trash.exists() else ())]
        return {made_by for folder in folders if (made_by := _whole_site(folder)) is not None}

    def newest_log_id(self) -> int:
        return int(self.sql("SELECT coalesce(max(id), 0) FROM site_generation_logs")[0][0])

    # --- time ---------------------------------------------------------------------------------------------

    def clock_step(self, step: timedelta) -> None:
        """Let so much time have passed for everything that has a time; a negative step is a clock set back."""
        self.sql(
            "UPDATE site_orders SET created_at = created_at - $1::interval, updated_at = updated_at - $1::interval,"
            " onboarding_completed_at = onboarding_completed_at - $1::interval",
            step,
        )
        self.sql("UPDATE site_generation_logs SET created_at = created_at - $1::interval", step)


def _whole_site(folder: Path) -> str | None:
    mark = folder / MARK
    return mark.read_text() if mark.exists() and len(list(folder.iterdir())) == WHOLE else None
