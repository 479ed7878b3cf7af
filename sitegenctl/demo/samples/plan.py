"""Which sample orders there are: each with its condition and everything that makes it true.

Pure and deterministic: the same number of orders and the same seed give the same plan, and times are ages in
seconds, so that nothing depends on when it is made. Every condition of ``domain/condition.py`` occurs; the
orders beyond those are finished ones. Writing a plan is left to ``samples.py``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.demo.samples import logs
from sitegenctl.demo.samples.businesses import Business, awkward, make_business, showcase
from sitegenctl.demo.samples.manifest import Manifest
from sitegenctl.demo.samples.recipes import DAY, FOREIGN, HOUR, MINUTE, RECIPES, TOUR, Lane, Recipe
from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.orders.order import Onboarding, OrderStatus
from sitegenctl.errors import UsageProblem

#: The order of the tour: BUILDING, its onboarding complete, whatever the seed.
TOUR_ORDER = 42

#: Up to so many orders every one has a business, an onboarding and a log of its own; above it, the finished
#: ones share a few hundred businesses and have short logs.
DETAILED_UP_TO = 2000
_SHARED_BUSINESSES = 300


#: How far ahead a scheduled task's ETA is: no demo lasts so long, and no visibility timeout is so short.
ETA_AHEAD = 45 * MINUTE

ACTORS = ("ana@ops-1", "walter@ops-2")


@dataclass(frozen=True, kw_only=True)
class SampleTask:
    """A message of ours; ``actor`` and ``enqueued`` (an age) are carried by those that sitegenctl published."""

    order_id: int
    task_id: str
    lane: Lane
    retries: int = 0
    actor: str | None = None
    enqueued: float = 0


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """One order, with what makes its condition true. Ages are in seconds; None is a NULL column.

    ``files`` is the number of files of its site, 0 for no folder.
    """

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

    @property
    def has_site(self) -> bool:
        """Whether its site was finished, so that it has an address."""
        return self.status is not None and self.status.is_finished


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """Sample orders with ids 1 to ``orders``: the ``crafted`` ones, made by recipe, and finished ones."""

    orders: int
    seed: int
    crafted: Mapping[int, SampleOrder]
    missing_task: SampleTask

    def __iter__(self) -> Iterator[SampleOrder]:
        shared = self._shared_businesses()
        for order_id in range(1, self.orders + 1):
            crafted = self.crafted.get(order_id)
            yield crafted if crafted is not None else _finished(order_id, self.orders, self.seed, shared)

    def order(self, order_id: int) -> SampleOrder:
        """One of the orders. Raises ``KeyError`` for an id that isn't among them."""
        if not 1 <= order_id <= self.orders:
            raise KeyError(order_id)
        crafted = self.crafted.get(order_id)
        return crafted or _finished(order_id, self.orders, self.seed, self._shared_businesses())

    def _shared_businesses(self) -> Sequence[Business]:
        if self.orders <= DETAILED_UP_TO:
            return ()
        return [_business(-number, self.seed) for number in range(_SHARED_BUSINESSES)]

    @property
    def tasks(self) -> tuple[SampleTask, ...]:
        """Every message of ours in the order of delivery, the running ones first, what is held last."""
        by_condition = sorted(self.crafted.values(), key=lambda order: (_turn(order), order.order_id))
        tasks = [task for order in by_condition for task in order.tasks]
        return (*tasks, self.missing_task)

    def manifest(self, *, all_sites: bool = True) -> Manifest:
        """The conditions that hold once the plan is written; ``all_sites`` says whether every folder was."""
        conditions: dict[str, list[int]] = {condition.value: [] for condition in Condition}
        for order_id in range(1, self.orders + 1):
            crafted = self.crafted.get(order_id)
            finished = crafted is None and not _is_cancelled(order_id)
            default = Condition.DONE if finished else Condition.CANCELLED
            conditions[crafted.condition if crafted else default].append(order_id)
        conditions[Condition.GHOST].append(self.missing_task.order_id)
        return Manifest(
            orders=self.orders,
            seed=self.seed,
            foreign=len(FOREIGN),
            conditions=conditions,
            notes={
                condition.value: note
                for condition, note in _NOTES.items()
                if condition is not Condition.DONE or not all_sites
            },
        )


