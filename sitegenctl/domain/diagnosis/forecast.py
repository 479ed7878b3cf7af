"""When waiting tasks start and end, and when the queue is empty: a seeded simulation over the durations of recent runs.

Every trial draws its durations from a stretch of consecutive runs, because runs that follow each other are similarly
fast. Failed runs that were retried are among them: a retry waits for its delay behind the tasks that are queued. Tasks
that are published or workers that start and stop later are unknown, and not part of a forecast.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from heapq import heapify, heappop, heappush, heapreplace
from itertools import pairwise
from random import Random

from sitegenctl.domain.orders.run import ENQUEUES, STARTS, RunOutcome
from sitegenctl.domain.orders.run_reader import LoggedRun, RunRow, RunStream
from sitegenctl.domain.queue.defaults import RETRIES
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerRoster, WorkerSurvey, standstill
from sitegenctl.slotted import slotted

#: Without this many recent runs there is no forecast; more than the maximum are too old to matter.
MIN_RUNS, MAX_RUNS = 20, 200

#: Simulations of one forecast, and consecutive runs that one of them draws from.
_TRIALS, _STRETCH = 100, 40

#: Tasks at the beginning and at the end of the queue that are simulated one by one. Between them, the queue advances by
#: the mean duration of a run.
_HEAD, _END = 100, 30

#: Different times of the tasks between two that were simulated.
_STEPS = 25

#: Mean seconds of a task that generates no site, such as the system's beat; their durations are not logged.
_FOREIGN_SECONDS = 2.0

#: The longest time before a retry, in seconds: its delay, and its wait behind tasks that are published meanwhile. A run
#: that begins later is taken for another task, which the backend published without a trace in the log.
_MAX_RETRY_DELAY = 1800.0

#: Standard deviation of how much faster or slower than in the log everything goes, as a share: runs drift, and workers
#: stop and start.
_DRIFT = 0.18

_HELD = (TaskState.SCHEDULED, TaskState.RETRYING)


# Names and sizes of units, each with the time from which the next one is used. Seconds come in tens.
_UNITS = (
    ("s", timedelta(seconds=10), timedelta(minutes=1)),
    ("m", timedelta(minutes=1), timedelta(hours=3)),
    ("h", timedelta(hours=1), timedelta(days=3)),
)
_FACTORS = {"s": 10}


class Obstacle(StrEnum):
    """Why there is no forecast; the values are for people."""

    NO_CONSUMER = "not before a worker consumes the queue"
    UNKNOWN_WORKERS = "unknown: no worker that consumes the queue responds"
    TOO_FEW_RUNS = f"unknown: fewer than {MIN_RUNS} recent runs"


@slotted
class PastRun:
    """The duration of a run, and after how many seconds the same task ran again, if it failed and was retried."""

    seconds: float
    retried_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Range:
    """Time from now: 10%, 50% and 90% of the trials were at most this long."""

    low: timedelta
    middle: timedelta
    high: timedelta

    def towards(self, other: Range, share: float) -> Range:
        """The range between this and another one, at a share of the way."""
        return Range(
            low=self.low + share * (other.low - self.low),
            middle=self.middle + share * (other.middle - self.middle),
            high=self.high + share * (other.high - self.high),
        )

    def __str__(self) -> str:
        """Rounded outwards, as in ``3–6m``."""
        unit, size = _unit(self.high)
        low, high = math.floor(self.low / size), math.ceil(self.high / size)
        factor = _FACTORS.get(unit, 1)
        return f"{low * factor}–{max(high, 1) * factor}{unit}"

    @property
    def about(self) -> str:
        """The middle of it, as in ``about 12m``."""
        unit, size = _unit(self.middle)
        return f"about {max(round(self.middle / size), 1) * _FACTORS.get(unit, 1)}{unit}"


@dataclass(frozen=True, kw_only=True)
class TaskForecast:
    """When a task starts and ends, retries included; ``start`` is None where it runs already."""

    start: Range | None
    end: Range

    def __str__(self) -> str:
        """As in ``starts in 3–6m, ends in 5–9m``."""
        end = f"ends in {self.end}"
        return f"starts in {self.start}, {end}" if self.start is not None else end


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The forecast of a queue; without any where there is an ``obstacle``."""

    obstacle: Obstacle | None = None
    tasks: Mapping[str, TaskForecast] = field(default_factory=dict)  # by task id
    order_ends: Mapping[int, Range] = field(default_factory=dict)  # when the last task of each order ends
    empty: Range | None = None  # when every task has ended; None where there is none

    def of(self, task: LiveTask) -> TaskForecast | None:
        """The forecast of a task, which may have none."""
        return self.tasks.get(task.task_id)

    def describe(self, task: LiveTask) -> str | None:
        """Describe when a task starts and ends; None where nothing is known of that."""
        if self.obstacle is Obstacle.NO_CONSUMER and task.position is not None:
            return f"starts {self.obstacle}"
        known = self.of(task)
        return str(known) if known is not None else None

    @property
    def summary(self) -> str | None:
        """When the queue is empty, as in ``empty in about 12m``; None where nothing is known of that."""
        if self.obstacle is Obstacle.NO_CONSUMER:
            return f"empty {self.obstacle}"
        return f"empty in {self.empty.about}" if self.empty is not None else None


