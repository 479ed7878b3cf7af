from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.diagnosis.liveness import (
    LIMIT_MARGIN,
    Liveness,
    attribute,
    confirmed,
    doubtful,
    hard_limit,
    separate_claims,
    unconfirmed,
)
from sitegenctl.domain.orders.order import Order, OrderStatus
from sitegenctl.domain.orders.run import History, Run, RunOutcome
from sitegenctl.domain.queue.task import DEFAULT_RECONNECT, BrokerReading, LiveTask, TaskState
from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey, standstill

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=10)
OVER = LIMIT + LIMIT_MARGIN
SECOND = timedelta(seconds=1)


OLD_RUN = Run(outcome=None, last_step="WRITE_PROGRESS", began=timedelta(minutes=1))


def task(task_id: str, state: TaskState, **facts: object) -> LiveTask:
    return LiveTask(task_id=task_id, name="generate", order_id=1, state=state, **facts)


def delivery(task_id: str, ago: timedelta | None = SECOND, **facts: object) -> LiveTask:
    delivered_at = NOW - ago if ago is not None else None
    return task(task_id, TaskState.UNACKED, delivered_at=delivered_at, **facts)


def running(task_id: str, worker: str = "w1", **facts: object) -> LiveTask:
    return task(task_id, TaskState.RUNNING, worker=worker, **facts)


def survey(*claims: LiveTask, silent: int = 0, **facts: object) -> WorkerSurvey:
    return WorkerSurvey(workers=(Worker(name="w1", tasks=claims, **facts),), silent=silent)


def order(run: Run | None = None, *, lock: bool | None = None, status: OrderStatus = OrderStatus.GENERATING) -> Order:
    return Order(order_id=1, status=status, customer_name="Ana", history=History(last_run=run), run_lock_held=lock)


def states(tasks: tuple[LiveTask, ...]) -> dict[str, TaskState]:
    return {task.task_id: task.state for task in tasks}


def settled(
    place: LiveTask, the_order: Order | None = None, replies: WorkerSurvey | None = None, *, now: datetime = NOW
) -> LiveTask:
    replies = survey() if replies is None else replies
    liveness = Liveness(reading=BrokerReading(taken_at=now, hard_limit=LIMIT), survey=replies, now=now)
    orders = {1: the_order} if the_order is not None else {}
    (decided,) = liveness.decide(attribute([place], replies), orders)
    return decided


def test_a_delivery_gets_the_worker_that_claims_it() -> None:
    joined = attribute(
        [delivery("a", attempt=2), delivery("b")],
        survey(running("a"), task("b", TaskState.RESERVED, worker="w1")),
    )
    assert states(joined) == {"a": TaskState.RUNNING, "b": TaskState.RESERVED}
    assert {t.worker for t in joined} == {"w1"}
    assert next(t for t in joined if t.task_id == "a").attempt == 2  # known to the broker alone


@pytest.mark.parametrize(
    "replies",
    [None, WorkerSurvey(), survey(), survey(silent=1), WorkerSurvey(consumers=0)],
    ids=["not-asked", "no-worker", "one-worker", "one-silent", "no-consumer"],
)
def test_an_unclaimed_delivery_is_always_unaccounted(replies: WorkerSurvey | None) -> None:
    assert states(attribute([delivery("a")], replies)) == {"a": TaskState.UNACCOUNTED}


def test_a_queued_task_needs_no_worker() -> None:
    assert states(attribute([task("a", TaskState.QUEUED)], survey(silent=3))) == {"a": TaskState.QUEUED}


def test_a_scheduled_task_of_a_later_attempt_is_a_retry() -> None:
    held = survey(task("a", TaskState.SCHEDULED), task("b", TaskState.SCHEDULED))
    joined = attribute([delivery("a"), delivery("b", attempt=2)], held)
    assert states(joined) == {"a": TaskState.SCHEDULED, "b": TaskState.RETRYING}


def test_a_claim_without_a_message_is_live() -> None:
    assert states(attribute([], survey(running("a")))) == {"a": TaskState.RUNNING}


