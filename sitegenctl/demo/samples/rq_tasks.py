"""The sample tasks as RQ's jobs, created by RQ itself so that they are real."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from redis import Redis

from sitegenctl.adapters.redis.blocking import blocking_client, translated
from sitegenctl.adapters.rq.job import (
    ACTOR_FIELD,
    ENQUEUED_AT_FIELD,
    FIELDS,
    ORDER_FIELD,
    RETRIES_FIELD,
    Job,
    job_in_work,
)
from sitegenctl.adapters.rq.library import INTERVALS, rq_queue
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.demo.samples.plan import ETA_AHEAD, SampleTask
from sitegenctl.demo.samples.recipes import ForeignKind, Lane
from sitegenctl.domain.queue.defaults import HARD_LIMIT, RETRIES

if TYPE_CHECKING:
    from redis.client import Pipeline
    from rq import Queue
    from rq.job import Job as RqJob

_OPTIONS = RqOptions()
_TIMEOUT = 10.0
_FOREIGN = {
    ForeignKind.BEAT: ("app.workers.auto_start_stuck_orders.check_and_start_stuck_orders", ()),
    ForeignKind.PICKLED: ("erp.tasks.sync_invoices", (7,)),
}
_LOST_WORKER = "crm-rq-worker-1"
# Seconds until a worker's next heartbeat is due.
_HEARTBEAT = 90
_REGISTRIES = (
    _OPTIONS.started,
    *map(_OPTIONS.registry, ("scheduled", "deferred", "ready", "finished", "failed", "canceled")),
)


async def reset_queue(redis_url: str, task_ids: Collection[str]) -> None:
    """Empty the demo's queue: its list, its registries, and these jobs with their results."""
    foreign = [_foreign_id(kind, number) for kind in ForeignKind for number in range(10)]
    keys = [_OPTIONS.list_key, _OPTIONS.intermediate, _OPTIONS.cleaning, *_REGISTRIES]
    for job_id in (*task_ids, *foreign):
        keys += _keys_of(job_id)
    await _with_client(redis_url, lambda client: client.delete(*keys))


async def publish_samples(redis_url: str, tasks: Iterable[SampleTask], foreign: Collection[ForeignKind] = ()) -> None:
    """Publish in the order of delivery, in one transaction: ready jobs, foreign jobs, held jobs.

    Lost ones go to the registry of started jobs.
    """
    tasks = list(tasks)
    await _with_client(redis_url, lambda client: _publish(client, tasks, foreign))


async def remove_tasks(redis_url: str, order_id: int) -> None:
    """Remove every job of one order, in whatever registry."""
    await _with_client(redis_url, lambda client: _remove(client, order_id))


async def _with_client(redis_url: str, work: Callable[[Redis], object]) -> None:
    def run() -> None:
        client = blocking_client(redis_url, timeout=_TIMEOUT)
        try:
            with translated():
                work(client)
        finally:
            client.close()
            client.connection_pool.disconnect()

    await asyncio.to_thread(run)


def _keys_of(job_id: str) -> tuple[str, str, str]:
    return _OPTIONS.job(job_id), _OPTIONS.results(job_id), _OPTIONS.attempts(job_id)


