from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import JournalEntry, LogRow, Onboarding, OrderStatus
from sitegenctl.domain.orders.run import backoff
from sitegenctl.domain.plans.cancel import plan_cancel, plan_purge
from sitegenctl.domain.plans.enqueue import plan_enqueue, plan_retry, plan_start
from sitegenctl.domain.plans.fix import fix_obstacle, plan_fix
from sitegenctl.domain.plans.guards import waits
from sitegenctl.domain.plans.maintenance import Maintenance, MaintenanceStep, StepReport
from sitegenctl.domain.plans.plan import Action, Obstacle, OperationResult, Outcome, OutcomeKind, Plan
from sitegenctl.domain.plans.repair import RepairFacts, RepairOptions, furthest, plan_repair
from sitegenctl.domain.plans.reset import ResetOptions, plan_reset, plan_reset_empty
from sitegenctl.domain.queue.task import BrokerReading, ForeignMessage, LiveTask, TaskState
from sitegenctl.render.command import hint_text
from tests.support.values import NOW, order, snapshot, task

GENERATING, BUILDING, REVIEW = OrderStatus.GENERATING, OrderStatus.BUILDING, OrderStatus.REVIEW


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"new-{next(numbers)}"


def only(plan: Plan) -> object:
    (decision,) = (*plan.steps, *plan.left_alone)
    return decision


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_cancel_holds_the_order_and_revokes_its_tasks(status: OrderStatus) -> None:
    tasks = (task(TaskState.QUEUED), task(TaskState.SCHEDULED, "t2"))
    (step,) = plan_cancel(snapshot(order(42, status), tasks=tasks), [42], terminate=False).steps
    assert (step.action, step.after, step.revoke, step.publish) == (Action.CANCEL, BUILDING, tasks, None)


def test_a_running_task_is_cancelled_only_with_terminate() -> None:
    observed = snapshot(order(), tasks=(task(TaskState.RUNNING),))
    refused = only(plan_cancel(observed, [42], terminate=False))
    assert (refused.outcome, refused.hint) == (OutcomeKind.REFUSED, "--terminate stops a running task")
    (step,) = plan_cancel(observed, [42], terminate=True).steps
    assert (step.terminate, step.last_log_id) == (True, None)  # its log goes on while it is being stopped


def test_cancel_revokes_a_stray_task_of_a_finished_order() -> None:
    (step,) = plan_cancel(snapshot(order(42, REVIEW), tasks=(task(TaskState.QUEUED),)), [42], terminate=False).steps
    assert (step.after, len(step.revoke)) == (None, 1)


def test_cancel_revokes_the_task_of_a_missing_order() -> None:
    (step,) = plan_cancel(snapshot(tasks=(task(TaskState.QUEUED),)), [42], terminate=False).steps
    assert (step.before, step.after) == (None, None)
    refused = only(plan_cancel(snapshot(), [42], terminate=False))
    assert refused.outcome is OutcomeKind.REFUSED


@pytest.mark.parametrize(
    ("observed", "kind"),
    [
        (snapshot(order(42, REVIEW)), OutcomeKind.SKIPPED),
        (snapshot(order(42, BUILDING, "OPERATOR_CANCEL")), OutcomeKind.SKIPPED),
        (snapshot(order(42, None)), OutcomeKind.REFUSED),
        (snapshot(order(), tasks=(task(TaskState.UNACCOUNTED),)), OutcomeKind.REFUSED),
    ],
)
def test_orders_that_are_not_cancelled(observed: Snapshot, kind: OutcomeKind) -> None:
    decision = only(plan_cancel(observed, [42], terminate=True))
    assert decision.outcome is kind


def test_purge_cancels_waiting_tasks_and_spares_those_at_workers() -> None:
    tasks = (
        task(TaskState.RUNNING, "r", 1),
        task(TaskState.QUEUED, "a", 2, position=0),
        task(TaskState.QUEUED, "b", 3, position=1),
        task(TaskState.RESERVED, "c", 3),
        task(TaskState.QUEUED, "g", 9, position=2),
    )
    foreign = (ForeignMessage(name="beat", reason="another task", state=TaskState.QUEUED),)
    plan = plan_purge(snapshot(order(1), order(2), order(3), tasks=tasks, reading=BrokerReading(foreign=foreign)))
    assert {step.order_id: step.after for step in plan.steps} == {2: BUILDING, 9: None}
    assert [outcome.order_id for outcome in plan.left_alone] == [3]


def reset(observed: Snapshot, **options: bool) -> Plan:
    return plan_reset(observed, [42], ResetOptions(**options), new_task_id=ids())


def test_reset_publishes_a_task_without_resume() -> None:
    (step,) = reset(snapshot(order(42, REVIEW), files=8)).steps
    assert (step.after, step.publish, step.resume, step.trash) == (GENERATING, "new-1", False, True)
    (step,) = reset(snapshot(order(42, REVIEW)), enqueue=False).steps
    assert (step.after, step.publish) == (BUILDING, None)


def test_uncounted_files_refuse_a_reset_unless_kept() -> None:
    observed = snapshot(order(42, REVIEW), files=None)
    assert not reset(observed).steps
    assert reset(observed, keep_files=True).steps


def test_a_blocked_order_can_only_be_set_back() -> None:
    observed = snapshot(order(onboarding=Onboarding.MISSING))
    assert not reset(observed).steps
    assert reset(observed, enqueue=False).steps