LISTED = task("a", TaskState.QUEUED, position=0)
TWO_WORKERS = WorkerSurvey(
    workers=(Worker(name="w1", tasks=(running("a"),)), Worker(name="w2", tasks=(running("a", "w2"),)))
)


@pytest.mark.parametrize(
    ("places", "replies", "expected"),
    [
        ([LISTED, task("a", TaskState.QUEUED, position=5)], survey(), ["queued", "queued"]),
        ([LISTED], survey(running("a")), ["running", "queued"]),
        ([LISTED], survey(task("a", TaskState.RESERVED, worker="w1")), ["queued", "reserved"]),
        ([LISTED, delivery("a")], survey(), ["queued", "unaccounted"]),
        ([delivery("a")], TWO_WORKERS, ["running", "running"]),
        ([delivery("a"), delivery("a", 2 * SECOND)], TWO_WORKERS, ["running", "running"]),
        ([delivery("a"), delivery("a", 2 * SECOND)], survey(running("a")), ["running", "unaccounted"]),
        ([delivery("a"), delivery("a", 2 * SECOND)], survey(), ["unaccounted", "unaccounted"]),
    ],
)
def test_one_id_in_several_places_is_several_tasks(
    places: list[LiveTask], replies: WorkerSurvey, expected: list[str]
) -> None:
    joined = attribute(places, replies)
    assert sorted(t.state for t in joined) == sorted(expected)
    assert len(joined) == len(expected)
    assert doubtful(joined) == {"a"}


def test_of_two_deliveries_and_one_claim_the_latest_is_left() -> None:
    early, late = delivery("a", 9 * SECOND, delivery="1"), delivery("a", SECOND, delivery="2")
    joined = {t.state: t.delivery for t in attribute([late, early], survey(running("a")))}
    assert joined == {TaskState.RUNNING: "1", TaskState.UNACCOUNTED: "2"}


def test_a_task_inside_a_chain_waits_for_its_carrier() -> None:
    assert states(attribute([delivery("a", part_of="chain")], survey())) == {"a": TaskState.SCHEDULED}


def test_running_tasks_come_first_then_the_order_of_delivery() -> None:
    joined = attribute(
        [task("late", TaskState.QUEUED, position=7), task("soon", TaskState.QUEUED, position=0)],
        survey(running("now")),
    )
    assert [t.task_id for t in joined] == ["now", "soon", "late"]


def at(seconds: int) -> datetime:
    return NOW + seconds * SECOND


@pytest.mark.parametrize(
    ("claims", "others", "slots", "messages", "finished", "live"),
    [
        # A final result and no message: the worker lists it since Redis came back.
        ([running("a"), running("b")], (), 2, {"b"}, {"a": "SUCCESS"}, ["b"]),
        ([running("a")], (), 2, set(), {"a": "FAILURE"}, []),
        # A message is left: it is about to be acknowledged.
        ([running("a")], (), 2, {"a"}, {"a": "SUCCESS"}, ["a"]),
        # One process can't run two tasks: it runs the one that it began last.
        ([running("a", pid=7, started_at=at(1)), running("b", pid=7, started_at=at(2))], (), 2, {"a"}, {}, ["b"]),
        ([running("a", pid=7), running("b", pid=7, started_at=at(2))], (), 2, set(), {}, ["b"]),
        ([running("a", pid=7, started_at=at(1))], (running("x", pid=7, started_at=at(2)),), 2, {"a"}, {}, []),
        ([running("a", pid=7, started_at=at(1)), running("b", pid=8, started_at=at(2))], (), 2, set(), {}, ["a", "b"]),
        # More than the pool has processes: the oldest without a message.
        ([running("a", started_at=at(1)), running("b", started_at=at(2))], (), 1, {"a"}, {}, ["a"]),
        ([running("a", started_at=at(1)), running("b", started_at=at(2))], (), 1, {"a", "b"}, {}, ["b"]),
        ([running("a", started_at=at(1)), running("b", started_at=at(2))], (), None, set(), {}, ["a", "b"]),
        # What merely waits at the worker takes no process.
        ([running("a"), task("b", TaskState.RESERVED, worker="w1")], (), 1, set(), {}, ["a", "b"]),
    ],
)
def test_a_claim_that_cannot_be_true_is_stale(
    claims: list[LiveTask],
    others: tuple[LiveTask, ...],
    slots: int | None,
    messages: set[str],
    finished: dict[str, str],
    live: list[str],
) -> None:
    replies = survey(*claims, others=others, slots=slots, has_processes=True)
    kept, stale = separate_claims(replies, messages, finished)
    assert [t.task_id for t in kept] == live
    assert {claim.task_id for claim in stale} == {t.task_id for t in claims} - set(live)
    assert all(claim.worker == "w1" and claim.reason for claim in stale)


