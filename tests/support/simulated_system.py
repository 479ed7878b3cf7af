"""The system that operators work on, with servers of its own and simulated workers, backend and customers.

The servers can be restarted and made to forget. Every change of an order's status made here is recorded, so that any
other must be an operator's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT
from sitegenctl.operations.observe import observe_open
from sitegenctl.session import Session, open_session
from tests.support.databases import create_schema, forget
from tests.support.processes import Running
from tests.support.simulated_workers import Held, SimulatedWorker
from tests.support.world import QUEUE, TASK, World, eventually

BEAT = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"
_SITE_FILES = 8
_MARK = "made-by.txt"


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of an order's status that no operator made; ``after_log_id`` is the newest log row at that time."""

    order_id: int
    before: str | None
    after: str
    after_log_id: int


@dataclass(frozen=True, kw_only=True)
class OrderFacts:
    """An order as an undo leaves it; ``resumes`` has the flag of each of its tasks."""

    status: str
    resumes: Sequence[bool]
    files: Mapping[str, str]
    attempts: int
    is_held: bool

    @property
    def undone(self) -> OrderFacts:
        """The same with one task instead of several, none of a finished order, and GENERATING where it has one."""
        if self.status not in ("BUILDING", "GENERATING"):
            return replace(self, resumes=[])
        if not self.resumes:
            return self
        return replace(self, status="GENERATING", resumes=self.resumes[:1], is_held=False)