@given(
    files=st.integers(0, 9),
    idle=st.timedeltas(timedelta(0), timedelta(minutes=10)),
    live=st.booleans(),
    status=st.sampled_from(OrderStatus),
    failed=st.booleans(),
    spare=st.booleans(),
)
def test_reset_empty_selects_exactly_empty_orders(
    files: int, idle: timedelta, live: bool, status: OrderStatus, failed: bool, spare: bool
) -> None:
    steps = ("START", "ERROR") if failed else ("START",)
    observed = snapshot(
        order(42, status, *steps, idle=idle), tasks=(task(TaskState.QUEUED),) if live else (), files=files
    )
    plan = plan_reset_empty(
        observed, min_files=5, older_than=timedelta(minutes=5), enqueue=True, spare_failed=spare, new_task_id=ids()
    )
    empty = status is GENERATING and not live and files < 5 and not (spare and failed)
    assert bool(plan.steps) == (empty and idle >= timedelta(minutes=5))
    assert bool(plan.left_alone) == (empty and idle < timedelta(minutes=5))


def test_backoff_doubles_and_ends() -> None:
    waits = [backoff(attempts) for attempts in range(12)]
    assert waits[:4] == [timedelta(minutes=m) for m in (2, 2, 4, 8)]
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=2)


def test_limited_plan_counts_orders_beyond_the_limit() -> None:
    plan = plan_start(snapshot(*(order(n, BUILDING) for n in range(1, 6))), new_task_id=ids()).limited(2)
    assert ([step.order_id for step in plan.steps], plan.order_ids, plan.beyond) == ([1, 2], [1, 2], 3)
    assert plan.limited(None) is plan


@pytest.mark.parametrize(
    ("steps", "resume"),
    [
        (("START", "SUCCESS", "OPERATOR_RESET"), False),
        (("OPERATOR_RESET", "START"), True),
        (("START", "SUCCESS", "OPERATOR_RESET", "OPERATOR_RESET_FAILED"), True),
        (("START",), True),
    ],
)
def test_reset_order_without_a_run_resumes_nothing(steps: tuple[str, ...], resume: bool) -> None:
    observed = snapshot(order(42, BUILDING, *steps))
    plans = (
        plan_start(observed, new_task_id=ids()),
        plan_enqueue(observed, [42], resume=True, force=False, new_task_id=ids()),
    )
    assert [step.resume for plan in plans for step in plan.steps] == [resume, resume]


def test_order_without_a_failed_run_is_not_retried() -> None:
    observed = snapshot(order(1, GENERATING, "START"), order(2, BUILDING, "START", "ERROR"), order(3, GENERATING))
    plan = plan_retry(observed, max_attempts=3, match=None, older_than=timedelta(0), force=True, new_task_id=ids())
    assert (plan.steps, plan.left_alone) == ([], [])


def repair(
    observed: Snapshot, *, named: list[int] | None = None, facts: RepairFacts | None = None, **options: object
) -> Plan:
    chosen = RepairOptions(**options)
    return plan_repair(observed, chosen, new_task_id=ids(), named=named, facts=facts or RepairFacts())


def _task_id(kept: LiveTask | None) -> str | None:
    return kept.task_id if kept is not None else None


@pytest.mark.parametrize(
    ("status", "tasks", "kept", "requeued", "revoked", "left"),
    [
        (GENERATING, (task(TaskState.QUEUED, "a"), task(TaskState.RUNNING, "b")), "b", None, ["a"], []),
        (GENERATING, (task(TaskState.SCHEDULED, "a"), task(TaskState.RESERVED, "b")), "b", None, ["a"], []),
        (GENERATING, (task(TaskState.ORPHANED, "a"), task(TaskState.QUEUED, "b")), "b", None, ["a"], []),
        (GENERATING, (task(TaskState.RETRYING, "a"), task(TaskState.SCHEDULED, "b")), "b", None, ["a"], []),
        # The next of two queued ones.
        (
            GENERATING,
            (task(TaskState.QUEUED, "a", position=5), task(TaskState.QUEUED, "b", position=2)),
            *("b", None, ["a"], []),
        ),
        # A waiting copy of two running ones, which must not be stopped.
        (
            GENERATING,
            (task(TaskState.RUNNING, "a"), task(TaskState.RUNNING, "b"), task(TaskState.QUEUED, "c", position=0)),
            *("b", None, ["c"], ["a"]),
        ),
        (GENERATING, (task(TaskState.ORPHANED, "a"), task(TaskState.ORPHANED, "b")), None, "a", ["b"], []),
        # Two ghosts.
        (
            OrderStatus.CANCELLED,
            (task(TaskState.QUEUED, "a"), task(TaskState.QUEUED, "b")),
            *(None, None, ["a", "b"], []),
        ),
    ],
)
def test_one_of_several_tasks_is_kept(
    status: OrderStatus,
    tasks: tuple[LiveTask, ...],
    kept: str | None,
    requeued: str | None,
    revoked: list[str],
    left: list[str],
) -> None:
    (step,) = repair(snapshot(order(42, status), tasks=tasks)).steps
    assert (_task_id(step.keep), _task_id(step.requeue), step.after) == (kept, requeued, None)
    assert ([each.task_id for each in step.revoke], [each.task_id for each in step.leave]) == (revoked, left)
    assert [f"task {task_id} left (running)" in step.details for task_id in left] == [True] * len(left)


