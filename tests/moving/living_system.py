"""The system that operators work on, with everything in it that moves by itself: servers, workers, backend, people.

On servers of its own, which can be restarted and made to forget. What happens here is what the system does without
sitegenctl; each change of an order's status is written down, so that those that are left must be an operator's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from celery import Celery
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sitegenctl.demo.postgres_server import postgres_server, start_postgres, stop_postgres
from sitegenctl.demo.redis_server import redis_server, start_redis, stop_redis
from sitegenctl.domain.snapshot import Snapshot
from sitegenctl.operations.observe import observe_open
from sitegenctl.session import Session, open_session
from tests.moving.simulated_worker import Held, SimulatedWorker
from tests.world import QUEUE, TASK, World, create_schema, eventually

T = TypeVar("T")

BEAT = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"
WHOLE = 8  # files of a finished site
_MARK = "made-by.txt"
_MAX_RETRIES = 3


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


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of an order's status that no operator made; ``after_log_id`` is the newest log row at that time."""

    order_id: int
    before: str | None
    after: str
    after_log_id: int


@dataclass
class LivingSystem(World):
    """The whole system; ``folder`` is where its servers keep their data."""

    folder: Path = field(kw_only=True)
    workers: list[SimulatedWorker] = field(default_factory=list, kw_only=True)
    moves: list[Move] = field(default_factory=list, kw_only=True)
    #: Orders that somebody else than an operator has given a second task, as long as they have it.
    doubled: set[int] = field(default_factory=set, kw_only=True)
    #: Orders that somebody else gave a task while a command was at work that could not notice.
    meddled: set[int] = field(default_factory=set, kw_only=True)
    meddling: bool = field(default=False, kw_only=True)
    #: What each site that was ever finished was made by; none of them may get lost.
    finished: dict[str, int] = field(default_factory=dict, kw_only=True)
    #: The delivery tags of what a real worker has.
    really_held: set[str] = field(default_factory=set, kw_only=True)
    _database: Database = field(kw_only=True)
    _names: Iterator[int] = field(default_factory=itertools.count, kw_only=True)
    _celery: Celery | None = field(default=None, kw_only=True)
    _redis_client: Redis | None = field(default=None, kw_only=True)
    _session: Session | None = field(default=None, kw_only=True)
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack, kw_only=True)

    # --- the servers --------------------------------------------------------------------------------------

    def empty(self) -> None:
        """Begin anew, with nothing in it."""
        self.bury()
        self.client.flushall()
        self.sql("TRUNCATE site_orders, site_onboardings, site_generation_logs, site_deliverables RESTART IDENTITY")
        for entry in self.sites_dir.iterdir():
            shutil.rmtree(entry)
        self.moves.clear()
        self.doubled.clear()
        self.meddled.clear()
        self.meddling = False
        self.finished.clear()

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

    def stop_redis(self, *, forgets: bool = False) -> None:
        """Stop Redis; workers lose their connection. What it ``forgets`` is what a Redis without persistence does."""
        self._forget_clients()
        assert stop_redis(self.folder / "redis")
        for worker in self.workers:
            worker.lose_connection()
        if forgets:
            (self.folder / "redis" / "appendonly.aof").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "redis" / "appendonlydir", ignore_errors=True)  # Redis 7

    def start_redis(self) -> None:
        """Start Redis again; all workers have come back when this returns, for one that is away is as good as dead."""
        assert start_redis(self.folder / "redis", persistence=True).url == self.redis_url
        for worker in self.workers:
            worker.connect()

    def stop_postgres(self) -> None:
        self._forget_clients()
        assert stop_postgres(self.folder / "postgres")

    def start_postgres(self) -> None:
        assert start_postgres(self.folder / "postgres", durable=False).url == self.database_url

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

    def messages(self) -> list[dict[str, Any]]:
        """Every message that is not acknowledged, in the queue or delivered, as Redis has it."""
        queued = self.client.lrange(QUEUE, 0, -1)
        delivered = [json.dumps(json.loads(raw)[0]).encode() for raw in self.client.hvals("unacked")]
        return [json.loads(raw) for raw in (*queued, *delivered)]

    def live(self) -> Counter[int | None]:
        """How many tasks each order has: its messages, and what workers hold though it waits in no ``unacked``."""
        known = [Held(message=message) for message in self.messages()]
        delivered = {json.loads(raw)[0]["headers"]["id"] for raw in self.client.hvals("unacked")}
        apart = [held for worker in self.workers for held in worker.claimed if held.task_id not in delivered]
        return Counter(held.order_id for held in (*known, *apart) if held.name == TASK)

    def forgotten(self) -> list[Held]:
        """What workers hold though Redis knows nothing of it."""
        known = {message["headers"]["id"] for message in self.messages()}
        return [held for worker in self.workers for held in worker.claimed if held.task_id not in known]

    def everything(self) -> tuple[Any, ...]:
        """All that must not change where nothing is done."""
        orders = self.sql("SELECT o::text FROM site_orders o ORDER BY id")
        log = self.sql("SELECT l::text FROM site_generation_logs l ORDER BY id")
        files = sorted(str(path) for path in self.sites_dir.rglob("*"))
        return orders, log, self.client.lrange(QUEUE, 0, -1), self.client.hgetall("unacked"), files

    def look(self) -> Snapshot:
        """What sitegenctl sees, over connections that are kept as long as the servers run."""

        async def run() -> Snapshot:
            if self._session is None:
                self._session = await self._closing.enter_async_context(open_session(self.settings(), "look"))
            session = self._session
            grace = session.settings.grace
            return await observe_open(session.orders, session.queue, session.sites, grace=grace, check_hollow=True)

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

    # --- the backend, and people --------------------------------------------------------------------------

    def move(self, order_id: int, after: str) -> None:
        before = self.order_status(order_id)
        self.moves.append(Move(order_id=order_id, before=before, after=after, after_log_id=self.newest_log_id()))
        self.sql(
            "UPDATE site_orders SET status = $2::text::siteorderstatus, updated_at = timezone('utc', now())"
            " WHERE id = $1",
            order_id,
            after,
        )

    def send(self, order_id: int, **options: Any) -> None:
        """Publish as the backend does: with Celery."""
        self._send_task(TASK, args=[order_id], kwargs={"resume": True}, **options)
        if self.meddling:
            self.meddled.add(order_id)
        if self.meddling or self.live()[order_id] > 1:
            self.doubled.add(order_id)

    def send_beat(self) -> None:
        self._send_task(BEAT)

    def _send_task(self, name: str, **options: Any) -> None:
        if self._celery is None:
            self._celery = Celery(broker=self.redis_url, set_as_current=False)
        self._celery.send_task(name, queue=QUEUE, **options)

    def backend_generates(self, order_id: int, *, publishes: bool = True) -> None:
        """Its button: commit GENERATING, then publish, unless that fails."""
        if self.order_status(order_id) == "BUILDING":
            self.move(order_id, "GENERATING")
            if publishes:
                self.send(order_id)

    def backend_resets(self, order_id: int) -> None:
        """Its own reset: BUILDING and a task; then beat sees BUILDING, and publishes another."""
        if self.order_status(order_id) in ("BUILDING", "GENERATING"):
            self.move(order_id, "BUILDING")
            self.send(order_id)
            self.beat_runs(only=order_id)

    def beat_runs(self, only: int | None = None) -> None:
        """Start what is BUILDING with a complete onboarding, whether it has a task or not."""
        rows = self.sql(
            "SELECT o.id FROM site_orders o JOIN site_onboardings s ON s.order_id = o.id"
            " WHERE o.status = 'BUILDING' AND s.is_complete AND o.onboarding_completed_at IS NOT NULL ORDER BY o.id"
        )
        for row in rows:
            if only in (None, row["id"]):
                self.move(row["id"], "GENERATING")
                self.send(row["id"])

    def customer_completes(self, order_id: int) -> None:
        if not self.is_ready(order_id):
            self.sql("UPDATE site_onboardings SET is_complete = true WHERE order_id = $1", order_id)
            self.sql("UPDATE site_orders SET onboarding_completed_at = timezone('utc', now()) WHERE id = $1", order_id)

    # --- the workers --------------------------------------------------------------------------------------

    def hire(self) -> SimulatedWorker:
        worker = SimulatedWorker(name=f"celery@host{next(self._names)}", url=self.redis_url)
        worker.connect()
        self.workers.append(worker)
        return worker

    def kill(self, worker: SimulatedWorker) -> None:
        self.workers.remove(worker)
        worker.die()

    @contextmanager
    def real_worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A process that has taken a task, if there is one, and will be at it for longer than anybody looks."""
        process = self.worker("-c", "1", "--pace", "60s")
        delivered = eventually(lambda: self.client.hkeys("unacked") or not self.client.llen(QUEUE))
        self.really_held = {tag.decode() for tag in delivered} if isinstance(delivered, list) else set()
        try:
            yield process
        finally:
            self.really_held = set()

    def work(self, worker: SimulatedWorker, *, files: int = 2) -> None:
        """Have the worker's task go as far as its first rows and files, or end where there is nothing to do."""
        held = worker.running
        assert held is not None
        order_id = held.order_id
        if held.name == BEAT:
            self.beat_runs()
            worker.end()
            return
        status = self.order_status(order_id) if order_id is not None else None
        if order_id is None or status is None or (status != "CANCELLED" and not self.is_ready(order_id)):
            worker.end()  # it raises before it has begun, for the last time
        elif status in ("REVIEW", "DELIVERED", "CANCELLED"):
            self.row(order_id, "SKIP")
            worker.end()
        elif any(each.running.begun for each in self.workers if each.running and each.running.order_id == order_id):
            if not held.begun:
                assert order_id in self.doubled, f"{order_id} would be generated twice at once"
                worker.end()  # it gives way
        else:
            held.begun = True
            keeps = held.resumes and self._files(order_id) >= 5
            self.row(order_id, "RESUME" if keeps else "START")
            if not keeps:
                self._clear_away(order_id)
                self._write(order_id, files)

    def make_site(self, order_id: int) -> None:
        """Put a finished site into its place."""
        self._clear_away(order_id)
        made_by = str(uuid.uuid4())
        self._write(order_id, WHOLE - 1)
        (self.site(order_id) / _MARK).write_text(made_by)
        self.finished[made_by] = order_id

    def finish(self, worker: SimulatedWorker, *, dies: bool = False) -> None:
        """Have the worker's task end well; it may die before it acknowledges."""
        held = worker.running
        assert held is not None
        order_id = held.order_id
        assert order_id is not None
        if self.order_status(order_id) in ("BUILDING", "GENERATING"):
            if self.made_by(order_id) is None:
                self.make_site(order_id)
            self.move(order_id, "REVIEW")
            self.row(order_id, "SUCCESS")
        else:
            self.row(order_id, "SKIP")
        self._end(worker, dies=dies)

    def fail(self, worker: SimulatedWorker, *, retries: bool, dies: bool = False) -> None:
        """Have the worker's task fail; where it ``retries``, the next attempt is published before this one ends."""
        held = worker.running
        assert held is not None
        assert held.order_id is not None
        self.row(held.order_id, "ERROR")
        # Where the delivery can't be acknowledged any more, a retry would be a second message under the same id:
        # nobody could tell it from a retry on the move.
        if retries and held.acknowledgeable and held.retries < _MAX_RETRIES:
            self._send_task(
                TASK,
                args=held.arguments[0],
                kwargs=held.arguments[1],
                task_id=held.task_id,
                retries=held.retries + 1,
                eta=datetime.now(UTC) + timedelta(minutes=1),
            )
        self._end(worker, dies=dies and not retries)

    def give_back(self, orphan: Held) -> None:
        """As kombu does with what is not acknowledged an hour after its delivery."""
        self.client.hdel("unacked", orphan.tag)
        self.client.zrem("unacked_index", orphan.tag)
        self.client.rpush(QUEUE, json.dumps(orphan.message))

    def leave_behind(self, order_id: int) -> None:
        """Have the order's message delivered to a worker that is gone since."""
        for raw in self.client.lrange(QUEUE, 0, -1):
            held = Held(message=json.loads(raw))
            if held.order_id == order_id:
                self.client.lrem(QUEUE, 1, raw)
                self.client.hset("unacked", held.tag, json.dumps([held.message, "", QUEUE]))
                self.client.zadd("unacked_index", {held.tag: time.time()})

    def orphans(self) -> list[Held]:
        """What was delivered and is in no living worker's hands."""
        held = {each.task_id for worker in self.workers for each in worker.claimed}
        delivered = (json.loads(raw)[0] for raw in self.client.hvals("unacked"))
        return sorted(
            (
                each
                for each in (Held(message=message) for message in delivered)
                if each.task_id not in held and each.tag not in self.really_held
            ),
            key=lambda each: each.task_id,
        )

    def _end(self, worker: SimulatedWorker, *, dies: bool) -> None:
        if dies:
            self.kill(worker)
        else:
            worker.end()

    def row(self, order_id: int, step: str) -> None:
        self.sql(
            "INSERT INTO site_generation_logs (order_id, step, message) VALUES ($1, $2, 'as it does')", order_id, step
        )

    def _files(self, order_id: int) -> int:
        folder = self.site(order_id)
        return len(list(folder.iterdir())) if folder.exists() else 0

    def _write(self, order_id: int, count: int) -> None:
        self.site(order_id).mkdir()
        for number in range(count):
            (self.site(order_id) / f"page{number}.html").write_text("<p>page</p>")

    def _clear_away(self, order_id: int) -> None:
        """A worker that begins again finds what it finds, and keeps of it what was whole."""
        if self.made_by(order_id) is not None:
            trash = self.sites_dir / ".trash"
            trash.mkdir(exist_ok=True)
            self.site(order_id).rename(trash / f"by-worker-{uuid.uuid4()}")
        shutil.rmtree(self.site(order_id), ignore_errors=True)


def _whole_site(folder: Path) -> str | None:
    mark = folder / _MARK
    return mark.read_text() if mark.exists() and len(list(folder.iterdir())) == WHOLE else None


@contextmanager
def living_system(folder: Path) -> Iterator[LivingSystem]:
    """A system with servers of its own, empty."""
    with (
        redis_server(folder / "redis", persistence=True) as redis,
        postgres_server(folder / "postgres", durable=False) as postgres,
    ):
        asyncio.run(create_schema(postgres.url))
        sites_dir = folder / "sites"
        sites_dir.mkdir()
        system = LivingSystem(
            database_url=postgres.url,
            redis_url=redis.url,
            sites_dir=sites_dir,
            folder=folder,
            _database=Database(postgres.url),
        )
        try:
            yield system
        finally:
            system.close()
