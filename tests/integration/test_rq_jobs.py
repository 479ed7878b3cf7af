"""Reading jobs from Redis, and deciding which worker has them: pure functions on values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sitegenctl.adapters.rq.events import QueueState, differences
from sitegenctl.adapters.rq.job import FIELDS, UNLIMITED, Job, Place, Started, decode, read_call
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.adapters.rq.records import WORKER_FIELDS, Record, Records, assign_jobs
from sitegenctl.domain.queue.task import ForeignMessage, LiveTask, TaskState
from tests.support.rq_world import JOB

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUEUE = "site_generation"
OPTIONS = RqOptions()


def job(job_id: str = "J", **fields: str) -> Job:
    given_fields = {"description": f"{JOB}(42, resume=True)", "status": "queued", **fields}
    return Job(job_id=job_id, fields={**dict.fromkeys(FIELDS, ""), **given_fields})


@pytest.mark.parametrize(
    ("arguments", "order_id"),
    [
        ("42", 42),
        ("42, resume=True", 42),
        ("42, False", 42),
        ("order_id=42", 42),
        ("order_id=42, resume=False", 42),
        # As text, as a whole float, and with other arguments; RQ cuts long ones.
        ("'42'", 42),
        ('"42", resume=True', 42),
        ("42.0", 42),
        ("order_id='42'", 42),
        ("order_id=42.0, resume=False", 42),
        ("42, resume=1", 42),
        ("42, resume=True, force=True", 42),
        ("force=True, order_id=42", 42),
        ("notes={'a': (1, 2)}, order_id=42", 42),
        ("42, notes='a long text...", 42),
        # No order has such a number.
        ("-1", None),
        ("0", None),
        ("9223372036854775808", None),
        ("9" * 5000, None),
    ],
)
def test_order_is_read_from_description_of_the_call(arguments: str, order_id: int | None) -> None:
    call = read_call(f"{JOB}({arguments})")
    assert call is not None
    assert (call.function, call.order_id, call.is_unreadable) == (JOB, order_id, False)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "None",
        "True",
        "42.5",
        "'forty-two'",
        "site=42",
        "Decimal('42')",
        "[42]",
        "notes='a long text..., order_id=42",
        "nested(order_id=42)",
        "__import__('os').system('true')",
        "٤٢",
    ],
)
def test_call_without_readable_order_may_be_of_any(arguments: str) -> None:
    call = read_call(f"{JOB}({arguments})")
    assert call is not None
    assert (call.order_id, call.is_unreadable) == (None, True)
    item = decode("J", job(description=f"{JOB}({arguments})", origin=QUEUE), Place(TaskState.QUEUED), OPTIONS)
    assert isinstance(item, ForeignMessage)
    assert (item.name, item.may_be_ours) == (JOB, True)


@pytest.mark.parametrize(
    "text", ["", "make order 42", f"{JOB}(42", f" {JOB}(42)", f"{JOB}(42) ", "9f(42)", "f(" + "x" * 20_000 + ")"]
)
def test_an_invalid_call_is_none(text: str) -> None:
    assert read_call(text) is None


@given(st.text(max_size=80))
def test_a_description_is_read_without_being_run(text: str) -> None:
    for description in (text, f"{JOB}({text})"):
        call = read_call(description)
        assert call is None or call.order_id is None or 0 < call.order_id < 2**63


def test_our_metadata_overrides_the_description() -> None:
    written = job(description="a site", sitegenctl_order_id="7", sitegenctl_actor="ana@crm")
    task = decode("J", written, Place(TaskState.QUEUED, None, 3), OPTIONS)
    assert isinstance(task, LiveTask)
    assert (task.order_id, task.actor, task.position) == (7, "ana@crm", 3)
    odd = decode("J", job(sitegenctl_order_id="7; 8"), Place(TaskState.QUEUED), OPTIONS)
    assert isinstance(odd, LiveTask)
    assert odd.order_id is None


@pytest.mark.parametrize(
    ("found", "name", "may_be_ours"),
    [
        (None, "nothing", False),
        (job(description="app.other.job(42)", origin=QUEUE), "app.other.job", False),
        # Their publisher gave them a description, and the function cannot be excluded.
        (job(description="make order 42", origin=QUEUE), "undecodable", True),
        (job(description="", origin=QUEUE), "undecodable", True),
        (job(description="other.path.generate_site_job(42)", origin=QUEUE), "other.path.generate_site_job", True),
        # Of another queue, which is none of ours.
        (job(description="make order 42", origin="mail"), "undecodable", False),
    ],
)
def test_a_foreign_job_is_shown_with_its_possible_orders(found: Job | None, name: str, may_be_ours: bool) -> None:
    item = decode("J", found, Place(TaskState.QUEUED, None, 0), OPTIONS)
    assert isinstance(item, ForeignMessage)
    assert (item.name, item.task_id, item.position, item.may_be_ours) == (name, "J", 0, may_be_ours)


@pytest.mark.parametrize(
    ("status", "timeout", "delivered_at", "limit"),
    [
        ("started", "600", NOW, timedelta(minutes=10)),
        ("canceled", "600", NOW, timedelta(minutes=10)),
        # It has not begun again: the time is of the last attempt.
        ("queued", "600", None, timedelta(minutes=10)),
        ("started", "-1", NOW, UNLIMITED),
        ("started", "", NOW, None),
        ("started", "1h", NOW, None),
        ("started", "0", NOW, None),
    ],
)
def test_delivery_has_its_time_and_limit(
    status: str, timeout: str, delivered_at: datetime | None, limit: timedelta | None
) -> None:
    began = job(status=status, timeout=timeout, started_at=NOW.isoformat())
    task = decode("J", began, Place(TaskState.UNACKED, entry=Started(b"J:e", b"0", None)), OPTIONS)
    assert isinstance(task, LiveTask)
    assert (task.delivered_at, task.limit, task.delivery) == (delivered_at, limit, "J:e")


@pytest.mark.parametrize(
    ("fields", "attempt"),
    [
        ({}, 1),
        ({"sitegenctl_retries": "3", "retries_left": "3"}, 1),
        ({"sitegenctl_retries": "3", "retries_left": "1"}, 3),
        ({"sitegenctl_retries": "3", "retries_left": "-9"}, 1),
        # Of others' jobs the number of retries is not known; that one was tried is.
        ({"retries_left": "2", "status": "scheduled", "started_at": "2026-01-01T11:00:00.000000Z"}, 2),
        ({"retries_left": "2", "status": "started", "started_at": "2026-01-01T11:00:00.000000Z"}, 1),
    ],
)
def test_attempts_are_counted(fields: dict[str, str], attempt: int) -> None:
    assert job(**fields).attempt == attempt


# --- the holders of jobs --------------------------------------------------------------------------------------


def worker(
    name: str = "W",
    *jobs: str,
    connected: bool = True,
    seconds_ago: float = 300,
    deliveries: tuple[str, ...] = (),
    **fields: str,
) -> Record:
    sign = f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%S.%fZ}"
    known = {"birth": sign, "last_heartbeat": sign, "state": "busy" if jobs else "idle", "queues": QUEUE, **fields}
    return Record(
        name=name,
        fields={**dict.fromkeys(WORKER_FIELDS, ""), **known},
        is_connected=connected,
        jobs=tuple(jobs),
        deliveries=deliveries,
    )


def entry(member: str, left: float) -> Started:
    promised = NOW + timedelta(seconds=left)
    return Started(member.encode(), str(promised.timestamp()).encode(), promised)


def records(
    *workers: Record,
    started: dict[str, float] | None = None,
    taken: tuple[str, ...] = (),
    consumers: int | None = None,
    **jobs: Job,
) -> Records:
    """``started`` is by how many seconds each member's next heartbeat is still to come."""
    entries = tuple(entry(member, left) for member, left in (started or {}).items())
    return Records(now=NOW, workers=workers, started=entries, taken=taken, jobs=jobs, consumers=consumers)


