"""The queue in the order in which it will run."""

from __future__ import annotations

from datetime import UTC, datetime

from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState

QueueItem = LiveTask | ForeignMessage

_STAGES = {
    TaskState.RUNNING: 0,
    TaskState.RESERVED: 1,
    TaskState.QUEUED: 2,
    TaskState.RETRYING: 3,
    TaskState.SCHEDULED: 3,
    TaskState.UNACKED: 4,
    TaskState.UNACCOUNTED: 4,
    TaskState.ORPHANED: 5,
}
_NEVER = datetime.max.replace(tzinfo=UTC)


def running_order(snapshot: Snapshot) -> list[QueueItem]:
    """Every task and foreign message of the snapshot: the one that runs, or runs first, comes first."""

    def key(item: QueueItem) -> tuple[int, datetime, int, int]:
        eta = item.eta if isinstance(item, LiveTask) else None
        # The order id makes the order the same in each snapshot.
        order_id = item.order_id if isinstance(item, LiveTask) else None
        position = item.position if item.position is not None else -1
        held = _STAGES[item.state] == _STAGES[TaskState.SCHEDULED]
        # A task that is held until its ETA runs then, whatever its position.
        return (_STAGES[item.state], (eta or _NEVER) if held else _NEVER, position, order_id or 0)

    return sorted([*snapshot.tasks, *snapshot.foreign], key=key)
