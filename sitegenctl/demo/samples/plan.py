"""The plan of the sample orders: each with its condition and everything that makes it true.

Pure and deterministic: the same number of orders and the same seed give the same plan, and times are ages in seconds.
Every condition occurs; further orders are finished ones.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from sitegenctl.demo.samples import logs
from sitegenctl.demo.samples.businesses import Business, awkward, make_business, showcase
from sitegenctl.demo.samples.recipes import DAY, FOREIGN, HOUR, MINUTE, NOTES, RECIPES, TOUR, Lane, Recipe
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import PROMISED_STATUSES, Onboarding, OrderStatus
from sitegenctl.errors import UsageProblem

#: The order of the tour: BUILDING with a complete onboarding, for every seed.
TOUR_ORDER = 42

#: In a larger plan, finished orders share a few hundred businesses, have short logs, and mostly no files.
DETAILED_UP_TO = 2000
_SHARED_BUSINESSES = 300

#: How far ahead the ETA of a scheduled task is: longer than a demo, shorter than the visibility timeout.
ETA_AHEAD = 45 * MINUTE

_ACTORS = ("ana@ops-1", "walter@ops-2")

_MANIFEST_SCHEMA = "sitegenctl-demo-manifest/1"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was seeded: the condition of every sample order. Tests take it as the ground truth.

    ``conditions`` maps the name of each condition to the ids of its orders, ascending; under ``ghost`` also the id of
    an order that does not exist. ``notes`` says for some conditions when exactly they hold. ``foreign`` is the number
    of messages in the queue that belong to no order.
    """

    orders: int
    seed: int
    foreign: int
    conditions: Mapping[str, Sequence[int]]
    notes: Mapping[str, str]

    def to_json(self) -> str:
        """Return the manifest as a JSON document."""
        return json.dumps({"schema": _MANIFEST_SCHEMA, **asdict(self)}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest. Raises ``ValueError`` for anything else."""
        document = json.loads(text)
        if not isinstance(document, dict) or document.pop("schema", None) != _MANIFEST_SCHEMA:
            raise ValueError("not a manifest of sample orders")
        return cls(**document)


@dataclass(frozen=True, kw_only=True)
class SampleTask:
    """A message of the task; those that sitegenctl published carry an ``actor`` and ``enqueued``, an age."""

    order_id: int
    task_id: str
    lane: Lane
    retries: int = 0
    actor: str | None = None
    enqueued: float = 0


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """One order. Ages are in seconds; None is a NULL column; ``files`` is the number of files, 0 for no folder."""

    order_id: int
    condition: Condition
    status: OrderStatus | None
    business: Business
    onboarding: Onboarding
    created: float
    updated: float
    paid: float | None = None
    onboarding_completed: float | None = None
    delivered: float | None = None
    logs: Sequence[logs.SampleLog] = ()
    files: int = 0
    admin_notes: str | None = None
    briefing: bool = False
    tasks: Sequence[SampleTask] = ()
    due: float | None = None  # seconds from now, negative for a late one; None where its age decides

    @property
    def has_site(self) -> bool:
        """Whether its site has an address."""
        return self.status is not None and self.status.is_finished


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """Sample orders with ids 1 to ``orders``: the ``crafted`` ones, created by recipe, and finished ones."""

    orders: int
    seed: int
    crafted: Mapping[int, SampleOrder]
    missing_task: SampleTask

    def __iter__(self) -> Iterator[SampleOrder]:
        return map(self.order, range(1, self.orders + 1))

    def order(self, order_id: int) -> SampleOrder:
        """Return one of the orders. Raises ``KeyError`` for an id that is not among them."""
        if not 1 <= order_id <= self.orders:
            raise KeyError(order_id)
        return self.crafted.get(order_id) or _finished(order_id, self.orders, self.seed)

    @property
    def tasks(self) -> tuple[SampleTask, ...]:
        """Every message of the task in the order of delivery, the running ones first."""
        turns = {Condition.RUNNING: 0, Condition.QUEUED: 1}
        by_turn = sorted(self.crafted.values(), key=lambda order: (turns.get(order.condition, 2), order.order_id))
        return (*(task for order in by_turn for task in order.tasks), self.missing_task)

    def manifest(self) -> Manifest:
        """Return the conditions that hold once the plan is written."""
        conditions: dict[str, list[int]] = {condition.value: [] for condition in Condition}
        for order_id in range(1, self.orders + 1):
            crafted = self.crafted.get(order_id)
            default = Condition.CANCELLED if _is_cancelled(order_id) else Condition.DONE
            conditions[crafted.condition if crafted else default].append(order_id)
        conditions[Condition.GHOST].append(self.missing_task.order_id)
        notes = {condition.value: note for condition, note in NOTES.items()}
        if self.orders <= DETAILED_UP_TO:
            del notes[Condition.DONE]
        return Manifest(orders=self.orders, seed=self.seed, foreign=len(FOREIGN), conditions=conditions, notes=notes)


#: With fewer orders, not every condition would occur.
MIN_ORDERS = len(RECIPES) + 1
#: Ids are 32-bit integers.
MAX_ORDERS = 10_000_000


def plan_samples(orders: int = 60, seed: int = 42) -> SamplePlan:
    """Plan this number of sample orders. Raises ``UsageProblem`` if it is out of range."""
    if not MIN_ORDERS <= orders <= MAX_ORDERS:
        raise UsageProblem(
            f"cannot create {orders} sample orders",
            hint=f"use a number from {MIN_ORDERS}, so that every condition occurs, to {MAX_ORDERS}",
        )
    rng = _rng("plan", seed, orders)
    # One more than needed, in case the tour's order is among them.
    drawn = rng.sample(range(1, orders + 1), k=len(RECIPES) + 1)
    others = [order_id for order_id in drawn if order_id != TOUR_ORDER][: len(RECIPES)]
    # In the order of their ids, as in a queue that grew with the orders.
    ready = sum(Lane.READY in recipe.lanes for recipe in RECIPES)
    others[:ready] = sorted(others[:ready])
    crafted = {
        order_id: _craft(order_id, recipe, orders, seed, _business(order_id, seed))
        for order_id, recipe in zip(others, RECIPES, strict=True)
    }
    crafted[TOUR_ORDER] = _craft(TOUR_ORDER, TOUR, orders, seed, showcase())
    # Far above the ids of the next orders.
    missing = orders + 900 + rng.randrange(90)
    return SamplePlan(
        orders=orders,
        seed=seed,
        crafted=dict(sorted(crafted.items())),
        # With a date: a message without one may belong to an order that is not committed yet.
        missing_task=SampleTask(
            order_id=missing, task_id=_task_id(rng), lane=Lane.HELD, actor=_ACTORS[0], enqueued=40 * MINUTE
        ),
    )


def _task_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _rng(kind: str, *parts: int) -> random.Random:
    return random.Random("/".join([kind, *map(str, parts)]))  # noqa: S311 - sample data, no secret


def _business(order_id: int, seed: int) -> Business:
    return make_business(_rng("order", seed, order_id))


@cache
def _shared_businesses(seed: int) -> Sequence[Business]:
    return [_business(-number, seed) for number in range(_SHARED_BUSINESSES)]


def _created(order_id: int, orders: int) -> float:
    """Return the age of an order by its id: four a day, the newest half a day old, at most two years."""
    span = min(orders * 6 * HOUR, 720 * DAY)
    return 12 * HOUR + span * (orders - order_id) / orders


def _craft(order_id: int, recipe: Recipe, orders: int, seed: int, business: Business) -> SampleOrder:
    rng = _rng("craft", seed, order_id)
    actor = _ACTORS[order_id % len(_ACTORS)]
    if recipe.awkward:
        business = awkward(business)
    tasks = [
        SampleTask(
            order_id=order_id,
            task_id=_task_id(rng),
            lane=lane,
            retries=recipe.retries,
            actor=actor if "enqueue" in recipe.runs else None,
            enqueued=recipe.age,
        )
        for lane in recipe.lanes
    ]
    by_ai = any("AI_" in run or "PARSE" in run for run in recipe.runs) or recipe.files == 20
    style = logs.RunStyle(order_id, business, recipe.files or 8, by_ai)
    task_id = tasks[0].task_id if tasks else _task_id(rng)
    history = logs.aged(_history(recipe, style, task_id, actor), recipe.age)
    oldest = max([recipe.age, *(row.age for row in history)])
    created = max(_created(order_id, orders), oldest + 5 * HOUR)
    # Older than the first run; that of the tour's order is its last change.
    completed = recipe.age if not recipe.runs and recipe.age >= HOUR else oldest + 2 * HOUR
    notes = recipe.notes
    if history and history[-1].step == "ERROR":
        # The text of the deployed system, although nothing retries such a failure.
        notes = f"Generation Failed: {recipe.error}\nWill retry automatically"
    return SampleOrder(
        order_id=order_id,
        condition=recipe.condition,
        status=recipe.status,
        business=business,
        onboarding=recipe.onboarding,
        created=created,
        updated=recipe.age,
        paid=None if recipe.status is OrderStatus.PENDING_PAYMENT else created - 10 * MINUTE,
        onboarding_completed=completed if recipe.onboarding is Onboarding.COMPLETE and recipe.completed_at else None,
        delivered=recipe.age if recipe.status is OrderStatus.DELIVERED else None,
        logs=history,
        files=recipe.files,
        admin_notes=notes,
        briefing="ok" in recipe.runs,
        tasks=tasks,
        due=_due(order_id, recipe),
    )


def _due(order_id: int, recipe: Recipe) -> float | None:
    """When an undelivered order is due: some are late by hours, some due soon, the others later."""
    if recipe.status is not None and recipe.status not in PROMISED_STATUSES:
        return None
    if recipe.condition is Condition.SCHEDULED:
        return ETA_AHEAD - 15 * MINUTE  # before its task is due
    hours = 1 + order_id % 9
    match order_id % 6:
        case 5:
            return -(hours + 0.5) * HOUR
        case 0:
            return (2 * hours + 0.5) * HOUR
        case _:
            return hours * DAY + 1.5 * HOUR


def _history(recipe: Recipe, style: logs.RunStyle, task_id: str, actor: str) -> Iterator[logs.SampleLog]:
    ran = False
    for run in recipe.runs:
        if run == "cancel":
            before = "GENERATING" if ran else "BUILDING"
            yield logs.operator_row(run, actor, before=before, after="BUILDING")
        elif run == "enqueue":
            before = "GENERATING" if ran else "BUILDING"
            yield logs.operator_row(run, actor, task_id=task_id, resume=True, before=before, after="GENERATING")
        elif run == "ok":
            yield from logs.whole_run(style, resumed=ran)
        elif run.startswith("cut:"):
            # The task of a killed child is redelivered at once: START follows START.
            yield from logs.cut_run(style, run.removeprefix("cut:"))
        else:
            yield from logs.failed_run(style, run, recipe.error, resumed=ran and run not in _BEFORE_RESUME)
        ran = ran or run not in {"enqueue", "cancel"}


# A resumed run skips these steps, so a run that failed there started from the beginning.
_BEFORE_RESUME = frozenset({"START", "PHASE_1_START", "AI_STRATEGY", "PHASE_1_COMPLETE"})


def _is_cancelled(order_id: int) -> bool:
    return order_id % 29 == 0


def _finished(order_id: int, orders: int, seed: int) -> SampleOrder:
    """Return a finished order: mostly DELIVERED, some in REVIEW or CANCELLED."""
    is_detailed = orders <= DETAILED_UP_TO
    business = _business(order_id, seed) if is_detailed else _shared_businesses(seed)[order_id % _SHARED_BUSINESSES]
    created = _created(order_id, orders) + 4 * DAY
    if _is_cancelled(order_id):
        return SampleOrder(
            order_id=order_id,
            condition=Condition.CANCELLED,
            status=OrderStatus.CANCELLED,
            business=business,
            onboarding=Onboarding.MISSING,
            created=created,
            updated=created - DAY,
            paid=created - HOUR,
        )
    in_review = order_id % 23 == 0
    files = 20 if is_detailed and order_id % 4 == 0 else 8
    style = logs.RunStyle(order_id, business, files, by_ai=files == 20)
    rows = logs.whole_run(style)
    if not is_detailed:
        # The decisive ones only.
        rows = [row for row in rows if row.step in {"START", "WRITE_COMPLETE", "SUCCESS"}]
    made = created - 2 * DAY
    delivered = None if in_review else made - DAY
    return SampleOrder(
        order_id=order_id,
        condition=Condition.DONE,
        status=OrderStatus.REVIEW if in_review else OrderStatus.DELIVERED,
        business=business,
        onboarding=Onboarding.COMPLETE,
        created=created,
        updated=made if delivered is None else delivered,
        paid=created - 10 * MINUTE,
        onboarding_completed=created - DAY,
        delivered=delivered,
        logs=logs.aged(rows, made),
        files=files,
        briefing=is_detailed,
    )
