"""The recipes of the sample orders: at least one for every condition, and for every way into it. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import Onboarding, OrderStatus

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Lane(StrEnum):
    """Where the message of a task is published."""

    READY = "ready"  # for the next free worker
    HELD = "held"  # with an ETA ahead
    LOST = "lost"  # delivered to a worker that is gone


class ForeignKind(StrEnum):
    """A message in the queue that belongs to no order."""

    BEAT = "beat"  # the system's own periodic task, which uses the same queue
    PICKLED = "pickled"  # another application's, not JSON


FOREIGN = (ForeignKind.BEAT, ForeignKind.PICKLED, ForeignKind.BEAT)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to create one order of a condition.

    ``runs`` has the oldest first: the last step before ERROR, ``ok`` for a whole run, ``cut:STEP`` for an interrupted
    one, ``enqueue`` and ``cancel`` for the operator's rows. ``age`` is that of the newest change, in seconds.
    ``awkward`` gives the business a name that is hard to show.
    """

    condition: Condition
    status: OrderStatus | None
    onboarding: Onboarding = Onboarding.COMPLETE
    age: float = 25 * MINUTE
    runs: tuple[str, ...] = ()
    error: str = ""
    files: int = 0
    lanes: tuple[Lane, ...] = ()
    retries: int = 0
    completed_at: bool = True
    notes: str | None = None
    awkward: bool = False


def _generating(condition: Condition, *lanes: Lane, **facts: Any) -> Recipe:
    return Recipe(condition=condition, status=OrderStatus.GENERATING, lanes=lanes, **facts)


def _building(condition: Condition, *lanes: Lane, **facts: Any) -> Recipe:
    return Recipe(condition=condition, status=OrderStatus.BUILDING, lanes=lanes, **facts)


_MISSING, _PARTIAL = Onboarding.MISSING, Onboarding.PARTIAL
_READY, _HELD, _LOST = Lane.READY, Lane.HELD, Lane.LOST
_REVIEW, _DELIVERED = OrderStatus.REVIEW, OrderStatus.DELIVERED
_RATE_LIMIT = "AI provider answered 429: rate limit exceeded, retry after 60 s"
_TIME_LIMIT = "SoftTimeLimitExceeded()"
_NO_TEMPLATE = "Template 'bistro-modern' not found"
_NO_SPACE = "[Errno 28] No space left on device"
_NO_FILE = "[Errno 2] No such file or directory: 'index.html'"
_TWO_ROWS = "Multiple rows were found when one or none was required"
_BAD_JSON = "Failed to parse AI response: Expecting ',' delimiter: line 214 column 9 (char 8873)"
_PHOTOS = 'Customer says:\n"I\'ll send the photos on Monday & call before noon."'
_REFUND = "Refunded in full.\nReason: 'changed my mind'"

TOUR = _building(Condition.UNSTARTED, age=3 * HOUR)

