"""What Celery's workers report of themselves and of the tasks they hold, asked by remote control.

Neither redis-py nor Celery is needed, which makes it quick. The broker's side is in ``queue``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sitegenctl.adapters.broker.json_values import fitting, mapping, mappings, moment, number, sequence, span, text
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.celery.bodies import contained_calls
from sitegenctl.adapters.celery.control import SCAN_COUNT, SCAN_STEPS, Replies, ask_workers
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection, literally, open_connection, own_addresses
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import HeldTask, WorkerDetails, WorkerRoster, WorkerSurvey, survey_of

#: The methods that list the tasks which a worker holds, and the state of a task that each lists.
CLAIMS = {"active": TaskState.RUNNING, "reserved": TaskState.RESERVED, "scheduled": TaskState.SCHEDULED}

#: The methods whose answers ``_details`` reads; only `report` has Celery's version.
_QUESTIONS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled", "report")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A task that a worker reports; ``task_id`` and ``name`` are empty where they are no text.

    ``pid`` is the process that runs it, ``started_at`` by the worker's clock.
    """

    worker: str
    task_id: str
    name: str
    state: TaskState
    args: Any
    kwargs: Any
    eta: datetime | None
    started_at: datetime | None
    pid: int | None

    def order_id(self, task: str) -> int | None:
        """The order that the task is for, if it is ours."""
        return order_of(self.args, self.kwargs) if self.name == task else None


class CeleryWorkers:
    """``WorkerSource`` on Celery's remote control; ``timeout`` is in seconds, for each request.

    ``connection`` lends a connection of the same time limit for one request; by default each request opens its own.
    """

    def __init__(
        self,
        url: str,
        options: QueueOptions,
        *,
        timeout: float,
        connection: Callable[[], AbstractAsyncContextManager[Connection]] | None = None,
    ) -> None:
        self._options = options
        self._connection = connection or partial(open_connection, url, options, timeout=timeout)
        address = parse_url(url)
        self._database = address.database
        #: The channels on which workers listen for remote control.
        self.channels = options.control_channels(self._database, sentinel=bool(address.sentinels))
        #: Seconds that the workers get to reply. Less than the limit of the connection: Redis checks only ten times a
        #: second whether a client has waited long enough.
        self.reply_timeout = timeout - min(0.5, timeout / 2)

    async def ask(
        self,
        methods: Sequence[str],
        *,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        destination: Sequence[str] | None = None,
    ) -> Replies:
        """Send these remote-control methods, with arguments by method, to every living worker, or to those named.

        Returns as soon as all have replied. Raises ``SourceError`` without Redis.
        """
        async with self._connection() as connection:
            return await ask_workers(
                connection,
                methods,
                self._options,
                timeout=self.reply_timeout,
                channels=self.channels,
                arguments=arguments or {},
                destination=destination,
            )

    async def survey(self) -> WorkerSurvey:
        """Ask every worker what it holds."""
        return survey_of(await self._roster([*CLAIMS, "stats"], with_memory=False), task_name=self._options.task)

    async def worker_details(self) -> WorkerRoster:
        """Ask every worker about itself."""
        return await self._roster(_QUESTIONS, with_memory=True)

    async def _roster(self, methods: Sequence[str], *, with_memory: bool) -> WorkerRoster:
        replies = await self.ask(methods)
        # A worker lists revoked tasks until their turn has come. One that holds nothing for later isn't asked for its
        # revokes, which may be many. The others are asked for their tasks once more after the revokes: a task that was
        # revoked after it had started runs on.
        if holding := [name for name, each in replies.answers.items() if each.get("reserved") or each.get("scheduled")]:
            again = await self.ask(["revoked", *CLAIMS], destination=holding)
            filtered = {
                name: {**replies.answers[name], **_not_revoked(reply)}
                for name, reply in again.answers.items()
                if name in replies.answers
            }
            replies = replace(replies, answers={**replies.answers, **filtered})
        skipped: Counter[str] = Counter()
        workers = tuple(
            _details(name, reply, self._options.task, skipped, with_memory=with_memory)
            for name, reply in sorted(replies.answers.items())
        )
        consumers, ever_consumed = await self._consumption(replies)
        return WorkerRoster(
            workers=workers,
            silent=replies.unknown,
            consumers=consumers,
            ever_consumed=ever_consumed,
            skipped=skipped,
        )

    async def revoked(self) -> Mapping[str, frozenset[str]]:
        """The ids of the tasks that each worker will discard."""
        replies = await self.ask(["revoked"])
        return {
            text(name) or "": frozenset(filter(None, map(text, sequence(reply["revoked"]))))
            for name, reply in replies.answers.items()
        }

    async def pause(self, *, method: str = "cancel_consumer") -> Consumers:
        """Have every living worker stop taking tasks from our queue."""
        replies = await self.ask([method], arguments={method: {"queue": self._options.queue}})
        return Consumers(
            acknowledged=sorted(replies.answers), rejected=replies.rejected, unresponsive=replies.unresponsive
        )

    async def resume(self) -> Consumers:
        """Have every living worker take tasks from our queue again."""
        return await self.pause(method="add_consumer")

    async def _consumption(self, replies: Replies) -> tuple[int | None, bool]:
        """The number of clients that wait for messages, and whether anything shows that a worker ever did.

        Read only where no worker replied: some have remote control switched off, and consume all the same. What cannot
        be read counts as if workers had been there.
        """
        if replies.answers or replies.unknown:
            return None, True
        # Seldom needed.
        from sitegenctl.adapters.redis.info import read_clients

        prefix, queue = self._options.global_keyprefix, self._options.queue
        kinds = ("_kombu.binding.", "_kombu.binding_permanent.")
        keys = [f"{prefix}{kind}{name}" for kind in kinds for name in (queue, "celery.pidbox", "celeryev")]
        async with self._connection() as connection:
            own_id, listing, bindings = await connection.execute(
                ("CLIENT", "ID"), ("CLIENT", "LIST"), ("EXISTS", *keys), keep_refusals=True
            )
            clients = read_clients(listing)
            if clients is None:
                return None, True
            own = own_addresses()
            others = [
                client
                for client in clients
                if client.database == self._database
                and client.id != own_id
                and client.address not in own
                and not client.is_server
            ]
            consumers = sum(client.is_blocked and client.command == "brpop" for client in others)
            if others or bindings != 0:
                return consumers, True
            # The first consuming worker leaves a binding of an exchange other than those of replies.
            pattern = f"{literally(prefix)}_kombu.binding*"
            cursor = b"0"
            for _ in range(SCAN_STEPS):
                command = ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
                (reply,) = await connection.execute(command, keep_refusals=True)
                if isinstance(reply, Refusal):
                    return consumers, True
                cursor, found = reply
                if any(b"_kombu.binding" in key and b".reply." not in key for key in found):
                    return consumers, True
                if cursor == b"0":
                    return consumers, False
            return consumers, True


