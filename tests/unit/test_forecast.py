"""Forecasts: when tasks of a queue start and end, from its workers and the durations of recent runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from sitegenctl.domain.diagnosis.forecast import Forecast, Obstacle, PastRun, Range, forecast, past_runs
from sitegenctl.domain.orders.run_reader import RunRow
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerDetails, WorkerRoster, survey_of
from tests.support.simulated_days import SimulatedDays

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUEUE = "site_generation"
MINUTE = PastRun(seconds=60.0)


def task(order_id: int, state: TaskState = TaskState.QUEUED, **fields: object) -> LiveTask:
    return LiveTask(task_id=f"task-{order_id}", name="generate", order_id=order_id, state=state, **fields)


def queued(count: int, first: int = 1) -> list[LiveTask]:
    return [task(first + place, position=place) for place in range(count)]


def worker(name: str = "w1", *, slots: int = 1, queues: Sequence[str] = (QUEUE,), **fields: object) -> WorkerDetails:
    return WorkerDetails(name=name, concurrency=slots, queues=tuple(queues), **fields)


def forecast_of(
    tasks: Sequence[LiveTask],
    *workers: WorkerDetails,
    runs: Sequence[PastRun] = (MINUTE,) * 20,
    foreign: Sequence[ForeignMessage] = (),
    **replies: object,
) -> Forecast:
    roster = WorkerRoster(workers=workers, **{"consumers": len(workers), **replies})
    survey = survey_of(roster, task_name="generate")
    return forecast(tasks, foreign, survey, roster, queue=QUEUE, runs=runs, now=NOW)


def starts(known: Forecast) -> dict[str, float]:
    """When each task starts, to ten seconds: every trial has a pace of its own."""
    return {task_id: tens(each.start.middle) for task_id, each in known.tasks.items() if each.start is not None}


def tens(time: timedelta) -> float:
    return round(time.total_seconds(), -1)


def test_tasks_start_as_slots_become_free() -> None:
    known = forecast_of(queued(5), worker(slots=2))
    assert starts(known) == {"task-1": 0, "task-2": 0, "task-3": 60, "task-4": 60, "task-5": 120}
    assert tens(known.order_ends[5].middle) == 180
    assert known.empty is not None
    assert tens(known.empty.middle) == 180


def test_a_worker_of_another_queue_has_no_slot() -> None:
    known = forecast_of(queued(2), worker(), worker("w2", slots=8, queues=["other"]))
    assert starts(known) == {"task-1": 0, "task-2": 60}


def test_a_running_task_has_left_what_longer_runs_took() -> None:
    runs = [PastRun(seconds=seconds) for seconds in (10.0, 100.0) for _ in range(20)]
    known = forecast_of(
        [task(9, TaskState.RUNNING, worker="w1", started_at=NOW - timedelta(seconds=40)), *queued(1)],
        worker(),
        runs=runs,
    )
    assert tens(known.order_ends[9].middle) == 60
    assert starts(known) == {"task-1": 60}


def test_a_run_longer_than_any_before_still_ends() -> None:
    running = task(9, TaskState.RUNNING, worker="w1", started_at=NOW - timedelta(seconds=500))
    known = forecast_of([running], worker())
    assert timedelta(0) < known.order_ends[9].middle < timedelta(seconds=250)


def test_reserved_tasks_wait_for_their_own_worker() -> None:
    tasks = [
        task(1, TaskState.RUNNING, worker="w1", started_at=NOW),
        task(2, TaskState.RESERVED, worker="w1"),
        *queued(1, first=3),
    ]
    assert starts(forecast_of(tasks, worker(), worker("w2"))) == {"task-2": 60, "task-3": 0}


def test_a_task_starts_no_earlier_than_its_eta() -> None:
    later = task(1, TaskState.SCHEDULED, eta=NOW + timedelta(minutes=10), worker="w1")
    assert starts(forecast_of([later, *queued(2, first=2)], worker())) == {"task-1": 600, "task-2": 0, "task-3": 60}


def test_messages_of_no_order_take_time_too() -> None:
    foreign = [ForeignMessage(name="beat", reason="", state=TaskState.QUEUED, position=place) for place in range(100)]
    known = forecast_of([task(1, position=100)], worker(), foreign=foreign)
    assert 100 < starts(known)["task-1"] < 400


def test_retries_are_part_of_the_end() -> None:
    runs = [PastRun(seconds=60.0, retried_after=30.0)] * 20
    end = forecast_of(queued(1), worker(), runs=runs).order_ends[1]
    # Three retries, and every attempt fails.
    assert tens(end.middle) == 4 * 60 + 3 * 30


def test_the_middle_of_a_long_queue_lies_between_its_ends() -> None:
    random = Random(1)
    runs = [PastRun(seconds=random.lognormvariate(4, 0.3)) for _ in range(60)]
    known = forecast_of(queued(2000), worker(slots=4), runs=runs)
    times = [each.start.middle.total_seconds() for each in known.tasks.values() if each.start is not None]
    assert len(times) == 2000
    assert times == sorted(times)
    mean = sum(run.seconds for run in runs) / len(runs)
    assert times[-1] == pytest.approx(2000 / 4 * mean, rel=0.1)


def test_the_same_facts_give_the_same_forecast() -> None:
    runs = [PastRun(seconds=float(seconds)) for seconds in range(30, 90)]
    assert forecast_of(queued(9), worker(), runs=runs) == forecast_of(queued(9), worker(), runs=runs)


@pytest.mark.parametrize(
    ("workers", "replies", "obstacle"),
    [
        ((), {}, Obstacle.NO_CONSUMER),
        ((worker(queues=[]),), {}, Obstacle.NO_CONSUMER),  # paused
        ((worker(queues=["other"]),), {"silent": 1}, Obstacle.UNKNOWN_WORKERS),
        ((), {"consumers": 1}, Obstacle.UNKNOWN_WORKERS),  # remote control may be off
    ],
)
def test_no_start_before_a_worker_consumes_the_queue(
    workers: Sequence[WorkerDetails], replies: dict[str, int], obstacle: Obstacle
) -> None:
    known = forecast_of(queued(1), *workers, **replies)
    assert (known.obstacle, known.tasks, known.empty) == (obstacle, {}, None)


def test_fewer_than_20_runs_give_no_forecast() -> None:
    assert forecast_of(queued(1), worker(), runs=[MINUTE] * 19).obstacle is Obstacle.TOO_FEW_RUNS


def test_an_empty_queue_has_no_time_until_it_is_empty() -> None:
    assert forecast_of([], worker()) == Forecast()


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0, 3, "0–10s"),
        (12, 41, "10–50s"),
        (45, 100, "0–2m"),
        (185, 341, "3–6m"),
        (5798, 6558, "96–110m"),
        (4 * 3600 + 60, 9 * 3600, "4–9h"),
        (2 * 86400, 5 * 86400, "2–5d"),
    ],
)
def test_ranges_are_rounded_outwards(low: int, high: int, text: str) -> None:
    span = Range(low=timedelta(seconds=low), middle=timedelta(seconds=high), high=timedelta(seconds=high))
    assert str(span) == text


@pytest.mark.parametrize(
    ("middle", "text"), [(2, "about 10s"), (44, "about 40s"), (725, "about 12m"), (5 * 3600, "about 5h")]
)
def test_the_middle_is_rounded_to_one_unit(middle: int, text: str) -> None:
    assert Range(**dict.fromkeys(("low", "middle", "high"), timedelta(seconds=middle))).about == text


def test_the_truth_lies_inside_most_ranges() -> None:
    made = [each for seed in (1, 2, 3) for each in SimulatedDays(seed, hours=24, workers=seed).comparisons()]
    inside = sum(each.is_inside for each in made) / len(made)
    assert len(made) > 300
    # The benchmark has the figures of many systems.
    assert 0.7 < inside < 0.9


def rows(*steps: tuple[int, str, int]) -> list[RunRow]:
    return [
        RunRow(log_id=number, order_id=order_id, step=step, at=NOW.replace(tzinfo=None) + timedelta(seconds=at))
        for number, (order_id, step, at) in enumerate(steps, 1)
    ]


def test_durations_and_retries_come_from_the_log() -> None:
    log = rows(
        (1, "START", 0),
        (2, "START", 5),
        (2, "SUCCESS", 65),
        (1, "ERROR", 70),
        (1, "START", 130),  # retried by itself
        (1, "SUCCESS", 200),
        (3, "START", 210),
        (3, "AI_GENERATION", 240),
        (3, "START", 300),  # delivered again: its worker was killed
        (3, "ERROR", 330),
        (3, "OPERATOR_ENQUEUE", 400),
        (3, "START", 410),  # another task
        (4, "SKIP", 420),
        (5, "START", 430),  # still going
    )
    assert past_runs(log) == [
        PastRun(seconds=60.0),
        PastRun(seconds=70.0, retried_after=60.0),
        PastRun(seconds=70.0),
        PastRun(seconds=45.0, retried_after=45.0),
        PastRun(seconds=30.0),
    ]