@pytest.mark.parametrize("finished", [{}, {"map": "SUCCESS"}], ids=["runs", "has ended"])
def test_parts_of_a_map_take_no_slots_and_share_its_end(finished: dict[str, str]) -> None:
    parts = [running(f"map#{number}", pid=1, part_of="celery.map", carrier="map") for number in range(3)]
    worker = Worker(name="w1", tasks=tuple(parts), others=(running("map", pid=1),), slots=1)
    live, stale = separate_claims(WorkerSurvey(workers=(worker,)), (), finished)
    assert (live == parts, len(stale)) == ((False, 4) if finished else (True, 0))


def test_a_stale_claim_does_not_account_for_a_delivery() -> None:
    claims = (running("a", pid=7, started_at=at(1)), running("b", pid=7, started_at=at(2)))
    joined = attribute([delivery("a"), delivery("b")], survey(*claims, slots=2, has_processes=True))
    assert states(joined) == {"a": TaskState.UNACCOUNTED, "b": TaskState.RUNNING}


def test_threads_of_one_process_run_several_tasks() -> None:
    claims = (running("a", pid=7, started_at=at(1)), running("b", pid=7, started_at=at(2)))
    kept, stale = separate_claims(survey(*claims, slots=4), (), {})
    assert (kept, stale) == (list(claims), [])


@pytest.mark.parametrize("ago", [timedelta(0), SECOND, LIMIT, OVER - SECOND])
def test_within_its_time_limit_a_delivery_stays_unaccounted(ago: timedelta) -> None:
    decided = settled(delivery("a", ago))
    assert decided.state is TaskState.UNACCOUNTED
    assert decided.until == NOW - ago + OVER


@pytest.mark.parametrize("ago", [OVER, OVER + SECOND, timedelta(days=2)])
def test_time_limit_of_a_scheduled_task_counts_from_eta(ago: timedelta) -> None:
    waiting = settled(delivery("a", ago, eta=NOW + SECOND))
    assert (waiting.state, waiting.until) == (TaskState.UNACCOUNTED, NOW + SECOND + OVER)
    assert settled(delivery("a", ago, eta=NOW - OVER + SECOND)).state is TaskState.UNACCOUNTED
    assert settled(delivery("a", ago, eta=NOW - OVER)).state is TaskState.ORPHANED


@pytest.mark.parametrize("ago", [OVER, OVER + SECOND, timedelta(days=30)])
def test_after_its_time_limit_a_delivery_is_orphaned(ago: timedelta) -> None:
    assert settled(delivery("a", ago)).state is TaskState.ORPHANED


@pytest.mark.parametrize(
    ("uptime", "delivered", "until"),
    [
        (None, timedelta(hours=1), None),
        (DEFAULT_RECONNECT, timedelta(hours=1), None),
        (DEFAULT_RECONNECT - SECOND, timedelta(hours=1), NOW + SECOND),
        (timedelta(0), timedelta(hours=1), NOW + DEFAULT_RECONNECT),
    ],
)
def test_an_orphan_waits_for_workers_on_their_way_back(
    uptime: timedelta | None, delivered: timedelta, until: datetime | None
) -> None:
    reading = BrokerReading(taken_at=NOW, hard_limit=LIMIT, uptime=uptime)
    liveness = Liveness(reading=reading, survey=survey(), now=NOW)
    (decided,) = liveness.decide(attribute([delivery("a", delivered)], survey()), {})
    assert (decided.state, decided.until) == (TaskState.ORPHANED, until)


def test_a_silent_worker_keeps_a_delivery_unaccounted_for_good() -> None:
    decided = settled(delivery("a", timedelta(days=2)), replies=survey(silent=1))
    assert (decided.state, decided.until) == (TaskState.UNACCOUNTED, None)


