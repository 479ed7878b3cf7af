"""What must hold at every moment, whatever operators, workers, servers, the backend and people have just done.

Found out from the servers and files themselves; sitegenctl is only asked for its verdicts, which must agree.
"""

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
from tests.support.operators import Told
from tests.support.simulated_system import LivingSystem, Move
from tests.support.simulated_worker import SimulatedWorker

IN_HAND = {Condition.RUNNING, Condition.QUEUED, Condition.SCHEDULED, Condition.RETRYING}
#: What a GENERATING order without a task may be: each is a fault that is named, but for the one that may settle.
IN_NO_HAND = {
    Condition.BLOCKED,
    Condition.SETTLING,
    Condition.FAILED,
    Condition.INTERRUPTED,
    Condition.EMPTY,
}
#: What an order may be whose delivery no worker has: unknown until its time limit has passed.
AT_NO_WORKER = {Condition.UNKNOWN, Condition.ORPHANED}
READY_IN_NO_HAND = {Condition.HELD, Condition.UNSTARTED, Condition.SETTLING, Condition.WAITING}
#: What needs nobody, or a person.
WHOLE = IN_HAND | {Condition.BLOCKED, Condition.HELD, Condition.WAITING, Condition.DONE, Condition.CANCELLED}

_PROMISES = {"OPERATOR_ENQUEUE", "OPERATOR_RESET", "OPERATOR_REPAIR"}


