"""Simulated workers, as Redis and their clients see them: the test decides every step.

`SimulatedWorker` takes messages and acknowledges them as kombu does, holds them as a prefork worker with one process
does, and answers remote control from a thread. It does not run the task.
"""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from sitegenctl.adapters.celery.codec import ACTOR_HEADER
from tests.support.world import QUEUE

# redis 4.6 has no such option, and speaks nothing else.
_PROTOCOL: dict[str, Any] = {"protocol": 2} if redis.VERSION >= (5,) else {}
_pids = itertools.count(100_000)


@dataclass(eq=False, repr=False)
class ConnectedWorker:
    """A worker's connection to Redis, and a thread that passes messages of its channel to ``_receive``."""

    name: str
    url: str
    is_gone: bool = False
    _client: Redis | None = None
    _thread: threading.Thread | None = None
    _unsubscribed: threading.Event = field(default_factory=threading.Event)

    def __repr__(self) -> str:
        return self.name

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    @property
    def redis(self) -> Redis:
        assert self._client is not None, f"{self.name} is not connected"
        return self._client

    def _receive(self, message: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _connect(self, channel: str) -> None:
        """Connect and subscribe to the channel."""
        self._client = Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), **_PROTOCOL)
        pubsub = self._client.pubsub()
        pubsub.subscribe(channel, f"own.{self.name}")
        for _ in range(2):
            assert pubsub.get_message(timeout=10)
        self._thread = threading.Thread(target=self._listen, args=(pubsub, channel), name=self.name)
        self._thread.start()

    def _unsubscribe(self) -> None:
        """Lose the subscription and nothing else: remote control does not reach it until it connects again."""
        self._unsubscribed.clear()
        self._signal("unsubscribe")
        assert self._unsubscribed.wait(10)

    def _disconnect(self) -> None:
        self._signal("leave")
        if self._thread is not None:
            self._thread.join(timeout=10)
            assert not self._thread.is_alive()
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
        self._thread = self._client = None

    def _signal(self, command: str) -> None:
        with suppress(RedisError), Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client:
            client.publish(f"own.{self.name}", command)

    def _listen(self, pubsub: PubSub, channel: str) -> None:
        with suppress(RedisError, OSError):
            for item in pubsub.listen():
                if item["type"] == "unsubscribe":
                    self._unsubscribed.set()
                elif item["type"] == "message" and item["channel"] == channel.encode():
                    self._receive(item)
                elif item["type"] == "message":
                    pubsub.unsubscribe(*(() if item["data"] == b"leave" else (channel,)))
        pubsub.close()


@dataclass(eq=False)
class Held:
    """A message that a worker holds; it can't be acknowledged once the connection that delivered it is lost."""

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
class SimulatedWorker(ConnectedWorker):
    """A Celery worker with one process: one task runs at most, one is reserved, any number waits for its ETA."""

    running: Held | None = None
    reserved: list[Held] = field(default_factory=list)
    scheduled: list[Held] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    consumes: bool = True
    silent: bool = False
    is_reachable: bool = True  # by remote control
    shutting_down: bool = False
    _pid: int = field(default_factory=lambda: next(_pids))

    @property
    def answers(self) -> bool:
        """Whether remote control reaches it and it responds."""
        return self.is_connected and self.is_reachable and not self.silent

    def connect(self) -> None:
        """Connect, also again after the connection was lost."""
        self._connect("/0.celery.pidbox")
        self.is_reachable = True
        if self.shutting_down:
            self.become_unreachable()

    def become_unreachable(self) -> None:
        """Go on without remote control: cut off by a NAT, switched off, or on an exchange of its own."""
        if self.is_reachable:
            self._unsubscribe()
        self.is_reachable = False

    def shut_down(self) -> None:
        """Stop as on TERM: no remote control and no new task; what runs goes on, what waits is requeued at the end."""
        self.become_unreachable()
        self.shutting_down = True
        self.consumes = False
        if self.running is None:
            self._exit()

    def _exit(self) -> None:
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
        self._disconnect()
        self.reserved.clear()
        self.scheduled.clear()
        if self.running:
            self.running.acknowledgeable = False

    def die(self) -> None:
        """End at once; what was delivered stays in ``unacked``."""
        self._disconnect()
        self.running = None

    @property
    def held(self) -> list[Held]:
        return [*([self.running] if self.running else []), *self.reserved, *self.scheduled]

    @property
    def claimed(self) -> list[Held]:
        """The tasks that it reports and will run: a revoked one is dropped when its turn comes."""
        return [held for held in self.held if held is self.running or held.task_id not in self.revoked]

    @property
    def takes(self) -> bool:
        """Whether it would take a message now: prefetch is one for each process, and one that runs counts."""
        return self.consumes and not self.silent and not self.reserved

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

    def make_due(self) -> None:
        """Let the ETA of its scheduled tasks have come."""
        self.reserved += self.scheduled
        self.scheduled.clear()
        self._start_next()

    def end(self) -> None:
        """End the running task, and start the next."""
        assert self.running is not None
        ended, self.running = self.running, None
        self._acknowledge(ended)
        if self.shutting_down:
            self._exit()
        else:
            self._start_next()

    def exceed_limit(self) -> None:
        """Have the hard time limit end what runs: the process is killed, and the result is FAILURE."""
        if self.running is not None:
            self._store_result(self.running, "FAILURE")
            self.end()

    def _acknowledge(self, held: Held) -> None:
        if held.acknowledgeable:
            self.redis.hdel("unacked", held.tag)
            self.redis.zrem("unacked_index", held.tag)

    def _store_result(self, held: Held, status: str) -> None:
        if self.is_connected:
            result = {"status": status, "result": None, "task_id": held.task_id}
            self.redis.set(f"celery-task-meta-{held.task_id}", json.dumps(result), ex=24 * 3600)

    def _start(self, held: Held) -> None:
        if held.task_id in self.revoked:
            self._store_result(held, "REVOKED")
            self._acknowledge(held)
        else:
            self.running = held

    def _start_next(self) -> None:
        while self.running is None and self.reserved:
            self._start(self.reserved.pop(0))

    # --- remote control -----------------------------------------------------------------------------------

    def _receive(self, message: Mapping[str, Any]) -> None:
        if self.silent:
            return
        request = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
        if request["destination"] is not None and self.name not in request["destination"]:
            return
        methods: dict[str, Callable[..., Any]] = {
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
            "cancel_consumer": lambda queue: self._set_consumes(queue, False),
            "add_consumer": lambda queue: self._set_consumes(queue, True),
        }
        # Celery goes on where Redis has no memory for an answer.
        with suppress(ResponseError):
            answer = methods[request["method"]](**request["arguments"])
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
        pool = {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 1, "processes": [self._pid]}
        return {"pid": 1, "pool": pool, "total": {}, "uptime": 60, "prefetch_count": 1}

    def _revoke(self, task_id: list[str], terminate: bool = False, signal: str | None = None) -> dict[str, Any]:
        self.revoked.update(task_id)
        if terminate and self.running and self.running.task_id in task_id:
            # The process is killed and another forked; the task counts as done.
            self._pid = next(_pids)
            self.end()
        return {"ok": "revoked"}

    def _set_consumes(self, queue: str, consumes: bool) -> dict[str, Any]:
        assert queue == QUEUE
        self.consumes = consumes
        return {"ok": f"{'added' if consumes else 'no longer consuming from'} {queue}"}
