"""Days of a queue in simulated time, with the forecasts that were made of it and what happened instead.

Orders come one by one and in bursts; runs get slower and faster in the course of hours, fail, and are retried behind
the queue; the beat's messages are in between; workers shut down, are killed, and come back.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any

from sitegenctl.domain.diagnosis.forecast import Forecast, Range, forecast, past_runs
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerDetails, WorkerRoster, survey_of

QUEUE, TASK = "site_generation", "generate"
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 3600.0

#: Runs in the log that a forecast reads at most, and tasks of one forecast that are compared with the truth.
_ROWS, _COMPARED = 1_000, 10


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One time of a forecast, and when it really was; in seconds from the forecast."""

    kind: str  # start, end, empty
    low: float
    middle: float
    high: float
    truth: float

    @property
    def is_inside(self) -> bool:
        return self.low <= self.truth <= self.high


@dataclass(kw_only=True, eq=False)
class _Message:
    number: int
    is_foreign: bool = False
    attempt: int = 1
    due: float = 0.0


@dataclass(kw_only=True, eq=False)
class _Worker:
    name: str
    slots: int = 2
    is_up: bool = True
    life: int = 0  # a killed worker's tasks do not end
    running: dict[int, tuple[_Message, float]] = field(default_factory=dict)
    held: list[_Message] = field(default_factory=list)


