"""Random sequences of everything that can happen to the system, on real servers; what must hold is checked after each.

The suite runs a few fixed examples. ``STATEFUL_EXAMPLES=500 pytest tests/integration/test_stateful.py``
searches for others and shrinks what it finds.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.adapters.rq.queue import RqQueue
from tests.support.machine import Watched
from tests.support.moments import BEFORE, PLANNED, Died, at_checkpoint, die, elsewhere, ever, moments
from tests.support.operators import (
    MISSING,
    ORDERS,
    about,
    command_lines,
    commands,
    mending,
    one_order,
    operate,
    rivals,
    some_orders,
    withdrawing_lines,
)
from tests.support.simulated_rq_system import RqLivingSystem
from tests.support.simulated_system import LivingSystem, living_system

EXAMPLES = int(os.environ.get("STATEFUL_EXAMPLES", "0"))
_ANY = {"print_blob": True, "suppress_health_check": list(HealthCheck)}
PROFILE = (
    settings(max_examples=EXAMPLES, stateful_step_count=40, **_ANY)
    if EXAMPLES
    # Shrinking takes minutes: to shrink a failure, run it as above.
    else settings(
        max_examples=7, stateful_step_count=20, derandomize=True, phases=[Phase.explicit, Phase.generate], **_ANY
    )
)

#: What is decided is decided above the backend: on RQ fewer examples tell whether it keeps its word.
EXAMPLES_ON_RQ = 3

SYSTEMS: dict[str, type[LivingSystem]] = {"celery": LivingSystem, "rq": RqLivingSystem}


def _profile(system: LivingSystem) -> settings:
    return settings(PROFILE, max_examples=EXAMPLES_ON_RQ) if system.backend == "rq" and not EXAMPLES else PROFILE


#: Seconds: half a minute's work, on a machine that may have four such to do for each of its cores.
PATIENCE = 300


class Orders(Watched):
    """Operators, workers, servers, the backend and people, taking turns."""

    # --- operators ----------------------------------------------------------------------------------------

    @rule(arguments=commands, force=st.booleans())
    def operator(self, arguments: list[str], force: bool) -> None:
        if force and arguments[0] in ("enqueue", "reset", "retry-failed"):
            arguments = [*arguments, "--force"]
        with self.checked(arguments):
            report = operate(*arguments)
            assert report.code in (0, 4), report
            self.audit.outcomes_are_true(report)

    @rule(arguments=commands)
    def dry_run(self, arguments: list[str]) -> None:
        if arguments[0] == "queue":
            arguments = ["queue", "purge"]
        with self.checked([]):
            before = self.system.everything()
            assert operate(*arguments, "--dry-run").code in (0, 4)
            assert operate("inspect", "orders").code == 0
            assert self.system.everything() == before

    @rule(arguments=commands, at=moments)
    def operator_dies(self, arguments: list[str], at: int) -> None:
        with self.checked(arguments), contextlib.suppress(Died), at_checkpoint(self.system, at, die):
            operate(*arguments)

    @rule(pair=rivals, at=moments)
    def two_operators(self, pair: tuple[list[str], list[str]], at: int) -> None:
        first, second = pair

        def happens() -> None:
            report = operate(*second)
            assert report.code in (0, 1, 4, 6), report

        with self.checked(first, second), at_checkpoint(self.system, at, lambda: elsewhere(happens)):
            report = operate(*first)
            assert report.code in (0, 1, 4), report

    @rule(arguments=commands, at=ever, which=st.sampled_from(["redis", "postgres"]), data=st.data())
    def a_server_fails(self, arguments: list[str], at: int, which: str, data: st.DataObject) -> None:
        """It restarts under a command, or is away until the command has ended; Redis may also forget."""
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
                with at_checkpoint(self.system, at, lambda: elsewhere(happens)):
                    report = operate(*arguments)
                assert report.code in (0, 1, 3, 4), report
            finally:
                start()
            self.audit.statuses_are_true(report)

    @rule(arguments=commands, at=ever)
    def redis_is_full_under_a_command(self, arguments: list[str], at: int) -> None:
        """It refuses what would take memory, until the command has ended: nothing can be published."""
        with self.checked(arguments):
            try:
                with at_checkpoint(self.system, at, lambda: self.system.limit_redis(1)):
                    report = operate(*arguments)
                assert report.code in (0, 1, 3, 4), report
            finally:
                self.system.limit_redis(0)
            self.audit.failures_changed_nothing(report)

    @precondition(lambda self: self.system.workers)
    @rule(
        words=withdrawing_lines | command_lines,
        at=st.sampled_from([BEFORE, PLANNED, 1, 2, 2, 3, 4]),
        steps=st.sampled_from(["take", "take work", "take finish", "take finish", "work", "finish", "fail", "die"]),
        data=st.data(),
    )
    def a_worker_moves_under_a_command(self, words: list[str], at: int, steps: str, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.system.workers), label="worker")
        at_hand = self.system.at_hand(worker)
        # Most of the time a command about the very order that the worker has, or is about to have.
        orders = data.draw(st.just([str(at_hand)]) | some_orders if at_hand else some_orders, label="orders")
        arguments = about(words, orders)

        def happens() -> None:
            for step in steps.split():
                self.system.step(worker, step)

        with self.checked(arguments), at_checkpoint(self.system, at, lambda: elsewhere(happens)):
            report = operate(*arguments)
            assert report.code in (0, 1, 4), report

    @precondition(lambda self: any(worker.running for worker in self.system.workers))
    @rule(arguments=commands, at=ever, data=st.data())
    def a_worker_is_silent_under_a_command(self, arguments: list[str], at: int, data: st.DataObject) -> None:
        system = self.system
        worker = data.draw(st.sampled_from([worker for worker in system.workers if worker.running]), label="worker")
        # A task that a silent worker runs and Redis has lost is unknowable.
        falls_silent = not system.forgotten()

        def happens() -> None:
            worker.silent = falls_silent

        with self.checked(arguments):
            try:
                with at_checkpoint(self.system, at, happens):
                    report = operate(*arguments, "--timeout", "1s")
                assert report.code in (0, 1, 3, 4), report
                if worker.silent:
                    report = operate("inspect", "orders", "--timeout", "1s", "--limit", "100")
                    self.audit.nothing_is_concluded_from_silence(worker, report)
            finally:
                worker.silent = False

    @precondition(lambda self: any(worker.running for worker in self.system.workers))
    @rule(arguments=mending, at=st.sampled_from([PLANNED, 1, 2]), data=st.data())
    def a_worker_comes_back_under_a_command(self, arguments: list[str], at: int, data: st.DataObject) -> None:
        """A worker that lost its connection looks dead until just before the command acts on it."""
        busy = [worker for worker in self.system.workers if worker.running]
        worker = data.draw(st.sampled_from(busy), label="worker")

        with self.checked(arguments):
            self.system.lose(worker)
            try:
                with at_checkpoint(self.system, at, worker.connect):
                    report = operate(*arguments)
                assert report.code in (0, 1, 4), report
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
            # Most of the time it is about an order that the command is about to move.
            planned = [order_id for order_id in moment.planned if order_id != MISSING]
            order_id = data.draw(st.sampled_from(planned or ORDERS), label="order")
            elsewhere(lambda: meddle(order_id))

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

        with self.checked(arguments), at_checkpoint(self.system, at, happens) as moment:
            report = operate(*arguments)
            assert report.code in (0, 1, 4), report

    # --- workers ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.system.workers) < 2)
    @rule()
    def a_worker_starts(self) -> None:
        with self.checked():
            self.system.hire()

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
        """Tasks with an ETA become due, and kombu restores unacknowledged messages."""
        with self.checked():
            self.system.an_hour_passes()

    @precondition(lambda self: self.system.backend == "celery" and self.system.workers)
    @rule(
        how=st.sampled_from(["shuts down", "loses its subscription", "has its task redelivered"]),
        data=st.data(),
    )
    def a_worker_goes_out_of_reach(self, how: str, data: st.DataObject) -> None:
        """It does not respond any more, and goes on; or what it runs is delivered once more."""
        worker = data.draw(st.sampled_from(self.system.workers), label="worker")
        with self.checked():
            if how == "has its task redelivered":
                self.system.redeliver(worker)
            else:
                self.system.go_out_of_reach(worker, shuts_down=how == "shuts down")

    @precondition(lambda self: self.system.backend == "celery")
    @rule(what=st.sampled_from(["is pushed twice", "is revoked elsewhere"]))
    def a_message(self, what: str) -> None:
        with self.checked():
            if what == "is pushed twice":
                self.system.push_again()
            else:
                self.system.revoke_elsewhere()

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
                system.send_beat()
            elif what == "sends a stray" and status not in ("BUILDING", "GENERATING"):
                system.send(order_id)
            elif status is None:
                return
            elif what == "resets":
                system.backend_resets(order_id)
            elif what in ("generates", "publishes later") and status == "BUILDING":
                system.backend_generates(order_id, publishes=what == "generates")
                if what == "publishes later":
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
            assert was_named or not self.system.live()[order_id], f"{order_id} was on its way, and got another task"
            self.system.send(order_id)


class OrdersAndARealWorker(Orders):
    """Ends with a real worker that is killed with -9, before maintenance fixes everything."""

    def teardown(self) -> None:
        if self.sound:
            self.sound = False
            self.system.bury()
            self.system.client.flushall()
            self.maintain()
            with self.checked(["reset", "1", "2"]):
                operate("reset", "1", "2")
            with self.system.real_worker() as process:
                # What it has is neither taken from it nor given to anybody else.
                self.maintain()
                self.system.kill_really(process)
        super().teardown()


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> Iterator[LivingSystem]:
    kind = SYSTEMS[request.param]
    with tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder, living_system(Path(folder), kind) as system:
        yield system


@pytest.fixture
def configured(system: LivingSystem, monkeypatch: pytest.MonkeyPatch) -> LivingSystem:
    system.configure(monkeypatch)
    for queue in (CeleryQueue, RqQueue):
        monkeypatch.setattr(queue, "new_task_id", lambda _: system.new_id())
    # Longer than any example takes on a busy machine: time passes where a test says so.
    monkeypatch.setenv("SITEGENCTL_GRACE", "10m")
    # Small enough for a plan of a few orders to be made and applied in several parts.
    monkeypatch.setattr("sitegenctl.operations.execute.BATCH_SIZE", 2)
    monkeypatch.setattr("sitegenctl.operations.planners.BATCH_SIZE", 3)
    # Nothing changes between two readings unless a test does it: no delay is needed.
    for name in (
        "operations.observe.CONFIRM_DELAY",
        "operations.batch.CONFIRM_DELAY",
        "adapters.broker.restore.RECHECK_DELAY",
    ):
        monkeypatch.setattr(f"sitegenctl.{name}", 0.0)
    return system


@pytest.mark.timeout(0 if EXAMPLES else PATIENCE)
def test_no_order_is_lost_or_generated_twice(configured: LivingSystem) -> None:
    run_state_machine_as_test(lambda: Orders(configured), settings=_profile(configured))


@pytest.mark.timeout(0 if EXAMPLES else PATIENCE)
def test_no_order_is_lost_when_a_real_worker_is_killed(configured: LivingSystem) -> None:
    few = settings(_profile(configured), max_examples=max(2, EXAMPLES // 20), stateful_step_count=10)
    run_state_machine_as_test(lambda: OrdersAndARealWorker(configured), settings=few)