def test_queued_copy_of_a_running_task_is_revoked() -> None:
    tasks = (task(TaskState.RUNNING, "a", worker="w1"), task(TaskState.QUEUED, "a", position=3))
    observed = snapshot(order(), tasks=tasks)
    assert observed.diagnose(42).condition is Condition.DUPLICATED
    (step,) = repair(observed).steps
    assert (step.keep, step.revoke) == (tasks[0], tasks[1:])


@pytest.mark.parametrize(
    ("age", "task_id", "kind"),
    [
        (timedelta(seconds=19), "t1", Action.REPAIR),
        (timedelta(seconds=21), "t1", OutcomeKind.SKIPPED),  # before the restart: its worker may come back with it
        (None, "t1", OutcomeKind.SKIPPED),
        (timedelta(seconds=19), None, OutcomeKind.SKIPPED),
    ],
)
def test_order_enqueued_since_redis_restarted_is_repaired(
    age: timedelta | None, task_id: str | None, kind: Action | OutcomeKind
) -> None:
    journal = JournalEntry(step="OPERATOR_ENQUEUE", task_id=task_id, age=age)
    restarted = BrokerReading(uptime=timedelta(seconds=20), reconnect_time=timedelta(seconds=32))
    observed = snapshot(order(42, GENERATING, "OPERATOR_ENQUEUE", journal=journal), reading=restarted)
    decision = only(repair(observed))
    assert (decision.outcome if isinstance(decision, Outcome) else decision.action) is kind


def test_two_running_tasks_need_terminate() -> None:
    observed = snapshot(order(), tasks=(task(TaskState.RUNNING, "a"), task(TaskState.RUNNING, "b")))
    refused = only(repair(observed))
    assert refused.outcome is OutcomeKind.REFUSED
    (step,) = repair(observed, terminate=True).steps
    assert [t.task_id for t in step.revoke] == ["a"]


def test_ghost_is_revoked_unless_it_runs() -> None:
    (step,) = repair(snapshot(order(42, REVIEW), tasks=(task(TaskState.QUEUED),))).steps
    assert (step.after, len(step.revoke), step.publish) == (None, 1, None)
    left = only(repair(snapshot(order(42, REVIEW), tasks=(task(TaskState.RUNNING),))))
    assert left.outcome is OutcomeKind.SKIPPED


def test_journaled_task_is_published_under_its_id() -> None:
    promised = JournalEntry(step="OPERATOR_RESET", task_id="promised", resume=False)
    observed = snapshot(order(42, GENERATING, "START", "OPERATOR_RESET", journal=promised))
    (step,) = repair(observed).steps
    assert (step.publish, step.resume, step.last_log_id) == ("promised", False, 7)


@pytest.mark.parametrize(
    "journal",
    [
        None,
        JournalEntry(step="OPERATOR_ENQUEUE_FAILED", task_id="x"),
        JournalEntry(step="OPERATOR_CANCEL", task_id="x"),
    ],
)
def test_without_a_journaled_task_a_new_one_is_published(journal: JournalEntry | None) -> None:
    (step,) = repair(snapshot(order(42, GENERATING, journal=journal))).steps
    assert step.publish == "new-1"


def test_cut_short_run_with_files_resumes_under_a_new_id() -> None:
    journal = JournalEntry(step="OPERATOR_ENQUEUE", task_id="old", resume=False)
    observed = snapshot(order(42, GENERATING, "OPERATOR_ENQUEUE", "START", journal=journal), files=8)
    (step,) = repair(observed).steps
    assert (step.publish, step.resume) == ("new-1", True)


def test_only_selected_conditions_are_repaired() -> None:
    observed = snapshot(order(1), order(2, REVIEW), tasks=(task(TaskState.QUEUED, "g", 2),))
    assert [step.order_id for step in repair(observed).steps] == [1, 2]
    assert [step.order_id for step in repair(observed, only=frozenset({Condition.GHOST})).steps] == [2]


CUT_SHORT = ("START",) * 3


@pytest.mark.parametrize(("max_attempts", "begun"), [(None, True), (4, True), (3, False)])
def test_cut_short_order_has_limited_attempts(max_attempts: int | None, begun: bool) -> None:
    orphaned = snapshot(order(42, GENERATING, *CUT_SHORT), tasks=(task(TaskState.ORPHANED),))
    plans = [
        repair(snapshot(order(42, GENERATING, *CUT_SHORT), files=8), max_attempts=max_attempts),
        repair(orphaned, max_attempts=max_attempts),
        plan_reset_empty(
            snapshot(order(42, GENERATING, *CUT_SHORT)),
            min_files=5,
            older_than=timedelta(0),
            enqueue=True,
            spare_failed=True,
            max_attempts=max_attempts,
            new_task_id=ids(),
        ),
    ]
    for plan in plans:
        assert bool(plan.steps) == begun
        assert [(o.outcome, o.reason) for o in plan.left_alone] == (
            [] if begun else [(OutcomeKind.SKIPPED, "attempts exhausted (3 of 3)")]
        )


def test_journaled_task_is_published_despite_exhausted_attempts() -> None:
    promised = JournalEntry(step="OPERATOR_ENQUEUE", task_id="promised")
    observed = snapshot(order(42, GENERATING, *CUT_SHORT, "OPERATOR_ENQUEUE", journal=promised))
    assert [step.publish for step in repair(observed, max_attempts=3).steps] == ["promised"]


