"""The registry of conditions, and the rules that decide which one an order is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.diagnosis.describe import (
    describe_age,
    describe_exhausted,
    describe_files,
    describe_task,
    describe_time,
    describe_wait,
)
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import MAX_ATTEMPTS, RunOutcome
from sitegenctl.domain.orders.site import MIN_SITE_FILES, SiteFiles
from sitegenctl.domain.queue.task import LiveTask, TaskState

DEFAULT_GRACE = timedelta(minutes=2)


class Severity(StrEnum):
    """Whether a condition needs attention."""

    OK = "ok"
    UNKNOWN = "unknown"  # check the source that did not respond
    FAULT = "fault"


@dataclass(frozen=True)
class _Entry:
    """One condition of the registry."""

    name: str
    severity: Severity
    description: str
    command: Command | None = None  # fixes an order in it
    advice: str | None = None  # for a person
    settled: bool = False  # orders outside BUILDING and GENERATING can be in it
    on_request: bool = False  # checked for all orders only where a command asks for it: that reads many files


class Condition(StrEnum):
    """The real state of an order: the registry of conditions, in the order of lists."""

    _value_: str
    severity: Severity
    description: str
    command: Command | None
    advice: str | None
    settled: bool
    on_request: bool

    UNKNOWN = _Entry(
        "unknown",
        Severity.UNKNOWN,
        "a source did not respond; a task or a run may still be going (with the time until which); a message cannot be"
        " attributed; the status is NULL or not known to this release",
        settled=True,
    )
    DUPLICATED = _Entry(
        "duplicated",
        Severity.FAULT,
        "two or more live tasks for one order, or one task id in two places",
        Command.REPAIR,
    )
    GHOST = _Entry(
        "ghost", Severity.FAULT, "a live task for an order that is missing, cancelled or finished", Command.REPAIR
    )
    ORPHANED = _Entry(
        "orphaned",
        Severity.FAULT,
        "its task was delivered, or depends on a job that failed, and is proven to run nowhere",
        Command.REPAIR,
    )
    RUNNING = _Entry("running", Severity.OK, "a worker runs its task")
    QUEUED = _Entry("queued", Severity.OK, "its task waits for a free worker process")
    SCHEDULED = _Entry("scheduled", Severity.OK, "its task waits until it is due")
    RETRYING = _Entry("retrying", Severity.OK, "its task waits for the next attempt after one that failed")
    BLOCKED = _Entry(
        "blocked",
        Severity.FAULT,
        "GENERATING without an onboarding: it can never succeed",
        advice="a person must complete the onboarding",
    )
    FAILED = _Entry(
        "failed",
        Severity.FAULT,
        "the last run ended in ERROR, or its task in a failure (with the time of the next permitted attempt)",
        Command.RETRY_FAILED,
    )
    SETTLING = _Entry(
        "settling",
        Severity.OK,
        "changed a moment ago: re-check after the grace period",
        advice="re-check after the grace period",
    )
    INTERRUPTED = _Entry("interrupted", Severity.FAULT, "GENERATING without a task", Command.REPAIR)
    EMPTY = _Entry(
        "empty",
        Severity.FAULT,
        f"the last run was cut short and left fewer than {MIN_SITE_FILES} files",
        Command.RESET_EMPTY,
    )
    HELD = _Entry(
        "held", Severity.OK, "on hold: an operator cancelled it, whichever status `--to` gave it", Command.ENQUEUE
    )
    UNSTARTED = _Entry("unstarted", Severity.FAULT, "ready, and not enqueued", Command.START_STUCK)
    WAITING = _Entry("waiting", Severity.OK, "for the customer", advice="wait for the customer", settled=True)
    HOLLOW = _Entry(
        "hollow",
        Severity.FAULT,
        "finished, but its files are not there; always checked for a day, later only with `--condition hollow`",
        Command.RESET,
        settled=True,
        on_request=True,
    )
    DONE = _Entry("done", Severity.OK, "nothing to do", settled=True)
    CANCELLED = _Entry("cancelled", Severity.OK, "nothing to do", settled=True)

    def __new__(cls, entry: Any) -> Condition:
        """Make the member out of its entry."""
        member = str.__new__(cls, entry.name)
        member._value_ = entry.name
        member.__dict__.update({field: value for field, value in vars(entry).items() if field != "name"})
        return member

    @property
    def remedy(self) -> Remedy | None:
        """The fix for all orders in this condition; None if none is needed."""
        if self.command is Command.REPAIR:
            return Remedy.run(Command.REPAIR, condition=self.value)
        if self.command in (Command.ENQUEUE, Command.RESET):
            return Remedy(command=self.command, any_order=True)
        return Remedy(command=self.command, advice=self.advice) if self.command or self.advice else None

    def remedy_of(self, order_id: int) -> Remedy | None:
        """The fix for one order in this condition, unless a fact about this order prevents it."""
        return Remedy.run(self.command, order_id) if self.command is not None else self.remedy


def settled_condition(status: OrderStatus | str | None) -> Condition:
    """The condition of an order without a task that has this status, which is not BUILDING or GENERATING."""
    if not isinstance(status, OrderStatus):
        return Condition.UNKNOWN
    if status.precedes_building:
        return Condition.WAITING
    return Condition.CANCELLED if status is OrderStatus.CANCELLED else Condition.DONE


#: The conditions that ``repair`` fixes, in the order in which it does.
REPAIRABLE = tuple(condition for condition in Condition if condition.command is Command.REPAIR)

#: What the system's beat does to an order that an operator cancelled, which it does not know about.
BEAT_WARNING = "its onboarding is complete: the system's beat will start it again"

#: What fixes an order whose status is NULL.
NO_STATUS_REMEDY = Remedy(advice="a person must set site_orders.status")

_BY_TASK_STATE = {
    TaskState.RUNNING: Condition.RUNNING,
    TaskState.QUEUED: Condition.QUEUED,
    TaskState.RESERVED: Condition.QUEUED,
    TaskState.SCHEDULED: Condition.SCHEDULED,
    TaskState.RETRYING: Condition.RETRYING,
}


class Source(StrEnum):
    """The four systems that an order's condition is read from."""

    DATABASE = "database"
    BROKER = "broker"
    WORKERS = "workers"
    FILES = "files"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that was read about one order."""

    order_id: int
    order: Order | None  # None when the database has no such order
    tasks: Sequence[LiveTask] = ()
    files: SiteFiles | None = None  # None when they were not or could not be counted
    unavailable: frozenset[Source] = frozenset()  # sources that did not respond
    hints: Mapping[Source, Hint] = field(default_factory=dict)  # what to do about them, where it is known
    grace: timedelta = DEFAULT_GRACE
    check_hollow: bool = False  # whether a finished order is judged by its files
    taken_at: datetime | None = None
    unattributed: int = 0  # messages that may be of any order
    may_be_running: bool = False  # without a trace in the queue
    possible_until: datetime | None = None  # when that run must have ended, by the clock of `taken_at`
    broker_time: datetime | None = None  # `taken_at` by the broker's clock
    silent: int = 0  # workers that did not respond
    authoritative: bool = True  # whether an order that the database does not have is missing

    @property
    def known_order(self) -> Order:
        """The order, for the rules after ``_ghost``, which decides where there is none."""
        assert self.order is not None  # noqa: S101 - see above
        return self.order

    @property
    def is_ready(self) -> bool:
        """Whether the order could be enqueued."""
        order = self.known_order
        return order.status is OrderStatus.BUILDING and order.onboarding is Onboarding.COMPLETE

    @property
    def is_within_grace(self) -> bool:
        """Whether the order changed too recently to be judged."""
        return self.order is not None and self.order.idle is not None and self.order.idle < self.grace

    def suggests(
        self, condition: Condition, *reasons: str, remedy: Remedy | None = None, until: datetime | None = None
    ) -> Diagnosis:
        """The diagnosis; without a ``remedy``, with the condition's own."""
        return Diagnosis(
            condition=condition, evidence=reasons, remedy=remedy or condition.remedy_of(self.order_id), until=until
        )


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A condition, the evidence for it (strongest first), and what fixes it."""

    condition: Condition
    evidence: tuple[str, ...]
    remedy: Remedy | None = None
    until: datetime | None = None  # when an unknown condition can be decided; None where waiting does not help

    @property
    def severity(self) -> Severity:
        """The condition's severity."""
        return self.condition.severity


