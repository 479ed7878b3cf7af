"""The system that operators work on, with everything in it that moves by itself: servers, workers, backend, people.

On servers of its own, which can be restarted and made to forget. What happens here is what the system does without
sitegenctl; each change of an order's status is written down, so that those that are left must be an operator's.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT
from tests.support.processes import Running
from tests.support.servers import MARK, WHOLE, Database, OwnServers
from tests.support.simulated_worker import Held, SimulatedWorker
from tests.support.world import QUEUE, TASK, create_schema, eventually

BEAT = "app.tasks.auto_start_stuck_orders.check_and_start_stuck_orders"
_MAX_RETRIES = 3
_BACKOFF = timedelta(hours=1)  # no example takes so long: a retry's time comes where a test says so


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of an order's status that no operator made; ``after_log_id`` is the newest log row at that time."""

    order_id: int
    before: str | None
    after: str
    after_log_id: int


@dataclass
class LivingSystem(OwnServers):
    """The whole system, and what others than operators have done to it since it was empty."""

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
    _names: Iterator[int] = field(default_factory=itertools.count, kw_only=True)
    #: What ids are made of: tasks are put into order by them, and the same choices must lead to the same orders.
    _random: random.Random = field(default_factory=random.Random, kw_only=True)

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
        self._names = itertools.count()
        self._random.seed(0)

    def new_id(self) -> str:
        """An id as Celery makes them, which comes again when all begins anew."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    # --- what is there ------------------------------------------------------------------------------------

    def unfinished(self) -> Sequence[Held]:
        """Every task that is not finished, as Redis has it."""
        return [Held(message=message) for message in self.messages()]

    def messages(self) -> list[dict[str, Any]]:
        """Every message that is not acknowledged, in the queue or delivered."""
        queued = self.client.lrange(QUEUE, 0, -1)
        delivered = [json.dumps(json.loads(raw)[0]).encode() for raw in self.client.hvals("unacked")]
        return [json.loads(raw) for raw in (*queued, *delivered)]

    def live(self) -> Counter[int | None]:
        """How many tasks each order has: its messages, and what workers hold though it waits in no ``unacked``."""
        known = self.unfinished()
        # One id may be delivered twice under one tag: there are as many deliveries as workers that have it.
        delivered = Counter(json.loads(raw)[0]["headers"]["id"] for raw in self.client.hvals("unacked"))
        apart = []
        for held in (held for worker in self.workers for held in worker.claimed):
            if delivered[held.task_id]:
                delivered[held.task_id] -= 1
            else:
                apart.append(held)
        return Counter(held.order_id for held in (*known, *apart) if held.name == TASK)

    def out_of_reach(self) -> set[int | None]:
        """The orders of which a task is at a worker that does not respond."""
        return {held.order_id for worker in self.workers if not worker.answers for held in worker.claimed}

    def forgotten(self) -> list[Held]:
        """What workers hold though Redis knows nothing of it."""
        known = {message["headers"]["id"] for message in self.messages()}
        return [held for worker in self.workers for held in worker.claimed if held.task_id not in known]

    def at_hand(self, worker: SimulatedWorker) -> int | None:
        """The order whose task the worker runs, or would take next."""
        if worker.running is not None:
            return worker.running.order_id
        raw = self.client.lindex(QUEUE, -1)
        return Held(message=json.loads(raw)).order_id if raw is not None else None

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
        self.celery.send_task(name, queue=QUEUE, **{"task_id": self.new_id(), **options})

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
    def real_worker(self) -> Iterator[Running]:
        """A process that has taken a task, if there is one, and will be at it for longer than anybody looks."""
        process = self.worker("-c", "1", "--pace", "60s")
        delivered = eventually(lambda: self.client.hkeys("unacked") or not self.client.llen(QUEUE))
        self.really_held = {tag.decode() for tag in delivered} if isinstance(delivered, list) else set()
        try:
            yield process
        finally:
            self.really_held = set()

    def step(self, worker: SimulatedWorker, step: str, *, files: int = 2) -> None:
        """One step of a worker, as far as it is in a state for it."""
        if worker not in self.workers:
            return
        self._step(worker, step, files=files)
        if worker.is_gone:
            self.workers.remove(worker)

    def _step(self, worker: SimulatedWorker, step: str, *, files: int) -> None:
        if step == "take":
            if worker.takes:
                worker.take()
            return
        if step == "die":
            self.kill(worker)
            return
        if worker.running is None:
            return
        if not worker.running.begun:
            held = worker.running
            self.work(worker, files=files)
            if worker.running is not held:
                return
        if step.startswith("finish"):
            self.finish(worker, dies=step.endswith("die"))
        elif step != "work":
            self.fail(worker, retries=step == "retry", dies=step.endswith("die"))

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
        made_by = self.new_id()
        self._write(order_id, WHOLE - 1)
        (self.site(order_id) / MARK).write_text(made_by)
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
                eta=datetime.now(UTC) + _BACKOFF,
            )
        self._end(worker, dies=dies and not retries)

    def an_hour_passes(self) -> None:
        """What waits for its ETA comes to its turn, and kombu gives back what nobody has acknowledged."""
        for worker in self.workers:
            worker.ripen()
        for orphan in self.orphans():
            self.client.hdel("unacked", orphan.tag)
            self.client.zrem("unacked_index", orphan.tag)
            self.client.rpush(QUEUE, json.dumps(orphan.message))

    def go_out_of_reach(self, worker: SimulatedWorker, *, shuts_down: bool) -> None:
        """Have a worker go on without remote control; one that shuts down ends when what it runs has ended."""
        self._begin(worker)
        if shuts_down:
            worker.shut_down()
        else:
            worker.stop_hearing()
        if worker.is_gone:
            self.workers.remove(worker)

    def redis_forgets(self) -> None:
        """Let nothing be out of reach and without a trace: a task that was received has begun a moment later."""
        for worker in self.workers:
            if not worker.answers:
                self._begin(worker)

    def _begin(self, worker: SimulatedWorker) -> None:
        while worker.running is not None and not worker.running.begun:
            self.work(worker)

    def clock_step(self, step: timedelta) -> None:
        """Likewise for deliveries; what runs out of reach has come to its time limit."""
        super().clock_step(step)
        for tag, score in self.client.zrange("unacked_index", 0, -1, withscores=True):
            self.client.zadd("unacked_index", {tag: score - step.total_seconds()})
            message, *rest = json.loads(self.client.hget("unacked", tag))
            if message["headers"]["eta"] is not None:
                eta = datetime.fromisoformat(message["headers"]["eta"]) - step
                message["headers"]["eta"] = eta.isoformat()
                self.client.hset("unacked", tag, json.dumps([message, *rest]))
        if step <= DEFAULT_HARD_LIMIT:
            return
        for worker in [worker for worker in self.workers if not worker.answers]:
            while worker.running is not None:
                worker.exceed_limit()
            if worker.is_gone:
                self.workers.remove(worker)

    def redeliver(self, worker: SimulatedWorker) -> None:
        """Have the running task given back to the queue, as after the visibility timeout."""
        held = worker.running
        if held is not None and self.client.hdel("unacked", held.tag):
            self.client.zrem("unacked_index", held.tag)
            self.client.rpush(QUEUE, json.dumps(held.message))
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

    def revoke_elsewhere(self) -> None:
        """Have another client revoke the task that is next in the queue: workers that hear it will discard it."""
        raw = self.client.lindex(QUEUE, -1)
        if raw is not None:
            for worker in self.workers:
                if worker.answers:
                    worker.revoked.add(Held(message=json.loads(raw)).task_id)

    def lose(self, worker: SimulatedWorker) -> None:
        """Have a worker lose its connection to Redis for so long that it looks dead."""
        self._begin(worker)
        worker.lose_connection()

    def kill_really(self, worker: Running) -> None:
        """Kill a real worker, with what it has begun."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

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
            self.site(order_id).rename(trash / f"by-worker-{self.new_id()}")
        shutil.rmtree(self.site(order_id), ignore_errors=True)


@contextmanager
def living_system(folder: Path, kind: type[LivingSystem] = LivingSystem) -> Iterator[LivingSystem]:
    """A system with servers of its own, empty."""
    with (
        PrivateRedis(folder / "redis", persistence=True).running() as redis,
        PrivatePostgres(folder / "postgres", durable=False).running() as postgres,
    ):
        asyncio.run(create_schema(postgres.url))
        sites_dir = folder / "sites"
        sites_dir.mkdir()
        system = kind(
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