STARTED = job(status="started", worker_name="W", created_at="2026-01-01T11:00:00.000000Z")
#: A record that has expired, or was never there.
NO_RECORD: dict[str, Any] = {"birth": "", "last_heartbeat": "", "state": "", "queues": ""}


def test_a_connected_worker_has_its_reported_jobs() -> None:
    call = assign_jobs(records(worker("W", "J"), started={"J": 60}, J=STARTED), QUEUE)
    assert (call.held, call.silent) == ({"W": [("J", TaskState.RUNNING, "J")]}, 0)
    assert call.holders("J") == [("W", TaskState.RUNNING)]


@pytest.mark.parametrize(
    ("seen", "left", "silent"),
    [
        (worker("W", "J"), -1, 1),  # it is connected, and doesn't renew its promise: it hangs
        (worker("W", "J", connected=False), 60, 1),  # it has lost Redis, or has just died
        (worker("W", "J", connected=False), -1, 0),  # it is gone
        (worker("W", "J", death="2026-01-01T11:59:00.000000Z"), -1, 0),
        (worker("W", connected=False), -1, 1),  # it may take jobs all the same
        (worker("W", **NO_RECORD), -1, 1),  # its record has expired, and it, or what it began, is connected
        (worker("V", **NO_RECORD), -1, 0),  # likewise, and the job is another's
    ],
)
def test_unreliable_workers_are_silent_and_dead_ones_are_not(seen: Record, left: float, silent: int) -> None:
    call = assign_jobs(records(seen, started={"J": left}, J=STARTED), QUEUE)
    assert (call.living, call.holders("J"), call.silent) == ({}, [], silent)
    assert call.silent_names == ["W"] * silent