@dataclass(kw_only=True)
class SimulatedSystem(World):
    """The system, and what other parties than operators have done to it since it was empty."""

    workers: list[SimulatedWorker] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    #: Orders with a second task that no operator gave them.
    doubled: set[int] = field(default_factory=set)
    #: Orders that got a task during a command that could not notice.
    meddled: set[int] = field(default_factory=set)
    meddling: bool = False
    #: Order of each site that was ever finished, by the content of its mark; none may be lost.
    finished: dict[str, int] = field(default_factory=dict)
    #: Delivery tags (RQ: job ids) of what a real worker has.
    really_held: set[str] = field(default_factory=set)
    _names: Iterator[int] = field(default_factory=itertools.count)
    #: Source of ids: tasks are sorted by them, and the same choices must lead to the same sequence.
    _random: random.Random = field(default_factory=random.Random)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    _session: Session | None = None
    _closing: AsyncExitStack = field(default_factory=AsyncExitStack)
    _celery: Celery | None = None
    _redis_client: Redis | None = None

    def empty(self) -> None:
        """Begin again, with nothing in the system."""
        self.kill_workers()
        self.client.flushall()
        self.sql("TRUNCATE site_orders, site_onboardings, site_generation_logs, site_deliverables RESTART IDENTITY")
        for entry in self.sites_dir.iterdir():
            shutil.rmtree(entry)
        self.moves.clear()
        self.doubled.clear()
        self.meddled.clear()
        self.meddling = False
        self.finished.clear()
        self._names = itertools.count()
        self._random.seed(0)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    # --- the servers --------------------------------------------------------------------------------------

    @property
    def client(self) -> Redis:
        if self._redis_client is None:
            self._redis_client = Redis.from_url(self.redis_url, retry=Retry(NoBackoff(), 0))
        return self._redis_client

    def stop_redis(self, *, forgets: bool = False) -> None:
        """Stop Redis; workers lose their connection. One that ``forgets`` is a Redis without persistence."""
        if forgets:
            self.before_redis_forgets()
        self._close_clients()
        assert PrivateRedis(self.folder / "redis").stop()
        for worker in self.workers:
            worker.lose_connection()
        if forgets:
            (self.folder / "redis" / "appendonly.aof").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "redis" / "appendonlydir", ignore_errors=True)  # Redis 7

    def before_redis_forgets(self) -> None:
        """Let no task be unreachable and without a trace: one that was received has begun a moment later."""
        for worker in self.workers:
            if not worker.answers:
                self._begin(worker)

    def start_redis(self) -> None:
        """Start Redis again, and let all workers reconnect: a worker without a connection is as good as dead."""
        assert PrivateRedis(self.folder / "redis", persistence=True).start().url == self.redis_url
        for worker in self.workers:
            worker.connect()

    def stop_postgres(self) -> None:
        self._close_clients()
        assert PrivatePostgres(self.folder / "postgres").stop()

    def start_postgres(self) -> None:
        assert PrivatePostgres(self.folder / "postgres", durable=False).start().url == self.database_url

    def close(self) -> None:
        super().close()
        self.kill_workers()
        self._close_clients()
        self._runner.close()

    def _close_clients(self) -> None:
        """Close every connection of the test's own."""
        forget(self.database_url)
        self._session = None
        self._runner.run(self._closing.aclose())
        if self._celery is not None:
            with suppress(RedisError, OSError):
                self._celery.close()
            self._celery = None
        if self._redis_client is not None:
            self._redis_client.close()
            self._redis_client.connection_pool.disconnect()
            self._redis_client = None

    # --- state --------------------------------------------------------------------------------------------

    def dump(self) -> tuple[Any, ...]:
        """Everything that a dry run must leave alone."""
        orders = self.sql("SELECT o::text FROM site_orders o ORDER BY id")
        log = self.sql("SELECT l::text FROM site_generation_logs l ORDER BY id")
        files = sorted(str(path) for path in self.sites_dir.rglob("*"))
        return orders, log, self.dump_queue(), files

    def dump_queue(self) -> Any:
        return self.client.lrange(QUEUE, 0, -1), self.client.hgetall("unacked")

    def observe(self, also: Collection[int] = ()) -> Snapshot:
        """sitegenctl's snapshot, over connections that are kept as long as the servers run."""

        async def run() -> Snapshot:
            if self._session is None:
                self._session = await self._closing.enter_async_context(open_session(self.settings(), "observe"))
            return await observe_open(self._session, check_hollow=True, also=also)

        return self._runner.run(run())

    def facts(self, order_ids: Collection[int]) -> Mapping[int, OrderFacts]:
        """What an undo must leave as it was before the operation."""
        snapshot = self.observe(order_ids)
        return {
            order_id: OrderFacts(
                status=str(order.label),
                resumes=[task.resume for task in snapshot.tasks_of(order_id)],
                files={path: (self.site(order_id) / path).read_text() for path in self.site_files(order_id)},
                attempts=order.history.attempts,
                is_held=order.is_held,
            )
            for order_id in order_ids
            if (order := snapshot.orders.get(order_id)) is not None
        }

    def order_status(self, order_id: int) -> str | None:
        rows = self.sql("SELECT status::text FROM site_orders WHERE id = $1", order_id)
        return rows[0]["status"] if rows else None

    def is_ready(self, order_id: int) -> bool:
        """Whether its onboarding is complete."""
        return bool(self.sql("SELECT FROM site_onboardings WHERE order_id = $1 AND is_complete", order_id))

    def made_by(self, order_id: int) -> str | None:
        """The mark of the order's site, if the site is complete."""
        return _mark(self.site(order_id))

    def complete_sites(self) -> set[str]:
        """The marks of complete sites, in their places or in the trash."""
        trash = self.sites_dir / ".trash"
        folders = [*self.sites_dir.glob("project_*"), *(trash.iterdir() if trash.exists() else ())]
        return {mark for folder in folders if (mark := _mark(folder)) is not None}

    def newest_log_id(self) -> int:
        return int(self.sql("SELECT coalesce(max(id), 0) FROM site_generation_logs")[0][0])

    def unfinished(self) -> Sequence[Held]:
        """Every task that is not finished, as Redis has it: in the queue or delivered and not acknowledged."""
        queued = map(json.loads, self.client.lrange(QUEUE, 0, -1))
        delivered = (json.loads(raw)[0] for raw in self.client.hvals("unacked"))
        return [Held(message=message) for message in (*queued, *delivered)]

    def live(self) -> Counter[int | None]:
        """How many tasks each order has: its messages, and what workers hold without an entry in ``unacked``."""
        # One id may be delivered twice under one tag: there are as many deliveries as workers that have it.
        delivered = Counter(json.loads(raw)[0]["headers"]["id"] for raw in self.client.hvals("unacked"))
        tasks = [*self.unfinished()]
        for held in (held for worker in self.workers for held in worker.claimed):
            if delivered[held.task_id]:
                delivered[held.task_id] -= 1
            else:
                tasks.append(held)
        return Counter(held.order_id for held in tasks if held.name == TASK)

    def unreachable_orders(self) -> set[int | None]:
        """The orders with a task at a worker that does not respond."""
        return {held.order_id for worker in self.workers if not worker.answers for held in worker.claimed}

    def forgotten(self) -> list[Held]:
        """Tasks that workers hold and Redis does not know."""
        known = {held.task_id for held in self.unfinished()}
        return [held for worker in self.workers for held in worker.claimed if held.task_id not in known]

    def next_order(self, worker: SimulatedWorker) -> int | None:
        """The order whose task the worker runs, or would take next."""
        if worker.running is not None:
            return worker.running.order_id
        raw = self.client.lindex(QUEUE, -1)
        return Held(message=json.loads(raw)).order_id if raw is not None else None

    def orphans(self) -> list[Held]:
        """Tasks that were delivered and that no living worker holds."""
        claimed = {held.task_id for worker in self.workers for held in worker.claimed}
        delivered = (Held(message=json.loads(raw)[0]) for raw in self.client.hvals("unacked"))
        orphans = [held for held in delivered if held.task_id not in claimed and held.tag not in self.really_held]
        return sorted(orphans, key=lambda held: held.task_id)

    # --- the backend and customers ------------------------------------------------------------------------

    def move(self, order_id: int, after: str) -> None:
        before = self.order_status(order_id)
        self.moves.append(Move(order_id=order_id, before=before, after=after, after_log_id=self.newest_log_id()))
        self.sql(
            "UPDATE site_orders SET status = $2::text::siteorderstatus, updated_at = timezone('utc', now())"
            " WHERE id = $1",
            order_id,
            after,
        )

    def send(self, order_id: int) -> None:
        """Publish as the backend does: with Celery."""
        self.send_task(TASK, args=[order_id], kwargs={"resume": True})
        if self.meddling:
            self.meddled.add(order_id)
        if self.meddling or self.live()[order_id] > 1:
            self.doubled.add(order_id)

    def send_task(self, name: str, **options: Any) -> None:
        if self._celery is None:
            self._celery = Celery(broker=self.redis_url, set_as_current=False)
        self._celery.send_task(name, queue=QUEUE, **{"task_id": self.new_id(), **options})

    def backend_generates(self, order_id: int, *, publishes: bool = True) -> None:
        """The backend's button: commit GENERATING, then publish, unless that fails."""
        if self.order_status(order_id) == "BUILDING":
            self.move(order_id, "GENERATING")
            if publishes:
                self.send(order_id)

    def backend_resets(self, order_id: int) -> None:
        """The backend's own reset: BUILDING and a task; then beat sees BUILDING, and publishes another."""
        if self.order_status(order_id) in ("BUILDING", "GENERATING"):
            self.move(order_id, "BUILDING")
            self.send(order_id)
            self.beat_runs(only=order_id)

    def beat_runs(self, only: int | None = None) -> None:
        """Start every BUILDING order with a complete onboarding, whether it has a task or not."""
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

    # --- workers ------------------------------------------------------------------------------------------

    def start_worker(self) -> SimulatedWorker:
        worker = SimulatedWorker(name=f"celery@host{next(self._names)}", url=self.redis_url)
        worker.connect()
        self.workers.append(worker)
        return worker

    def kill_worker(self, worker: SimulatedWorker) -> None:
        self.workers.remove(worker)
        worker.die()

    def kill_workers(self) -> None:
        while self.workers:
            self.workers.pop().die()

    def start_real_worker(self) -> Running:
        """Start a process that takes a task, if there is one, and runs it for longer than the test."""
        process = self.worker("-c", "1", "--pace", "60s")
        eventually(lambda: self.client.hlen("unacked") or not self.client.llen(QUEUE))
        self.really_held = {tag.decode() for tag in self.client.hkeys("unacked")}
        return process

    def kill_real_worker(self, process: Running) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.really_held = set()

    def step(self, worker: SimulatedWorker, step: str, *, files: int = 2) -> None:
        """Have the worker take one step, if its state allows it."""
        if worker not in self.workers:
            return
        if step == "take":
            if worker.takes:
                worker.take()
        elif step == "die":
            self.kill_worker(worker)
        elif (held := worker.running) is not None:
            if not held.begun:
                self.work(worker, files=files)
            if worker.running is held and step.startswith("finish"):
                self.finish(worker, dies=step.endswith("die"))
            elif worker.running is held and step != "work":
                self.fail(worker, retries=step == "retry", dies=step.endswith("die"))
        self._remove_gone()

    def _remove_gone(self) -> None:
        self.workers[:] = [worker for worker in self.workers if not worker.is_gone]

    def work(self, worker: SimulatedWorker, *, files: int = 2) -> None:
        """Run the worker's task up to its first rows and files, or to its end where there is nothing to do."""
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
            site = self.site(order_id)
            keeps = held.resumes and site.exists() and len(list(site.iterdir())) >= 5
            self.row(order_id, "RESUME" if keeps else "START")
            if not keeps:
                self._clear(order_id)
                self.files(order_id, files)

    def make_site(self, order_id: int) -> None:
        """Write a complete site."""
        self._clear(order_id)
        mark = self.new_id()
        self.files(order_id, _SITE_FILES - 1)
        (self.site(order_id) / _MARK).write_text(mark)
        self.finished[mark] = order_id

    def _clear(self, order_id: int) -> None:
        """Remove the order's site; a complete one goes to the trash."""
        if self.made_by(order_id) is not None:
            trash = self.sites_dir / ".trash"
            trash.mkdir(exist_ok=True)
            self.site(order_id).rename(trash / f"by-worker-{self.new_id()}")
        shutil.rmtree(self.site(order_id), ignore_errors=True)

    def finish(self, worker: SimulatedWorker, *, dies: bool = False) -> None:
        """Have the worker's task succeed; the worker may die before it acknowledges."""
        assert worker.running is not None
        order_id = worker.running.order_id
        assert order_id is not None
        if self.order_status(order_id) in ("BUILDING", "GENERATING"):
            if self.made_by(order_id) is None:
                self.make_site(order_id)
            self.move(order_id, "REVIEW")
            self.row(order_id, "SUCCESS")
        else:
            self.row(order_id, "SKIP")
        self.end(worker, dies=dies)

    def fail(self, worker: SimulatedWorker, *, retries: bool, dies: bool = False) -> None:
        """Have the worker's task fail; where it ``retries``, the next attempt is published before this one ends."""
        held = worker.running
        assert held is not None
        assert held.order_id is not None
        self.row(held.order_id, "ERROR")
        # If the delivery can't be acknowledged any more, a retry would be a second message under the same id, which
        # looks the same as a retry in transit.
        if retries and held.acknowledgeable and held.retries < 3:
            args, kwargs = held.arguments
            # Longer than any example takes: `an_hour_passes` makes it due.
            eta = datetime.now(UTC) + timedelta(hours=1)
            self.send_task(TASK, args=args, kwargs=kwargs, task_id=held.task_id, retries=held.retries + 1, eta=eta)
        self.end(worker, dies=dies and not retries)

    def end(self, worker: SimulatedWorker, *, dies: bool) -> None:
        if dies:
            self.kill_worker(worker)
        else:
            worker.end()

    def row(self, order_id: int, step: str) -> None:
        statement = "INSERT INTO site_generation_logs (order_id, step, message) VALUES ($1, $2, 'simulated')"
        self.sql(statement, order_id, step)

    def make_unreachable(self, worker: SimulatedWorker, *, shuts_down: bool) -> None:
        """Have a worker go on without remote control; one that shuts down ends when its task has ended."""
        self._begin(worker)
        if shuts_down:
            worker.shut_down()
        else:
            worker.become_unreachable()
        self._remove_gone()

    def lose(self, worker: SimulatedWorker) -> None:
        """Have a worker lose its connection to Redis for so long that it looks dead."""
        self._begin(worker)
        worker.lose_connection()

    def _begin(self, worker: SimulatedWorker) -> None:
        while worker.running is not None and not worker.running.begun:
            self.work(worker)

    # --- time and messages --------------------------------------------------------------------------------

    def an_hour_passes(self) -> None:
        """Scheduled tasks become due, and kombu requeues what was not acknowledged."""
        for worker in self.workers:
            worker.make_due()
        for orphan in self.orphans():
            self._requeue(orphan)

    def _requeue(self, held: Held) -> None:
        self.client.hdel("unacked", held.tag)
        self.client.zrem("unacked_index", held.tag)
        self.client.rpush(QUEUE, json.dumps(held.message))

    def clock_step(self, step: timedelta) -> None:
        """Shift every stored time by ``step`` into the past; a negative step is a clock set back.

        A run at an unreachable worker comes to its time limit.
        """
        self.sql(
            "UPDATE site_orders SET created_at = created_at - $1::interval, updated_at = updated_at - $1::interval,"
            " onboarding_completed_at = onboarding_completed_at - $1::interval",
            step,
        )
        self.sql("UPDATE site_generation_logs SET created_at = created_at - $1::interval", step)
        for tag, score in self.client.zrange("unacked_index", 0, -1, withscores=True):
            self.client.zadd("unacked_index", {tag: score - step.total_seconds()})
            message, *rest = json.loads(self.client.hget("unacked", tag))
            if message["headers"]["eta"] is not None:
                eta = datetime.fromisoformat(message["headers"]["eta"]) - step
                message["headers"]["eta"] = eta.isoformat()
                self.client.hset("unacked", tag, json.dumps([message, *rest]))
        if step > DEFAULT_HARD_LIMIT:
            for worker in self.workers:
                while not worker.answers and worker.running is not None:
                    worker.exceed_limit()
            self._remove_gone()

    def redeliver(self, worker: SimulatedWorker) -> None:
        """Requeue the worker's running task, as after the visibility timeout."""
        held = worker.running
        if held is not None and self.client.hexists("unacked", held.tag):
            self._requeue(held)
            self._note_copy(held)

    def push_again(self) -> None:
        """Have a publisher push its newest message a second time."""
        raw = self.client.lindex(QUEUE, 0)
        if raw is not None:
            self.client.lpush(QUEUE, raw)
            self._note_copy(Held(message=json.loads(raw)))

    def _note_copy(self, held: Held) -> None:
        if held.name == TASK and held.order_id is not None:
            self.doubled.add(held.order_id)

    def revoke_by_another_client(self) -> None:
        """Have another client revoke the next task of the queue: workers that are reached will discard it."""
        raw = self.client.lindex(QUEUE, -1)
        if raw is not None:
            for worker in self.workers:
                if worker.answers:
                    worker.revoked.add(Held(message=json.loads(raw)).task_id)

    def leave_behind(self, order_id: int) -> None:
        """Have the order's message delivered to a worker that has died since."""
        for raw in self.client.lrange(QUEUE, 0, -1):
            held = Held(message=json.loads(raw))
            if held.order_id == order_id:
                self.client.lrem(QUEUE, 1, raw)
                self.client.hset("unacked", held.tag, json.dumps([held.message, "", QUEUE]))
                self.client.zadd("unacked_index", {held.tag: time.time()})


def _mark(folder: Path) -> str | None:
    mark = folder / _MARK
    return mark.read_text() if mark.exists() and len(list(folder.iterdir())) == _SITE_FILES else None


@contextmanager
def simulated_system(folder: Path, kind: type[SimulatedSystem] = SimulatedSystem) -> Iterator[SimulatedSystem]:
    """A system with servers of its own, empty."""
    with (
        PrivateRedis(folder / "redis", persistence=True).running() as redis,
        PrivatePostgres(folder / "postgres", durable=False).running() as postgres,
    ):
        asyncio.run(create_schema(postgres.url))
        sites_dir = folder / "sites"
        sites_dir.mkdir()
        system = kind(database_url=postgres.url, redis_url=redis.url, sites_dir=sites_dir)
        try:
            yield system
        finally:
            system.close()