def read_claims(worker: str, reply: Mapping[str, Any], skipped: Counter[str]) -> Iterator[Claim]:
    """The tasks in a worker's reply; what does not fit is counted in ``skipped``."""
    where = f"reply of {text(worker)}"
    for method, state in CLAIMS.items():
        entries = reply.get(method)
        if not isinstance(entries, list):
            skipped[f"{where}: {method} is not a list"] += 1
            continue
        for entry in entries:
            request = _request_in(entry)
            task_id = text(request.get("id"))
            # The name may be one that the publisher chose for display; the type is the task's.
            name = text(request.get("type")) or text(request.get("name"))
            if task_id is None or name is None:
                skipped[f"{where}: a task without a text {'id' if task_id is None else 'name'}"] += 1
            read = partial(fitting, skipped, where)
            yield Claim(
                worker=worker,
                task_id=task_id or "",
                name=name or "",
                state=state,
                args=request.get("args"),
                kwargs=request.get("kwargs"),
                eta=read("eta", parse_time, mapping(entry).get("eta")),
                started_at=read("time_start", moment, request.get("time_start")),
                pid=read("worker_pid", number, request.get("worker_pid")),
            )


def _request_in(entry: Any) -> dict[str, Any]:
    """The request in an entry: `scheduled` wraps what the other methods return bare."""
    return mapping(mapping(entry).get("request", entry))