def test_idle_workers_that_do_not_listen_are_named() -> None:
    deaf = [worker(name, connected=False) for name in ("U", "V")]
    call = assign_jobs(records(worker("W"), *deaf, consumers=2), QUEUE)
    # One of the two waits for jobs; it is not known which.
    assert (call.silent, call.silent_names) == (1, ["U", "V"])


@pytest.mark.parametrize(
    ("began", "timeout", "silent"), [("11:55:00", "600", 1), ("11:48:00", "600", 0), ("01:00:00", "-1", 1)]
)
def test_job_of_a_killed_worker_may_run_until_its_limit(began: str, timeout: str, silent: int) -> None:
    job_of_w = job(status="started", worker_name="W", started_at=f"2026-01-01T{began}.000000Z", timeout=timeout)
    call = assign_jobs(records(worker("W", **NO_RECORD), started={"J": -1}, J=job_of_w), QUEUE)
    assert call.silent == silent


def test_job_that_just_ended_makes_no_worker_silent() -> None:
    call = assign_jobs(records(worker(), started={"J": 60}, J=job(status="finished")), QUEUE)
    assert (call.silent, list(call.living)) == (0, ["W"])


def test_busy_worker_without_a_job_has_the_new_one() -> None:
    call = assign_jobs(records(worker(state="busy"), worker("X"), started={"J": 60}, J=STARTED), QUEUE)
    assert (call.holders("J"), call.silent) == ([("W", TaskState.RUNNING)], 0)


@pytest.mark.parametrize(
    ("seen", "created", "holders"),
    [
        (worker(state="busy"), "11:00:00", ["W"]),  # about to begin
        (worker(seconds_ago=5), "11:00:00", ["W"]),  # it gives a sign of life as soon as it has taken one
        (worker(), "11:59:50", ["W"]),  # it may have taken it this moment
        (worker(), "11:00:00", []),
        (worker("W", "another"), "11:59:50", []),
        (worker(state="suspended", seconds_ago=0), "11:59:50", []),
        (worker(queues="other"), "11:59:50", []),
        (worker(connected=False), "11:59:50", []),
    ],
)
def test_a_job_in_transit_may_be_at_a_recently_live_worker(seen: Record, created: str, holders: list[str]) -> None:
    taken = job(created_at=f"2026-01-01T{created}.000000Z")
    call = assign_jobs(records(seen, taken=("J",), J=taken), QUEUE)
    assert call.holders("J") == [(name, TaskState.RESERVED) for name in holders]
    assert call.silent == (not seen.is_connected)


@pytest.mark.parametrize(("consumers", "silent"), [(None, 1), (0, 0), (1, 0), (2, 1)])
def test_idle_worker_without_subscription_is_silent(consumers: int | None, silent: int) -> None:
    """One of those that wait is the worker that listens."""
    call = assign_jobs(records(worker("V"), worker("W", connected=False), consumers=consumers), QUEUE)
    assert (list(call.living), call.silent) == (["V"], silent)


E1, E2 = f"J:{'1' * 32}", f"J:{'2' * 32}"


@pytest.mark.parametrize(
    ("workers", "started", "running", "unclaimed"),
    [
        # RQ 3: each worker names the execution that it runs.
        (
            (worker("V", "J", deliveries=(E1,)), worker("W", "J", deliveries=(E2,))),
            {E1: 60, E2: 60},
            {"V": E1, "W": E2},
            set(),
        ),
        ((worker("W", "J", deliveries=(E2,)),), {E1: -1, E2: 60}, {"W": E2}, {E1}),
        # RQ 2: a worker names the job, and keeps up one of the promises.
        ((worker("W", "J"),), {E1: -1, E2: 60}, {"W": E2}, {E1}),
        ((worker("V", "J"), worker("W", "J")), {E1: 50, E2: 60}, {"V": E2, "W": E1}, set()),
        # RQ 1: a job has a single entry, whatever runs it.
        ((worker("V", "J"), worker("W", "J")), {"J": 60}, {"V": "J", "W": "J"}, set()),
    ],
)
def test_each_worker_has_its_own_execution_of_a_job(
    workers: tuple[Record, ...], started: dict[str, float], running: dict[str, str], unclaimed: set[str]
) -> None:
    call = assign_jobs(records(*workers, started=started, J=STARTED), QUEUE)
    assert {name: jobs[0].delivery for name, jobs in call.held.items()} == running
    assert {member for member in started if call.runner(member) is None} == unclaimed


