"""What a sequence of the stateful test begins with, what must hold after each of its steps, and at its end."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.support.audit import Audit
from tests.support.operators import ALL, MISSING, operate
from tests.support.simulated_system import LivingSystem
from tests.support.situations import begin, situation


class Watched(RuleBasedStateMachine):
    """Orders that are looked after, whoever moves them."""

    def __init__(self, system: LivingSystem) -> None:
        super().__init__()
        self.system = system
        self.audit = Audit(system)
        self.sound = True
        #: How many tasks each order had before the command.
        self.had: Counter[int | None] = Counter()
        #: Orders that the backend has committed and not published yet; whether an operator has named them since.
        self.pending: dict[int, bool] = {}

    @initialize(begun=st.lists(situation, min_size=5, max_size=5), workers=st.integers(0, 2))
    def some_orders_are_there(self, begun: list[str], workers: int) -> None:
        system = self.system
        begin(system, begun)
        for _ in range(workers):
            system.hire()
        self.audit.begin()

    @contextlib.contextmanager
    def checked(self, *commands: Sequence[str]) -> Iterator[None]:
        """Everything is checked after it; ``commands`` are the operators' command lines that are run in it."""
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
        """Whatever has happened: maintenance mends all of it, and what it hands to workers gets done."""
        if not self.sound:
            return
        system = self.system
        self.maintain()
        for worker in list(system.workers):
            worker.ripen()
            while worker.running:
                self.system.step(worker, "finish")
        self.maintain()
        self.audit.all_is_whole()
        with self.checked(["queue", "resume"]):
            operate("queue", "resume")
        with self.checked():
            # On Celery workers hold what is due later, on RQ nobody does.
            system.an_hour_passes()
            worker = system.hire()
            while worker.take():
                worker.ripen()
                if worker.running:
                    self.system.step(worker, "finish")
        assert not system.live().keys() - {MISSING}
        rows = system.sql("SELECT id FROM site_orders WHERE status = 'GENERATING'")
        for order_id in (row["id"] for row in rows):
            assert not system.is_ready(order_id) or system.steps(order_id).count("ERROR") >= 3, system.steps(order_id)

    def maintain(self) -> None:
        self.system.clock_step(timedelta(hours=3))
        with self.checked(["maintain"]):
            told = operate("maintain")
            # Of two copies under one id one may run: nothing can be done about the other.
            assert told.code in (0, 4) or (told.code == 1 and self.system.doubled), told
