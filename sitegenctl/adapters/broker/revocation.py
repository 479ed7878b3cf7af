"""What becomes of a task that is to be taken away or given back, of whichever queue: verdicts, and their words."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum, auto

from sitegenctl.domain.queue.task import LiveTask, TaskState

#: Seconds that workers are given to let go of what they were told to stop, or are about to begin.
PATIENCE = 10.0

#: Seconds between two looks at something that is certain to change soon.
SOON = 0.05

#: Seconds after which a task on the move between queue, broker and worker is in one of them again.
SECOND_LOOK = 0.25


class Verdict(Enum):
    """What is known of a task on its way out."""

    GONE = auto()
    FORGET = auto()  # nobody will run it: only what Redis has of those in work is left
    STOP = auto()  # it runs, and its worker is to be told to stop it
    WAIT = auto()  # it is about to go, or to start
    NOWHERE = auto()  # ended, or between two places


def copy_is_gone(task_id: str) -> str:
    """Of a task with several copies, the one to be taken away was not where it was seen."""
    return f"the copy of task {task_id} was no longer in the queue: look again"


def has_started(task_id: str, workers: Iterable[str]) -> str:
    """It runs, and is not to be stopped."""
    return f"task {task_id} started at {', '.join(workers)} meanwhile"


def not_answered(silent: int, what: str) -> str:
    """So many living workers are silent, and each may be doing ``what``."""
    have = "a living worker has" if silent == 1 else f"{silent} living workers have"
    return f"{have} not answered, and may {what}"


def not_removable(task: LiveTask) -> str | None:
    """Why this place of a task must not be touched, whatever is found now; None where it may be."""
    if task.part_of is not None:
        return f"task {task.task_id} is part of a {task.part_of}, and cannot be removed by itself"
    if task.state is TaskState.UNACCOUNTED:
        return unaccounted(task.task_id)
    return None


def unaccounted(task_id: str) -> str:
    """It was delivered, and nobody who responds has it."""
    return (
        f"task {task_id} was delivered, and no worker that responds has it: one that is shutting down, paused or cut"
        " off may be running it"
    )


def delivery_changed(task_id: str) -> str:
    """It is no longer the delivery that was found to be orphaned."""
    return f"task {task_id} is no longer delivered as it was: it was acknowledged, given back or delivered again"


def no_longer_reported(task_id: str, workers: Iterable[str]) -> str:
    """Its worker had it, and says nothing of it any more; it has no result either."""
    return f"{', '.join(workers) or 'its worker'} no longer reports task {task_id}, and may be running it: look again"


def answers_again(task_id: str, state: TaskState, worker: str) -> str:
    """Its worker is not gone."""
    return f"its worker answers again: task {task_id} is {state} at {worker}"


def too_late(task_id: str, *, signalled: Collection[str], at: str | None, patience: float) -> str:
    """Why a task is not gone yet: ``signalled`` workers have not stopped it, or it is still ``at`` a worker."""
    if signalled:
        return f"{', '.join(signalled)} was told to stop task {task_id}, and has not within {patience:.0f} s"
    if at is not None:
        return f"task {task_id} is about to start at {at}"
    return f"task {task_id} did not come to rest within {patience:.0f} s"