def past_runs(rows: Iterable[RunRow]) -> Sequence[PastRun]:
    """The newest runs that ended, oldest first, from the rows of the generation log.

    A run without an outcome that was followed by another one counts as failed: its task was delivered again.
    """
    stream, enqueued = RunStream(), set[int]()
    ended: list[tuple[datetime, PastRun]] = []

    def add(run: LoggedRun, again_at: datetime | None = None) -> None:
        end = run.ended_at or run.last_at
        seconds = run.duration_to(end)
        if end is None or seconds is None or run.outcome is RunOutcome.SKIP:
            return
        if run.outcome is RunOutcome.SUCCESS:
            ended.append((end, PastRun(seconds=seconds)))
        elif run.outcome is None and again_at is not None:
            # Nothing shows when it was killed: half of the time until the next run is as likely as any other part.
            half = (run.duration_to(again_at) or 0.0) / 2
            if half <= _MAX_RETRY_DELAY:
                ended.append((end, PastRun(seconds=half, retried_after=half)))
        elif run.outcome is RunOutcome.ERROR:
            delay = max((again_at - end).total_seconds(), 0.0) if again_at is not None else math.inf
            ended.append((end, PastRun(seconds=seconds, retried_after=delay if delay <= _MAX_RETRY_DELAY else None)))

    for row in rows:
        if (run := stream.feed(row)) is not None:
            add(run, row.at if row.step in STARTS and row.order_id not in enqueued else None)
        if row.step in ENQUEUES:
            enqueued.add(row.order_id)
        elif row.step in STARTS:
            enqueued.discard(row.order_id)
    for run in stream.close():
        add(run)
    ended.sort(key=lambda each: each[0])
    return [run for _, run in ended[-MAX_RUNS:]]


def forecast(
    tasks: Sequence[LiveTask],
    foreign: Sequence[ForeignMessage],
    survey: WorkerSurvey | None,
    roster: WorkerRoster | None,
    *,
    queue: str,
    runs: Sequence[PastRun],
    now: datetime,
    seed: int = 0,
) -> Forecast:
    """Forecast the tasks of a queue; ``now`` is by the broker's clock, ``runs`` are the newest, oldest first.

    Orphaned and unaccounted tasks, and tasks that wait for something other than a time, have no forecast.
    """
    if not tasks:
        return Forecast()
    if survey is None or roster is None:
        return Forecast(obstacle=Obstacle.UNKNOWN_WORKERS)
    model = _Model.of(tasks, foreign, survey, roster, queue=queue, now=now)
    if model.waits and not any(slot.consumes for slot in model.slots):
        is_certain = standstill(survey, roster, queue=queue) is not None and (survey.workers or survey.consumers == 0)
        return Forecast(obstacle=Obstacle.NO_CONSUMER if is_certain else Obstacle.UNKNOWN_WORKERS)
    if len(runs) < MIN_RUNS:
        return Forecast(obstacle=Obstacle.TOO_FEW_RUNS)
    return model.forecast(runs[-MAX_RUNS:], Random(seed))  # noqa: S311 - a simulation, no secret


