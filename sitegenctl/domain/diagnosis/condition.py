"""The verdict on an order: its condition, with the evidence for it and what mends it.

The rules stand in their order, one small function each; the first that matches decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sitegenctl.domain.diagnosis.describe import (
    describe_age,
    describe_files,
    describe_task,
    describe_time,
)
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS, RunOutcome
from sitegenctl.domain.orders.site import MIN_SITE_FILES, SiteFiles
from sitegenctl.domain.queue.task import LiveTask, TaskState

DEFAULT_GRACE = timedelta(minutes=2)


class Severity(StrEnum):
    """Whether somebody has to do something."""

    OK = "ok"
    UNKNOWN = "unknown"  # a source did not answer: look there first
    FAULT = "fault"


class Condition(StrEnum):
    """Where an order really is."""

    UNKNOWN = "unknown"  # a source did not respond, something may still be running, or its status is not known
    DUPLICATED = "duplicated"  # two live tasks or more
    GHOST = "ghost"  # a live task for an order that must not be generated
    ORPHANED = "orphaned"  # its task was delivered to a worker that is proven dead
    RUNNING = "running"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    BLOCKED = "blocked"  # GENERATING without a complete onboarding: can't succeed
    SETTLING = "settling"  # moved a moment ago: look again
    FAILED = "failed"  # the last run ended in ERROR
    INTERRUPTED = "interrupted"  # in no one's hands
    EMPTY = "empty"  # the last run was cut short and left (almost) no files
    HELD = "held"  # an operator cancelled it
    UNSTARTED = "unstarted"  # ready, and nobody enqueued it
    WAITING = "waiting"  # for the customer
    HOLLOW = "hollow"  # finished, and its files are not there
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def severity(self) -> Severity:
        """How bad the condition is."""
        if self is Condition.UNKNOWN:
            return Severity.UNKNOWN
        return Severity.FAULT if self in _FAULTS else Severity.OK


_FAULTS = frozenset(
    {
        Condition.DUPLICATED,
        Condition.GHOST,
        Condition.ORPHANED,
        Condition.BLOCKED,
        Condition.FAILED,
        Condition.INTERRUPTED,
        Condition.EMPTY,
        Condition.UNSTARTED,
        Condition.HOLLOW,
    }
)

#: The command that mends every order in a condition, or the person who does; other conditions need nobody.
REMEDIES: Mapping[Condition, str] = {
    Condition.DUPLICATED: "sitegenctl repair --only duplicated",
    Condition.GHOST: "sitegenctl repair --only ghost",
    Condition.ORPHANED: "sitegenctl repair --only orphaned",
    Condition.BLOCKED: "a person must complete the onboarding",
    Condition.FAILED: "sitegenctl retry-failed",
    Condition.INTERRUPTED: "sitegenctl repair --only interrupted",
    Condition.EMPTY: "sitegenctl reset-empty",
    Condition.HELD: "sitegenctl enqueue ORDER",
    Condition.UNSTARTED: "sitegenctl start-stuck",
    Condition.HOLLOW: "sitegenctl reset ORDER",
}

#: The command that mends one order in a condition, and is followed by its number.
REMEDY_OF_ONE: Mapping[Condition, str] = {
    Condition.DUPLICATED: "sitegenctl repair",
    Condition.GHOST: "sitegenctl repair",
    Condition.ORPHANED: "sitegenctl repair",
    Condition.FAILED: "sitegenctl retry-failed",
    Condition.INTERRUPTED: "sitegenctl repair",
    Condition.EMPTY: "sitegenctl reset-empty",
    Condition.HELD: "sitegenctl enqueue",
    Condition.UNSTARTED: "sitegenctl start-stuck",
    Condition.HOLLOW: "sitegenctl reset",
}

#: What the system's beat does to an order that an operator cancelled: it knows nothing of that.
BEAT_WARNING = "its onboarding is complete: the system's beat will start it again"

#: What mends an order whose status is NULL.
NO_STATUS_REMEDY = "a person must set site_orders.status"

_BY_TASK_STATE = {
    TaskState.RUNNING: Condition.RUNNING,
    TaskState.QUEUED: Condition.QUEUED,
    TaskState.RESERVED: Condition.QUEUED,
    TaskState.SCHEDULED: Condition.SCHEDULED,
    TaskState.RETRYING: Condition.RETRYING,
}


class Source(StrEnum):
    """The four places that an order's truth is read from."""

    DATABASE = "database"
    BROKER = "broker"
    WORKERS = "workers"
    FILES = "files"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was seen of one order.

    ``order`` is None when the database has no such order. ``files`` is None when they were not, or could not
    be, counted. ``unavailable`` names the sources that did not answer; ``silent`` workers did not respond.
    ``check_hollow`` asks for a finished order's files to be judged too. ``unattributed`` messages may be of any order;
    ``may_be_running`` is whether a run may go on of which nothing is left in the queue, ``possible_until`` when it is
    over for certain, by the clock of ``taken_at``; ``broker_time`` is that moment by the broker's clock.
    ``authoritative`` is whether an order that was not found is missing.
    """

    order_id: int
    order: Order | None
    tasks: Sequence[LiveTask] = ()
    files: SiteFiles | None = None
    unavailable: frozenset[Source] = frozenset()
    grace: timedelta = DEFAULT_GRACE
    check_hollow: bool = False
    taken_at: datetime | None = None
    unattributed: int = 0
    may_be_running: bool = False
    possible_until: datetime | None = None
    broker_time: datetime | None = None
    silent: int = 0
    authoritative: bool = True


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A condition with the reasons for it, most telling first, and the command that fixes it (if one does).

    ``until`` is when an unknown condition can be decided by waiting; None where waiting does not help.
    """

    condition: Condition
    evidence: tuple[str, ...]
    remedy: str | None = None
    until: datetime | None = None

    @property
    def severity(self) -> Severity:
        """How bad the condition is."""
        return self.condition.severity