_NOTES = {
    Condition.RUNNING: "once a worker with two processes has taken them; queued until then, done afterwards",
    Condition.QUEUED: "until a worker gets to them",
    Condition.SETTLING: "for the grace period after the seeding; interrupted from then on",
    Condition.UNKNOWN: "its status is NULL",
    Condition.DONE: "the site folders of most were not written: hollow where hollow is looked for",
    Condition.HOLLOW: "where hollow is looked for; done otherwise",
    Condition.GHOST: "the largest id is of an order that doesn't exist",
    Condition.ORPHANED: "until Celery's visibility timeout (an hour by default) gives it back; on RQ for 45 minutes",
    Condition.SCHEDULED: "for 45 minutes after the seeding",
    Condition.RETRYING: "for 45 minutes after the seeding",
}

#: With fewer orders not every condition would occur.
MIN_ORDERS = len(RECIPES) + 1
#: The number of orders is bounded by the ids: those of the sample orders and of the missing one are integers.
MAX_ORDERS = 10_000_000


def plan_samples(orders: int = 60, seed: int = 42) -> SamplePlan:
    """Plan so many sample orders. Raises ``UsageProblem`` for a number that can't be had."""
    if not MIN_ORDERS <= orders <= MAX_ORDERS:
        raise UsageProblem(
            f"{orders} sample orders can't be made",
            hint=f"at least {MIN_ORDERS}, so that every condition occurs, and at most {MAX_ORDERS}",
        )
    rng = random.Random(f"plan/{seed}/{orders}")  # noqa: S311 - sample data, no secret
    # One more than needed, in case the tour's order is among them.
    drawn = rng.sample(range(1, orders + 1), k=len(RECIPES) + 1)
    others = [order_id for order_id in drawn if order_id != TOUR_ORDER][: len(RECIPES)]
    # The two that a worker takes first have the lowest ids of what is ready, and so on: sorted, the queue reads
    # like one that grew with the orders.
    ready = sum(Lane.READY in recipe.lanes for recipe in RECIPES)
    others[:ready] = sorted(others[:ready])
    crafted = {
        order_id: _craft(order_id, recipe, orders, seed, _business(order_id, seed))
        for order_id, recipe in zip(others, RECIPES, strict=True)
    }
    crafted[TOUR_ORDER] = _craft(TOUR_ORDER, TOUR, orders, seed, showcase())
    # Well above the ids that the next orders will get.
    missing = orders + 900 + rng.randrange(90)
    return SamplePlan(
        orders=orders,
        seed=seed,
        crafted=dict(sorted(crafted.items())),
        # With a date: a message without one may be of an order that is not committed yet.
        missing_task=SampleTask(
            order_id=missing, task_id=_task_id(rng), lane=Lane.HELD, actor=ACTORS[0], enqueued=40 * MINUTE
        ),
    )


def _turn(order: SampleOrder) -> int:
    turns = [Condition.RUNNING, Condition.QUEUED]
    return turns.index(order.condition) if order.condition in turns else len(turns)


def _task_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _rng(order_id: int, seed: int) -> random.Random:
    return random.Random(f"order/{seed}/{order_id}")  # noqa: S311 - sample data, no secret


def _business(order_id: int, seed: int) -> Business:
    return make_business(_rng(order_id, seed))


def _created(order_id: int, orders: int) -> float:
    """Age of an order by its id: some four a day, the newest half a day old; never more than two years."""
    span = min(orders * 6 * HOUR, 720 * DAY)
    return 12 * HOUR + span * (orders - order_id) / orders