@pytest.mark.parametrize("kept", [TaskState.QUEUED, TaskState.RESERVED, TaskState.RUNNING, TaskState.ORPHANED])
def test_building_order_that_keeps_a_task_becomes_generating(kept: TaskState) -> None:
    tasks = (task(kept, "a", position=0), task(TaskState.SCHEDULED if kept is not TaskState.ORPHANED else kept, "b"))
    (step,) = repair(snapshot(order(42, BUILDING), tasks=tasks)).steps
    assert (step.before, step.after) == (BUILDING, GENERATING)


UNTIL = NOW + timedelta(minutes=5)


def test_unaccounted_task_is_refused_if_named() -> None:
    observed = snapshot(order(), tasks=(task(TaskState.UNACCOUNTED, until=UNTIL),))
    assert repair(observed) == Plan(command="repair", order_ids=[], steps=[], left_alone=[], named=False)
    refused = only(repair(observed, named=[42]))
    assert refused.outcome is OutcomeKind.REFUSED
    assert "--worker-dead" in (hint_text(refused.hint) or "")


def test_worker_dead_requeues_an_unaccounted_task_at_once() -> None:
    observed = snapshot(order(idle=timedelta(0)), tasks=(task(TaskState.UNACCOUNTED, until=UNTIL),))
    (step,) = repair(observed, named=[42], worker_dead=True).steps
    assert (step.requeue and step.requeue.task_id, step.worker_dead) == ("t1", True)


@pytest.mark.parametrize("status", [OrderStatus.CANCELLED, REVIEW, OrderStatus.DELIVERED])
def test_worker_dead_requeues_nothing_that_must_not_be_generated(status: OrderStatus) -> None:
    observed = snapshot(order(42, status), tasks=(task(TaskState.UNACCOUNTED, until=UNTIL),))
    (step,) = repair(observed, named=[42], worker_dead=True).steps
    assert (step.requeue, step.publish, [each.task_id for each in step.revoke]) == (None, None, ["t1"])


def test_orphan_waits_after_a_redis_restart_unless_worker_dead() -> None:
    observed = snapshot(order(), tasks=(task(TaskState.ORPHANED, until=NOW + timedelta(seconds=9)),))
    left = only(repair(observed))
    assert (left.outcome, left.hint, left.obstacle) == (OutcomeKind.SKIPPED, "re-check in 9s", None)
    assert repair(observed, named=[42], worker_dead=True).steps


@pytest.mark.parametrize("status", [GENERATING, REVIEW])
@pytest.mark.parametrize("command", ["cancel", "reset"])
def test_orphan_is_kept_while_its_worker_may_reconnect(command: str, status: OrderStatus) -> None:
    def plan(until: datetime | None) -> Plan:
        observed = snapshot(order(42, status), tasks=(task(TaskState.ORPHANED, until=until),))
        if command == "cancel":
            return plan_cancel(observed, [42], terminate=True)
        return plan_reset(observed, [42], ResetOptions(terminate=True, force=True), new_task_id=ids())

    refused = only(plan(NOW + timedelta(seconds=9)))
    assert (refused.outcome, refused.hint) == (OutcomeKind.REFUSED, "re-check in 9s")
    assert plan(None).steps


@pytest.mark.parametrize("until", [None, NOW + timedelta(seconds=9)])
def test_one_of_two_orphans_is_requeued_like_a_single_one(until: datetime | None) -> None:
    tasks = tuple(task(TaskState.ORPHANED, task_id, until=until) for task_id in ("a", "b"))
    fresh = snapshot(order(idle=timedelta(seconds=1)), tasks=tasks)
    assert not repair(fresh, patience=timedelta(minutes=2)).steps
    (step,) = repair(fresh, named=[42], patience=timedelta(minutes=2), worker_dead=True).steps
    assert (step.requeue and step.requeue.task_id, step.last_log_id) == ("a", 7)
    assert [each.task_id for each in step.revoke] == ["b"]
    assert bool(repair(snapshot(order(), tasks=tasks)).steps) is (until is None)


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_worker_dead_restarts_a_run_without_a_trace(status: OrderStatus) -> None:
    observed = snapshot(order(42, status, "START"), files=8, possible={42: UNTIL})
    assert only(repair(observed, named=[42])).outcome is OutcomeKind.REFUSED
    (step,) = repair(observed, named=[42], worker_dead=True).steps
    assert (step.publish, step.after) == ("new-1", GENERATING)


def test_copy_waiting_beside_an_unaccounted_task_is_revoked() -> None:
    tasks = (task(TaskState.UNACCOUNTED, "a", until=UNTIL), task(TaskState.QUEUED, "b", position=0))
    (step,) = repair(snapshot(order(), tasks=tasks)).steps
    assert (step.keep, step.revoke) == (tasks[0], tasks[1:])


@pytest.mark.parametrize("state", [TaskState.ORPHANED, None])
def test_unusable_id_is_replaced_by_a_new_one(state: TaskState | None) -> None:
    promised = JournalEntry(step="OPERATOR_ENQUEUE", task_id="t1", resume=False)
    tasks = (task(state),) if state is not None else ()
    facts = RepairFacts(unusable={"t1": "its result is REVOKED already"})
    (step,) = repair(snapshot(order(journal=promised), tasks=tasks), facts=facts).steps
    assert (step.publish, step.requeue, step.after) == ("new-1", None, GENERATING)
    assert [t.task_id for t in step.revoke] == [t.task_id for t in tasks]
    assert "its result is REVOKED already" in step.description