def test_an_undated_delivery_stays_unaccounted() -> None:
    decided = settled(delivery("a", None))
    assert (decided.state, decided.until) == (TaskState.UNACCOUNTED, None)
    assert decided.reason == "its delivery time is not recorded"


def test_a_delivery_time_in_the_future_is_taken_for_now() -> None:
    assert settled(delivery("a", -timedelta(days=1))).until == NOW + OVER


@pytest.mark.parametrize(
    ("own", "workers", "expected"),
    [
        (None, (), LIMIT),
        (None, (SECOND,), SECOND),
        (None, (SECOND, 9 * SECOND), 9 * SECOND),
        (None, (SECOND, None), LIMIT),  # a worker without a limit counts as having the fallback
        (3 * SECOND, (SECOND, 9 * SECOND), 3 * SECOND),
    ],
)
def test_the_time_limit_is_the_messages_then_the_workers(
    own: timedelta | None, workers: tuple[timedelta | None, ...], expected: timedelta
) -> None:
    replies = WorkerSurvey(workers=tuple(Worker(name=str(n), hard_limit=each) for n, each in enumerate(workers)))
    assert hard_limit(delivery("a", limit=own), replies, LIMIT) == expected


def test_a_later_start_in_the_log_counts_from_then() -> None:
    decided = settled(delivery("a", timedelta(hours=1)), order(Run(outcome=None, last_step="START", began=SECOND)))
    assert (decided.state, decided.until) == (TaskState.UNACCOUNTED, NOW + OVER - SECOND)


LOCKING = Run(outcome=None, last_step="START", began=SECOND, task_id="a", takes_lock=True)


@pytest.mark.parametrize(
    ("run", "lock", "expected"),
    [
        (LOCKING, False, TaskState.ORPHANED),
        (LOCKING, True, TaskState.RUNNING),
        (LOCKING, None, TaskState.UNACCOUNTED),  # a standby knows no locks
        (replace(LOCKING, takes_lock=False), False, TaskState.UNACCOUNTED),
        (replace(LOCKING, task_id="b"), False, TaskState.UNACCOUNTED),
        (replace(LOCKING, outcome=RunOutcome.ERROR), False, TaskState.UNACCOUNTED),
    ],
)
def test_a_free_run_lock_proves_death_only_of_its_own_open_run(run: Run, lock: bool, expected: TaskState) -> None:
    assert settled(delivery("a"), order(run, lock=lock)).state is expected


DONE = Run(outcome=RunOutcome.SUCCESS, last_step="SUCCESS", began=SECOND, task_id="a")


@pytest.mark.parametrize(
    ("run", "status", "expected"),
    [
        (DONE, OrderStatus.REVIEW, TaskState.ORPHANED),
        (replace(DONE, outcome=RunOutcome.SKIP), OrderStatus.REVIEW, TaskState.ORPHANED),
        (DONE, OrderStatus.GENERATING, TaskState.UNACCOUNTED),
        (replace(DONE, outcome=RunOutcome.ERROR), OrderStatus.REVIEW, TaskState.UNACCOUNTED),
        (replace(DONE, task_id="b"), OrderStatus.REVIEW, TaskState.UNACCOUNTED),
        (replace(DONE, began=None), OrderStatus.REVIEW, TaskState.UNACCOUNTED),
        # Delivered again after that run: another one may be going on.
        (replace(DONE, began=timedelta(minutes=5)), OrderStatus.REVIEW, TaskState.UNACCOUNTED),
    ],
)
def test_a_delivery_whose_run_finished_its_order_is_over(run: Run, status: OrderStatus, expected: TaskState) -> None:
    assert settled(delivery("a"), order(run, status=status)).state is expected


@pytest.mark.parametrize(("began", "expected"), [(None, TaskState.ORPHANED), (SECOND, TaskState.UNACCOUNTED)])
def test_a_broker_that_no_worker_ever_used_proves_an_orphan(began: timedelta | None, expected: TaskState) -> None:
    run = Run(outcome=None, last_step="START", began=began) if began is not None else None
    assert settled(delivery("a"), order(run), WorkerSurvey(ever_consumed=False)).state is expected


