"""What is said otherwise of one kind of queue than of another; which one it is, is known where all is composed."""

from __future__ import annotations

from dataclasses import dataclass

from sitegenctl.domain.queue.defaults import HARD_LIMIT, SOFT_LIMIT


@dataclass(frozen=True, kw_only=True)
class BackendTexts:
    """What to know and what to do, as far as it is the queue's own.

    ``paused`` and ``resumed`` are what to know when the consuming was stopped or started again, ``unattended`` when
    nobody was there to be told. ``silence`` is why a connected worker may keep silent, ``patience`` what brings it to
    speak. ``consuming`` is how a worker is told which queue to consume, with ``{queue}`` in it. ``limits`` sets the
    system's limits, ``serialization`` mends messages in another format than the workers take, ``unreadable`` is what
    those do with them.
    """

    paused: str
    resumed: str
    unattended: str
    silence: str
    patience: str
    consuming: str
    limits: str
    serialization: str
    unreadable: str


CELERY_TERMS = BackendTexts(
    paused="a worker that starts or restarts consumes again: pause it too. What a worker holds already is finished.",
    resumed=(
        "a worker that was started for other queues consumes this one now, too, until it restarts; one of celery 5.3"
        " that loses its connection to Redis consumes nothing any more: restart it."
    ),
    unattended="no worker responds to remote control: nothing to do",
    silence="it hangs or is paused, or it runs with -P solo and is in the middle of a task",
    patience="--timeout gives it longer",
    consuming="--queues={queue}",
    limits=(
        f"set task_soft_time_limit={SOFT_LIMIT} and task_time_limit={HARD_LIMIT} in the worker's app, and restart it"
    ),
    serialization="set task_serializer='json' in whoever publishes them",
    unreadable="workers that accept JSON alone drop them",
)

RQ_TERMS = BackendTexts(
    paused=(
        "rq suspends every worker of this Redis, those of other queues and those that start later, too; what runs is"
        " finished, and a worker that waits for a task already takes one more."
    ),
    resumed="every worker of this Redis takes tasks again within a second or two, those of other queues too.",
    unattended="no worker is alive; one that starts heeds it",
    silence="it hangs or is paused, or it was killed and what it had begun lives on",
    patience="a job that it had begun ends at its time limit at the latest: look again then",
    consuming="{queue} among its queues",
    limits=(
        f"publish with job_timeout={HARD_LIMIT}, as sitegenctl does: a job keeps the limit that it was published with"
    ),
    serialization=(
        "publish with the workers' own serializer; rq_serializer (SITEGENCTL_RQ_SERIALIZER) says which that is"
    ),
    unreadable="workers that read another one fail them",
)