# --- the model ---


@slotted
class _Slot:
    """One task at a time: ``busy`` with a task of ours (its place in the model), with another one, or with none."""

    worker: int
    consumes: bool
    busy: int | None = None
    is_foreign: bool = False


@slotted
class _Item:
    """A task of ours, or a foreign message; times in seconds from now."""

    task: LiveTask | None
    elapsed: float = 0.0  # of a running one
    due: float = 0.0


@dataclass(kw_only=True)
class _Model:
    """The queue now. Tasks are places in ``items``, workers are places in ``at_worker`` and ``held``."""

    items: Sequence[_Item]
    slots: Sequence[_Slot]
    running: Sequence[int]
    queue: Sequence[int]  # in the order of delivery
    at_worker: Sequence[Sequence[int]]  # reserved by each worker
    held: Sequence[Sequence[tuple[float, int]]]  # by each worker until they are due
    due_later: Sequence[tuple[float, int]]  # held by the broker until they are due

    @cached_property
    def consumes(self) -> Sequence[bool]:
        """Whether each worker takes tasks from the queue."""
        consuming = {slot.worker for slot in self.slots if slot.consumes}
        return [number in consuming for number in range(len(self.at_worker))]

    @property
    def waits(self) -> bool:
        """Whether a task waits that no worker has."""
        return any(self.items[place].task is not None for place in self.queue) or bool(self.due_later)

    @classmethod
    def of(
        cls,
        tasks: Sequence[LiveTask],
        foreign: Sequence[ForeignMessage],
        survey: WorkerSurvey,
        roster: WorkerRoster,
        *,
        queue: str,
        now: datetime,
    ) -> _Model:
        """The model of these tasks and workers."""
        numbers = {worker.name: number for number, worker in enumerate(roster.workers)}
        busy = {
            worker.name: sum(task.state is TaskState.RUNNING for task in worker.others) for worker in survey.workers
        }
        items: list[_Item] = []
        running: list[int] = []
        queued: list[tuple[int, int]] = []
        due_later: list[tuple[float, int]] = []
        at_worker: list[list[int]] = [[] for _ in numbers]
        held: list[list[tuple[float, int]]] = [[] for _ in numbers]
        by_worker: list[list[int]] = [[] for _ in numbers]
        for task in tasks:
            place, worker = len(items), numbers.get(task.worker or "")
            due = max((task.eta - now).total_seconds(), 0.0) if task.eta is not None else 0.0
            if task.state is TaskState.RUNNING:
                began = task.started_at or task.delivered_at
                elapsed = max((now - began).total_seconds(), 0.0) if began is not None else 0.0
                items.append(_Item(task=task, elapsed=elapsed))
                running.append(place)
                if worker is not None:
                    by_worker[worker].append(place)
            elif task.state is TaskState.RESERVED and worker is not None:
                items.append(_Item(task=task))
                at_worker[worker].append(place)
            elif due and task.state in (TaskState.SCHEDULED, TaskState.RETRYING, TaskState.QUEUED):
                items.append(_Item(task=task, due=due))
                (held[worker] if worker is not None else due_later).append((due, place))
            elif task.position is not None or (task.eta is not None and task.state in _HELD):
                items.append(_Item(task=task))
                queued.append((task.position if task.position is not None else -1, place))
        for message in foreign:
            if message.position is not None:
                queued.append((message.position, len(items)))
                items.append(_Item(task=None))
        slots: list[_Slot] = []
        for number, details in enumerate(roster.workers):
            consumes = queue in details.queues
            ours = by_worker[number]
            count = max(details.concurrency or 1, len(ours))
            others = min(busy.get(details.name, 0), count - len(ours))
            if not consumes and not at_worker[number] and not held[number]:
                continue
            slots += [_Slot(worker=number, consumes=consumes, busy=place) for place in ours]
            slots += [_Slot(worker=number, consumes=consumes, is_foreign=True)] * others
            slots += [_Slot(worker=number, consumes=consumes)] * (count - len(ours) - others)
        return cls(
            items=items,
            slots=slots,
            running=running,
            queue=[place for _, place in sorted(queued)],
            at_worker=at_worker,
            held=held,
            due_later=due_later,
        )

    def forecast(self, runs: Sequence[PastRun], random: Random) -> Forecast:
        """Simulate the queue many times."""
        starts: list[list[float]] = [[] for _ in self.items]
        ends: list[list[float]] = [[] for _ in self.items]
        empty = []
        for _ in range(_TRIALS):
            pace = random.lognormvariate(0, _DRIFT)
            drawn = [(run.seconds * pace, run.retried_after) for run in _stretch(runs, random)]
            trial = _Trial(model=self, runs=drawn, random=random, starts=starts, ends=ends)
            empty.append(trial.run())
        start_of = self._ranges(starts)
        end_of = self._ranges(ends)
        tasks: dict[str, TaskForecast] = {}
        order_ends: dict[int, Range] = {}
        for place, item in enumerate(self.items):
            task, end = item.task, end_of.get(place)
            if task is None or end is None:
                continue
            tasks.setdefault(task.task_id, TaskForecast(start=start_of.get(place), end=end))
            if task.order_id is not None:
                known = order_ends.setdefault(task.order_id, end)
                if known.middle < end.middle:
                    order_ends[task.order_id] = end
        return Forecast(tasks=tasks, order_ends=order_ends, empty=_range(empty) if tasks else None)

    def _ranges(self, times: Sequence[list[float]]) -> dict[int, Range]:
        """The range of each place; the places of the queue that were not simulated lie between their neighbours."""
        known = {place: _range(values) for place, values in enumerate(times) if values}
        simulated = [number for number, place in enumerate(self.queue) if place in known]
        for before, after in pairwise(simulated):
            first, last = known[self.queue[before]], known[self.queue[after]]
            # Neighbours share a range: a new one for each of ten thousand takes longer than the simulation.
            stride = math.ceil((after - before) / _STEPS)
            for begin in range(before + 1, after, stride):
                between = first.towards(last, (begin - before) / (after - before))
                known.update(dict.fromkeys(self.queue[begin : min(begin + stride, after)], between))
        return known