def diagnose(seen: Evidence) -> Diagnosis:
    """Decide the condition of one order from everything that was seen of it."""
    for rule in _RULES:
        verdict = rule(seen)
        if verdict is not None:
            return verdict
    raise AssertionError(f"no rule matches {seen!r}")  # the last rules cover every status


def usual_remedy(condition: Condition, order_id: int) -> str | None:
    """What mends this order in a condition, where nothing of its own is in the way."""
    if condition in REMEDY_OF_ONE:
        return f"{REMEDY_OF_ONE[condition]} {order_id}"
    return REMEDIES.get(condition)


def _unknown(seen: Evidence) -> Diagnosis | None:
    missing = [s for s in (Source.DATABASE, Source.BROKER) if s in seen.unavailable]
    if missing:
        reasons = [f"the {source} could not be read" for source in missing]
        return _verdict(seen, Condition.UNKNOWN, *reasons, remedy=f"bring the {missing[0]} back")
    if seen.order is not None and (problem := seen.order.status_problem):
        # A status that this release does not know was set on purpose.
        remedy = NO_STATUS_REMEDY if seen.order.label is None else None
        return _verdict(seen, Condition.UNKNOWN, problem, remedy=remedy)
    return None


def _duplicated(seen: Evidence) -> Diagnosis | None:
    # All tasks of a missing order are ghosts, and are believed to be so only later.
    if len(seen.tasks) < 2 or seen.order is None:
        return None
    return _verdict(
        seen,
        Condition.DUPLICATED,
        f"{len(seen.tasks)} live tasks for one order",
        *(describe_task(task) for task in seen.tasks),
        remedy=_remedy_of_duplicates(seen),
    )


def _remedy_of_duplicates(seen: Evidence) -> str | None:
    """What removes the copies: tasks that run are stopped only on request, and lost ones are waited for."""
    if any(task.state is not TaskState.RUNNING and not task.is_unaccounted for task in seen.tasks):
        return None  # what waits is removed by the usual command
    if sum(task.state is TaskState.RUNNING and task.worker is not None for task in seen.tasks) > 1:
        return f"sitegenctl repair {seen.order_id} --terminate"
    return f"wait; once its worker is known to be dead: sitegenctl repair {seen.order_id} --worker-dead"