@pytest.mark.parametrize(
    ("facts", "authoritative", "named", "removed"),
    [
        ({"enqueued_at": NOW - timedelta(hours=1)}, True, False, True),
        ({"enqueued_at": NOW - timedelta(seconds=1)}, True, False, False),
        ({"enqueued_at": None}, True, False, False),
        ({"enqueued_at": None}, True, True, True),
        ({"enqueued_at": None, "delivered_at": NOW - timedelta(hours=1)}, True, False, True),
        ({"enqueued_at": NOW - timedelta(hours=1)}, False, False, False),
        ({"enqueued_at": NOW - timedelta(hours=1)}, False, True, False),
    ],
)
def test_task_of_a_possibly_missing_order_stays(
    facts: dict[str, object], authoritative: bool, named: bool, removed: bool
) -> None:
    observed = snapshot(tasks=(task(TaskState.QUEUED, position=0, **facts),), authoritative=authoritative)
    known = RepairFacts(missing={42} if named and authoritative else ())
    assert bool(repair(observed, named=[42] if named else None, facts=known).steps) is removed


@pytest.mark.parametrize("authoritative", [True, False])
def test_both_tasks_of_a_possibly_missing_order_stay(authoritative: bool) -> None:
    new = {"enqueued_at": NOW if authoritative else NOW - timedelta(hours=1)}
    tasks = tuple(task(TaskState.QUEUED, position=place, **new) for place in range(2))
    observed = snapshot(tasks=tasks, authoritative=authoritative)
    assert not repair(observed).steps
    assert not plan_fix(observed, new_task_id=ids()).steps


@pytest.mark.parametrize("command", ["enqueue", "reset", "reset-empty", "start", "retry", "repair", "cancel"])
@pytest.mark.parametrize("doubt", ["unattributed", "possible", "lock"])
def test_order_with_a_possibly_live_task_gets_no_other(command: str, doubt: str) -> None:
    status = BUILDING if command == "start" else GENERATING
    steps = ("START", "ERROR") if command == "retry" else ()
    message = ForeignMessage(name="generate", reason="unreadable", state=TaskState.QUEUED, may_be_ours=True)
    facts: dict[str, object] = {}
    if doubt == "unattributed":
        facts = {"reading": BrokerReading(foreign=(message,))}
    elif doubt == "possible":
        facts = {"possible": {42: UNTIL}}
    observed = snapshot(order(42, status, *steps, run_lock_held=doubt == "lock"), **facts)
    new = ids()
    plan = {
        "enqueue": lambda: plan_enqueue(observed, [42], resume=True, force=True, new_task_id=new),
        "reset": lambda: plan_reset(observed, [42], ResetOptions(terminate=True, force=True), new_task_id=new),
        "reset-empty": lambda: plan_reset_empty(
            observed, min_files=5, older_than=timedelta(0), enqueue=True, spare_failed=False, new_task_id=new
        ),
        "start": lambda: plan_start(observed, new_task_id=new),
        "retry": lambda: plan_retry(
            observed, max_attempts=3, match=None, older_than=timedelta(0), force=True, new_task_id=new
        ),
        "repair": lambda: repair(observed, named=[42]),
        "cancel": lambda: plan_cancel(observed, [42], terminate=True),
    }[command]()
    assert plan.steps == []
    assert len(plan.left_alone) == 1


def log(*rows: tuple[str, str | None]) -> list[LogRow]:
    return [
        LogRow(
            log_id=number,
            order_id=42,
            step=step,
            message="",
            status="info",
            created_at=None,
            details={"task_id": task_id} if task_id else None,
        )
        for number, (step, task_id) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        # Where the log names tasks, the one that is furthest.
        ([("START", "a"), ("START", "b"), ("PHASE_1_START", "a"), ("WRITE_FILES", "b")], "b"),
        ([("START", "b"), ("START", "a"), ("PHASE_1_START", "b"), ("WRITE_FILES", "a")], "a"),
        # A run that begins clears away what the other one had written.
        ([("START", "a"), ("WRITE_COMPLETE", "a"), ("START", "b"), ("PHASE_1_START", "b")], "b"),
        ([("START", "a"), ("WRITE_COMPLETE", "a"), ("RESUME", "b"), ("CLEANUP", "b")], "b"),
        # The log names one of them only.
        ([("START", "a")], "a"),
        # Where it names none, the run that began last owns the folder.
        ([("START", None), ("START", None)], "b"),
        ([], "b"),
    ],
)
def test_furthest_running_task_with_its_files_is_kept(rows: list[tuple[str, str | None]], kept: str) -> None:
    tasks = (
        task(TaskState.RUNNING, "a", started_at=NOW - timedelta(seconds=9)),
        task(TaskState.RUNNING, "b", started_at=NOW - timedelta(seconds=5)),
    )
    assert furthest(tasks, log(*rows)).task_id == kept
    (step,) = repair(snapshot(order(), tasks=tasks), terminate=True, facts=RepairFacts(logs={42: log(*rows)})).steps
    assert step.keep.task_id == kept


def test_running_task_of_a_cancelled_order_reports_its_effect() -> None:
    left = only(repair(snapshot(order(42, OrderStatus.CANCELLED), tasks=(task(TaskState.RUNNING),))))
    assert left.obstacle is Obstacle.RUNNING
    assert "sets the order to REVIEW" in left.reason
    assert hint_text(left.hint) == "sitegenctl cancel 42 --terminate"