def diagnose(evidence: Evidence) -> Diagnosis:
    """Decide the condition of one order."""
    for rule in _RULES:
        diagnosis = rule(evidence)
        if diagnosis is not None:
            order = evidence.order
            is_generated = order is not None and order.status is OrderStatus.GENERATING
            warnings = onboarding_warning(order) if order is not None and is_generated else ()
            return replace(diagnosis, evidence=(*diagnosis.evidence, *warnings)) if warnings else diagnosis
    raise AssertionError(f"no rule matches {evidence!r}")  # the last rules cover every status


def onboarding_warning(order: Order) -> tuple[str, ...]:
    """A warning about an order that is generated from an incomplete onboarding."""
    if order.onboarding is not Onboarding.PARTIAL:
        return ()
    return ("warning: its onboarding is not complete; its site is generated from what there is",)


def _unknown(evidence: Evidence) -> Diagnosis | None:
    missing = [source for source in (Source.DATABASE, Source.BROKER) if source in evidence.unavailable]
    if missing:
        reasons = [f"the {source} could not be read" for source in missing]
        return evidence.suggests(Condition.UNKNOWN, *reasons, remedy=_restore(missing[0], evidence))
    order = evidence.order
    if order is None or order.status_problem is None:
        return None
    remedy = NO_STATUS_REMEDY if order.label is None else None  # an unknown status was set on purpose
    return evidence.suggests(Condition.UNKNOWN, order.status_problem, remedy=remedy)


