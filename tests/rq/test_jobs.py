"""What a job in Redis says of itself, and what is concluded of who has it: pure decisions, on values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sitegenctl.adapters.rq_events import Picture, differences
from sitegenctl.adapters.rq_job import FIELDS, Job, Place, decode, read_call
from sitegenctl.adapters.rq_workers import _FIELDS, Record, Records, roll_call
from sitegenctl.domain.task import ForeignMessage, LiveTask, TaskState
from tests.rq_world import JOB

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUEUE = "site_generation"


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
        ("", None),
        ("'42'", None),
        ("-1", None),
        ("0", None),
        ("42.0", None),
        ("99999999999", None),
        ("9223372036854775808", None),  # no order has such a number
        ("42, resume=1", None),
        ("42, resume=True, force=True", None),
        ("__import__('os').system('true')", None),
        ("٤٢", None),
    ],
)
def test_the_order_is_read_from_rq_s_own_description_of_the_call_alone(arguments: str, order_id: int | None) -> None:
    call = read_call(f"{JOB}({arguments})")
    assert call is not None
    assert (call.function, call.order_id) == (JOB, order_id)


@pytest.mark.parametrize(
    "text", ["", "make order 42", f"{JOB}(42", f" {JOB}(42)", f"{JOB}(42) ", "9f(42)", "f(" + "x" * 600 + ")"]
)
def test_what_is_no_call_is_none(text: str) -> None:
    assert read_call(text) is None


@given(st.text(max_size=80))
def test_whatever_a_description_says_it_is_read_without_being_run(text: str) -> None:
    for description in (text, f"{JOB}({text})"):
        call = read_call(description)
        assert call is None or call.order_id is None or 0 < call.order_id < 2**63


def test_what_we_wrote_beside_it_counts_more_than_the_description() -> None:
    written = job(description="a site", sitegenctl_order_id="7", sitegenctl_actor="ana@crm")
    task = decode("J", written, Place(TaskState.QUEUED, None, 3), task=JOB)
    assert isinstance(task, LiveTask)
    assert (task.order_id, task.actor, task.position) == (7, "ana@crm", 3)
    odd = decode("J", job(sitegenctl_order_id="7; 8"), Place(TaskState.QUEUED), task=JOB)
    assert isinstance(odd, LiveTask)
    assert odd.order_id is None


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (None, "nothing"),
        (job(description="app.other.job(42)"), "app.other.job"),
        (job(description="make order 42"), "undecodable"),
    ],
)
def test_what_is_not_ours_is_shown_as_what_it_is(found: Job | None, name: str) -> None:
    item = decode("J", found, Place(TaskState.QUEUED, None, 0), task=JOB)
    assert isinstance(item, ForeignMessage)
    assert (item.name, item.task_id, item.position) == (name, "J", 0)


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


# --- who has what ---------------------------------------------------------------------------------------------


def worker(name: str = "W", *jobs: str, connected: bool = True, seconds_ago: float = 300, **fields: str) -> Record:
    sign = f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%S.%fZ}"
    known = {"birth": sign, "last_heartbeat": sign, "state": "busy" if jobs else "idle", "queues": QUEUE, **fields}
    return Record(name=name, fields={**dict.fromkeys(_FIELDS, ""), **known}, is_connected=connected, jobs=tuple(jobs))


def records(
    *workers: Record, started: dict[str, float] | None = None, taken: tuple[str, ...] = (), **jobs: Job
) -> Records:
    """``started`` is by how many seconds each job's next heartbeat is still to come."""
    entries = {
        job_id: ((job_id.encode(), str(NOW.timestamp() + left).encode()),) for job_id, left in (started or {}).items()
    }
    return Records(now=NOW, workers=workers, started=entries, taken=taken, jobs=jobs)