def _craft(order_id: int, recipe: Recipe, orders: int, seed: int, business: Business) -> SampleOrder:
    rng = random.Random(f"craft/{seed}/{order_id}")  # noqa: S311 - sample data, no secret
    actor = ACTORS[order_id % len(ACTORS)]
    if recipe.awkward:
        business = awkward(business)
    tasks = [
        SampleTask(
            order_id=order_id,
            task_id=_task_id(rng),
            lane=lane,
            retries=recipe.retries,
            actor=actor if recipe.by_operator else None,
            enqueued=recipe.moved,
        )
        for lane in recipe.lanes
    ]
    style = logs.RunStyle(
        order_id=order_id,
        name=business.name,
        slug=business.slug,
        files=recipe.files or 8,
        by_ai=any("AI_" in run or "PARSE" in run for run in recipe.runs) or recipe.files == 20,
    )
    task_id = tasks[0].task_id if tasks else _task_id(rng)
    history = logs.aged(_history(recipe, style, task_id, actor), recipe.moved)
    oldest = max([recipe.moved, *(row.age for row in history)])
    created = max(_created(order_id, orders), oldest + 5 * HOUR)
    return SampleOrder(
        order_id=order_id,
        condition=recipe.condition,
        status=recipe.status,
        business=business,
        onboarding=recipe.onboarding,
        created=created,
        updated=recipe.moved,
        **_milestones(recipe, created, oldest),
        logs=history,
        files=recipe.files,
        admin_notes=_notes_of(recipe, history),
        briefing="ok" in recipe.runs,
        tasks=tasks,
    )


def _milestones(recipe: Recipe, created: float, oldest: float) -> dict[str, float | None]:
    """Ages of what happened on the way, each between the order's making and its first run."""
    completed = recipe.onboarding is Onboarding.COMPLETE and recipe.completed_at
    # An onboarding is no older than the order, nor younger than the first run; the tour's is its last movement.
    ready = recipe.moved if not recipe.runs and recipe.moved >= HOUR else oldest + 2 * HOUR
    return {
        "paid": None if recipe.status is OrderStatus.PENDING_PAYMENT else created - 10 * MINUTE,
        "onboarding_completed": ready if completed else None,
        "delivered": recipe.moved if recipe.status is OrderStatus.DELIVERED else None,
    }


def _history(recipe: Recipe, style: logs.RunStyle, task_id: str, actor: str) -> Iterator[logs.LogLine]:
    ran = False
    for run in recipe.runs:
        if run == "enqueue":
            yield logs.enqueued(task_id, actor, before="GENERATING" if ran else "BUILDING")
        elif run == "cancel":
            yield logs.cancelled(actor)
        elif run == "ok":
            yield from logs.whole_run(style, resumed=ran)
        elif run.startswith("cut:"):
            # A child killed by the kernel is redelivered at once: START follows START.
            yield from logs.cut_run(style, run.removeprefix("cut:"))
        else:
            yield from logs.failed_run(style, run, recipe.error, resumed=ran and run not in _BEFORE_RESUME)
        ran = ran or run not in {"enqueue", "cancel"}


# A resumed run skips these steps: one that failed there had begun from the start.
_BEFORE_RESUME = frozenset({"START", "PHASE_1_START", "AI_STRATEGY", "PHASE_1_COMPLETE"})


def _notes_of(recipe: Recipe, history: Sequence[logs.SampleLog]) -> str | None:
    if history and history[-1].step == "ERROR":
        # Word for word what the system promises, although nothing retries such a failure.
        return f"Generation Failed: {recipe.error}\nWill retry automatically"
    return recipe.notes


def _is_cancelled(order_id: int) -> bool:
    return order_id % 29 == 0


def _finished(order_id: int, orders: int, seed: int, shared: Sequence[Business]) -> SampleOrder:
    """An order that is over: DELIVERED mostly, some in REVIEW or CANCELLED."""
    business = shared[order_id % len(shared)] if shared else _business(order_id, seed)
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
    files = 20 if not shared and order_id % 4 == 0 else 8
    style = logs.RunStyle(order_id=order_id, name=business.name, slug=business.slug, files=files, by_ai=files == 20)
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
        logs=logs.aged((logs.short_run if shared else logs.whole_run)(style), made),
        files=files,
        briefing=not shared,
    )
