"""Asking the workers about themselves: what they consume, have registered, and are configured to do.

Speaks through ``celery_workers``; what their answers are worth is judged in the domain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sitegenctl.adapters.broker.json_values import mapping, mappings, number, sequence, span, text
from sitegenctl.adapters.celery.workers import CeleryWorkers, read_claims
from sitegenctl.domain.health.facts import WorkerFacts, WorkersFacts

# A task's own limits come before the worker's; Celery lists them only when asked for.
_ARGUMENTS = {"registered": {"taskinfoitems": ["time_limit", "soft_time_limit"]}}
_METHODS = ("active_queues", "registered", "stats", "conf", "active", "reserved", "scheduled")


async def read_workers(workers: CeleryWorkers, *, task: str, beat_task: str) -> WorkersFacts:
    """Ask every living worker. Raises ``SourceError`` without Redis."""
    replies = await workers.ask(_METHODS, arguments=_ARGUMENTS)
    facts = tuple(_worker(name, given, task, beat_task) for name, given in sorted(replies.answers.items()))
    skipped: Counter[str] = Counter()
    for name, given in replies.answers.items():
        list(read_claims(name, given, skipped))
    return WorkersFacts(
        workers=facts, silent=replies.unknown, patience=timedelta(seconds=workers.patience), skipped=skipped
    )


def _worker(name: str, given: Mapping[str, Any], task: str, beat_task: str) -> WorkerFacts:
    stats, conf = mapping(given["stats"]), mapping(given["conf"])
    totals = mapping(stats.get("total"))
    tasks = dict(_listed(entry) for entry in map(text, sequence(given["registered"])) if entry is not None)
    own = tasks.get(task, {})
    # The pool's and not the configuration's: a worker may have been started with --time-limit.
    pool = mapping(stats.get("pool")).get("timeouts")
    soft, hard = pool if isinstance(pool, list) and len(pool) == 2 else (None, None)
    transport = mapping(mapping(stats.get("broker")).get("transport_options"))
    transport = {**transport, **mapping(conf.get("broker_transport_options"))}
    return WorkerFacts(
        name=text(name) or "",
        queues=tuple(filter(None, (text(queue.get("name")) for queue in mappings(given["active_queues"])))),
        tasks=tuple(tasks),
        hard_limit=_span(own.get("time_limit")) or _span(hard),
        soft_limit=_span(own.get("soft_time_limit")) or _span(soft),
        visibility_timeout=_span(transport.get("visibility_timeout")),
        uptime=_span(stats.get("uptime")),
        beat_runs=number(totals.get(beat_task)) or 0,
        finished=sum(number(count) or 0 for count in totals.values()),
        busy=len(sequence(given["active"])) + len(sequence(given["reserved"])),
    )


def _listed(entry: str) -> tuple[str, dict[str, float]]:
    """A task's name and its own limits from ``name [time_limit=600 soft_time_limit=540]``."""
    limits = re.findall(r"\b(soft_time_limit|time_limit)=(\d+(?:\.\d+)?)", entry)
    return entry.partition(" ")[0], {name: float(value) for name, value in limits}


def _span(value: Any) -> timedelta | None:
    # 0 is Celery's way of saying "no limit", and workers mask what looks like a secret.
    told = span(value)
    return told if told is not None and told > timedelta(0) else None