def _restore(source: Source, evidence: Evidence) -> Remedy:
    hint = evidence.hints.get(source, f"make the {source} readable again")
    return hint if isinstance(hint, Remedy) else Remedy(advice=hint)


def _worker_dead(order_id: int, *, wait: bool = True) -> Remedy:
    """Requeue an order's task whose worker is known to be dead."""
    advice = "once its worker is known to be dead"
    return Remedy.run(Command.REPAIR, order_id, advice=f"wait; {advice}" if wait else advice, worker_dead=True)


def _duplicated(evidence: Evidence) -> Diagnosis | None:
    # All tasks of a missing order are ghosts, once they are older than grace.
    if len(evidence.tasks) < 2 or evidence.order is None:
        return None
    reasons = [f"{len(evidence.tasks)} live tasks for one order", *map(describe_task, evidence.tasks)]
    return evidence.suggests(Condition.DUPLICATED, *reasons, remedy=_remedy_of_tasks(evidence, kept=1))


def _remedy_of_tasks(evidence: Evidence, *, kept: int) -> Remedy | None:
    """What removes all but ``kept`` tasks: running ones are stopped only on request, unaccounted ones need waiting."""
    if any(task.state is not TaskState.RUNNING and not task.is_unaccounted for task in evidence.tasks):
        return None  # the condition's own remedy removes what waits, and is refused if nothing does
    if sum(task.state is TaskState.RUNNING and task.worker is not None for task in evidence.tasks) > kept:
        return Remedy.run(Command.REPAIR, evidence.order_id, terminate=True)
    return _worker_dead(evidence.order_id)


