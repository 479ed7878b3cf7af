"""The recipes of the sample orders: at least one for every condition, and for every way into it.

Data only: ``sample_plan.py`` makes orders from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import Onboarding, OrderStatus

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Lane(StrEnum):
    """Where a task's message is put."""

    READY = "ready"  # for the next free worker
    HELD = "held"  # with an ETA ahead
    LOST = "lost"  # in `unacked`, as left behind by a worker that is gone


class ForeignKind(StrEnum):
    """A message in the queue that belongs to no order."""

    BEAT = "beat"  # the system's own periodic task, which goes through the same queue
    PICKLED = "pickled"  # another application's, not JSON


FOREIGN = (ForeignKind.BEAT, ForeignKind.PICKLED, ForeignKind.BEAT)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to make one order of a condition; what isn't said is as in a plain order of that status.

    ``runs`` are told oldest first: the last step before ERROR, ``ok`` for a whole run, ``cut:STEP`` for one
    cut short, ``enqueue`` and ``cancel`` for the operator's rows. ``moved`` is the age of its newest movement.
    ``awkward`` gives the business a name that is hard to show.
    """

    condition: Condition
    status: OrderStatus | None
    onboarding: Onboarding = Onboarding.COMPLETE
    moved: float = 25 * MINUTE
    runs: tuple[str, ...] = ()
    error: str = ""
    files: int = 0
    lanes: tuple[Lane, ...] = ()
    retries: int = 0
    by_operator: bool = False
    completed_at: bool = True
    notes: str | None = None
    awkward: bool = False


_MISSING = Onboarding.MISSING
_PARTIAL = Onboarding.PARTIAL
_GENERATING = OrderStatus.GENERATING
_BUILDING = OrderStatus.BUILDING
_RATE_LIMIT = "AI provider answered 429: rate limit exceeded, retry after 60 s"
_TIME_LIMIT = "SoftTimeLimitExceeded()"

TOUR = Recipe(condition=Condition.UNSTARTED, status=_BUILDING, moved=3 * HOUR)

RECIPES: tuple[Recipe, ...] = (
    # What a worker takes, in this order.
    Recipe(condition=Condition.RUNNING, status=_GENERATING, lanes=(Lane.READY,), moved=9 * MINUTE),
    Recipe(
        condition=Condition.RUNNING,
        status=_GENERATING,
        lanes=(Lane.READY,),
        runs=("enqueue",),
        by_operator=True,
        moved=8 * MINUTE,
    ),
    Recipe(condition=Condition.QUEUED, status=_GENERATING, lanes=(Lane.READY,), moved=7 * MINUTE),
    Recipe(
        condition=Condition.QUEUED,
        status=_GENERATING,
        lanes=(Lane.READY,),
        runs=("TEMPLATE_START", "enqueue"),
        error="Template 'bistro-modern' not found",
        by_operator=True,
        moved=6 * MINUTE,
    ),
    Recipe(condition=Condition.QUEUED, status=_GENERATING, lanes=(Lane.READY,), moved=5 * MINUTE),
    Recipe(condition=Condition.QUEUED, status=_GENERATING, lanes=(Lane.READY,), moved=4 * MINUTE),
    # What is held: it stays as it is while a worker runs.
    Recipe(condition=Condition.SCHEDULED, status=_GENERATING, lanes=(Lane.HELD,), moved=12 * MINUTE),
    Recipe(
        condition=Condition.SCHEDULED,
        status=_GENERATING,
        lanes=(Lane.HELD,),
        runs=("enqueue",),
        by_operator=True,
    ),
    Recipe(
        condition=Condition.RETRYING,
        status=_GENERATING,
        lanes=(Lane.HELD,),
        retries=1,
        runs=("AI_GENERATION",),
        error=_RATE_LIMIT,
    ),
    Recipe(
        condition=Condition.RETRYING,
        status=_GENERATING,
        lanes=(Lane.HELD,),
        retries=2,
        runs=("enqueue", "AI_STRATEGY", "AI_STRATEGY"),
        error=_TIME_LIMIT,
        by_operator=True,
    ),
    Recipe(condition=Condition.DUPLICATED, status=_GENERATING, lanes=(Lane.HELD, Lane.HELD)),
    Recipe(
        condition=Condition.DUPLICATED,
        status=_BUILDING,
        lanes=(Lane.HELD, Lane.HELD),
        runs=("WRITE_FILES",),
        error="[Errno 2] No such file or directory: 'index.html'",
        moved=50 * MINUTE,
    ),
    Recipe(condition=Condition.GHOST, status=OrderStatus.CANCELLED, lanes=(Lane.HELD,), moved=2 * HOUR),
    Recipe(
        condition=Condition.GHOST,
        status=OrderStatus.DELIVERED,
        lanes=(Lane.HELD,),
        runs=("ok",),
        files=20,
        moved=5 * HOUR,
    ),
    Recipe(
        condition=Condition.ORPHANED,
        status=_GENERATING,
        lanes=(Lane.LOST,),
        runs=("cut:AI_GENERATION",),
        moved=11 * MINUTE,
    ),
    Recipe(
        condition=Condition.ORPHANED,
        status=_GENERATING,
        lanes=(Lane.LOST,),
        runs=("enqueue", "cut:WRITE_PROGRESS"),
        files=3,
        by_operator=True,
        moved=13 * MINUTE,
    ),
    # What is in no one's hands.
    Recipe(condition=Condition.BLOCKED, status=_GENERATING, onboarding=_MISSING, moved=1.4 * DAY),
    Recipe(
        condition=Condition.BLOCKED,
        status=_GENERATING,
        onboarding=_PARTIAL,
        runs=("START",),
        error="Onboarding is not complete",
        moved=7 * HOUR,
    ),
    Recipe(condition=Condition.SETTLING, status=_GENERATING, moved=0),
    Recipe(condition=Condition.FAILED, status=_GENERATING, runs=("AI_GENERATION",), error=_RATE_LIMIT),
    Recipe(
        condition=Condition.FAILED,
        status=_GENERATING,
        runs=("TEMPLATE_START", "TEMPLATE_START"),
        error="Template 'clinic-soft' not found",
        moved=3 * HOUR,
    ),
    Recipe(
        condition=Condition.FAILED,
        status=_GENERATING,
        runs=("PARSE_RESULT", "enqueue", "PARSE_RESULT", "enqueue", "PARSE_RESULT"),
        error="Failed to parse AI response: Expecting ',' delimiter: line 214 column 9 (char 8873)",
        moved=9 * HOUR,
    ),
    Recipe(
        condition=Condition.FAILED,
        status=_GENERATING,
        runs=("FETCH_DATA",) * 4,
        error="Multiple rows were found when one or none was required",
        moved=1.2 * DAY,
    ),
    Recipe(
        condition=Condition.FAILED,
        status=_GENERATING,
        runs=("WRITE_PROGRESS",),
        error="[Errno 28] No space left on device",
        files=3,
        moved=80 * MINUTE,
    ),
    Recipe(condition=Condition.INTERRUPTED, status=_GENERATING, moved=4 * HOUR),
    Recipe(
        condition=Condition.INTERRUPTED,
        status=_GENERATING,
        runs=("AI_STRATEGY", "enqueue"),
        error=_TIME_LIMIT,
        moved=35 * MINUTE,
    ),
    Recipe(
        condition=Condition.INTERRUPTED,
        status=_GENERATING,
        runs=("cut:R2_COMPLETE",),
        files=8,
        moved=2.2 * HOUR,
    ),
    Recipe(
        condition=Condition.INTERRUPTED,
        status=_GENERATING,
        runs=("cut:START", "cut:WRITE_COMPLETE"),
        files=20,
        moved=6 * HOUR,
    ),
    Recipe(condition=Condition.EMPTY, status=_GENERATING, runs=("cut:AI_GENERATION",), moved=70 * MINUTE),
    Recipe(
        condition=Condition.EMPTY,
        status=_GENERATING,
        runs=("cut:AI_STRATEGY", "cut:WRITE_PROGRESS"),
        files=3,
        moved=2 * HOUR,
    ),
    Recipe(condition=Condition.HELD, status=_BUILDING, runs=("enqueue", "cancel"), moved=HOUR),
    Recipe(condition=Condition.UNSTARTED, status=_BUILDING, moved=20 * MINUTE),
    Recipe(condition=Condition.UNSTARTED, status=_BUILDING, completed_at=False, moved=1.6 * DAY),
    # What waits for the customer, and what is over.
    Recipe(condition=Condition.WAITING, status=OrderStatus.PENDING_PAYMENT, onboarding=_MISSING),
    Recipe(condition=Condition.WAITING, status=OrderStatus.PAID, onboarding=_MISSING, moved=90 * MINUTE),
    Recipe(
        condition=Condition.WAITING,
        status=OrderStatus.ONBOARDING_PENDING,
        onboarding=_PARTIAL,
        moved=1.1 * DAY,
        notes='Customer says:\n"I\'ll send the photos on Monday & call before noon."',
        awkward=True,
    ),
    Recipe(condition=Condition.WAITING, status=_BUILDING, onboarding=_PARTIAL, moved=2 * HOUR),
    Recipe(condition=Condition.WAITING, status=_BUILDING, onboarding=_MISSING, moved=5 * HOUR),
    Recipe(condition=Condition.UNKNOWN, status=None, onboarding=_PARTIAL, moved=3 * DAY),
    Recipe(condition=Condition.HOLLOW, status=OrderStatus.REVIEW, runs=("ok",), moved=6 * HOUR, awkward=True),
    Recipe(condition=Condition.HOLLOW, status=OrderStatus.DELIVERED, runs=("ok",), files=3, moved=2 * DAY),
    Recipe(condition=Condition.DONE, status=OrderStatus.REVIEW, runs=("ok",), files=8, moved=38 * MINUTE),
    Recipe(
        condition=Condition.DONE,
        status=OrderStatus.REVIEW,
        runs=("AI_GENERATION", "ok"),
        error=_RATE_LIMIT,
        files=20,
        moved=4 * HOUR,
    ),
    Recipe(condition=Condition.DONE, status=OrderStatus.DELIVERED, runs=("ok",), files=8, moved=9 * HOUR),
    Recipe(condition=Condition.DONE, status=OrderStatus.DELIVERED, runs=("ok",), files=20, moved=1.5 * DAY),
    Recipe(
        condition=Condition.CANCELLED,
        status=OrderStatus.CANCELLED,
        onboarding=_PARTIAL,
        notes="Refunded in full.\nReason: 'changed my mind'",
        moved=2.5 * DAY,
    ),
)
