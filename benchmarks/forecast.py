"""Forecasts against the truth, over simulated days; and the time that a forecast takes, against a bare loop.

Printed by kind of forecast: how often the truth lay inside the range (to be 75 to 85%), and the median error of its
middle.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from random import Random

from sitegenctl.domain.diagnosis.forecast import PastRun, forecast
from sitegenctl.domain.queue.task import LiveTask, TaskState
from sitegenctl.domain.queue.worker import WorkerDetails, WorkerRoster, survey_of
from tests.support.simulated_days import QUEUE, Comparison, SimulatedDays

SEEDS = range(1, 41)
HOURS = 48
ROUNDS = 9


def main() -> None:
    made: list[Comparison] = []
    for seed in SEEDS:
        made += SimulatedDays(seed, hours=HOURS, workers=1 + seed % 3).comparisons()
    print(f"{len(SEEDS)} systems, {HOURS} hours each")
    for kind in ("start", "end", "empty"):
        _report(kind, [each for each in made if each.kind == kind])
    _report("all", made)
    _cost()


def _report(kind: str, made: list[Comparison]) -> None:
    inside = sum(each.is_inside for each in made) / len(made)
    below = sum(each.truth < each.low for each in made) / len(made)
    errors = [abs(each.middle - each.truth) for each in made]
    relative = [error / each.truth for error, each in zip(errors, made, strict=True) if each.truth > 60]
    print(
        f"{kind:<8} {inside:6.1%} inside, {below:.1%} earlier, {1 - inside - below:.1%} later; median error"
        f" {statistics.median(errors):4.0f} s, {statistics.median(relative):5.1%} of waits over 1m; {len(made)} times"
    )


def _cost() -> None:
    random, now = Random(1), datetime.now(UTC)
    runs = [
        PastRun(seconds=random.lognormvariate(4, 0.4), retried_after=60.0 if random.random() < 0.08 else None)
        for _ in range(200)
    ]
    roster = WorkerRoster(workers=(WorkerDetails(name="w", concurrency=4, queues=(QUEUE,)),))
    survey = survey_of(roster, task_name="generate")
    times: dict[int, list[float]] = {0: [], 1_000: [], 10_000: []}
    for _ in range(ROUNDS):
        for count, took in times.items():
            tasks = [
                LiveTask(task_id=f"t{n}", name="generate", order_id=n, state=TaskState.QUEUED, position=n)
                for n in range(count)
            ]
            began = time.perf_counter()
            if count:
                forecast(tasks, (), survey, roster, queue=QUEUE, runs=runs, now=now)
            else:
                _bare_loop()
            took.append(time.perf_counter() - began)
    medians = {count: statistics.median(took) for count, took in times.items()}
    for count, median in medians.items():
        name = f"{count} tasks" if count else "bare loop"
        print(
            f"{name:<12} {median * 1000:6.1f} ms, {median / medians[0]:5.1f} times a bare loop; the median of {ROUNDS}"
        )


def _bare_loop() -> None:
    """A million additions take about as long on any machine as 50 ms do on a fast one."""
    total = 0
    for number in range(1_000_000):
        total += number


if __name__ == "__main__":
    main()