def _ghost(evidence: Evidence) -> Diagnosis | None:
    if evidence.order is None and evidence.tasks:
        return _ghost_of_missing(evidence)
    if evidence.order is None:
        return evidence.suggests(Condition.UNKNOWN, "the database has no such order, and there is no task for it")
    if not evidence.tasks:
        return None
    task, status = evidence.tasks[0], evidence.order.status
    is_finished = status is not None and status.is_finished and not evidence.is_within_grace
    if task.is_unaccounted or not (status is OrderStatus.CANCELLED or is_finished):
        return None
    is_running = task.state is TaskState.RUNNING
    if status is OrderStatus.CANCELLED:
        reasons = ["a live task for a CANCELLED order", describe_task(task)]
        if is_running:
            reasons.append("when it ends, the generator sets the order to REVIEW")
        stop = Command.CANCEL
    else:
        reasons = [f"a live task for an order in {status}", describe_task(task)]
        stop = Command.REPAIR
    remedy = Remedy.run(stop, evidence.order_id, terminate=True) if is_running else None
    return evidence.suggests(Condition.GHOST, *reasons, remedy=remedy)


def _ghost_of_missing(evidence: Evidence) -> Diagnosis:
    """Tasks of an order that the database does not have: it counts as missing once they are older than grace."""
    tasks = [describe_task(task) for task in evidence.tasks]
    repair = Remedy.run(Command.REPAIR, evidence.order_id)
    if not evidence.authoritative:
        reason = "no such order in this database, which is a copy and may lag"
        return evidence.suggests(
            Condition.UNKNOWN, reason, *tasks, remedy=Remedy(advice="connect to the primary database")
        )
    now = evidence.broker_time or evidence.taken_at
    dates = [[task.enqueued_at, task.delivered_at, task.started_at] for task in evidence.tasks]
    known = [[at for at in of_task if at is not None] for of_task in dates]
    if now is None or not all(known):
        reason = "no such order, and its task has no date: it may be new"
        return evidence.suggests(Condition.UNKNOWN, reason, *tasks, remedy=repair)
    age = max(now - max(map(min, known)), timedelta(0))
    if age < evidence.grace:
        reason = f"no such order, but its task is {describe_age(age)} old: the order may not be committed yet"
        until = evidence.taken_at + evidence.grace - age if evidence.taken_at is not None else None
        return evidence.suggests(Condition.UNKNOWN, reason, *tasks, remedy=repair, until=until)
    remedy = _remedy_of_tasks(evidence, kept=0)
    return evidence.suggests(Condition.GHOST, "a live task, and no such order", *tasks, remedy=remedy)


def _live(evidence: Evidence) -> Diagnosis | None:
    if not evidence.tasks:
        return None
    task = evidence.tasks[0]
    if task.is_unaccounted:
        return _unaccounted(evidence, task)
    if task.state is not TaskState.ORPHANED:
        reasons = [describe_task(task), *([task.reason] if task.reason else [])]
        return evidence.suggests(_BY_TASK_STATE[task.state], *reasons)
    reasons = [describe_task(task), "; ".join(filter(None, ("no worker that responds has it", task.reason)))]
    if task.until is None:
        return evidence.suggests(Condition.ORPHANED, *reasons)
    when = describe_time(task.until, evidence.taken_at)
    reasons.append(f"Redis restarted a moment ago: its worker may still reconnect until {when}")
    remedy = Remedy.run(Command.REPAIR, evidence.order_id, advice=f"wait until {when}; then")
    return evidence.suggests(Condition.ORPHANED, *reasons, remedy=remedy)