def test_named_orders_are_skipped_or_refused_with_a_reason() -> None:
    plan = repair(snapshot(order(1, REVIEW)), named=[1, 2])
    assert [(o.order_id, o.outcome) for o in plan.left_alone] == [(1, OutcomeKind.SKIPPED), (2, OutcomeKind.REFUSED)]


def test_each_order_gets_its_own_fix() -> None:
    observed = snapshot(
        order(1, GENERATING),  # interrupted
        order(2, BUILDING),  # unstarted
        order(3, GENERATING, "START", "ERROR"),  # failed
        order(4, GENERATING, "START"),  # empty
        order(5, REVIEW),  # hollow
        order(6, OrderStatus.PAID),  # waiting
        order(7, GENERATING, *("START", "ERROR") * 3),  # attempts exhausted
        order(8, BUILDING, "OPERATOR_CANCEL"),  # held
        tasks=(task(TaskState.QUEUED, "q", 9, position=0),),
        check_hollow=True,
    )
    plan = plan_fix(observed, new_task_id=ids())
    actions = {step.order_id: step.action for step in plan.steps}
    assert actions == {
        1: Action.REPAIR,
        2: Action.ENQUEUE,
        3: Action.ENQUEUE,
        4: Action.RESET,
        5: Action.RESET,
        9: Action.REPAIR,
    }
    assert [(o.order_id, o.obstacle) for o in plan.left_alone] == [(7, Obstacle.ATTEMPTS_EXHAUSTED)]


def test_finished_orders_are_reset_only_when_hollow() -> None:
    observed = snapshot(*(order(number, REVIEW) for number in range(1, 48)), files=8, check_hollow=True)
    assert plan_fix(observed, range(1, 48), new_task_id=ids()).steps == []


LATER = NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("observed", "why"),
    [
        (snapshot(order(1, GENERATING)), None),
        (snapshot(order(1, REVIEW), check_hollow=True), None),
        (snapshot(order(1, GENERATING, *("START", "ERROR") * 3)), "attempts exhausted (3 of 3)"),
        (snapshot(order(1, onboarding=Onboarding.MISSING)), "has no onboarding"),
        (snapshot(order(1, None)), "its status is NULL"),
        (snapshot(order(1), tasks=(task(TaskState.UNACCOUNTED, "t", 1, until=LATER),)), "it is unknown until "),
        (snapshot(order(1, GENERATING, "START"), possible={1: LATER}), "it is unknown until "),
        (snapshot(order(1, GENERATING, "START"), possible={1: None}), "no task is left, but its run has no outcome"),
        (snapshot(order(1, OrderStatus.CANCELLED), tasks=(task(TaskState.RUNNING, "t", 1),)), "task t running"),
        (snapshot(order(1), tasks=(task(TaskState.RUNNING, "a", 1), task(TaskState.RUNNING, "b", 1))), "task "),
        (snapshot(order(1), tasks=(task(TaskState.QUEUED, "t", 1, position=0),)), "it is queued, and needs no fix"),
        (snapshot(order(1, BUILDING, "OPERATOR_CANCEL")), "it is on hold; enqueue starts it again"),
        (snapshot(order(1, idle=timedelta(seconds=5))), "it changed a moment ago"),
        (snapshot(order(1, REVIEW)), "it is done, and needs no fix"),
        (snapshot(), "the database has no such order"),
    ],
)
def test_an_unfixable_order_has_a_reason(observed: Snapshot, why: str | None) -> None:
    obstacle = fix_obstacle(observed, [1])
    if why is None:
        assert obstacle is None
    else:
        assert obstacle.startswith(why)
        assert "\n" not in obstacle


def test_several_unfixable_orders_share_one_line() -> None:
    spent = [order(number, GENERATING, *("START", "ERROR") * 3) for number in (1, 2)]
    observed = snapshot(*spent, order(3, OrderStatus.PAID))
    used_up = "attempts exhausted (3 of 3)"
    assert fix_obstacle(observed, [1, 2]) == f"2 orders: {used_up}"
    assert fix_obstacle(observed, [3, 2, 1]) == f"2 of 3 orders: {used_up}; the others need none, or cannot be fixed"
    assert fix_obstacle(snapshot(*spent, order(3, BUILDING)), [1, 2, 3]) is None


@pytest.mark.parametrize(("finished", "others", "expected"), [(0, 50, None), (5, 50, None), (6, 0, 6), (47, 3, 47)])
@pytest.mark.parametrize("status", [REVIEW, OrderStatus.DELIVERED])
def test_more_than_five_finished_orders_need_their_number(
    status: OrderStatus, finished: int, others: int, expected: int | None
) -> None:
    orders = [order(number, status if number <= finished else GENERATING) for number in range(1, finished + others + 1)]
    plan = plan_reset(
        snapshot(*orders),
        [each.order_id for each in orders],
        new_task_id=ids(),
    )
    assert (len(plan.steps), plan.number_to_type) == (finished + others, expected)


def test_plans_without_finished_resets_need_no_number() -> None:
    tasks = tuple(task(TaskState.QUEUED, f"t{number}", number, position=0) for number in range(1, 10))
    plan = plan_repair(snapshot(*(order(number, REVIEW) for number in range(1, 10)), tasks=tasks), new_task_id=ids())
    assert (len(plan.steps), plan.number_to_type) == (9, None)


