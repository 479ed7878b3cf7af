"""Random sequences of everything that can happen to the system, on real servers; what must hold is checked after each.

The suite runs a few fixed examples. ``STATEFUL_EXAMPLES=500 pytest tests/integration/test_stateful.py``
searches for others and shrinks what it finds.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.rq.queue import RqQueue
from tests.support.audit import Audit
from tests.support.simulated_rq import SimulatedRqSystem
from tests.support.simulated_system import BEAT, SimulatedSystem, simulated_system
from tests.support.stateful import (
    ALL,
    BEFORE,
    MISSING,
    ORDERS,
    PLANNED,
    Died,
    any_moment,
    at_failpoint,
    command_lines,
    commands,
    create_orders,
    die,
    in_thread,
    moments,
    one_order,
    repairing,
    revoking_lines,
    rivals,
    run_command,
    situations,
    some_orders,
    with_orders,
)

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "0"))
_ANY = {"print_blob": True, "suppress_health_check": list(HealthCheck)}
PROFILE = (
    settings(max_examples=EXAMPLES, stateful_step_count=40, **_ANY)
    if EXAMPLES
    # Shrinking takes minutes: after a failure, run the test as above.
    else settings(
        max_examples=7, stateful_step_count=20, derandomize=True, phases=[Phase.explicit, Phase.generate], **_ANY
    )
)

#: Decisions are made above the backend, so fewer examples are enough on RQ.
EXAMPLES_ON_RQ = 3

SYSTEMS: dict[str, type[SimulatedSystem]] = {"celery": SimulatedSystem, "rq": SimulatedRqSystem}


def _profile(system: SimulatedSystem) -> settings:
    return settings(PROFILE, max_examples=EXAMPLES_ON_RQ) if system.backend == "rq" and not EXAMPLES else PROFILE


#: Seconds that bound a hang: the test takes half a minute on an idle machine.
PATIENCE = 300


class Orders(RuleBasedStateMachine):
    """Operators, workers, servers, the backend and customers act in turn; everything is checked after each step."""

    def __init__(self, system: SimulatedSystem) -> None:
        super().__init__()
        self.system = system
        self.audit = Audit(system)
        self.sound = True
        #: How many tasks each order had before the command.
        self.had: Counter[int | None] = Counter()
        #: Orders that the backend has committed and not published yet; whether an operator has named them since.
        self.pending: dict[int, bool] = {}

    @initialize(situations=situations, workers=st.integers(0, 2))
    def start(self, situations: list[str], workers: int) -> None:
        create_orders(self.system, situations)
        for _ in range(workers):
            self.system.start_worker()
        self.audit.begin()

    @contextlib.contextmanager
    def checked(self, *commands: Sequence[str]) -> Iterator[None]:
        """Check everything after the block, in which these command lines are run."""
        self.sound = False
        self.had = self.system.live()
        for command in commands:
            self.pending.update({order: True for order in self.pending if {str(order), ALL} & {*command}})
        self.system.meddled.clear()
        yield
        self.system.meddling = False
        if commands:
            got = {
                order_id
                for order_id, count in self.system.live().items()
                if count > max(self.had[order_id], 1) and order_id not in self.system.meddled
            }
            assert not got, f"{got} got another task by {commands}"
        names = {" ".join(command[:2]) if command[0] == "queue" else command[0] for command in commands if command}
        self.audit.check(names)
        self.sound = True

    def teardown(self) -> None:
        """Assert that maintenance repairs whatever has happened, and that workers then generate every order."""
        if not self.sound:
            return
        system = self.system
        self.maintain()
        for worker in list(system.workers):
            worker.make_due()
            while worker.running:
                self.system.step(worker, "finish")
        self.maintain()
        self.audit.nothing_to_repair()
        with self.checked(["queue", "resume"]):
            run_command("queue", "resume")
        with self.checked():
            # Celery workers hold scheduled tasks; on RQ they wait in Redis.
            system.an_hour_passes()
            worker = system.start_worker()
            while worker.take():
                worker.make_due()
                if worker.running:
                    self.system.step(worker, "finish")
        assert not system.live().keys() - {MISSING}
        rows = system.sql("SELECT id FROM site_orders WHERE status = 'GENERATING'")
        for order_id in (row["id"] for row in rows):
            assert not system.is_ready(order_id) or system.steps(order_id).count("ERROR") >= 3, system.steps(order_id)

    def maintain(self) -> None:
        self.system.clock_step(timedelta(hours=3))
        with self.checked(["maintain"]):
            result = run_command("maintain")
            # Of two copies under one id one may run, and the other cannot be removed.
            assert result.code in (0, 4) or (result.code == 1 and self.system.doubled), result

    # --- operators ----------------------------------------------------------------------------------------

    @rule(arguments=commands, force=st.booleans())
    def operator(self, arguments: list[str], force: bool) -> None:
        if force and arguments[0] in ("enqueue", "reset", "retry-failed"):
            arguments = [*arguments, "--force"]
        with self.checked(arguments):
            result = run_command(*arguments)
            assert result.code in (0, 4), result
            self.audit.outcomes_are_true(result)

    @rule(arguments=commands)
    def operator_undoes_a_command(self, arguments: list[str]) -> None:
        with self.checked(arguments, ["undo"]):
            before = self.system.facts(ORDERS)
            result = run_command(*arguments)
            if arguments[0] != "undo" and (operation := (result.data or {}).get("operation")):
                undone = run_command("undo", operation)
                assert undone.code in (0, 4), undone
                self.audit.outcomes_are_true(undone)
                after = self.system.facts(ORDERS)
                for outcome in undone.outcomes:
                    if outcome["outcome"] == "done":
                        order_id = outcome["order_id"]
                        assert after[order_id] == before[order_id].undone, (outcome, before[order_id])
                    assert outcome["reason"], outcome

    @rule(arguments=commands)
    def dry_run(self, arguments: list[str]) -> None:
        if arguments[0] == "queue":
            arguments = ["queue", "purge"]
        with self.checked([]):
            before = self.system.dump()
            assert run_command(*arguments, "--dry-run").code in (0, 4)
            assert run_command("inspect", "orders").code == 0
            assert self.system.dump() == before

    @rule(arguments=commands, at=moments)
    def operator_dies(self, arguments: list[str], at: int) -> None:
        with self.checked(arguments), contextlib.suppress(Died), at_failpoint(self.system, at, die):
            run_command(*arguments)

    @rule(pair=rivals, at=moments)
    def two_operators(self, pair: tuple[list[str], list[str]], at: int) -> None:
        first, second = pair

        def happens() -> None:
            result = run_command(*second)
            assert result.code in (0, 1, 4, 6), result

        with self.checked(first, second), at_failpoint(self.system, at, lambda: in_thread(happens)):
            result = run_command(*first)
            assert result.code in (0, 1, 4), result

    @rule(arguments=commands, at=any_moment, which=st.sampled_from(["redis", "postgres"]), data=st.data())
    def a_server_fails(self, arguments: list[str], at: int, which: str, data: st.DataObject) -> None:
        """It restarts during a command, or is down until the command has ended; Redis may also forget."""
        stays_away = data.draw(st.booleans(), label="stays away")
        forgets = which == "redis" and data.draw(st.booleans(), label="forgets")
        is_away = False

        def stop() -> None:
            nonlocal is_away
            self.system.stop_redis(forgets=forgets) if which == "redis" else self.system.stop_postgres()
            is_away = True

        def start() -> None:
            nonlocal is_away
            if is_away:
                self.system.start_redis() if which == "redis" else self.system.start_postgres()
            is_away = False

        def happens() -> None:
            stop()
            if not stays_away:
                start()

        with self.checked(arguments):
            try:
                with at_failpoint(self.system, at, lambda: in_thread(happens)):
                    result = run_command(*arguments)
                assert result.code in (0, 1, 3, 4), result
            finally:
                start()
            self.audit.statuses_are_true(result)

    @rule(arguments=commands, at=any_moment)
    def redis_is_full_under_a_command(self, arguments: list[str], at: int) -> None:
        """Redis refuses writes until the command has ended: nothing can be published."""
        with self.checked(arguments):
            try:
                with at_failpoint(self.system, at, lambda: self.system.client.config_set("maxmemory", 1)):
                    result = run_command(*arguments)
                assert result.code in (0, 1, 3, 4), result
            finally:
                self.system.client.config_set("maxmemory", 0)
            self.audit.failures_changed_nothing(result)

    @precondition(lambda self: self.system.workers)
    @rule(
        words=revoking_lines | command_lines,
        at=st.sampled_from([BEFORE, PLANNED, 1, 2, 2, 3, 4]),
        steps=st.sampled_from(["take", "take work", "take finish", "take finish", "work", "finish", "fail", "die"]),
        data=st.data(),
    )
    def a_worker_moves_under_a_command(self, words: list[str], at: int, steps: str, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.system.workers), label="worker")
        next_order = self.system.next_order(worker)
        # Most often a command about the order that the worker has, or will take next.
        orders = data.draw(st.just([str(next_order)]) | some_orders if next_order else some_orders, label="orders")
        arguments = with_orders(words, orders)

        def happens() -> None:
            for step in steps.split():
                self.system.step(worker, step)

        with self.checked(arguments), at_failpoint(self.system, at, lambda: in_thread(happens)):
            result = run_command(*arguments)
            assert result.code in (0, 1, 4), result

    @precondition(lambda self: any(worker.running for worker in self.system.workers))
    @rule(arguments=commands, at=any_moment, data=st.data())
    def a_worker_is_silent_under_a_command(self, arguments: list[str], at: int, data: st.DataObject) -> None:
        system = self.system
        worker = data.draw(st.sampled_from([worker for worker in system.workers if worker.running]), label="worker")
        # A task that a silent worker runs and Redis has forgotten leaves no trace at all.
        falls_silent = not system.forgotten()

        def happens() -> None:
            worker.silent = falls_silent

        with self.checked(arguments):
            try:
                with at_failpoint(self.system, at, happens):
                    result = run_command(*arguments, "--timeout", "1s")
                assert result.code in (0, 1, 3, 4), result
                if worker.silent:
                    result = run_command("inspect", "orders", "--timeout", "1s", "--limit", "100")
                    self.audit.nothing_is_concluded_from_silence(worker, result)
            finally:
                worker.silent = False

    @precondition(lambda self: any(worker.running for worker in self.system.workers))
    @rule(arguments=repairing, at=st.sampled_from([PLANNED, 1, 2]), data=st.data())
    def a_worker_comes_back_under_a_command(self, arguments: list[str], at: int, data: st.DataObject) -> None:
        """It has lost its connection and looks dead, until just before the command acts on that."""
        busy = [worker for worker in self.system.workers if worker.running]
        worker = data.draw(st.sampled_from(busy), label="worker")

        with self.checked(arguments):
            self.system.lose(worker)
            try:
                with at_failpoint(self.system, at, worker.connect):
                    result = run_command(*arguments)
                assert result.code in (0, 1, 4), result
            finally:
                if not worker.is_connected:
                    worker.connect()

    @rule(
        arguments=commands,
        at=st.just(PLANNED) | moments,
        how=st.sampled_from(["generates", "resets", "publishes"]),
        data=st.data(),
    )
    def the_backend_meddles(self, arguments: list[str], at: int, how: str, data: st.DataObject) -> None:
        def happens() -> None:
            # Most often it is about an order of the command's plan.
            planned = [order_id for order_id in plan if order_id != MISSING]
            order_id = data.draw(st.sampled_from(planned or ORDERS), label="order")
            in_thread(lambda: meddle(order_id))

        def meddle(order_id: int) -> None:
            if how == "generates":
                self.system.backend_generates(order_id)
            elif how == "resets":
                self.system.backend_resets(order_id)
            elif self.system.order_status(order_id) == "GENERATING":
                self.system.send(order_id)
            if at == PLANNED:
                # The command has yet to read the queue, and must find this there.
                self.had = self.system.live()

        with self.checked(arguments), at_failpoint(self.system, at, happens) as plan:
            result = run_command(*arguments)
            assert result.code in (0, 1, 4), result

    # --- workers ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.system.workers) < 2)
    @rule()
    def a_worker_starts(self) -> None:
        with self.checked():
            self.system.start_worker()

    @precondition(lambda self: any(worker.takes for worker in self.system.workers))
    @rule(data=st.data(), count=st.integers(1, 3))
    def workers_take(self, data: st.DataObject, count: int) -> None:
        with self.checked():
            for _ in range(count):
                self.system.step(data.draw(st.sampled_from(self.system.workers)), "take")

    @precondition(lambda self: any(worker.running for worker in self.system.workers))
    @rule(
        data=st.data(),
        files=st.integers(0, 6),
        ending=st.sampled_from(["work", "finish", "finish", "fail", "retry", "die", "finish and die", "fail and die"]),
    )
    def a_worker_works(self, data: st.DataObject, files: int, ending: str) -> None:
        busy = [worker for worker in self.system.workers if worker.running]
        with self.checked():
            self.system.step(data.draw(st.sampled_from(busy)), ending, files=files)

    @precondition(lambda self: self.system.workers)
    @rule()
    def an_hour_passes_for_messages(self) -> None:
        """Scheduled tasks become due, and kombu requeues what was not acknowledged."""
        with self.checked():
            self.system.an_hour_passes()

    @precondition(lambda self: self.system.backend == "celery" and self.system.workers)
    @rule(
        how=st.sampled_from(["shuts down", "loses its subscription", "has its task redelivered"]),
        data=st.data(),
    )
    def a_worker_goes_out_of_reach(self, how: str, data: st.DataObject) -> None:
        """It goes on without responding; or its task is delivered a second time."""
        worker = data.draw(st.sampled_from(self.system.workers), label="worker")
        with self.checked():
            if how == "has its task redelivered":
                self.system.redeliver(worker)
            else:
                self.system.make_unreachable(worker, shuts_down=how == "shuts down")

    @precondition(lambda self: self.system.backend == "celery")
    @rule(what=st.sampled_from(["is pushed twice", "is revoked by another client"]))
    def a_message(self, what: str) -> None:
        with self.checked():
            if what == "is pushed twice":
                self.system.push_again()
            else:
                self.system.revoke_by_another_client()

    @precondition(lambda self: self.system.backend == "celery")
    @rule(forgets=st.booleans())
    def redis_restarts(self, forgets: bool) -> None:
        with self.checked():
            self.system.stop_redis(forgets=forgets)
            self.system.start_redis()

    # --- time, the backend, and people --------------------------------------------------------------------

    @rule(minutes=st.sampled_from([-3, 3, 20, 180]))
    def clock_step(self, minutes: int) -> None:
        with self.checked():
            self.pending.clear()
            self.system.clock_step(timedelta(minutes=minutes))

    @rule(
        order_id=one_order | st.just(MISSING),
        what=st.sampled_from(
            [
                "generates",
                "publishes later",
                "resets",
                "sends a stray",
                "sends beat",
                "the customer completes the onboarding",
                "the customer cancels",
                "it is delivered",
            ]
        ),
    )
    def the_backend_and_people(self, order_id: int, what: str) -> None:
        system = self.system
        with self.checked():
            status = system.order_status(order_id)
            if what == "sends beat":
                system.send_task(BEAT)
            elif what == "sends a stray" and status not in ("BUILDING", "GENERATING"):
                system.send(order_id)
            elif status is None:
                return
            elif what == "resets":
                system.backend_resets(order_id)
            elif what in ("generates", "publishes later") and status == "BUILDING":
                had_task = system.live()[order_id]
                system.backend_generates(order_id, publishes=what == "generates")
                if what == "publishes later" and not had_task:
                    self.pending[order_id] = False
            elif what == "the customer completes the onboarding":
                system.customer_completes(order_id)
            elif what == "the customer cancels":
                system.move(order_id, "CANCELLED")
            elif what == "it is delivered" and status == "REVIEW":
                system.move(order_id, "DELIVERED")

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def the_backend_publishes_at_last(self, data: st.DataObject) -> None:
        order_id = data.draw(st.sampled_from(sorted(self.pending)))
        with self.checked():
            was_named = self.pending.pop(order_id)
            assert was_named or not self.system.live()[order_id], (
                f"{order_id} got a task before its first was published"
            )
            self.system.send(order_id)


class OrdersAndARealWorker(Orders):
    """Ends with a real worker that is killed with -9, before maintenance repairs everything."""

    def teardown(self) -> None:
        if self.sound:
            self.sound = False
            self.system.kill_workers()
            self.system.client.flushall()
            self.maintain()
            with self.checked(["reset", "1", "2"]):
                run_command("reset", "1", "2")
            process = self.system.start_real_worker()
            # Its task is neither removed nor requeued.
            self.maintain()
            self.system.kill_real_worker(process)
        super().teardown()


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> Iterator[SimulatedSystem]:
    kind = SYSTEMS[request.param]
    with (
        tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder,
        simulated_system(Path(folder), kind) as system,
    ):
        yield system


@pytest.fixture
def configured(system: SimulatedSystem, monkeypatch: pytest.MonkeyPatch) -> SimulatedSystem:
    system.configure(monkeypatch)
    for queue in (CeleryQueue, RqQueue):
        monkeypatch.setattr(queue, "new_task_id", lambda _: system.new_id())
    # Longer than any example takes on a busy machine: only `clock_step` lets time pass.
    monkeypatch.setenv("SITEGENCTL_GRACE", "10m")
    # Small enough for a plan of a few orders to take several batches.
    monkeypatch.setattr("sitegenctl.operations.execute.BATCH_SIZE", 2)
    monkeypatch.setattr("sitegenctl.operations.planner.BATCH_SIZE", 3)
    # Each example runs many commands within a minute.
    monkeypatch.setattr("sitegenctl.domain.plans.undo.CLOSE", timedelta(0))
    # Nothing changes during a command unless the test makes it so: it need not wait before it reads again.
    for name in (
        "operations.observe.CONFIRM_DELAY",
        "operations.batch.CONFIRM_DELAY",
        "adapters.broker.restore.RECHECK_DELAY",
    ):
        monkeypatch.setattr(f"sitegenctl.{name}", 0.0)
    return system


@pytest.mark.timeout(0 if EXAMPLES else PATIENCE)
def test_no_order_is_lost_or_generated_twice(configured: SimulatedSystem) -> None:
    run_state_machine_as_test(lambda: Orders(configured), settings=_profile(configured))


@pytest.mark.timeout(0 if EXAMPLES else PATIENCE)
def test_no_order_is_lost_when_a_real_worker_is_killed(configured: SimulatedSystem) -> None:
    few = settings(_profile(configured), max_examples=max(2, EXAMPLES // 20), stateful_step_count=10)
    run_state_machine_as_test(lambda: OrdersAndARealWorker(configured), settings=few)