def _unaccounted(evidence: Evidence, task: LiveTask) -> Diagnosis:
    now = evidence.broker_time or evidence.taken_at
    age = f" {describe_age(now - task.delivered_at)} ago" if task.delivered_at is not None and now is not None else ""
    unasked = Source.WORKERS in evidence.unavailable
    claim = "the workers could not be asked" if unasked else "no worker that responds has it"
    reason = f"task {task.task_id} unaccounted: delivered{age}; {claim}"
    if evidence.silent:
        reason += f"; {evidence.silent} {'worker does' if evidence.silent == 1 else 'workers do'} not respond"
    if task.eta is not None and now is not None and task.eta > now:
        reason += f"; it is due at {describe_time(task.eta, now)}, and such a worker may hold and then run it"
    else:
        reason += "; a worker that is shutting down, paused or cut off may still be running it"
    if task.until is None:
        reasons = [reason, *([task.reason] if task.reason else [])]
        return evidence.suggests(Condition.UNKNOWN, *reasons, remedy=_worker_dead(evidence.order_id, wait=False))
    reason += f" until {describe_time(task.until, now)}"
    return evidence.suggests(Condition.UNKNOWN, reason, remedy=_worker_dead(evidence.order_id), until=task.until)


def _unattributed(evidence: Evidence) -> Diagnosis | None:
    """A message that may be of any order: then no order that could be generated is known to have no task."""
    if not evidence.unattributed or not evidence.known_order.is_open:
        return None
    messages = "a message" if evidence.unattributed == 1 else f"{evidence.unattributed} messages"
    return evidence.suggests(
        Condition.UNKNOWN,
        f"{messages} of our task cannot be attributed to an order, and may be of this one",
        remedy=REMOVE_MESSAGE,
    )


#: What fixes a message of our task that no order can be read from.
REMOVE_MESSAGE = Remedy(command=Command.INSPECT_QUEUE, advice="a person must remove the message; to find it")


def _run_lock(evidence: Evidence) -> Diagnosis | None:
    if not evidence.known_order.run_lock_held:
        return None
    return evidence.suggests(
        Condition.RUNNING, "no task is left, but its run lock is held in PostgreSQL: it is running"
    )


