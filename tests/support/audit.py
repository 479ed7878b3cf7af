"""Invariants of the stateful test, read from the servers and files; sitegenctl's verdicts must agree with them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.liveness import LIMIT_MARGIN
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.run import MAX_ATTEMPTS
from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT
from tests.support.simulated_system import Move, SimulatedSystem
from tests.support.simulated_workers import SimulatedWorker
from tests.support.stateful import CommandResult

_IN_PROGRESS = {Condition.RUNNING, Condition.QUEUED, Condition.SCHEDULED, Condition.RETRYING}
#: Conditions of a GENERATING order without a task.
_WITHOUT_TASK = {
    Condition.BLOCKED,
    Condition.SETTLING,
    Condition.FAILED,
    Condition.INTERRUPTED,
    Condition.EMPTY,
}
#: Conditions of an order whose delivery no worker has: unknown until its time limit has passed.
_AT_NO_WORKER = {Condition.UNKNOWN, Condition.ORPHANED}
_BUILDING = {Condition.HELD, Condition.UNSTARTED, Condition.SETTLING, Condition.WAITING}
#: Conditions that no command can repair.
_FINAL = _IN_PROGRESS | {Condition.BLOCKED, Condition.HELD, Condition.WAITING, Condition.DONE, Condition.CANCELLED}

_PROMISES = {"OPERATOR_ENQUEUE", "OPERATOR_RESET", "OPERATOR_REPAIR", "OPERATOR_UNDO"}


@dataclass
class Audit:
    """Checks one system, and remembers what it has read since the system was empty."""

    system: SimulatedSystem
    _status: dict[int, str] = field(default_factory=dict)
    _log_id: int = 0
    _moves: int = 0
    _promised: set[tuple[str, int]] = field(default_factory=set)
    _details: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    def begin(self) -> None:
        """Accept the present state."""
        self._status = self._statuses()
        self._log_id = self.system.newest_log_id()

    def check(self, commands: Collection[str] = ()) -> Snapshot:
        """Check everything; ``commands`` are those that operators have run since the last check."""
        self._changes_are_explained(commands)
        self._tasks_were_announced()
        live = self.system.live()
        self.system.doubled &= {order_id for order_id, count in live.items() if count > 1 and order_id is not None}
        twice = {order_id for order_id, count in live.items() if count > 1}
        assert twice <= self.system.doubled, f"two tasks: {twice - self.system.doubled}"
        self._no_finished_site_is_lost()
        return self._verdicts_agree()

    def _statuses(self) -> dict[int, str]:
        return {row["id"]: row["status"] for row in self.system.sql("SELECT id, status::text FROM site_orders")}

    def _changes_are_explained(self, commands: Collection[str]) -> None:
        """Replay each order's status from the operators' log rows and the recorded moves, up to the present."""
        rows = self.system.sql(
            "SELECT id, order_id, step, details::text FROM site_generation_logs"
            " WHERE id > $1 AND step LIKE 'OPERATOR%' ORDER BY id",
            self._log_id,
        )
        self._log_id = self.system.newest_log_id()
        moves, self._moves = self.system.moves[self._moves :], len(self.system.moves)
        status = dict(self._status)
        for _, event in sorted(
            [*((row["id"], row) for row in rows), *((move.after_log_id + 0.5, move) for move in moves)],
            key=lambda item: item[0],
        ):
            if isinstance(event, Move):
                assert status[event.order_id] == event.before, (event, status[event.order_id])
                status[event.order_id] = event.after
            else:
                self._follow(event, status, commands)
        assert status == self._statuses(), (status, self._statuses(), [dict(row) for row in rows])
        self._status = status

    def _follow(self, row: Any, status: dict[int, str], commands: Collection[str]) -> None:
        order_id, step, details = row["order_id"], row["step"], json.loads(row["details"])
        assert details["actor"], row
        assert details["host"], row
        assert details["command"] in commands, (row, commands)
        undone = step.removesuffix("_FAILED")
        if undone != step:
            before = self._details[order_id, undone]
            assert status[order_id] == before.get("after", before["before"]), (row, status[order_id])
            status[order_id] = before["before"]
            return
        assert status[order_id] == details["before"], (row, status[order_id])
        status[order_id] = details.get("after", details["before"])
        self._details[order_id, step.removesuffix("_BEGIN")] = details
        if step in _PROMISES and details["task_id"]:
            self._promised.add((details["task_id"], order_id))

    def _tasks_were_announced(self) -> None:
        for each in self.system.unfinished():
            if each.is_ours:
                assert (each.task_id, each.order_id) in self._promised, f"no log row announced task {each.task_id}"

    def _no_finished_site_is_lost(self) -> None:
        lost = self.system.finished.keys() - self.system.complete_sites()
        assert not lost, {mark: self.system.finished[mark] for mark in lost}
        for order_id, status in self._status.items():
            if status in ("REVIEW", "DELIVERED"):
                assert self.system.made_by(order_id) is not None, f"{order_id} is {status} and has no site"

    def _verdicts_agree(self) -> Snapshot:
        live, orphans = self.system.live(), {held.order_id for held in self.system.orphans()}
        unreachable, recent = self.system.unreachable_orders(), self._runs_that_may_go_on()
        snapshot = self.system.observe()
        assert not snapshot.unanswered, snapshot.unanswered
        for order_id, status in self._status.items():
            condition = snapshot.diagnose(order_id).condition if order_id in snapshot.orders else None
            count = live[order_id]
            report = f"{order_id} is {status} with {count} tasks and diagnosed as {condition}"
            if count and order_id in unreachable:
                # If two deliveries have one tag, only that of a responding worker is reported.
                others = _IN_PROGRESS | {Condition.DUPLICATED} if count > 1 else {Condition.SETTLING, Condition.FAILED}
                assert condition in others | {Condition.UNKNOWN} or status not in ("BUILDING", "GENERATING"), report
            elif count > 1:
                assert condition is Condition.DUPLICATED, report
            elif status == "CANCELLED" and count:
                # One that no worker has is undecided until its time limit has passed.
                assert condition in (
                    {Condition.GHOST, Condition.UNKNOWN} if order_id in orphans else {Condition.GHOST}
                ), report
            elif count and status in ("REVIEW", "DELIVERED"):
                assert condition in _IN_PROGRESS | _AT_NO_WORKER | {Condition.GHOST}, report
            elif count:
                assert condition in (_AT_NO_WORKER if order_id in orphans else _IN_PROGRESS), report
            elif status == "GENERATING":
                assert condition in _WITHOUT_TASK | ({Condition.UNKNOWN} if order_id in recent else set()), report
            elif status == "BUILDING":
                assert condition in _BUILDING, report
            else:
                assert condition in (None, Condition.DONE, Condition.CANCELLED, Condition.WAITING), report
        return snapshot

    def _runs_that_may_go_on(self) -> set[int]:
        """The orders whose last run has no outcome and began less than the hard limit ago."""
        rows = self.system.sql(
            "SELECT order_id FROM site_generation_logs GROUP BY order_id HAVING"
            " max(id) FILTER (WHERE step IN ('START', 'RESUME'))"
            " > coalesce(max(id) FILTER (WHERE step IN ('SUCCESS', 'SKIP', 'ERROR')), 0)"
            " AND max(created_at) FILTER (WHERE step IN ('START', 'RESUME')) > localtimestamp - $1::interval",
            DEFAULT_HARD_LIMIT + LIMIT_MARGIN,
        )
        return {row["order_id"] for row in rows}

    def nothing_to_repair(self) -> None:
        """Assert that no order has a fault that a command would repair."""
        snapshot = self.check({"maintain"})
        for order_id in snapshot.known_ids():
            diagnosis = snapshot.diagnose(order_id)
            order = snapshot.orders.get(order_id)
            if order is None:
                # A missing order with an undated message may still be written.
                allowed = _FINAL | {Condition.UNKNOWN}
            else:
                allowed = _FINAL | ({Condition.FAILED} if order.history.attempts >= MAX_ATTEMPTS else set())
            assert diagnosis.condition in allowed, (order_id, diagnosis, self.system.steps(order_id))

    def nothing_is_concluded_from_silence(self, worker: SimulatedWorker, result: CommandResult) -> None:
        """Assert that an order whose worker does not respond is unknown."""
        conditions = {row["order_id"]: row["condition"] for row in result.data["orders"]}
        live = self.system.live()
        for held in worker.claimed:
            unfinished = held.order_id is not None and self._status.get(held.order_id) in ("BUILDING", "GENERATING")
            if live[held.order_id] == 1 and held.order_id in conditions and unfinished:
                assert conditions[held.order_id] == "unknown", (held.order_id, conditions)

    def outcomes_are_true(self, result: CommandResult) -> None:
        """Assert that what a command reports as done is so."""
        ids = [each.task_id for each in self.system.unfinished()]
        running = [held.task_id for worker in self.system.workers for held in worker.held]
        for outcome in result.outcomes:
            if outcome["outcome"] != "done":
                continue
            assert outcome["after"] == self.system.order_status(outcome["order_id"]), outcome
            if outcome["task_id"] is not None:
                assert ids.count(outcome["task_id"]) == 1 or outcome["task_id"] in running, outcome

    def statuses_are_true(self, result: CommandResult) -> None:
        """Assert that each order has the status that the command reported last, done or not."""
        last = {outcome["order_id"]: outcome for outcome in result.outcomes if outcome["after"] is not None}
        for order_id, outcome in last.items():
            assert outcome["after"] == self.system.order_status(order_id), outcome

    def failures_changed_nothing(self, result: CommandResult) -> None:
        """Assert that failed transitions were rolled back, which a reachable database always allows."""
        self.statuses_are_true(result)
        last = {outcome["order_id"]: outcome for outcome in result.outcomes}
        for order_id, outcome in last.items():
            if outcome["outcome"] == "failed" and outcome["before"] is None:
                # An order of a later batch: a source was lost before its status was read.
                assert outcome["reason"].startswith(("not attempted: ", "not planned: ")), outcome
            elif outcome["outcome"] == "failed":
                assert outcome["before"] == self.system.order_status(order_id), outcome