@pytest.mark.parametrize(
    ("delivered", "run", "expected"),
    [
        (9 * SECOND, Run(outcome=None, last_step="START", began=8 * SECOND), TaskState.RUNNING),
        (None, Run(outcome=None, last_step="START", began=8 * SECOND), TaskState.RUNNING),
        (9 * SECOND, Run(outcome=None, last_step="START", began=timedelta(hours=1)), TaskState.RESERVED),
        (9 * SECOND, Run(outcome=None, last_step="START", began=timedelta(minutes=1)), TaskState.RESERVED),
        (9 * SECOND, Run(outcome=RunOutcome.ERROR, last_step="ERROR", began=8 * SECOND), TaskState.RESERVED),
        (9 * SECOND, replace(OLD_RUN, progressed=8 * SECOND), TaskState.RUNNING),
        (9 * SECOND, replace(OLD_RUN, progressed=10 * SECOND), TaskState.RESERVED),
        (9 * SECOND, replace(OLD_RUN, progressed=8 * SECOND, outcome=RunOutcome.ERROR), TaskState.RESERVED),
        (9 * SECOND, replace(OLD_RUN, progressed=8 * SECOND, cut_short=True), TaskState.RESERVED),
        (9 * SECOND, None, TaskState.RESERVED),
    ],
)
def test_a_reserved_task_whose_log_has_begun_since_is_running(
    delivered: timedelta | None, run: Run | None, expected: TaskState
) -> None:
    replies = survey(task("a", TaskState.RESERVED, worker="w1"))
    assert settled(delivery("a", delivered), order(run), replies).state is expected


@pytest.mark.parametrize(
    ("run", "lock", "expected"),
    [
        (None, None, {}),
        (Run(outcome=None, last_step="START", began=SECOND), None, {1: NOW + OVER - SECOND}),
        (Run(outcome=None, last_step="START", began=SECOND), False, {1: NOW + OVER - SECOND}),
        (Run(outcome=None, last_step="START", began=OVER), None, {}),
        (Run(outcome=None, last_step="START", began=None), None, {1: None}),  # without a usable time
        (Run(outcome=None, last_step="START", began=SECOND, cut_short=True), None, {}),
        (Run(outcome=RunOutcome.ERROR, last_step="ERROR", began=SECOND), None, {}),
        (LOCKING, False, {}),
        (LOCKING, None, {1: NOW + OVER - SECOND}),
    ],
)
def test_an_open_run_may_go_on_until_its_time_limit(
    run: Run | None, lock: bool, expected: dict[int, datetime | None]
) -> None:
    liveness = Liveness(reading=BrokerReading(hard_limit=LIMIT), survey=survey(), now=NOW)
    assert liveness.possible_runs([order(run, lock=lock)]) == expected


@given(
    st.timedeltas(min_value=timedelta(0), max_value=OVER - SECOND),
    st.sampled_from([None, WorkerSurvey(), survey(), survey(silent=1), WorkerSurvey(consumers=0)]),
)
def test_no_combination_of_missing_replies_proves_death(ago: timedelta, replies: WorkerSurvey | None) -> None:
    assert settled(delivery("a", ago), order(), replies or WorkerSurvey()).state is TaskState.UNACCOUNTED