class SimulatedDays:
    """``hours`` of a system, made from a seed; forecasts are made from ``first_look`` on."""

    def __init__(self, seed: int, *, hours: float, first_look: float = 6.0, workers: int = 2) -> None:
        self._random = Random(seed)
        self._until, self._first_look = hours * HOUR, first_look * HOUR
        self._workers = [_Worker(name=f"w{number}") for number in range(workers)]
        self._events: list[tuple[float, int, str, Any]] = []
        self._queue: deque[_Message] = deque()
        self._log: list[RunRow] = []
        self._starts: dict[int, list[float]] = defaultdict(list)
        self._ends: dict[int, float] = {}
        self._made: list[tuple[float, Forecast]] = []
        self._count = self._number = 0
        self._now = 0.0
        # Runs of this system: their usual length, how much they differ, and the share that fails.
        random = self._random
        self._usual = random.uniform(40, 120)
        self._spread = random.uniform(0.2, 0.5)
        self._failing = random.uniform(0.02, 0.12)
        self._waves = [(random.uniform(3, 12) * HOUR, random.random() * 7, random.uniform(0.05, 0.2)) for _ in range(3)]

    def comparisons(self) -> list[Comparison]:
        """Let the days pass; returns every forecast time whose truth is known at their end."""
        self._plan()
        while self._events:
            self._now, _, kind, value = heappop(self._events)
            getattr(self, f"_on_{kind}")(value)
            self._dispatch()
        return list(self._compare())

    # --- what happens ---

    def _plan(self) -> None:
        random, at = self._random, 0.0
        gap = self._usual * 1.15 / sum(worker.slots for worker in self._workers) * random.uniform(1.0, 2.5)
        while (at := at + random.expovariate(1 / gap)) < self._until:
            self._at(at, "order")
        for _ in range(int(self._until / HOUR / 5)):
            at = random.uniform(0, self._until)
            for _ in range(int(random.lognormvariate(3, 0.8)) + 3):
                self._at(at, "order")
        for number in range(int(self._until / 120)):
            self._at(number * 120.0, "beat")
        for _ in range(int(self._until / HOUR / 8)):
            self._at(
                random.uniform(0, self._until), random.choice(("leave", "leave", "die")), random.choice(self._workers)
            )
        at = self._first_look
        while (at := at + random.expovariate(1 / 900)) < self._until:
            self._at(at, "look")

    def _at(self, at: float, kind: str, value: Any = None) -> None:
        self._count += 1
        heappush(self._events, (at, self._count, kind, value))

    def _on_order(self, _: None) -> None:
        self._number += 1
        self._queue.append(_Message(number=self._number))

    def _on_beat(self, _: None) -> None:
        self._number += 1
        self._queue.append(_Message(number=self._number, is_foreign=True))

    def _on_leave(self, worker: _Worker) -> None:
        """Warm shutdown: running tasks end, held ones return to the queue."""
        worker.is_up = False
        self._queue.extendleft(reversed(worker.held))
        worker.held.clear()
        self._at(self._now + self._random.uniform(60, 2400), "come", worker)

    def _on_die(self, worker: _Worker) -> None:
        """Killed: its tasks are requeued some minutes later."""
        lost = [*worker.held, *(message for message, _ in worker.running.values())]
        worker.running.clear()
        worker.held.clear()
        worker.is_up, worker.life = False, worker.life + 1
        self._at(self._now + self._random.uniform(60, 600), "restore", lost)
        self._at(self._now + self._random.uniform(60, 1200), "come", worker)

    def _on_restore(self, messages: list[_Message]) -> None:
        self._queue.extendleft(messages)

    def _on_come(self, worker: _Worker) -> None:
        worker.is_up = True

    def _on_due(self, _: None) -> None:
        """A task that is held may start; dispatching finds it."""

    def _dispatch(self) -> None:
        for worker in self._workers:
            while worker.is_up and len(worker.running) < worker.slots:
                ready = next((message for message in worker.held if message.due <= self._now), None)
                if ready is not None:
                    worker.held.remove(ready)
                elif self._queue:
                    ready = self._queue.popleft()
                    if ready.due > self._now:
                        worker.held.append(ready)
                        self._at(ready.due, "due")
                        continue
                else:
                    break
                self._start(worker, ready)

    def _start(self, worker: _Worker, message: _Message) -> None:
        worker.running[message.number] = (message, self._now)
        if message.is_foreign:
            self._at(self._now + self._random.uniform(0.2, 4), "end", (worker, worker.life, message, None))
            return
        random = self._random
        self._starts[message.number].append(self._now)
        self._note(message, "START")
        seconds = self._usual * self._pace() * random.lognormvariate(0, self._spread)
        outcome = "SUCCESS"
        # A cause of failure often persists until the retry.
        if random.random() < (self._failing if message.attempt == 1 else 0.3):
            outcome = "RETRY" if random.random() < 0.6 else "ERROR"
            seconds *= random.random()
        seconds = max(min(seconds, 600), 1)
        self._at(self._now + seconds, "end", (worker, worker.life, message, outcome))

    def _on_end(self, value: tuple[_Worker, int, _Message, str | None]) -> None:
        worker, life, message, outcome = value
        if life != worker.life:
            return
        del worker.running[message.number]
        if outcome is None:
            return
        self._note(message, "SUCCESS" if outcome == "SUCCESS" else "ERROR")
        if outcome == "RETRY" and message.attempt <= 3:
            message.due = self._now + 60 * message.attempt * self._random.uniform(0.8, 1.2)
            message.attempt += 1
            self._queue.append(message)
        else:
            self._ends[message.number] = self._now

    def _pace(self) -> float:
        return math.exp(sum(size * math.sin(self._now / length * 6.28 + at) for length, at, size in self._waves))

    def _note(self, message: _Message, step: str) -> None:
        at = MIDNIGHT.replace(tzinfo=None) + timedelta(seconds=self._now)
        self._log.append(RunRow(log_id=len(self._log) + 1, order_id=message.number, step=step, at=at))

    # --- forecasts ---

    def _on_look(self, _: None) -> None:
        now = MIDNIGHT + timedelta(seconds=self._now)
        tasks: list[LiveTask] = []
        foreign: list[ForeignMessage] = []
        details: list[WorkerDetails] = []
        for worker in self._workers:
            held = [self._task(each, TaskState.RETRYING, worker) for each in worker.held]
            active = [self._task(each, TaskState.RUNNING, worker, at) for each, at in worker.running.values()]
            tasks += [task for task in (*active, *held) if task.order_id is not None]
            if worker.is_up:
                details.append(
                    WorkerDetails(name=worker.name, concurrency=worker.slots, queues=(QUEUE,), active=tuple(active))
                )
        for place, message in enumerate(self._queue):
            if message.is_foreign:
                foreign.append(ForeignMessage(name="beat", reason="", state=TaskState.QUEUED, position=place))
            else:
                tasks.append(self._task(message, TaskState.QUEUED, position=place))
        if not tasks:
            return
        roster = WorkerRoster(workers=tuple(details), consumers=len(details))
        known = forecast(
            tasks,
            foreign,
            survey_of(roster, task_name=TASK),
            roster,
            queue=QUEUE,
            runs=past_runs(self._log[-_ROWS:]),
            now=now,
        )
        self._made.append((self._now, known))

    def _task(
        self,
        message: _Message,
        state: TaskState,
        worker: _Worker | None = None,
        began: float | None = None,
        position: int | None = None,
    ) -> LiveTask:
        due = message.due > self._now
        return LiveTask(
            task_id=str(message.number),
            name="beat" if message.is_foreign else TASK,
            order_id=None if message.is_foreign else message.number,
            state=state,
            worker=worker.name if worker is not None else None,
            attempt=message.attempt,
            position=position,
            started_at=MIDNIGHT + timedelta(seconds=began) if began is not None else None,
            eta=MIDNIGHT + timedelta(seconds=message.due) if due else None,
        )

    def _compare(self) -> Iterator[Comparison]:
        for at, known in self._made:
            ends = [self._ends.get(int(task_id)) for task_id in known.tasks]
            if known.empty is not None and all(end is not None for end in ends):
                yield _comparison("empty", known.empty, max(end for end in ends if end is not None) - at)
            waiting = [(int(task_id), each) for task_id, each in known.tasks.items() if each.start is not None]
            for number, each in waiting[:: max(len(waiting) // _COMPARED, 1)]:
                starts = self._starts[number]
                later = bisect_left(starts, at)
                if each.start is not None and later < len(starts):
                    yield _comparison("start", each.start, starts[later] - at)
                if number in self._ends:
                    yield _comparison("end", each.end, self._ends[number] - at)


def _comparison(kind: str, span: Range, truth: float) -> Comparison:
    low, middle, high = (time.total_seconds() for time in (span.low, span.middle, span.high))
    return Comparison(kind=kind, low=low, middle=middle, high=high, truth=truth)