@dataclass
class Audit:
    """Everything that is known of one system since it was empty."""

    system: LivingSystem
    _status: dict[int, str] = field(default_factory=dict)
    _log_id: int = 0
    _moves: int = 0
    _promised: set[tuple[str, int]] = field(default_factory=set)
    _claims: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)

    def begin(self) -> None:
        """Take what is there as given."""
        self._status = self._statuses()
        self._log_id = self.system.newest_log_id()

    def check(self, commands: Collection[str] = ()) -> Snapshot:
        """Everything; ``commands`` are those that operators have run since the last time."""
        self._changes_are_explained(commands)
        self._our_tasks_were_announced()
        live = self.system.live()
        self.system.doubled &= {order_id for order_id, count in live.items() if count > 1 and order_id is not None}
        twice = {order_id for order_id, count in live.items() if count > 1}
        assert twice <= self.system.doubled, f"two tasks: {twice - self.system.doubled}"
        self._no_finished_site_is_gone()
        return self._verdicts_agree()

    def _statuses(self) -> dict[int, str]:
        return {row["id"]: row["status"] for row in self.system.sql("SELECT id, status::text FROM site_orders")}

    def _changes_are_explained(self, commands: Collection[str]) -> None:
        """Follow each order's status through the journal and what others did, to where it is now."""
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
        taken_back = step.removesuffix("_FAILED")
        if taken_back != step:
            claim = self._claims[order_id, taken_back]
            assert status[order_id] == claim.get("after", claim["before"]), (row, status[order_id])
            status[order_id] = claim["before"]
            return
        assert status[order_id] == details["before"], (row, status[order_id])
        status[order_id] = details.get("after", details["before"])
        self._claims[order_id, step] = details
        if step in _PROMISES and details["task_id"]:
            self._promised.add((details["task_id"], order_id))

    def _our_tasks_were_announced(self) -> None:
        for each in self.system.unfinished():
            if each.is_ours:
                assert (each.task_id, each.order_id) in self._promised, f"nobody announced task {each.task_id}"

    def _no_finished_site_is_gone(self) -> None:
        lost = self.system.finished.keys() - self.system.whole_sites()
        assert not lost, [(made_by, self.system.finished[made_by]) for made_by in lost]
        for order_id, status in self._status.items():
            if status in ("REVIEW", "DELIVERED"):
                assert self.system.made_by(order_id) is not None, f"{order_id} is {status} and has no site"

    def _verdicts_agree(self) -> Snapshot:
        live, orphans = self.system.live(), {held.order_id for held in self.system.orphans()}
        out_of_reach, recent = self.system.out_of_reach(), self._runs_that_may_go_on()
        snapshot = self.system.look()
        assert not snapshot.unanswered, snapshot.unanswered
        for order_id, status in self._status.items():
            condition = snapshot.diagnose(order_id).condition if order_id in snapshot.orders else None
            count = live[order_id]
            seen = f"{order_id} is {status} with {count} tasks, and said to be {condition}"
            if count and order_id in out_of_reach:
                # Of two deliveries under one tag only the one is seen whose worker responds.
                others = IN_HAND | {Condition.DUPLICATED} if count > 1 else {Condition.SETTLING}
                assert condition in others | {Condition.UNKNOWN} or status not in ("BUILDING", "GENERATING"), seen
            elif count > 1:
                assert condition is Condition.DUPLICATED, seen
            elif status == "CANCELLED" and count:
                assert condition is Condition.GHOST, seen
            elif count and status in ("REVIEW", "DELIVERED"):
                assert condition in IN_HAND | AT_NO_WORKER | {Condition.GHOST}, seen
            elif count:
                assert condition in (AT_NO_WORKER if order_id in orphans else IN_HAND), seen
            elif status == "GENERATING":
                assert condition in IN_NO_HAND | ({Condition.UNKNOWN} if order_id in recent else set()), seen
            elif status == "BUILDING":
                assert condition in READY_IN_NO_HAND, seen
            else:
                assert condition in (None, Condition.DONE, Condition.CANCELLED, Condition.WAITING), seen
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

    def all_is_whole(self) -> None:
        """No order is in a fault that a command would mend."""
        snapshot = self.check({"maintain"})
        for order_id in snapshot.known_ids():
            diagnosis = snapshot.diagnose(order_id)
            used_up = (
                diagnosis.condition is Condition.FAILED and snapshot.orders[order_id].history.attempts >= MAX_ATTEMPTS
            )
            # Of an order that is missing and has an undated message nobody can say that it will not come.
            missing = order_id not in snapshot.orders and diagnosis.condition is Condition.UNKNOWN
            assert diagnosis.condition in WHOLE or used_up or missing, (order_id, diagnosis, self.log(order_id))

    def nothing_is_concluded_from_silence(self, worker: SimulatedWorker, told: Told) -> None:
        """Whose worker doesn't answer, of that order nothing is known."""
        conditions = {row["order_id"]: row["condition"] for row in told.data["orders"]}
        live = self.system.live()
        for held in worker.claimed:
            unfinished = held.order_id is not None and self._status.get(held.order_id) in ("BUILDING", "GENERATING")
            if live[held.order_id] == 1 and held.order_id in conditions and unfinished:
                assert conditions[held.order_id] == "unknown", (held.order_id, conditions)

    def outcomes_are_true(self, told: Told) -> None:
        """What a command says it has done is so."""
        ids = [each.task_id for each in self.system.unfinished()]
        running = [held.task_id for worker in self.system.workers for held in worker.held]
        for outcome in told.outcomes:
            if outcome["outcome"] != "done":
                continue
            assert outcome["after"] == self.system.order_status(outcome["order_id"]), outcome
            if outcome["task_id"] is not None:
                assert ids.count(outcome["task_id"]) == 1 or outcome["task_id"] in running, outcome

    def statuses_are_true(self, told: Told) -> None:
        """The status that a command says an order is left in, whether it was done or not, is the one that it has."""
        last = {outcome["order_id"]: outcome for outcome in told.outcomes if outcome["after"] is not None}
        for order_id, outcome in last.items():
            assert outcome["after"] == self.system.order_status(order_id), outcome

    def failures_changed_nothing(self, told: Told) -> None:
        """What could not be done was taken back: where the database answers, nothing may keep a command from that."""
        self.statuses_are_true(told)
        last = {outcome["order_id"]: outcome for outcome in told.outcomes}
        for order_id, outcome in last.items():
            if outcome["outcome"] == "failed" and outcome["before"] is None:
                # A later window, for which a source was lost: what its status was nobody has seen.
                assert outcome["reason"].startswith("it was not looked at"), outcome
            elif outcome["outcome"] == "failed":
                assert outcome["before"] == self.system.order_status(order_id), outcome

    def log(self, order_id: int) -> list[str]:
        return self.system.steps(order_id)
