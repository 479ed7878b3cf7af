"""What is said otherwise of one kind of queue than of another; which one it is, is known where all is composed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QueueTerms:
    """What to know when the consuming was stopped (``paused``) or started again (``resumed``)."""

    paused: str
    resumed: str


CELERY_TERMS = QueueTerms(
    paused="a worker that starts or restarts consumes again: pause it too. What a worker holds already is finished.",
    resumed=(
        "a worker that was started for other queues consumes this one now, too, until it restarts; one of celery 5.3"
        " that loses its connection to Redis consumes nothing any more: restart it."
    ),
)

RQ_TERMS = QueueTerms(
    paused=(
        "rq suspends every worker of this Redis, those of other queues and those that start later, too; what runs is"
        " finished, and a worker that waits for a task already takes one more."
    ),
    resumed="every worker of this Redis takes tasks again within a second or two, those of other queues too.",
)