RECIPES: tuple[Recipe, ...] = (
    # Taken by a worker, in this order.
    _generating(Condition.RUNNING, _READY, age=9 * MINUTE),
    _generating(Condition.RUNNING, _READY, age=8 * MINUTE, runs=("enqueue",)),
    _generating(Condition.QUEUED, _READY, age=7 * MINUTE),
    _generating(Condition.QUEUED, _READY, age=6 * MINUTE, runs=("TEMPLATE_START", "enqueue"), error=_NO_TEMPLATE),
    _generating(Condition.QUEUED, _READY, age=5 * MINUTE),
    _generating(Condition.QUEUED, _READY, age=4 * MINUTE),
    # With an ETA or delivered: unchanged while a worker runs.
    _generating(Condition.SCHEDULED, _HELD, age=12 * MINUTE),
    _generating(Condition.SCHEDULED, _HELD, runs=("enqueue",)),
    _generating(Condition.RETRYING, _HELD, retries=1, runs=("AI_GENERATION",), error=_RATE_LIMIT),
    _generating(Condition.RETRYING, _HELD, retries=2, runs=("enqueue", *["AI_STRATEGY"] * 2), error=_TIME_LIMIT),
    _generating(Condition.DUPLICATED, _HELD, _HELD),
    _building(Condition.DUPLICATED, _HELD, _HELD, age=50 * MINUTE, runs=("WRITE_FILES",), error=_NO_FILE),
    Recipe(condition=Condition.GHOST, status=OrderStatus.CANCELLED, lanes=(_HELD,), age=2 * HOUR),
    Recipe(condition=Condition.GHOST, status=_DELIVERED, lanes=(_HELD,), age=5 * HOUR, runs=("ok",), files=20),
    _generating(Condition.ORPHANED, _LOST, age=11 * MINUTE, runs=("cut:AI_GENERATION",)),
    _generating(Condition.ORPHANED, _LOST, age=13 * MINUTE, runs=("enqueue", "cut:WRITE_PROGRESS"), files=3),
    # Without a task, although the order is to be generated.
    _generating(Condition.BLOCKED, age=1.4 * DAY, onboarding=_MISSING),
    _generating(Condition.BLOCKED, age=7 * HOUR, onboarding=_MISSING, runs=("START",), error="Onboarding not found"),
    _generating(Condition.SETTLING, age=0),
    _generating(Condition.FAILED, runs=("AI_GENERATION",), error=_RATE_LIMIT),
    _generating(Condition.FAILED, age=3 * HOUR, runs=("TEMPLATE_START",) * 2, error="Template 'clinic-soft' not found"),
    _generating(
        Condition.FAILED,
        age=9 * HOUR,
        runs=("PARSE_RESULT", "enqueue", "PARSE_RESULT", "enqueue", "PARSE_RESULT"),
        error=_BAD_JSON,
    ),
    _generating(Condition.FAILED, age=1.2 * DAY, runs=("FETCH_DATA",) * 4, error=_TWO_ROWS),
    _generating(Condition.FAILED, age=80 * MINUTE, runs=("WRITE_PROGRESS",), error=_NO_SPACE, files=3),
    _generating(Condition.INTERRUPTED, age=4 * HOUR),
    _generating(Condition.INTERRUPTED, age=35 * MINUTE, runs=("AI_STRATEGY", "enqueue"), error=_TIME_LIMIT),
    _generating(Condition.INTERRUPTED, age=2.2 * HOUR, runs=("cut:R2_COMPLETE",), files=8),
    _generating(Condition.INTERRUPTED, age=6 * HOUR, runs=("cut:START", "cut:WRITE_COMPLETE"), files=20),
    _generating(Condition.EMPTY, age=70 * MINUTE, runs=("cut:AI_GENERATION",)),
    _generating(Condition.EMPTY, age=2 * HOUR, runs=("cut:AI_STRATEGY", "cut:WRITE_PROGRESS"), files=3),
    _building(Condition.HELD, age=HOUR, runs=("enqueue", "cancel")),
    _building(Condition.UNSTARTED, age=20 * MINUTE),
    _building(Condition.UNSTARTED, age=1.6 * DAY, completed_at=False),
    # Waiting for the customer, or finished.
    Recipe(condition=Condition.WAITING, status=OrderStatus.PENDING_PAYMENT, onboarding=_MISSING),
    Recipe(condition=Condition.WAITING, status=OrderStatus.PAID, onboarding=_MISSING, age=90 * MINUTE),
    Recipe(
        condition=Condition.WAITING,
        status=OrderStatus.ONBOARDING_PENDING,
        onboarding=_PARTIAL,
        age=1.1 * DAY,
        notes=_PHOTOS,
        awkward=True,
    ),
    _building(Condition.WAITING, age=2 * HOUR, onboarding=_PARTIAL),
    _building(Condition.WAITING, age=5 * HOUR, onboarding=_MISSING),
    Recipe(condition=Condition.UNKNOWN, status=None, onboarding=_PARTIAL, age=3 * DAY),
    Recipe(condition=Condition.HOLLOW, status=_REVIEW, runs=("ok",), age=6 * HOUR, awkward=True),
    Recipe(condition=Condition.HOLLOW, status=_DELIVERED, runs=("ok",), files=3, age=2 * DAY),
    Recipe(condition=Condition.DONE, status=_REVIEW, runs=("ok",), files=8, age=38 * MINUTE),
    Recipe(
        condition=Condition.DONE,
        status=_REVIEW,
        runs=("AI_GENERATION", "ok"),
        error=_RATE_LIMIT,
        files=20,
        age=4 * HOUR,
    ),
    Recipe(condition=Condition.DONE, status=_DELIVERED, runs=("ok",), files=8, age=9 * HOUR),
    Recipe(condition=Condition.DONE, status=_DELIVERED, runs=("ok",), files=20, age=1.5 * DAY),
    Recipe(
        condition=Condition.CANCELLED,
        status=OrderStatus.CANCELLED,
        onboarding=_PARTIAL,
        notes=_REFUND,
        age=2.5 * DAY,
    ),
)

#: When exactly some conditions hold.
NOTES = {
    Condition.RUNNING: "while a worker with two processes runs them; queued before, done afterwards",
    Condition.QUEUED: "until a worker takes them",
    Condition.SETTLING: "for the grace period after the seeding; interrupted afterwards",
    Condition.UNKNOWN: "its status is NULL",
    Condition.DONE: "most site folders were not written: hollow if hollow orders are searched for",
    Condition.HOLLOW: "older than a day: if hollow orders are searched for; otherwise done",
    Condition.GHOST: "the order with the largest id does not exist",
    Condition.ORPHANED: "until Celery's visibility timeout (one hour by default) restores it; with RQ for 45 minutes",
    Condition.SCHEDULED: "for 45 minutes after the seeding",
    Condition.RETRYING: "for 45 minutes after the seeding",
}