@pytest.mark.parametrize(
    ("status", "outcome", "began", "is_live"),
    [
        (OrderStatus.REVIEW, RunOutcome.SUCCESS, timedelta(minutes=3), False),
        (OrderStatus.DELIVERED, RunOutcome.SUCCESS, timedelta(minutes=3) - SECOND, False),
        # Another run than the one that succeeded.
        (OrderStatus.REVIEW, RunOutcome.SUCCESS, timedelta(minutes=1), True),
        (OrderStatus.REVIEW, RunOutcome.SUCCESS, None, True),
        (OrderStatus.REVIEW, RunOutcome.SKIP, timedelta(minutes=3), True),
        (OrderStatus.REVIEW, None, timedelta(minutes=3), True),
        (OrderStatus.GENERATING, RunOutcome.SUCCESS, timedelta(minutes=3), True),
        (OrderStatus.CANCELLED, RunOutcome.SUCCESS, timedelta(minutes=3), True),
    ],
)
def test_a_claim_of_the_run_that_succeeded_is_over(
    status: OrderStatus, outcome: RunOutcome | None, began: timedelta | None, is_live: bool
) -> None:
    claim = running("a", started_at=NOW - timedelta(minutes=3))
    known = {1: order(Run(outcome=outcome, last_step="FINALIZE", began=began), status=status)}
    liveness = Liveness(reading=BrokerReading(taken_at=NOW, hard_limit=LIMIT), survey=survey(claim), now=NOW)
    assert bool(liveness.decide(attribute([], survey(claim)), known)) is is_live
    delivered = delivery("a", timedelta(minutes=3), delivery="tag")
    (left,) = liveness.decide(attribute([delivered], survey(claim)), known)
    assert left.state is (TaskState.RUNNING if is_live else TaskState.UNACCOUNTED)


TWICE = (running("a"), LISTED)
ORPHAN = (task("a", TaskState.ORPHANED),)


@pytest.mark.parametrize(
    ("first", "second", "believed"),
    [
        (TWICE, TWICE, [TaskState.RUNNING, TaskState.QUEUED]),
        (TWICE, TWICE[:1], [TaskState.RUNNING]),  # a retry was on its way
        (TWICE, TWICE[1:], [TaskState.QUEUED]),  # and that one was over
        (TWICE, ORPHAN, [TaskState.UNACCOUNTED]),
        (TWICE, (), []),
        (ORPHAN, ORPHAN, [TaskState.ORPHANED]),
        (ORPHAN, TWICE, [TaskState.RUNNING]),
        (ORPHAN, (), []),
    ],
)
def test_a_doubtful_task_is_believed_when_two_readings_agree(
    first: tuple[LiveTask, ...], second: tuple[LiveTask, ...], believed: list[TaskState]
) -> None:
    other = task("b", TaskState.SCHEDULED)
    looked = confirmed((*first, other), (*second, task("c", TaskState.ORPHANED)))
    assert [t.state for t in looked if t.task_id == "a"] == believed
    assert other in looked
    assert all(t.task_id != "c" for t in looked)  # seen once


def test_without_a_second_reading_nothing_is_orphaned_or_doubled() -> None:
    assert [t.state for t in unconfirmed(TWICE)] == [TaskState.RUNNING]
    assert [t.state for t in unconfirmed(ORPHAN)] == [TaskState.UNACCOUNTED]


def replies_of(*names: str, silent: int = 0, consumers: int | None = None) -> WorkerSurvey:
    return WorkerSurvey(workers=tuple(Worker(name=name) for name in names), silent=silent, consumers=consumers)


def roster(**queues: str) -> WorkerRoster:
    return WorkerRoster(workers=tuple(WorkerDetails(name=name, queues=(queue,)) for name, queue in queues.items()))


@pytest.mark.parametrize(
    ("survey", "known", "expected"),
    [
        (replies_of(consumers=0), None, "no worker is alive"),
        (replies_of(consumers=0), roster(a="ours"), "no worker is alive"),  # it stopped since
        (replace(replies_of(consumers=0), may_run=True), None, "no worker responds to remote control"),
        (replace(replies_of(consumers=1), asked_by=None), None, "no worker responds"),
        (replies_of(consumers=1), None, "no worker responds to remote control"),
        (replies_of(), None, "no worker responds to remote control"),  # the client list could not be read
        (replies_of("a"), roster(a="ours"), None),
        (replies_of("a", "b"), roster(a="another", b="ours"), None),
        (replies_of("a"), roster(a="another"), "no worker consumes ours"),
        (replies_of("a"), None, None),  # the roster was not read yet
        (replies_of("a", "b"), roster(a="another"), None),  # the details of the new worker are unknown
        (replies_of("a", silent=1), roster(a="another"), None),  # nor are those of a silent one
        (replies_of(silent=1), None, None),
    ],
)
def test_standstill(survey: WorkerSurvey, known: WorkerRoster | None, expected: str | None) -> None:
    assert standstill(survey, known, queue="ours") == expected