def _foreign_id(kind: ForeignKind, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{number}"))


def _publish(client: Redis, tasks: Collection[SampleTask], foreign: Collection[ForeignKind]) -> None:
    queue = rq_queue(_OPTIONS, client)
    seconds, _ = client.time()
    # The clock that all readers of the jobs share.
    now = datetime.fromtimestamp(seconds, UTC)
    # A running worker sees all of it or nothing.
    pipe = client.pipeline(transaction=True)
    by_lane = {lane: [task for task in tasks if task.lane is lane] for lane in Lane}
    for task in (*by_lane[Lane.LOST], *by_lane[Lane.READY]):
        _add(queue, task, now, pipe)
    for number, kind in enumerate(foreign):
        function, args = _FOREIGN[kind]
        data = queue.prepare_data(function, args=args, job_id=_foreign_id(kind, number))
        queue.enqueue_many([data], pipeline=pipe)
    for task in by_lane[Lane.HELD]:
        _add(queue, task, now, pipe)
    pipe.execute()


def _add(queue: Queue, task: SampleTask, now: datetime, pipe: Pipeline) -> None:
    """Create the job in its registry, with its times, and with the fields of a job that sitegenctl published."""
    from rq import Retry
    from rq.job import JobStatus

    facts: dict[str, Any] = {
        "args": (task.order_id,),
        "kwargs": {"resume": True},
        "job_id": task.task_id,
        "timeout": HARD_LIMIT,
        "retry": Retry(max=RETRIES, interval=list(INTERVALS)),
        "meta": {"order_id": task.order_id, "actor": task.actor} if task.actor is not None else None,
    }
    created = now - timedelta(seconds=task.enqueued)
    if task.lane is Lane.READY:
        queue.enqueue_many([queue.prepare_data(_OPTIONS.task, **facts)], pipeline=pipe)
    else:
        # Not by the queue's own methods: before RQ 2 they do not use the pipeline.
        status = JobStatus.SCHEDULED if task.lane is Lane.HELD else JobStatus.QUEUED
        job = queue.create_job(_OPTIONS.task, status=status, **facts)
        job.save(pipeline=pipe)
        pipe.sadd(queue.redis_queues_keys, queue.key)
        if task.lane is Lane.HELD:
            pipe.zadd(_OPTIONS.registry("scheduled"), {job.id: int(now.timestamp() + ETA_AHEAD)})
        else:
            _lose(queue, job, created, pipe)
    fields: dict[Any, Any] = {"created_at": _stamp(created), "enqueued_at": _stamp(created)}
    if task.retries:
        fields["retries_left"] = RETRIES - task.retries
    if task.retries or task.lane is Lane.LOST:
        fields["started_at"] = _stamp(created)
    if task.actor is not None:
        fields |= {
            ORDER_FIELD: task.order_id,
            ENQUEUED_AT_FIELD: created.isoformat(),
            ACTOR_FIELD: task.actor,
            RETRIES_FIELD: RETRIES,
        }
    pipe.hset(_OPTIONS.job(task.task_id), mapping=fields)


def _lose(queue: Queue, job: RqJob, began: datetime, pipe: Pipeline) -> None:
    """Start the job at a worker that is gone, with an overdue heartbeat.

    The cleaning lock keeps a worker that starts from moving the job to the failed ones.
    """
    job.prepare_for_execution(_LOST_WORKER, pipeline=pipe)
    member = job.id
    # Before RQ 2, the registry contains job ids.
    if hasattr(queue.started_job_registry, "add_execution"):
        from rq.executions import Execution

        member = Execution.create(job, 0, pipeline=pipe).composite_key
    pipe.zadd(_OPTIONS.started, {member: began.timestamp() + _HEARTBEAT})
    pipe.set(_OPTIONS.cleaning, 1, ex=int(ETA_AHEAD))


def _stamp(moment: datetime) -> str:
    """Format a time as RQ does (``rq.utils.utcformat``)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _remove(client: Redis, order_id: int) -> None:
    members: list[Any] = [*client.lrange(_OPTIONS.list_key, 0, -1), *client.lrange(_OPTIONS.intermediate, 0, -1)]
    for registry in _REGISTRIES:
        members += client.zrange(registry, 0, -1)
    for member in members:
        # In the registry of started jobs, the id of the execution may follow after a colon.
        job_id = job_in_work(member)
        values: Any = client.hmget(_OPTIONS.job(job_id), FIELDS)
        job = Job.of(job_id, values)
        if job is None or job.order_id(_OPTIONS.task) != order_id:
            continue
        pipe = client.pipeline()
        pipe.delete(*_keys_of(job_id))
        for key in (_OPTIONS.list_key, _OPTIONS.intermediate):
            pipe.lrem(key, 0, member)
        for key in _REGISTRIES:
            pipe.zrem(key, member)
        pipe.execute()
