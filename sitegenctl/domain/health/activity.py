"""The queue and its workers over a moment, and the check that the queue moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.health.check import Finding, check, failed, ok, unchecked
from sitegenctl.domain.health.system import System
from sitegenctl.domain.health.text import counted, seconds
from sitegenctl.domain.health.workers import WorkersFacts, make_consume


@dataclass(frozen=True, kw_only=True)
class QueueHead:
    """The queue's depth, and the messages that are next."""

    depth: int
    head: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QueueActivity:
    """Queue and workers read twice, ``waited`` apart, or the same reading twice where one was enough.

    ``beat_came`` is whether there were more of beat's messages the second time.
    """

    first: QueueHead
    second: QueueHead
    before: WorkersFacts
    after: WorkersFacts
    waited: timedelta = timedelta(0)
    beat_came: bool = False


@check("queue progress", Source.BROKER)
def progress(activity: QueueActivity, system: System) -> Finding:
    """Fails if messages wait and no worker takes them.

    Either none consumes the queue, or its workers are idle and take none for `--patience` (3s).
    """
    first, second = activity.first, activity.second
    before, after = activity.before.consumers(system), activity.after.consumers(system)
    if not first.depth or not second.depth:
        return ok("no message waits in the queue")
    waiting = counted(second.depth, "message waits", "messages wait")
    if busy := sum(worker.busy for worker in after) or sum(worker.busy for worker in before):
        return ok(f"{waiting}, {counted(busy, 'task')} running or reserved")
    has_moved = first.head != second.head or second.depth < first.depth
    if has_moved or sum(worker.finished for worker in after) != sum(worker.finished for worker in before):
        return ok(f"{waiting}, and the queue moves")
    if not activity.after.workers or activity.after.silent:
        return unchecked(f"{waiting}; it is not known whether a worker takes them: see worker")
    if not after:
        return failed(f"{waiting}, and no worker consumes {system.queue}", remedy=make_consume(activity.after, system))
    return failed(
        f"{waiting}, and {counted(len(after), 'idle worker')} took none for {seconds(activity.waited)}",
        remedy=system.commands.restart_worker,
    )