STARTED = job(status="started", worker_name="W", created_at="2026-01-01T11:00:00.000000Z")
#: A record that has expired, or was never there.
NO_RECORD: dict[str, Any] = {"birth": "", "last_heartbeat": "", "state": "", "queues": ""}


def test_a_connected_worker_has_what_it_says_it_has() -> None:
    call = roll_call(records(worker("W", "J"), started={"J": 60}, J=STARTED), QUEUE)
    assert (call.running, call.silent, call.holders("J")) == ({"W": ["J"]}, 0, [("W", TaskState.RUNNING)])


@pytest.mark.parametrize(
    ("seen", "left", "silent"),
    [
        (worker("W", "J"), -1, 1),  # it is connected, and doesn't renew its promise: it hangs
        (worker("W", "J", connected=False), 60, 1),  # it has lost Redis, or has just died
        (worker("W", "J", connected=False), -1, 0),  # it is gone: the job is nobody's
        (worker("W", "J", death="2026-01-01T11:59:00.000000Z"), -1, 0),
        (worker("W", connected=False), -1, 0),  # a record that has not expired yet
        (worker("W", **NO_RECORD), -1, 1),  # its record has expired, and it, or what it began, is connected
        (worker("V", **NO_RECORD), -1, 0),  # likewise, and the job is another's
    ],
)
def test_who_can_t_be_believed_is_silent_and_who_is_gone_is_not(seen: Record, left: float, silent: int) -> None:
    call = roll_call(records(seen, started={"J": left}, J=STARTED), QUEUE)
    assert (call.living, call.holders("J"), call.silent) == ({}, [], silent)


@pytest.mark.parametrize(
    ("began", "timeout", "silent"), [("11:55:00", "600", 1), ("11:48:00", "600", 0), ("01:00:00", "-1", 1)]
)
def test_what_a_killed_worker_left_behind_may_run_its_job_no_longer_than_that_may_take(
    began: str, timeout: str, silent: int
) -> None:
    job_of_w = job(status="started", worker_name="W", started_at=f"2026-01-01T{began}.000000Z", timeout=timeout)
    call = roll_call(records(worker("W", **NO_RECORD), started={"J": -1}, J=job_of_w), QUEUE)
    assert call.silent == silent


def test_a_job_that_ended_while_it_was_looked_is_nobody_s_silence() -> None:
    call = roll_call(records(worker(), started={"J": 60}, J=job(status="finished")), QUEUE)
    assert (call.silent, list(call.living)) == (0, ["W"])


def test_a_busy_worker_that_names_no_job_yet_has_the_one_that_just_began() -> None:
    call = roll_call(records(worker(state="busy"), worker("X"), started={"J": 60}, J=STARTED), QUEUE)
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
def test_a_job_on_its_way_may_be_at_who_gave_a_sign_of_life_since(
    seen: Record, created: str, holders: list[str]
) -> None:
    taken = job(created_at=f"2026-01-01T{created}.000000Z")
    call = roll_call(records(seen, taken=("J",), J=taken), QUEUE)
    assert call.holders("J") == [(name, TaskState.RESERVED) for name in holders]
    assert call.silent == 0


# --- what has happened ----------------------------------------------------------------------------------------


def picture(**given: Any) -> Picture:
    nothing: dict[str, Any] = {
        "now": NOW,
        "nobody": False,
        "waiting": {},
        "running": {},
        "ended": frozenset(),
        "workers": {"W": "now"},
        "jobs": {},
    }
    return Picture(**{**nothing, **given})


def kinds(before: Picture, after: Picture) -> list[str]:
    return [fields["type"] for fields in differences(before, after, JOB)]


FRESH = {"created_at": "2026-01-01T12:00:00.000000Z"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (picture(), picture(waiting={"J": None}, jobs={"J": job(**FRESH)}), ["task-sent"]),
        # It was there before, behind those that are looked at.
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
def test_what_happened_between_two_looks(before: Picture, after: Picture, expected: list[str]) -> None:
    assert kinds(before, after) == expected