def _ghost(seen: Evidence) -> Diagnosis | None:
    if not seen.tasks:
        return None
    if seen.order is None:
        return _ghost_of_missing(seen)
    task, status = seen.tasks[0], seen.order.status
    if task.is_unaccounted:
        return None
    if status is OrderStatus.CANCELLED:
        evidence = ["a live task for a CANCELLED order", describe_task(task)]
        if task.state is TaskState.RUNNING:
            evidence.append("when it ends, the generator sets the order to REVIEW")
            return _verdict(seen, Condition.GHOST, *evidence, remedy=f"sitegenctl cancel {seen.order_id} --terminate")
        return _verdict(seen, Condition.GHOST, *evidence)
    if status is not None and status.is_finished and not _within_grace(seen):
        if task.state is TaskState.RUNNING:
            remedy = f"sitegenctl repair {seen.order_id} --terminate"
            return _verdict(
                seen, Condition.GHOST, f"a live task for an order in {status}", describe_task(task), remedy=remedy
            )
        return _verdict(seen, Condition.GHOST, f"a live task for an order in {status}", describe_task(task))
    return None


def _ghost_of_missing(seen: Evidence) -> Diagnosis:
    """Tasks of an order that the database does not have: believed missing once the newest is older than grace."""
    described = [describe_task(task) for task in seen.tasks]
    named = f"sitegenctl repair {seen.order_id}"
    if not seen.authoritative:
        return _verdict(
            seen,
            Condition.UNKNOWN,
            "no such order in this database, which is a copy and may lag",
            *described,
            remedy="read from the primary",
        )
    now = seen.broker_time or seen.taken_at
    ages = [age for task in seen.tasks if (age := message_age(task, now)) is not None]
    if len(ages) < len(seen.tasks):
        return _verdict(
            seen, Condition.UNKNOWN, "no such order, and its task has no date: it may be new", *described, remedy=named
        )
    age = min(ages)
    if age < seen.grace:
        return _verdict(
            seen,
            Condition.UNKNOWN,
            f"no such order, but its task is {describe_age(age)} old: the order may not be committed yet",
            *described,
            remedy=named,
            until=seen.taken_at + seen.grace - age if seen.taken_at is not None else None,
        )
    return _verdict(seen, Condition.GHOST, "a live task, and no such order", *described)


def message_age(task: LiveTask, now: datetime | None) -> timedelta | None:
    """How old a task is by its own dates; None where it has none."""
    dates = [at for at in (task.enqueued_at, task.delivered_at, task.started_at) if at is not None]
    return max(now - min(dates), timedelta(0)) if dates and now is not None else None


def _live(seen: Evidence) -> Diagnosis | None:
    if not seen.tasks:
        return None
    task = seen.tasks[0]
    if task.is_unaccounted:
        return _unaccounted(seen, task)
    if task.state is TaskState.ORPHANED:
        proof = "no worker that responds has it"
        evidence = [describe_task(task), f"{proof}; {task.reason}" if task.reason else proof]
        if task.until is None:
            return _verdict(seen, Condition.ORPHANED, *evidence)
        when = describe_time(task.until, seen.taken_at)
        evidence.append(f"Redis has restarted a moment ago: its worker may be on its way back until {when}")
        then = usual_remedy(Condition.ORPHANED, seen.order_id)
        return _verdict(seen, Condition.ORPHANED, *evidence, remedy=f"wait until {when}; then: {then}")
    evidence = [describe_task(task)]
    if task.reason:
        evidence.append(task.reason)
    return _verdict(seen, _BY_TASK_STATE[task.state], *evidence)


