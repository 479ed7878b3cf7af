"""RQ itself, for publishing: it decides the commands, and our own connection sends them.

RQ's client blocks, and waits without a limit. So RQ gets a recorder for its connection, which records the commands
instead of sending them. RQ is imported only here. It reads its key prefix from the environment when it is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from redis import Redis

from sitegenctl.adapters.redis.connection import Command, Connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.job import ACTOR_FIELD, ENQUEUED_AT_FIELD, ORDER_FIELD, RETRIES_FIELD
from sitegenctl.adapters.rq.options import SERIALIZERS, RqOptions
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.defaults import HARD_LIMIT, RESULTS_KEPT, RETRIES
from sitegenctl.domain.queue.task import Publication
from sitegenctl.errors import SourceError, UsageProblem

_PREFIX = "RQ_KEY_PREFIX"

#: Seconds before each retry.
INTERVALS = (60, 120, 240)

#: Jobs in one transaction, which takes Redis a millisecond or two.
_BATCH_SIZE = 100


class Recorder(Redis):
    """A connection or pipeline that records commands instead of sending them. It never connects."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = []

    def execute_command(self, *args: Any, **_: Any) -> Recorder:
        """Record one command; it has no reply."""
        self.commands.append(tuple(map(_plain, args)))
        return self

    def pipeline(self, *_: Any, **__: Any) -> Any:
        """A pipeline that records to the same list."""
        return self


def rq_queue(options: RqOptions, connection: Any) -> Any:
    """RQ's own queue on this connection. Raises ``UsageProblem`` where RQ cannot work with these options."""
    rq = _import_rq(options.prefix)
    return rq.Queue(options.queue, connection=connection, serializer=rq_serializer(options.serializer))


def rq_serializer(name: str) -> Any:
    """The serializer of jobs. Raises ``UsageProblem`` for an unusable one."""
    from rq.serializers import resolve_serializer

    try:
        return resolve_serializer(SERIALIZERS.get(name, name))
    except (ImportError, AttributeError, ValueError, NotImplementedError) as exc:
        raise UsageProblem(
            f"rq_serializer {name!r} can't be used: {str(exc).splitlines()[0]}",
            hint=f"set {' or '.join(SERIALIZERS)}, or the path of a class with dumps and loads",
        ) from exc


async def publish(
    connection: Connection, options: RqOptions, publications: Sequence[Publication]
) -> Mapping[str, PublishFailure]:
    """Publish under exactly the given ids, many in one round trip; returns the failure of each id that failed.

    Where RQ cannot write jobs with these options, all fail for certain. When the connection is lost meanwhile, all that
    were not confirmed are reported as uncertain.
    """
    failures: dict[str, PublishFailure] = {}
    recorder = Recorder()
    try:
        queue = rq_queue(options, recorder)
    except UsageProblem as exc:
        return {each.task_id: PublishFailure(reason=exc.message, certain=True) for each in publications}
    # Otherwise RQ asks its connection for the version.
    queue.redis_server_version = (6, 2, 0)
    jobs = [(each.task_id, _enqueue(queue, recorder, options, each)) for each in publications]
    for start in range(0, len(jobs), _BATCH_SIZE):
        batch = jobs[start : start + _BATCH_SIZE]
        commands = [command for _, job in batch for command in job]
        try:
            *queued, done = await connection.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
        except SourceError as exc:
            lost = PublishFailure(reason=exc.message, certain=False)
            return failures | {task_id: lost for task_id, _ in jobs[start:]}
        if not isinstance(done, list):
            # The reply to the refused command has the reason; none of them was executed.
            refusal = next((reply for reply in queued if isinstance(reply, Refusal)), done)
            failures |= {task_id: PublishFailure(reason=refusal.message, certain=True) for task_id, _ in batch}
            continue
        replies = iter(done)
        for task_id, job in batch:
            results = [next(replies) for _ in job]
            refused = next((reply for reply in results if isinstance(reply, Exception)), None)
            if refused is not None:
                # A worker skips or fails a queued job whose hash is not as it should be.
                failures[task_id] = PublishFailure(reason=str(refused), certain=isinstance(results[-1], Exception))
    return failures


def _enqueue(queue: Any, recorder: Recorder, options: RqOptions, publication: Publication) -> list[Command]:
    """The commands that queue a job under exactly this id; the last one puts it into the queue.

    Nothing of an earlier job of that id stays: RQ would write over it, and it would expire when the old one does.
    """
    # Not before: this imports RQ.
    from rq import Retry

    job_id = publication.task_id
    data = queue.prepare_data(
        options.task,
        args=(publication.order_id,),
        kwargs={"resume": publication.resume},
        job_id=job_id,
        # RQ's own defaults are three minutes and eight.
        timeout=HARD_LIMIT,
        result_ttl=RESULTS_KEPT,
        retry=Retry(max=RETRIES, interval=list(INTERVALS)),
        # For people and other tools; sitegenctl reads the plain fields.
        meta={"order_id": publication.order_id, "actor": publication.actor},
    )
    recorder.commands = []
    queue.enqueue_many([data], pipeline=recorder)
    *writing, queueing = recorder.commands
    kinds = ("finished", "failed", "canceled", "scheduled", "deferred")
    fields: dict[str, str | int] = {
        ORDER_FIELD: publication.order_id,
        ENQUEUED_AT_FIELD: publication.enqueued_at.isoformat(),
        ACTOR_FIELD: publication.actor,
        RETRIES_FIELD: RETRIES,
    }
    if publication.attempt > 1:
        fields["retries_left"] = max(RETRIES + 1 - publication.attempt, 0)
    if publication.eta is not None:
        # As RQ's scheduler expects it. Source: Queue.schedule_job, 1.15 to 3.0.
        fields["status"] = "scheduled"
        queueing = ("ZADD", options.registry("scheduled"), int(publication.eta.timestamp()), job_id)
    return [
        ("DEL", options.job(job_id)),
        *(("ZREM", options.registry(kind), job_id) for kind in kinds),
        *writing,
        ("HSET", options.job(job_id), *(part for field in fields.items() for part in field)),
        queueing,
    ]


def _plain(value: Any) -> str | bytes | int | float:
    """The value as it is sent; RQ's states are enums."""
    if isinstance(value, Enum):
        return str(value.value)
    return value if isinstance(value, str | bytes | int | float) else str(value)


def _import_rq(prefix: str) -> Any:
    """Import RQ with its keys under this prefix."""
    if "rq" not in sys.modules:
        os.environ[_PREFIX] = prefix
    try:
        import rq
        from rq import defaults
    except ImportError as exc:
        raise UsageProblem(f"rq can't be imported: {exc}") from exc
    # A generator's plug-in may have imported RQ before. Before RQ 3 there is only one prefix.
    known = getattr(defaults, _PREFIX, prefix)
    if known != prefix:
        raise UsageProblem(f"rq was imported before, and keeps its keys under {known!r}, not under {prefix!r}")
    return rq