# --- one simulation ---


@dataclass(kw_only=True)
class _Trial:
    """One possible future; it adds the times of every task to ``starts`` and ``ends``."""

    model: _Model
    runs: Sequence[tuple[float, float | None]]  # seconds, and the time until a retry
    random: Random
    starts: Sequence[list[float]]
    ends: Sequence[list[float]]
    _later: list[tuple[float, int, int]] = field(default_factory=list)  # due time, place, attempt
    _empty: float = 0.0

    def run(self) -> float:
        """Simulate until every task has ended; returns when that is."""
        model = self.model
        rest = {place: self._end_running(place) for place in model.running}
        slots = [(self._free_at(slot, rest), slot.worker) for slot in model.slots]
        heapify(slots)
        self._later += [(due, place, 0) for due, place in model.due_later]
        heapify(self._later)
        if slots:
            self._work(slots)
        return self._empty

    def _work(self, slots: list[tuple[float, int]]) -> None:
        """Give the tasks to the slots; each slot is free at its time."""
        queue, consumes, later = self.model.queue, self.model.consumes, self._later
        reserved = [deque(places) for places in self.model.at_worker]
        held = [sorted(tasks) for tasks in self.model.held]
        left, next_place, is_long = len(queue), 0, len(queue) > _HEAD + _END
        idle: list[tuple[float, int]] = []
        while slots:
            at, worker = slots[0]
            attempt = 0
            if held[worker] and held[worker][0][0] <= at:
                place = heappop(held[worker])[1]
            elif reserved[worker]:
                place = reserved[worker].popleft()
                if consumes[worker] and next_place < left:
                    # As many stay reserved as before.
                    reserved[worker].append(queue[next_place])
                    next_place += 1
            elif consumes[worker] and next_place < left:
                place = queue[next_place]
                next_place += 1
            else:
                own = held[worker][0] if held[worker] else None
                if consumes[worker] and later and (own is None or later[0] < own):
                    due, place, attempt = heappop(later)
                elif own is not None:
                    due, place = heappop(held[worker])
                else:
                    idle.append(heappop(slots))
                    continue
                at = max(at, due)
            retries = len(later)
            heapreplace(slots, (self._begin(place, at, attempt), worker))
            if len(later) > retries and idle:
                slots += idle
                heapify(slots)
                idle.clear()
            if is_long and next_place >= _HEAD:
                is_long, next_place = False, left - _END
                passed = self._skip(slots[0][0])
                slots = [(at + passed, worker) for at, worker in slots]

    def _free_at(self, slot: _Slot, rest: Mapping[int, float]) -> float:
        if slot.busy is not None:
            return rest[slot.busy]
        return self._foreign() if slot.is_foreign else 0.0

    def _foreign(self) -> float:
        return self.random.expovariate(1 / _FOREIGN_SECONDS)

    def _end_running(self, place: int) -> float:
        """End a task that runs already, by a run that takes longer than this one has taken so far."""
        item = self.model.items[place]
        longer = [run for run in self.runs if run[0] > item.elapsed]
        if longer:
            run = longer[int(self.random.random() * len(longer))]
        else:
            run = (item.elapsed * (1 + self.random.random() / 2), None)
        return self._end(place, -item.elapsed, run, item.task.attempt if item.task is not None else 1)

    def _begin(self, place: int, at: float, attempt: int) -> float:
        """Start a task; returns when its slot is free again."""
        task = self.model.items[place].task
        if task is None:
            return at + self._foreign()
        if not attempt:
            self.starts[place].append(at)
        return self._end(place, at, self._draw(), attempt or task.attempt)

    def _draw(self) -> tuple[float, float | None]:
        return self.runs[int(self.random.random() * len(self.runs))]

    def _end(self, place: int, at: float, run: tuple[float, float | None], attempt: int) -> float:
        """End a run that began at this time, or have it retried."""
        seconds, retried_after = run
        end = at + seconds
        if retried_after is not None and attempt <= RETRIES:
            heappush(self._later, (end + retried_after, place, attempt + 1))
        else:
            self.ends[place].append(end)
            self._empty = max(self._empty, end)
        return end

    def _skip(self, at: float) -> float:
        """Advance through the middle of a long queue from this time by the mean duration; returns how long it takes.

        Some tasks get times, between which the others lie.
        """
        model, random = self.model, self.random
        seconds = [run[0] for run in self.runs]
        retried = sum(run[1] is not None for run in self.runs) / len(self.runs)
        mean = math.fsum(seconds) / len(seconds)
        deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in seconds) / len(seconds))
        count = sum(model.consumes[slot.worker] for slot in model.slots)
        last = len(model.queue) - _END
        passed, number = 0.0, _HEAD
        while number < last:
            step = min(max(number // 4, 1), last - number)
            place = model.queue[number]
            if model.items[place].task is not None:
                run = self._draw()
                self.starts[place].append(at + passed)
                self.ends[place].append(at + passed + run[0])
            passed += max(step * mean + random.gauss(0, deviation) * math.sqrt(step), 0.0) / count
            number += step
        # Retries of these run at the end of the queue.
        return passed + (last - _HEAD) * retried * mean / count


def _unit(span: timedelta) -> tuple[str, timedelta]:
    return next(((name, size) for name, size, until in _UNITS if span < until), ("d", timedelta(days=1)))


def _stretch(runs: Sequence[PastRun], random: Random) -> Sequence[PastRun]:
    """Consecutive runs, more often the newest."""
    first = int((len(runs) - _STRETCH) * (1 - random.random() ** 2)) if len(runs) > _STRETCH else 0
    return runs[first : first + _STRETCH]


def _range(values: list[float]) -> Range:
    """The range of the trials' times, in seconds."""
    values.sort()
    last = len(values) - 1
    low, middle, high = (timedelta(seconds=max(values[round(last * share)], 0.0)) for share in (0.1, 0.5, 0.9))
    return Range(low=low, middle=middle, high=high)
