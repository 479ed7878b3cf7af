"""A worker that answers remote control as a test wants it to: what no real one can be brought to do on time."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from redis import Redis

from sitegenctl.adapters.redis.urls import parse_url
from tests.support.world import TASK, World

#: A worker that is idle, and obeys.
IDLE: Mapping[str, Any] = {
    "active": [],
    "reserved": [],
    "scheduled": [],
    "revoked": [],
    "stats": {
        "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 1, "processes": [4711]}
    },
    "revoke": {"ok": "done"},
}


def request(task_id: str, order_id: int = 1) -> dict[str, Any]:
    """A task as a worker reports it."""
    return {"id": task_id, "name": TASK, "args": [order_id], "kwargs": {}, "worker_pid": 4711}


class FakeWorker(threading.Thread):
    """Answers while the block lasts; an answer may be a function of the client and the request's arguments.

    One of None is kept back: to that method the worker is silent.
    """

    def __init__(
        self,
        world: World,
        answers: Mapping[str, Any | Callable[[Redis, Mapping[str, Any]], Any]],
        *,
        name: str = "fake@box",
    ) -> None:
        super().__init__()
        self.name = name
        self._url = world.redis_url
        self.answers = {**IDLE, **answers}
        self._ready = threading.Event()
        self._over = threading.Event()
        self.asked: list[str] = []

    def __enter__(self) -> FakeWorker:
        self.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join(10)

    def run(self) -> None:
        with Redis.from_url(self._url) as client:
            listening = client.pubsub()
            listening.subscribe(f"/{parse_url(self._url).database}.celery.pidbox")
            while not self._over.is_set():
                message = listening.get_message(timeout=0.05)
                if message and message["type"] == "subscribe":
                    self._ready.set()
                elif message:
                    self._answer(client, json.loads(base64.b64decode(json.loads(message["data"])["body"])))
            listening.close()

    def _answer(self, client: Redis, asked: Mapping[str, Any]) -> None:
        if asked["destination"] and self.name not in asked["destination"]:
            return
        self.asked.append(asked["method"])
        # What it doesn't know it refuses, as others do.
        answer = self.answers.get(asked["method"], {"error": f"KeyError({asked['method']!r})"})
        if callable(answer):
            answer = answer(client, asked["arguments"])
        if answer is None:
            return
        body = base64.b64encode(json.dumps({self.name: answer}).encode()).decode()
        message = {"body": body, "headers": {"ticket": asked["ticket"]}, "properties": {}}
        client.lpush(f"{asked['reply_to']['routing_key']}.reply.celery.pidbox", json.dumps(message))
