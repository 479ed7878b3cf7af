"""What Celery's workers report of themselves and of the tasks they hold, asked by remote control.

Neither redis-py nor Celery is needed, which makes it quick. The broker's side is in ``queue``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sitegenctl.adapters.broker.json_values import (
    fitting,
    mapping,
    mappings,
    moment,
    number,
    sequence,
    span,
    text,
    time_limit,
)
from sitegenctl.adapters.broker.task_args import order_of, parse_time
from sitegenctl.adapters.celery.codec import contained_calls
from sitegenctl.adapters.celery.control import SCAN_COUNT, SCAN_STEPS, Replies, ask_workers
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection, open_connection, own_addresses
from sitegenctl.adapters.redis.errors import Refusal, literally
from sitegenctl.adapters.redis.replies import Client, read_clients
from sitegenctl.adapters.redis.urls import parse_url
from sitegenctl.adapters.system.network import addresses_of
from sitegenctl.adapters.system.processes import local_memory
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerDetails, WorkerRoster, WorkerSurvey, survey_of
from sitegenctl.slotted import slotted

#: The methods that list the tasks which a worker holds, and the state of a task that each lists.
CLAIMS = {"active": TaskState.RUNNING, "reserved": TaskState.RESERVED, "scheduled": TaskState.SCHEDULED}

#: Seconds until surveys wait the whole time again for workers that did not reply.
_SILENCE_KEPT = 30.0

#: Silent workers are not named where more names than these may be theirs.
_MAX_NAMES = 5

#: The most hosts whose addresses are looked up.
_MAX_LOOKUPS = 50

#: Ends the name of the queue of a worker for remote control, and names the exchange.
_PIDBOX = "celery.pidbox"

#: The methods whose answers ``_details`` reads; only `report` has Celery's version.
_QUESTIONS = ("stats", "active_queues", "registered", "active", "reserved", "scheduled", "report")


@slotted
class Claim(LiveTask):
    """A task that a worker reports."""

    worker: str


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
        self._silent = 0
        self._replied: set[str] = set()  # the names of workers that ever replied to this process
        self._silent_until = float("-inf")

    async def ask(
        self,
        methods: Sequence[str],
        *,
        arguments: Mapping[str, Mapping[str, Any]] | None = None,
        destination: Sequence[str] | None = None,
        silent: int = 0,
    ) -> Replies:
        """Send these remote-control methods, with arguments by method, to every living worker, or to those named.

        Returns as soon as all have replied, or soon after all but ``silent`` have. Raises ``SourceError``.
        """
        async with self._connection() as connection:
            replies = await ask_workers(
                connection,
                methods,
                self._options,
                timeout=self.reply_timeout,
                channels=self.channels,
                arguments=arguments or {},
                destination=destination,
                silent=silent,
            )
        self._replied |= replies.answers.keys()
        return replies

    async def survey(self) -> WorkerSurvey:
        """Ask every worker what it holds."""
        return survey_of(await self.worker_details([*CLAIMS, "stats"], with_memory=False), task_name=self._options.task)

    async def worker_details(self, methods: Sequence[str] = _QUESTIONS, *, with_memory: bool = True) -> WorkerRoster:
        """Ask every worker about itself."""
        replies = await self._ask_patiently_once(methods)
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
            silent_names=await self.silent_names(replies),
            shared_names=tuple(sorted(filter(None, map(text, replies.shared)))),
            consumers=consumers,
            ever_consumed=ever_consumed,
            taken_at=replies.taken_at,
            skipped=skipped,
        )

    async def _ask_patiently_once(self, methods: Sequence[str]) -> Replies:
        """Ask every worker, but wait the whole time for those that do not reply only once in ``_SILENCE_KEPT`` seconds.

        No reply is reused, and a worker that gets less time counts as one that did not respond: nothing is assumed of
        its tasks. Before a change, ``revoke`` and ``requeue`` ask again and wait the whole time.
        """
        silent = self._silent if time.monotonic() < self._silent_until else 0
        replies = await self.ask(methods, silent=silent)
        if silent:
            self._silent = min(silent, replies.unresponsive)
        else:
            self._silent, self._silent_until = replies.unresponsive, time.monotonic() + _SILENCE_KEPT
        return replies

    async def revoked(self) -> Mapping[str, frozenset[str]]:
        """The ids of the tasks that each worker will discard."""
        replies = await self._ask_patiently_once(["revoked"])
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

    async def silent_names(self, replies: Replies) -> tuple[str, ...]:
        """The names of workers that did not respond, or only in part or with an error.

        Every worker binds its own queue for remote control, and dead ones stay bound: there may be more names than
        silent workers. Of those, the names that replied earlier count, then those whose host is connected to Redis;
        if they are still more than ``_MAX_NAMES``, none is known.
        """
        names = {*replies.rejected, *replies.partial}
        if (missing := replies.unresponsive - len(replies.partial)) > 0:
            async with self._connection() as connection:
                unanswered = await self._bound_names(connection) - replies.answers.keys() - names
                if len(unanswered) > missing <= len(earlier := unanswered & self._replied):
                    unanswered = earlier
                if len(unanswered) > missing <= len(connected := await self._connected(connection, unanswered)):
                    unanswered = connected
            if len(unanswered) <= max(missing, _MAX_NAMES):
                names |= unanswered
        return tuple(sorted(filter(None, map(text, names))))

    async def _bound_names(self, connection: Connection) -> set[str]:
        """The names under which workers, living or dead, have bound their queues for remote control."""
        prefix = self._options.global_keyprefix
        keys = (f"{prefix}{kind}{_PIDBOX}" for kind in ("_kombu.binding.", "_kombu.binding_permanent."))
        bound = await connection.execute(*(("SMEMBERS", key) for key in keys), keep_refusals=True)
        members = (member for reply in bound if not isinstance(reply, Refusal) for member in reply)
        queues = (member.decode(errors="replace").rpartition(self._options.sep)[2] for member in members)
        return {queue.removesuffix(f".{_PIDBOX}") for queue in queues}

    async def _connected(self, connection: Connection, names: Collection[str]) -> set[str]:
        """Those of these workers whose host, the part behind the @, has a client of this database."""
        (listing,) = await connection.execute(("CLIENT", "LIST"), keep_refusals=True)
        addresses = {each.address.rpartition(":")[0].strip("[]") for each in self._others(read_clients(listing) or [])}
        hosts = sorted({name.rpartition("@")[2] for name in names})[:_MAX_LOOKUPS]
        found = await asyncio.gather(*map(addresses_of, hosts))
        connected = {host for host, of_host in zip(hosts, found, strict=True) if not addresses.isdisjoint(of_host)}
        return {name for name in names if name.rpartition("@")[2] in connected}

    def _others(self, clients: Iterable[Client]) -> list[Client]:
        """The clients of this database that are not connections of this process."""
        own = own_addresses()
        return [
            client
            for client in clients
            if client.database == self._database and client.address not in own and not client.is_server
        ]

    async def _consumption(self, replies: Replies) -> tuple[int | None, bool]:
        """The number of clients that wait for messages, and whether anything shows that a worker ever did.

        Read only where no worker replied: some have remote control switched off, and consume all the same. What cannot
        be read counts as if workers had been there.
        """
        if replies.answers or replies.unknown:
            return None, True
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
            others = [client for client in self._others(clients) if client.id != own_id]
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


def read_claims(
    worker: str, reply: Mapping[str, Any], skipped: Counter[str], *, task: str | None = None
) -> tuple[list[Claim], list[Claim]]:
    """The tasks in a worker's reply, and the calls of ``task`` that maps and chords among them make.

    Ids and names are empty where they are no text; what does not fit is counted in ``skipped``.
    """
    shown = text(worker) or ""
    where = f"reply of {shown}"
    read = partial(fitting, skipped, where)
    claims: list[Claim] = []
    parts: list[Claim] = []
    for method, state in CLAIMS.items():
        entries = reply.get(method)
        if not isinstance(entries, list):
            skipped[f"{where}: {method} is not a list"] += 1
            continue
        for entry in entries:
            request = _request_in(entry)
            args, kwargs = request.get("args"), request.get("kwargs")
            task_id = text(request.get("id"))
            # The name may be one that the publisher chose for display; the type is the task's.
            name = text(request.get("type")) or text(request.get("name"))
            if task_id is None or name is None:
                skipped[f"{where}: a task without a text {'id' if task_id is None else 'name'}"] += 1
            claim = Claim(
                task_id=task_id or "",
                name=name or "",
                order_id=order_of(args, kwargs) if name is not None and name == task else None,
                state=state,
                worker=shown,
                eta=read("eta", parse_time, mapping(entry).get("eta")),
                started_at=read("time_start", moment, request.get("time_start")),
                pid=read("worker_pid", number, request.get("worker_pid")),
            )
            claims.append(claim)
            if task is None or not task_id or not name:
                continue
            with suppress(RecursionError):
                calls = list(contained_calls(name, args, kwargs, None, task, task_id=task_id))
                parts += [
                    replace(
                        claim,
                        task_id=call.task_id or f"{task_id}#{count}",
                        name=task,
                        order_id=order_of(call.args if call.is_complete else (), call.kwargs),
                        part_of=name,
                        carrier=task_id,
                    )
                    for count, call in enumerate(calls, 1)
                ]
    return claims, parts


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


def _details(
    name: str, reply: Mapping[str, Any], task: str, skipped: Counter[str], *, with_memory: bool
) -> WorkerDetails:
    shown = text(name) or ""
    read = partial(fitting, skipped, f"reply of {shown}")
    claims, parts = read_claims(name, reply, skipped, task=task)
    stats = mapping(reply.get("stats"))
    pool = mapping(stats.get("pool"))
    slots = read("max-concurrency", number, pool.get("max-concurrency"))
    soft, hard, *_ = (*map(time_limit, sequence(pool.get("timeouts"))), None, None)
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
    held = {
        state: tuple(claim for claim in claims if claim.state is state and claim.task_id and claim.name)
        for state in CLAIMS.values()
    }
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
        parts=tuple(parts),
    )