def _unaccounted(seen: Evidence, task: LiveTask) -> Diagnosis:
    remedy = f"sitegenctl repair {seen.order_id} --worker-dead"
    delivered = "delivered"
    if task.delivered_at is not None and seen.taken_at is not None:
        delivered = f"delivered {describe_age(seen.taken_at - task.delivered_at)} ago"
    text = f"task {task.task_id} unaccounted: {delivered}; no worker that responds has it"
    if seen.silent:
        text += f"; {seen.silent} {'worker does' if seen.silent == 1 else 'workers do'} not respond"
    may = "a worker that is shutting down, paused or cut off may still be running it"
    if task.eta is not None and seen.taken_at is not None and task.eta > seen.taken_at:
        may = f"it is due at {describe_time(task.eta, seen.taken_at)}, and such a worker may hold and then run it"
    if task.until is None:
        evidence = [f"{text}; {may}", *([task.reason] if task.reason else [])]
        remedy = f"once its worker is known to be dead: {remedy}"
        return _verdict(seen, Condition.UNKNOWN, *evidence, remedy=remedy)
    return _verdict(
        seen,
        Condition.UNKNOWN,
        f"{text}; {may} until {describe_time(task.until, seen.taken_at)}",
        remedy=f"wait; once its worker is known to be dead: {remedy}",
        until=task.until,
    )


def _missing(seen: Evidence) -> Diagnosis | None:
    if seen.order is None:
        return _verdict(seen, Condition.UNKNOWN, "the database has no such order, and there is no task for it")
    return None


def _unattributed(seen: Evidence) -> Diagnosis | None:
    """A message that may be of any order: none of those that could be generated has no task for certain."""
    order = _order(seen)
    if not seen.unattributed or order.status not in (OrderStatus.BUILDING, OrderStatus.GENERATING):
        return None
    what = "a message" if seen.unattributed == 1 else f"{seen.unattributed} messages"
    return _verdict(
        seen,
        Condition.UNKNOWN,
        f"{what} of our task cannot be attributed to an order, and may be of this one",
        remedy="sitegenctl inspect queue shows the message; a person must remove it",
    )