_orders = st.builds(
    order,
    st.integers(1, 4),
    st.sampled_from([*OrderStatus, None]),
    onboarding=st.sampled_from(Onboarding),
    idle=st.sampled_from([timedelta(0), timedelta(hours=1), None]),
)
_tasks = st.builds(task, st.sampled_from(TaskState), st.uuids().map(str), st.integers(1, 4))
_snapshots = st.builds(
    lambda orders, tasks, files: snapshot(*orders, tasks=tuple(tasks), files=files),
    st.lists(_orders, max_size=4),
    st.lists(_tasks, max_size=5),
    st.sampled_from([None, 0, 8]),
)


@given(_snapshots, st.booleans())
def test_no_plan_breaks_the_safety_rules(observed: Snapshot, terminate: bool) -> None:
    asked = [1, 2, 3, 4]
    plans = [
        plan_cancel(observed, asked, terminate=terminate),
        plan_purge(observed),
        plan_reset(observed, asked, ResetOptions(terminate=terminate, force=True), new_task_id=ids()),
        plan_repair(observed, RepairOptions(terminate=terminate), new_task_id=ids()),
        plan_repair(observed, RepairOptions(terminate=terminate), new_task_id=ids(), named=asked),
        plan_fix(observed, new_task_id=ids()),
        plan_start(observed, new_task_id=ids()),
        plan_retry(observed, max_attempts=3, match=None, older_than=timedelta(0), force=True, new_task_id=ids()),
        plan_reset_empty(
            observed, min_files=5, older_than=timedelta(0), enqueue=True, spare_failed=False, new_task_id=ids()
        ),
    ]
    for plan in plans:
        answered = [*(step.order_id for step in plan.steps), *(outcome.order_id for outcome in plan.left_alone)]
        assert sorted(answered) == sorted(plan.order_ids), plan.command
        if plan.command == "fix":
            # ``fix`` skips exactly the orders that have an obstacle.
            assert (fix_obstacle(observed, asked) is None) is any(step.order_id in asked for step in plan.steps)
        for step in plan.steps:
            left = [t for t in observed.tasks_of(step.order_id) if t not in step.revoke]
            # Never a second task beside a live one, never a running one stopped unasked, never a guess.
            assert step.publish is None or not left, plan.command
            assert terminate or all(t.state is not TaskState.RUNNING for t in step.revoke), plan.command
            assert not any(t.is_unaccounted for t in step.revoke), plan.command
            # A finished order is moved by nothing but a reset.
            finished = step.before is not None and step.before.is_finished
            assert not finished or step.action is Action.RESET or step.after is None, plan.command
            if step.trash:
                assert step.action is Action.RESET
                assert step.order_id in observed.files


def report(*kinds: OutcomeKind, left_out: str | None = None, pruned: int = 0) -> StepReport:
    outcomes = [Outcome(order_id=n, outcome=kind, reason="r") for n, kind in enumerate(kinds)]
    result = OperationResult(command="repair", dry_run=False, outcomes=outcomes)
    return StepReport(step=MaintenanceStep.REPAIR, result=result, left_out=left_out, pruned=pruned)


@pytest.mark.parametrize(
    ("reports", "code", "quiet"),
    [
        ([], 0, True),
        ([report(OutcomeKind.SKIPPED, OutcomeKind.REFUSED)], 0, True),
        ([report(OutcomeKind.DONE)], 0, False),
        ([report(OutcomeKind.FAILED, OutcomeKind.REFUSED)], 1, False),
        ([report(OutcomeKind.FAILED), report(left_out="Redis is away")], 3, False),
        ([report(pruned=2)], 0, False),
    ],
)
def test_exit_code_of_a_maintenance_run(reports: list[StepReport], code: int, quiet: bool) -> None:
    run = Maintenance(steps=reports, dry_run=False)
    assert (run.exit_code, run.is_quiet) == (code, quiet)
    assert Maintenance(steps=reports, dry_run=False, interrupted=True).exit_code == 130


def enqueue(observed: Snapshot, *order_ids: int, force: bool = False) -> Plan:
    return plan_enqueue(observed, order_ids, resume=True, force=force, new_task_id=ids())


def test_ready_order_is_enqueued_as_planned() -> None:
    (step,) = enqueue(snapshot(order(42, BUILDING)), 42).steps
    assert (step.order_id, step.before, step.last_log_id, step.resume) == (42, BUILDING, 7, True)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (snapshot(), "no such order"),
        (snapshot(order(42, None)), "NULL"),
        (snapshot(order(42, OrderStatus.CANCELLED)), "CANCELLED"),
        (snapshot(order(42, REVIEW)), "REVIEW"),
        (snapshot(order(42, OrderStatus.DELIVERED)), "DELIVERED"),
        (snapshot(order(42, BUILDING, onboarding=Onboarding.MISSING)), "no onboarding"),
        (snapshot(order(42, OrderStatus.PAID)), "PAID"),
    ],
)
def test_refused_with_the_reason(observed: Snapshot, reason: str) -> None:
    result = enqueue(observed, 42, force=True)
    assert not result.steps
    (outcome,) = result.left_alone
    assert outcome.outcome is OutcomeKind.REFUSED
    assert reason in outcome.reason


INCOMPLETE = "warning: its onboarding is not complete; its site is generated from what there is"