def _possibly_running(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    run = order.history.last_run
    if not evidence.may_be_running or run is None:
        return None
    if order.status is not OrderStatus.GENERATING and not evidence.is_ready:
        return None
    if evidence.possible_until is None:
        reason = (
            f"no task is left, but its run has no outcome (last step {run.last_step}), and its first row has no usable"
            " time: it may still be running"
        )
        return evidence.suggests(Condition.UNKNOWN, reason, remedy=_worker_dead(evidence.order_id, wait=False))
    began = f"began {describe_age(run.began)} ago and has" if run.began is not None else "has"
    reason = (
        f"no task is left, but its run {began} no outcome (last step {run.last_step}); it may still be running until"
        f" {describe_time(evidence.possible_until, evidence.taken_at)}"
    )
    return evidence.suggests(
        Condition.UNKNOWN, reason, remedy=_worker_dead(evidence.order_id), until=evidence.possible_until
    )


def _blocked(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if order.status is not OrderStatus.GENERATING or order.onboarding is not Onboarding.MISSING:
        return None
    return evidence.suggests(Condition.BLOCKED, "GENERATING with no onboarding: a generation can't succeed")


def _settling(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if not evidence.is_within_grace or not (order.status is OrderStatus.GENERATING or evidence.is_ready):
        return None
    return evidence.suggests(
        Condition.SETTLING, f"{order.status} without a live task, but it changed {describe_age(order.idle)} ago"
    )


def _failed(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    run = order.history.last_run
    if order.status is not OrderStatus.GENERATING or run is None or run.outcome is not RunOutcome.ERROR:
        return None
    ended = "the last run ended in ERROR" if run.failed_ago is None else "its task failed, without an ERROR row"
    error = [order.last_error] if order.last_error else []
    wait = order.wait_for_attempt(evidence.grace) if order.history.attempts < MAX_ATTEMPTS else None
    if wait is None:
        return _rerunnable(evidence, Condition.FAILED, f"{ended}, and nothing will retry it", *error)
    due = describe_wait(wait, evidence.taken_at)
    remedy = Remedy.run(Command.RETRY_FAILED, evidence.order_id, advice=f"wait {describe_age(wait)}; then")
    return evidence.suggests(
        Condition.FAILED, f"{ended}; the next attempt is permitted in {due}", *error, remedy=remedy
    )


def _interrupted_or_empty(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if order.status is not OrderStatus.GENERATING:
        return None
    idle = f"GENERATING for {describe_age(order.idle)} without a live task"
    run = order.history.last_run
    if run is None:
        return evidence.suggests(Condition.INTERRUPTED, idle, "its log has no row of a run since it was enqueued")
    if run.outcome is None:
        ended = f"the last run was cut short at {run.last_step}"
    else:
        ended = f"the last run ended in {run.outcome}, yet the order is GENERATING"
    if evidence.files is None:
        uncounted = "its files could not be counted"
        return evidence.suggests(Condition.UNKNOWN, uncounted, ended, remedy=_restore(Source.FILES, evidence))
    is_empty = run.outcome is None and evidence.files.is_empty
    condition = Condition.EMPTY if is_empty else Condition.INTERRUPTED
    return _rerunnable(evidence, condition, idle, ended, describe_files(evidence.files))


def _rerunnable(evidence: Evidence, condition: Condition, *reasons: str) -> Diagnosis:
    """Diagnose an order that another run may fix, unless its attempts are exhausted."""
    attempts = evidence.known_order.history.attempts
    if attempts < MAX_ATTEMPTS:
        return evidence.suggests(condition, *reasons)
    exhausted = describe_exhausted(attempts, MAX_ATTEMPTS)
    return evidence.suggests(condition, *reasons, exhausted, remedy=fix_then_reset(evidence.order_id))


def fix_then_reset(order_id: int) -> Remedy:
    """The fix for an order whose attempts are exhausted."""
    return Remedy.run(Command.RESET, order_id, advice="fix the cause, then")


def _held(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if not order.is_held:
        return None
    reasons = ["an operator cancelled it"]
    if order.status is OrderStatus.BUILDING and order.is_ready_for_beat:
        reasons.append(BEAT_WARNING)
    return evidence.suggests(Condition.HELD, *reasons)


def _unstarted(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if not evidence.is_ready:
        return None
    reasons = [f"ready for {describe_age(order.idle)}, and not enqueued"]
    if order.onboarding_completed_at is None:
        reasons.append("onboarding_completed_at is empty: the system's own beat never picks it up")
    return evidence.suggests(Condition.UNSTARTED, *reasons)


def _settled(evidence: Evidence) -> Diagnosis | None:
    order = evidence.known_order
    if order.status is OrderStatus.CANCELLED:
        return evidence.suggests(Condition.CANCELLED, "CANCELLED")
    if order.status is OrderStatus.BUILDING or (order.status is not None and order.status.precedes_building):
        return evidence.suggests(Condition.WAITING, f"{order.status}, onboarding {order.onboarding}")
    reasons = [str(order.status)]
    if evidence.files is not None:
        reasons.append(describe_files(evidence.files))
    if evidence.check_hollow and evidence.files is None:
        return evidence.suggests(Condition.UNKNOWN, *reasons, "its files could not be counted")
    if evidence.check_hollow and evidence.files is not None and evidence.files.is_empty:
        return evidence.suggests(
            Condition.HOLLOW, *reversed(reasons), f"a whole site has {MIN_SITE_FILES} files or more"
        )
    return evidence.suggests(Condition.DONE, *reasons)


#: The rules in their order: the first that returns a diagnosis decides.
_RULES: tuple[Callable[[Evidence], Diagnosis | None], ...] = (
    _unknown,
    _duplicated,
    _ghost,
    _live,
    _unattributed,
    _run_lock,
    _blocked,
    _held,  # before `_settling`: an order that was just cancelled is shown as on hold at once
    _failed,  # before `_settling`: a failure needs attention at once
    _settling,
    _possibly_running,
    _interrupted_or_empty,
    _unstarted,
    _settled,
)