def _run_lock(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if not order.run_lock_held:
        return None
    return _verdict(seen, Condition.RUNNING, "no task is left, but its run lock is held in PostgreSQL: it is running")


def _possibly_running(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    run = order.history.last_run
    if not seen.may_be_running or run is None:
        return None
    if order.status is not OrderStatus.GENERATING and not _is_ready(order):
        return None
    remedy = f"once its worker is known to be dead: sitegenctl repair {seen.order_id} --worker-dead"
    if seen.possible_until is None:
        return _verdict(
            seen,
            Condition.UNKNOWN,
            f"no task is left, but its run has no outcome (last step {run.last_step}), and its first row has no usable"
            " time: it may still be running",
            remedy=remedy,
        )
    began = f"began {describe_age(run.began)} ago and has" if run.began is not None else "has"
    return _verdict(
        seen,
        Condition.UNKNOWN,
        f"no task is left, but its run {began} no outcome (last step {run.last_step}); it may still be running until"
        f" {describe_time(seen.possible_until, seen.taken_at)}",
        remedy=f"wait; {remedy}",
        until=seen.possible_until,
    )


def _blocked(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if order.status is not OrderStatus.GENERATING or order.onboarding is Onboarding.COMPLETE:
        return None
    what = "no onboarding" if order.onboarding is Onboarding.MISSING else "an onboarding that is not complete"
    return _verdict(
        seen,
        Condition.BLOCKED,
        f"GENERATING with {what}: a generation can't succeed",
    )


def _settling(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if not _within_grace(seen):
        return None
    if order.status is OrderStatus.GENERATING or _is_ready(order):
        return _verdict(
            seen,
            Condition.SETTLING,
            f"{order.status} without a live task, but it moved {describe_age(order.idle)} ago",
            remedy="look again in a moment",
        )
    return None


def _failed(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    run = order.history.last_run
    if order.status is not OrderStatus.GENERATING or run is None or run.outcome is not RunOutcome.ERROR:
        return None
    evidence = ["the last run ended in ERROR, and nothing will retry it"]
    if order.last_error:
        evidence.append(order.last_error)
    return _rerunnable(seen, Condition.FAILED, *evidence)


def _interrupted_or_empty(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if order.status is not OrderStatus.GENERATING:
        return None
    still = f"GENERATING for {describe_age(order.idle)} without a live task"
    run = order.history.last_run
    if run is None:
        return _verdict(
            seen,
            Condition.INTERRUPTED,
            still,
            "its log has no row of a run since it was enqueued",
        )
    if run.outcome is None:
        ended = f"the last run was cut short at {run.last_step}"
    else:
        ended = f"the last run ended in {run.outcome}, yet the order is GENERATING"
    if seen.files is None:
        return _verdict(seen, Condition.UNKNOWN, "its files could not be counted", ended, remedy="bring the files back")
    files = describe_files(seen.files)
    if run.outcome is None and seen.files.is_empty:
        return _rerunnable(seen, Condition.EMPTY, still, ended, files)
    return _rerunnable(seen, Condition.INTERRUPTED, still, ended, files)


def _rerunnable(seen: Evidence, condition: Condition, *evidence: str) -> Diagnosis:
    """The verdict on an order that one more run may mend, unless it has had so many that a person must look."""
    attempts = _order(seen).history.attempts
    if attempts < MAX_ATTEMPTS:
        return _verdict(seen, condition, *evidence)
    return _verdict(
        seen,
        condition,
        *evidence,
        f"its attempts are used up: {attempts} of {MAX_ATTEMPTS}",
        remedy=f"mend the reason, then sitegenctl reset {seen.order_id}",
    )


def _held(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if not order.is_held:
        return None
    evidence = ["an operator cancelled it"]
    if order.status is OrderStatus.BUILDING and order.is_ready_for_beat:
        evidence.append(BEAT_WARNING)
    return _verdict(seen, Condition.HELD, *evidence)


def _unstarted(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if not _is_ready(order):
        return None
    evidence = [f"ready for {describe_age(order.idle)}, and nobody enqueued it"]
    if order.onboarding_completed_at is None:
        evidence.append("onboarding_completed_at is empty: the system's own beat never picks it up")
    return _verdict(seen, Condition.UNSTARTED, *evidence)


def _settled(seen: Evidence) -> Diagnosis | None:
    order = _order(seen)
    if order.status is OrderStatus.CANCELLED:
        return _verdict(seen, Condition.CANCELLED, "CANCELLED")
    if order.status is OrderStatus.BUILDING or (order.status is not None and order.status.precedes_building):
        return _verdict(
            seen, Condition.WAITING, f"{order.status}, onboarding {order.onboarding}", remedy="wait for the customer"
        )
    evidence = [str(order.status)]
    if seen.files is not None:
        evidence.append(describe_files(seen.files))
    if seen.check_hollow:
        if seen.files is None:
            return _verdict(seen, Condition.UNKNOWN, *evidence, "its files could not be counted")
        if seen.files.is_empty:
            return _verdict(seen, Condition.HOLLOW, *evidence, f"a whole site has {MIN_SITE_FILES} files or more")
    return _verdict(seen, Condition.DONE, *evidence)


_RULES: tuple[Callable[[Evidence], Diagnosis | None], ...] = (
    _unknown,
    _duplicated,
    _ghost,
    _live,
    _missing,
    _unattributed,
    _run_lock,
    _blocked,
    # Before `settling`: an order that was just cancelled is shown as on hold at once.
    _held,
    _settling,
    _failed,
    _possibly_running,
    _interrupted_or_empty,
    _unstarted,
    _settled,
)


def _verdict(
    seen: Evidence, condition: Condition, *evidence: str, remedy: str | None = None, until: datetime | None = None
) -> Diagnosis:
    return Diagnosis(
        condition=condition,
        evidence=evidence,
        remedy=remedy or usual_remedy(condition, seen.order_id),
        until=until,
    )


def _order(seen: Evidence) -> Order:
    assert seen.order is not None  # noqa: S101 - _missing has decided that case
    return seen.order


def _is_ready(order: Order) -> bool:
    return order.status is OrderStatus.BUILDING and order.onboarding is Onboarding.COMPLETE


def _within_grace(seen: Evidence) -> bool:
    return seen.order is not None and seen.order.idle is not None and seen.order.idle < seen.grace