def _not_revoked(reply: Mapping[str, Any]) -> dict[str, Any]:
    revoked = {task_id for task_id in sequence(reply.get("revoked")) if isinstance(task_id, str)}

    def is_revoked(entry: Any) -> bool:
        task_id = _request_in(entry).get("id")
        return isinstance(task_id, str) and task_id in revoked

    later = {
        method: [entry for entry in sequence(reply.get(method)) if not is_revoked(entry)]
        for method in ("reserved", "scheduled")
    }
    return {"active": reply.get("active"), **later}


def _parts(claim: Claim, worker: str, task: str) -> Iterator[LiveTask]:
    """Calls of our task that a map or a chord makes, which the worker holds."""
    try:
        calls = list(contained_calls(claim.name, claim.args, claim.kwargs, None, task, task_id=claim.task_id))
    except RecursionError:
        return
    for count, call in enumerate(calls, 1):
        yield LiveTask(
            task_id=call.task_id or f"{claim.task_id}#{count}",
            name=task,
            order_id=order_of(call.args if call.is_complete else (), call.kwargs),
            state=claim.state,
            worker=worker,
            eta=claim.eta,
            started_at=claim.started_at,
            pid=claim.pid,
            part_of=claim.name,
            carrier=claim.task_id,
        )


def limit(value: Any) -> timedelta | None:
    """A time limit in seconds; None for 0, which is Celery's "no limit", and for what cannot be one."""
    time = span(value)
    return time if time is not None and time > timedelta(0) else None


def _details(
    name: str, reply: Mapping[str, Any], task: str, skipped: Counter[str], *, with_memory: bool
) -> WorkerDetails:
    shown = text(name) or ""
    read = partial(fitting, skipped, f"reply of {shown}")
    claims = [claim for claim in read_claims(name, reply, skipped) if claim.task_id and claim.name]
    stats = mapping(reply.get("stats"))
    pool = mapping(stats.get("pool"))
    slots = read("max-concurrency", number, pool.get("max-concurrency"))
    soft, hard, *_ = (*map(limit, sequence(pool.get("timeouts"))), None, None)
    totals = {
        text(each) or "": count
        for each, value in mapping(stats.get("total")).items()
        if (count := number(value)) is not None
    }
    processes = tuple(pid for pid in map(number, sequence(pool.get("processes"))) if pid is not None)
    # In kilobytes, as Linux counts it.
    peak = number(mapping(stats.get("rusage")).get("maxrss"))
    pid = read("pid", number, stats.get("pid"))
    version = re.search(r"celery:(\S+)", text(mapping(reply.get("report")).get("ok")) or "")
    queues = (text(queue.get("name")) for queue in mappings(reply.get("active_queues")))
    # A task with a rate limit is listed as `name [rate_limit=…]`.
    registered = (text(each) for each in sequence(reply.get("registered")))
    held = {state: tuple(_held(claim, task) for claim in claims if claim.state is state) for state in CLAIMS.values()}
    return WorkerDetails(
        name=shown,
        pid=pid,
        concurrency=slots if slots is not None and slots > 0 else None,
        pool=text(pool.get("implementation")),
        queues=tuple(queue for queue in queues if queue is not None),
        registered=tuple(sorted(each.partition(" ")[0] for each in registered if each is not None)),
        processed=sum(totals.values()) if "total" in stats else None,
        processed_by_task=totals,
        uptime=read("uptime", span, stats.get("uptime")),
        prefetch_count=number(stats.get("prefetch_count")),
        version=version[1] if version else None,
        soft_limit=soft,
        hard_limit=hard,
        processes=processes,
        peak_memory=None if peak is None else peak * 1024,
        memory=local_memory(shown.rpartition("@")[2], list(filter(None, (pid, *processes)))) if with_memory else {},
        active=held[TaskState.RUNNING],
        reserved=held[TaskState.RESERVED],
        scheduled=held[TaskState.SCHEDULED],
        parts=tuple(part for claim in claims for part in _parts(claim, shown, task)),
    )


def _held(claim: Claim, task: str) -> HeldTask:
    return HeldTask(
        task_id=claim.task_id,
        name=claim.name,
        order_id=claim.order_id(task),
        started_at=claim.started_at,
        eta=claim.eta,
        pid=claim.pid,
    )