@pytest.mark.parametrize(
    ("began", "timeout", "left", "state", "undecided"),
    [
        ("11:59:00", "600", -1, TaskState.UNACKED, "may be running it until 12:09:30 UTC"),
        ("11:45:00", "600", -1, TaskState.UNACKED, None),
        ("11:45:00", "600", 20, TaskState.UNACKED, "its next heartbeat is due by 12:00:20 UTC"),
        ("11:45:00", "-1", -1, TaskState.UNACKED, "it has no time limit"),
        ("", "600", -1, TaskState.UNACKED, "until 12:10:29 UTC"),  # it began before its last sign of life
        ("", "600", -631, TaskState.UNACKED, None),
        ("", "", -631, TaskState.UNACKED, None),  # as long as a job may run at most
        # Decided elsewhere: by its run lock, say. A promise that still holds is newer than that.
        ("11:59:00", "600", -1, TaskState.ORPHANED, None),
        ("11:59:00", "600", 20, TaskState.ORPHANED, "its next heartbeat is due by 12:00:20 UTC"),
    ],
)
def test_delivery_without_worker_is_over_after_its_limit_alone(
    began: str, timeout: str, left: float, state: TaskState, undecided: str | None
) -> None:
    started = job(status="started", timeout=timeout, started_at=began and f"2026-01-01T{began}.000000Z")
    seen = records(worker("W", connected=False, death=NOW.isoformat()), started={"J": left}, J=started)
    task = LiveTask(task_id="J", name=JOB, order_id=42, state=state, delivery="J")
    reason = assign_jobs(seen, QUEUE).why_undecided(task)
    assert (reason is None) == (undecided is None)
    assert undecided is None or undecided in str(reason)


# --- what has happened ----------------------------------------------------------------------------------------


def picture(**given: Any) -> QueueState:
    nothing: dict[str, Any] = {
        "now": NOW,
        "has_workers": True,
        "waiting": {},
        "running": {},
        "ended": frozenset(),
        "workers": {"W": "now"},
        "jobs": {},
    }
    return QueueState(**{**nothing, **given})


def kinds(before: QueueState, after: QueueState) -> list[str]:
    return [fields["type"] for fields in differences(before, after, JOB)]


FRESH = {"created_at": "2026-01-01T12:00:00.000000Z"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (picture(), picture(waiting={"J": None}, jobs={"J": job(**FRESH)}), ["task-sent"]),
        # It was there before, behind those that are read.
        (picture(), picture(waiting={"J": None}, jobs={"J": STARTED}), []),
        (picture(waiting={"J": None}), picture(running={"J": "W"}, jobs={"J": STARTED}), ["task-started"]),
        (picture(running={"J": "W"}), picture(running={"J": "W"}, jobs={"J": STARTED}), []),
        (picture(running={"J": "W"}), picture(jobs={"J": job(status="finished")}), ["task-succeeded"]),
        (picture(), picture(ended=frozenset("J"), jobs={"J": job(status="failed")}), ["task-failed"]),
        (picture(running={"J": "W"}), picture(jobs={"J": job(status="stopped")}), ["task-revoked"]),
        (
            picture(waiting={"J": None}),
            picture(ended=frozenset("J"), jobs={"J": job(status="canceled")}),
            ["task-revoked"],
        ),
        (
            picture(running={"J": "W"}),
            picture(waiting={"J": NOW}, jobs={"J": job(status="scheduled")}),
            ["task-retried"],
        ),
        (
            picture(waiting={"J": None}),
            picture(
                waiting={"J": NOW},
                jobs={"J": job(status="scheduled", sitegenctl_retries="3", retries_left="2", **FRESH)},
            ),
            ["task-retried"],
        ),
        # It was to be tried again, and a worker has it already when it is read.
        (
            picture(),
            picture(
                waiting={"J": None},
                jobs={"J": job(status="started", sitegenctl_retries="3", retries_left="2", **FRESH)},
            ),
            [],
        ),
        (picture(workers={}), picture(), ["worker-online"]),
        (picture(), picture(workers={}), ["worker-offline"]),
        (picture(), picture(workers={"W": "later"}), ["worker-heartbeat"]),
        (picture(running={"J": "W"}), picture(jobs={"J": None}), []),
    ],
)
def test_events_between_two_readings(before: QueueState, after: QueueState, expected: list[str]) -> None:
    assert kinds(before, after) == expected
