"""Asking the workers about themselves: what they consume, have registered, and are configured to do.

Speaks through ``celery_control``; what their answers are worth is judged in the domain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from sitegenctl.adapters.celery_control import ask_workers
from sitegenctl.adapters.celery_options import QueueOptions
from sitegenctl.domain.probes import WorkerFacts, WorkersFacts

# A task's own limits come before the worker's; Celery lists them only when asked for.
_ARGUMENTS = {"registered": {"taskinfoitems": ["time_limit", "soft_time_limit"]}}
_METHODS = ("active_queues", "registered", "stats", "conf", "active", "reserved")


async def read_workers(
    client: Redis, *, timeout: float, channels: Sequence[str], options: QueueOptions, beat_task: str
) -> WorkersFacts:
    """Ask every living worker; ``timeout`` in seconds. Raises what the client raises."""
    answers, silent = await ask_workers(
        client,
        _METHODS,
        timeout=timeout,
        channels=channels,
        arguments=_ARGUMENTS,
        prefix=options.global_keyprefix,
        sep=options.sep,
    )
    workers = tuple(_worker(name, given, options.task, beat_task) for name, given in sorted(answers.items()))
    return WorkersFacts(workers=workers, silent=silent, patience=timedelta(seconds=timeout))


def _worker(name: str, given: Mapping[str, Any], task: str, beat_task: str) -> WorkerFacts:
    stats, conf = _object(given["stats"]), _object(given["conf"])
    totals = _object(stats.get("total"))
    tasks = dict(_listed(str(entry)) for entry in given["registered"] or ())
    own = tasks.get(task, {})
    # The pool's and not the configuration's: a worker may have been started with --time-limit.
    pool = _object(stats.get("pool")).get("timeouts")
    soft, hard = pool if isinstance(pool, list) and len(pool) == 2 else (None, None)
    transport = _object(_object(stats.get("broker")).get("transport_options"))
    transport = {**transport, **_object(conf.get("broker_transport_options"))}
    return WorkerFacts(
        name=name,
        queues=tuple(str(queue.get("name")) for queue in given["active_queues"] or () if isinstance(queue, dict)),
        tasks=tuple(tasks),
        hard_limit=_span(own.get("time_limit")) or _span(hard),
        soft_limit=_span(own.get("soft_time_limit")) or _span(soft),
        visibility_timeout=_span(transport.get("visibility_timeout")),
        uptime=_span(stats.get("uptime")),
        beat_runs=_number(totals.get(beat_task)),
        finished=sum(_number(count) for count in totals.values()),
        busy=len(given["active"] or ()) + len(given["reserved"] or ()),
    )


def _listed(entry: str) -> tuple[str, dict[str, float]]:
    """A task's name and its own limits from ``name [time_limit=600 soft_time_limit=540]``."""
    limits = re.findall(r"\b(soft_time_limit|time_limit)=(\d+(?:\.\d+)?)", entry)
    return entry.partition(" ")[0], {name: float(value) for name, value in limits}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _span(value: Any) -> timedelta | None:
    # 0 is Celery's way of saying "no limit", and workers mask what looks like a secret.
    return timedelta(seconds=value) if isinstance(value, int | float) and value > 0 else None
