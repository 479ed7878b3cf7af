"""A Celery worker as Redis and whoever asks it see one, whose every step is the test's to decide.

It takes messages and acknowledges them as kombu does, holds them as a prefork worker with one process does, and
answers remote control from a thread. What a task does when it runs is not its business.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import ResponseError

from sitegenctl.adapters.celery.codec import ACTOR_HEADER
from tests.support.connected import Connected
from tests.support.world import QUEUE

_CHANNEL = "/0.celery.pidbox"
_pids = itertools.count(100_000)


@dataclass(eq=False)
class Held:
    """A message in a worker's hands; what was delivered over a connection that is lost can't be acknowledged."""

    message: Mapping[str, Any]
    acknowledgeable: bool = True
    begun: bool = False  # its run has rows in the log

    @property
    def task_id(self) -> str:
        return str(self.message["headers"]["id"])

    @property
    def name(self) -> str:
        return str(self.message["headers"]["task"])

    @property
    def is_ours(self) -> bool:
        """Whether sitegenctl has published it."""
        return ACTOR_HEADER in self.message["headers"]

    @property
    def tag(self) -> str:
        return str(self.message["properties"]["delivery_tag"])

    @property
    def retries(self) -> int:
        return int(self.message["headers"]["retries"])

    @property
    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs, _ = json.loads(base64.b64decode(self.message["body"]))
        return args, kwargs

    @property
    def order_id(self) -> int | None:
        args, _ = self.arguments
        return args[0] if args else None

    @property
    def resumes(self) -> bool:
        return bool(self.arguments[1].get("resume", True))

    @property
    def is_due(self) -> bool:
        eta = self.message["headers"]["eta"]
        return eta is None or datetime.fromisoformat(eta).astimezone(UTC) <= datetime.now(UTC)


@dataclass(eq=False, repr=False)
class SimulatedWorker(Connected):
    """One process's worth of worker: at most one task runs, one is reserved, any number waits for its ETA."""

    running: Held | None = None
    reserved: list[Held] = field(default_factory=list)
    scheduled: list[Held] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    consumes: bool = True
    silent: bool = False
    is_heard: bool = True  # remote control reaches it
    shutting_down: bool = False
    is_gone: bool = False
    _pid: int = field(default_factory=lambda: next(_pids))

    # --- its connection -----------------------------------------------------------------------------------

    @property
    def answers(self) -> bool:
        """Whether remote control reaches it and it responds."""
        return self.is_connected and self.is_heard and not self.silent

    def connect(self) -> None:
        """Come up, or come back after the connection was lost."""
        self._come(_CHANNEL)
        self.is_heard = True
        if self.shutting_down:
            self.stop_hearing()

    def stop_hearing(self) -> None:
        """Go on without remote control: cut off by a NAT, switched off, or on an exchange of its own."""
        if self.is_heard:
            super().stop_hearing()
        self.is_heard = False

    def shut_down(self) -> None:
        """As on TERM: stop hearing and consuming at once; what runs goes on, what waits is given back at the end."""
        self.stop_hearing()
        self.shutting_down = True
        self.consumes = False
        if self.running is None:
            self._exit()

    def _exit(self) -> None:
        """Give back what waits, and be gone."""
        for held in (*self.reserved, *self.scheduled):
            if held.acknowledgeable and self.redis.hdel("unacked", held.tag):
                self.redis.zrem("unacked_index", held.tag)
                self.redis.rpush(QUEUE, json.dumps(held.message))
        self.reserved.clear()
        self.scheduled.clear()
        self.die()
        self.is_gone = True

    def lose_connection(self) -> None:
        """As Celery does when Redis goes: what runs goes on, what waits is forgotten, nothing can be acknowledged."""
        self._leave()
        self.reserved.clear()
        self.scheduled.clear()
        if self.running:
            self.running.acknowledgeable = False

    def die(self) -> None:
        """Be gone at once; what was delivered stays in ``unacked``."""
        self._leave()
        self.running = None

    # --- its tasks ----------------------------------------------------------------------------------------

    @property
    def held(self) -> list[Held]:
        return [*([self.running] if self.running else []), *self.reserved, *self.scheduled]

    @property
    def claimed(self) -> list[Held]:
        """What it says it holds and will run: what is revoked is dropped when its turn comes."""
        return [held for held in self.held if held is self.running or held.task_id not in self.revoked]

    @property
    def takes(self) -> bool:
        """Whether it would take a message now: prefetch is one for each process, and one that runs counts."""
        return self.consumes and not self.silent and len(self.reserved) < 1

    def take(self) -> Held | None:
        """Have the next message delivered."""
        raw = self.redis.rpop(QUEUE)
        if raw is None:
            return None
        held = Held(message=json.loads(raw))
        self.redis.hset("unacked", held.tag, json.dumps([held.message, "", QUEUE]))
        self.redis.zadd("unacked_index", {held.tag: time.time()})
        if not held.is_due:
            self.scheduled.append(held)
        elif self.running is None:
            self._start(held)
        else:
            self.reserved.append(held)
        return held

    def ripen(self) -> None:
        """Let the ETA of what it holds for later have come."""
        self.reserved += self.scheduled
        self.scheduled.clear()
        self._go_on()

    def end(self) -> Held:
        """Be through with the task that runs, and go on with the next."""
        assert self.running is not None
        ended, self.running = self.running, None
        self.acknowledge(ended)
        if self.shutting_down:
            self._exit()
        else:
            self._go_on()
        return ended

    def acknowledge(self, held: Held) -> None:
        if held.acknowledgeable:
            self.redis.hdel("unacked", held.tag)
            self.redis.zrem("unacked_index", held.tag)

    def exceed_limit(self) -> None:
        """Have the hard time limit end what runs: the process is killed, and the result is FAILURE."""
        if self.running is not None:
            self.store_result(self.running, "FAILURE")
            self.end()

    def store_result(self, held: Held, status: str) -> None:
        if self.is_connected:
            result = {"status": status, "result": None, "task_id": held.task_id}
            self.redis.set(f"celery-task-meta-{held.task_id}", json.dumps(result), ex=24 * 3600)

    def _start(self, held: Held) -> None:
        if held.task_id in self.revoked:
            self.store_result(held, "REVOKED")
            self.acknowledge(held)
        else:
            self.running = held

    def _go_on(self) -> None:
        while self.running is None and self.reserved:
            self._start(self.reserved.pop(0))

    # --- what it answers ----------------------------------------------------------------------------------

    def _hear(self, message: Mapping[str, Any]) -> None:
        if not self.silent:
            # Where Redis has no memory for an answer, Celery goes on without.
            with suppress(ResponseError):
                self._answer(json.loads(message["data"]))

    def _answer(self, message: Mapping[str, Any]) -> None:
        request = json.loads(base64.b64decode(message["body"]))
        if request["destination"] is not None and self.name not in request["destination"]:
            return
        known: dict[str, Callable[..., Any]] = {
            "active": lambda: [self._info(self.running)] if self.running else [],
            "reserved": lambda: [self._info(held) for held in self.reserved],
            "scheduled": lambda: [
                {"eta": held.message["headers"]["eta"], "priority": 6, "request": self._info(held)}
                for held in self.scheduled
            ],
            "revoked": lambda: sorted(self.revoked),
            "revoke": self._revoke,
            "stats": self._stats,
            "active_queues": lambda: [{"name": QUEUE}] if self.consumes else [],
            "registered": list,
            "report": lambda: {"ok": "software -> celery:5.3.4 (emerald-rush)"},
            "cancel_consumer": lambda queue: self._consume(queue, False),
            "add_consumer": lambda queue: self._consume(queue, True),
        }
        answer = known[request["method"]](**request["arguments"])
        reply = {
            "body": base64.b64encode(json.dumps({self.name: answer}).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"ticket": request["ticket"], "clock": 1},
            "properties": {"delivery_mode": 1, "body_encoding": "base64"},
        }
        to = request["reply_to"]
        self.redis.lpush(f"{to['routing_key']}.{to['exchange']}", json.dumps(reply))

    def _info(self, held: Held) -> dict[str, Any]:
        args, kwargs = held.arguments
        is_running = held is self.running
        return {
            "id": held.task_id,
            "name": held.name,
            "args": args,
            "kwargs": kwargs,
            "hostname": self.name,
            "time_start": time.time() if is_running else None,
            "acknowledged": False,
            "worker_pid": self._pid if is_running else None,
        }

    def _stats(self) -> dict[str, Any]:
        pool = {
            "implementation": "celery.concurrency.prefork:TaskPool",
            "max-concurrency": 1,
            "processes": [self._pid],
        }
        return {"pid": 1, "pool": pool, "total": {}, "uptime": 60, "prefetch_count": 1}

    def _revoke(self, task_id: list[str], terminate: bool = False, signal: str | None = None) -> dict[str, Any]:
        self.revoked.update(task_id)
        if terminate and self.running and self.running.task_id in task_id:
            # The process is killed and another forked; the task counts as done.
            self._pid = next(_pids)
            self.end()
        return {"ok": "revoked"}

    def _consume(self, queue: str, consumes: bool) -> dict[str, Any]:
        assert queue == QUEUE
        self.consumes = consumes
        return {"ok": f"{'added' if consumes else 'no longer consuming from'} {queue}"}