@pytest.mark.parametrize("status", [GENERATING, BUILDING])
def test_incomplete_onboarding_is_a_warning_of_enqueue(status: OrderStatus) -> None:
    (step,) = enqueue(snapshot(order(42, status, onboarding=Onboarding.PARTIAL)), 42).steps
    assert step.details == (INCOMPLETE,)
    (step,) = enqueue(snapshot(order(42, status)), 42).steps
    assert step.details == ()


@pytest.mark.parametrize(
    ("steps", "files", "tasks", "condition"),
    [
        (("START", "ERROR"), 0, (), Condition.FAILED),
        ((), 0, (), Condition.INTERRUPTED),
        (("START",), 3, (), Condition.EMPTY),
        ((), 0, (task(TaskState.ORPHANED),), Condition.ORPHANED),
    ],
)
def test_incomplete_onboarding_is_a_warning_of_every_fix(
    steps: tuple[str, ...], files: int, tasks: tuple[LiveTask, ...], condition: Condition
) -> None:
    partial = order(42, GENERATING, *steps, onboarding=Onboarding.PARTIAL)
    observed = snapshot(partial, files=files, tasks=tasks)
    diagnosis = observed.diagnose(42)
    assert (diagnosis.condition, diagnosis.evidence[-1]) == (condition, INCOMPLETE)
    (step,) = plan_fix(observed, new_task_id=ids()).steps
    assert INCOMPLETE in step.details
    missing = snapshot(replace(partial, onboarding=Onboarding.MISSING), files=files)
    assert missing.diagnose(42).condition is Condition.BLOCKED
    assert not plan_fix(missing, new_task_id=ids()).steps


def test_enqueueing_a_finished_order_hints_at_reset() -> None:
    (outcome,) = enqueue(snapshot(order(42, REVIEW)), 42).left_alone
    assert "reset" in (hint_text(outcome.hint) or "")


@pytest.mark.parametrize("state", list(TaskState))
def test_order_with_a_live_task_is_never_enqueued(state: TaskState) -> None:
    live = task(state, "abc", worker="w1")
    result = enqueue(snapshot(order(42, BUILDING), tasks=(live,)), 42, force=True)
    assert not result.steps
    (outcome,) = result.left_alone
    expected = OutcomeKind.REFUSED if live.is_unaccounted else OutcomeKind.SKIPPED
    assert outcome.outcome is expected
    assert outcome.task_id == "abc"
    assert ("unaccounted" if live.is_unaccounted else state) in outcome.reason


def test_generating_within_grace_is_skipped_unless_forced() -> None:
    fresh = snapshot(order(42, GENERATING, idle=timedelta(seconds=3)))
    (outcome,) = enqueue(fresh, 42).left_alone
    assert outcome.outcome is OutcomeKind.SKIPPED
    assert "--force" in (hint_text(outcome.hint) or "")
    assert len(enqueue(fresh, 42, force=True).steps) == 1


def test_building_order_can_be_enqueued_at_any_time() -> None:
    assert enqueue(snapshot(order(42, BUILDING, idle=timedelta(0))), 42).steps


@given(st.lists(st.integers(1, 30), unique=True), st.sets(st.integers(1, 30)))
def test_every_selected_order_has_one_outcome(asked: list[int], existing: set[int]) -> None:
    result = enqueue(snapshot(*(order(number, BUILDING) for number in existing)), *asked)
    answered = [step.order_id for step in result.steps] + [o.order_id for o in result.left_alone]
    assert sorted(answered) == sorted(asked)
    assert len({step.publish for step in result.steps}) == len(result.steps)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], 0),
        ([OutcomeKind.DONE, OutcomeKind.SKIPPED], 0),
        ([OutcomeKind.DONE, OutcomeKind.REFUSED], 4),
        ([OutcomeKind.REFUSED, OutcomeKind.FAILED], 1),
    ],
)
def test_exit_codes(kinds: list[OutcomeKind], code: int) -> None:
    outcomes = [Outcome(order_id=1, outcome=kind, reason="r") for kind in kinds]
    assert OperationResult(command="enqueue", dry_run=False, outcomes=outcomes).exit_code == code
    interrupted = OperationResult(command="enqueue", dry_run=False, outcomes=outcomes, interrupted=True)
    assert interrupted.exit_code == 130


@pytest.mark.parametrize(
    ("state", "facts", "expected"),
    [
        (TaskState.QUEUED, {"position": 3}, True),
        (TaskState.SCHEDULED, {"position": 3, "eta": NOW}, True),  # Celery's, in the queue and at no worker yet
        (TaskState.SCHEDULED, {"eta": NOW}, True),  # RQ's
        (TaskState.RETRYING, {"eta": NOW}, True),
        (TaskState.SCHEDULED, {}, False),  # it waits for something else than a time
        (TaskState.SCHEDULED, {"eta": NOW, "worker": "celery@a"}, False),
        (TaskState.RUNNING, {"worker": "celery@a"}, False),
        (TaskState.RESERVED, {"worker": "celery@a"}, False),
        (TaskState.UNACKED, {}, False),
        (TaskState.ORPHANED, {}, False),
    ],
)
def test_only_tasks_that_no_worker_holds_wait(state: TaskState, facts: dict[str, object], expected: bool) -> None:
    assert waits(LiveTask(task_id="T", name="generate", order_id=1, state=state, **facts)) is expected
