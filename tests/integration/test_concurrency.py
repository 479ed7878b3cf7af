"""Eight processes change the same orders while two workers generate them: each exactly once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.domain.plans.plan import OperationResult
from sitegenctl.operations import failpoints as failpoints
from sitegenctl.operations.execute import execute_plan
from sitegenctl.operations.failpoints import Failpoint
from sitegenctl.operations.planner import Selection
from sitegenctl.operations.reset_planner import ResetPlanner
from sitegenctl.session import Session
from tests.support import processes
from tests.support.rq_world import RqWorld
from tests.support.world import QUEUE, World, eventually

#: RQ has a process for each task, which takes longer to make than the site.
ORDERS = {"celery": 200, "rq": 24}
#: How often each operator runs its command.
TIMES = {"celery": 3, "rq": 1}

# A process that has started, waits until all have, and runs its command again and again; it prints the exit codes.
_OPERATOR = """
import contextlib, io, sys, time
from pathlib import Path
from sitegenctl.cli.app import run
from sitegenctl.cli.commands import enqueue, maintain
from sitegenctl.adapters.celery import messages, queue as celery_queue
from sitegenctl.adapters.postgres import orders
from sitegenctl.adapters.rq import library, queue as rq_queue
from sitegenctl.operations import execute, maintain
ready, gate = Path(sys.argv[1]), Path(sys.argv[2])
ready.touch()
while not gate.exists():
    time.sleep(0.001)
for _ in range(int(sys.argv[3])):
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        code = run([*sys.argv[4:], "--yes", "-v", "-o", "json"])
    print(code, stdout.getvalue() if code not in (0, 4, 6) else "", flush=True)
"""


def command_lines(count: int) -> list[list[str]]:
    return [*[["maintain"]] * 3, *[["enqueue", f"1-{count}"]] * 3, *[["retry-failed"]] * 2]


def orders(world: World, count: int) -> int:
    """A quarter each: never started, failed, lost, cut short; returns the newest log row's id."""
    world.sql(
        "INSERT INTO site_orders (id, customer_name, customer_email, status, total_price, created_at, updated_at)"
        " SELECT n, 'Ana', 'ana@example.com',"
        " (CASE n % 4 WHEN 0 THEN 'BUILDING' ELSE 'GENERATING' END)::siteorderstatus, 499,"
        " timezone('utc', now()) - interval '3 hours', timezone('utc', now()) - interval '3 hours'"
        " FROM generate_series(1, $1) n",
        count,
    )
    world.sql(
        "INSERT INTO site_onboardings (order_id, business_name, business_email, business_phone, niche, primary_city,"
        " state, services, primary_service, is_complete) SELECT n, 'Padaria', 'loja@example.com', '+55', 'RESTAURANT',"
        " 'São Paulo', 'SP', '[\"Pão\"]', 'Pão', true FROM generate_series(1, $1) n",
        count,
    )
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, created_at)"
        " SELECT n, step, step, localtimestamp - interval '3 hours' FROM generate_series(1, $1) n"
        " JOIN (VALUES (1, 1, 'START'), (1, 2, 'ERROR'), (3, 1, 'START')) run(kind, place, step) ON kind = n % 4"
        " ORDER BY n, place",
        count,
    )
    for order_id in range(3, count + 1, 4):
        world.files(order_id, 2)
    return int(world.sql("SELECT max(id) FROM site_generation_logs")[0][0])


def all_at_once(commands: Sequence[Sequence[str]], times: int, folder: Path) -> list[int]:
    """Let every operator go at the same moment; returns the exit codes of all their runs."""
    operators = []
    for number, arguments in enumerate(commands):
        command = ("-c", _OPERATOR, folder / f"ready{number}", folder / "gate", str(times), *arguments)
        operators.append(processes.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        eventually(lambda: len(list(folder.glob("ready*"))) == len(operators))
        (folder / "gate").touch()
        outputs = [process.communicate(timeout=60) for process in operators]
    finally:
        for process in operators:
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in operators), outputs
    lines = [line for stdout, _ in outputs for line in stdout.splitlines()]
    codes = [int(line.partition(" ")[0]) for line in lines]
    assert set(codes) <= {0, 4, 6}, lines
    return codes


def results(world: World) -> list[dict[str, Any]]:
    """What every task has returned, once none is left."""
    with world.redis() as client:
        if isinstance(world, RqWorld):
            eventually(lambda: not client.exists(f"rq:wip:{QUEUE}", f"rq:queue:{QUEUE}"))
            keys = client.scan_iter("rq:job:*", count=1000)
            return [world.fetch(key.decode().removeprefix("rq:job:")).return_value() for key in keys]
        eventually(lambda: not client.exists("unacked"))
        return [json.loads(client.get(key))["result"] for key in client.scan_iter("celery-task-meta-*", count=1000)]


def in_review(world: World) -> int:
    """How many orders are generated."""
    return int(world.sql("SELECT count(*) FROM site_orders WHERE status = 'REVIEW'")[0][0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_each_order_is_generated_exactly_once(world: World, backend: str, tmp_path: Path) -> None:
    count = ORDERS[backend]
    before = orders(world, count)
    for _ in range(2):
        world.worker("-c", "1", generator="small")
    commands = command_lines(count)
    codes = all_at_once(commands, TIMES[backend], tmp_path)
    assert len(codes) == TIMES[backend] * len(commands)
    done = 0
    while done < count:  # for as long as it goes on, however slowly
        done = eventually(lambda before=done: (now := in_review(world)) > before and now)
    returned = results(world)
    # Not one task too many: one for an order that is finished is skipped, one for an order in work gives way.
    assert Counter(result["skipped"] for result in returned) == {False: count}
    assert sorted(result["order_id"] for result in returned) == list(range(1, count + 1))
    assert world.queued_ids() == []
    rows = world.sql("SELECT order_id, step FROM site_generation_logs WHERE id > $1", before)
    steps = {order_id: Counter[str]() for order_id in range(1, count + 1)}
    for row in rows:
        steps[row["order_id"]][row["step"]] += 1
    for order_id, counted in steps.items():
        assert counted["START"] + counted["RESUME"] == 1, (order_id, counted)
        assert (counted["SUCCESS"], counted["ERROR"], counted["SKIP"]) == (1, 0, 0), (order_id, counted)
        operators = {step: count for step, count in counted.items() if step.startswith("OPERATOR_")}
        assert sum(operators.values()) == 1, (order_id, counted)
        assert len(world.site_files(order_id)) >= 5, order_id


def test_concurrent_resets_publish_one_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes when the first has claimed the order, and its old task is still there."""
    world.order(42, "GENERATING")
    world.publish(42)
    resets: list[subprocess.CompletedProcess[str]] = []

    def reached(checkpoint: Failpoint) -> None:
        if checkpoint is Failpoint.APPLIED:
            resets.append(world.run_process("reset", "42", "--yes", "-o", "json"))

    async def work(session: Session) -> OperationResult:
        plan = await ResetPlanner().plan_all(session, Selection(order_ids=[42]))
        return await execute_plan(session, plan)

    monkeypatch.setattr(failpoints, "reached", reached)
    (first,) = world.with_session(work).outcomes
    (second,) = json.loads(resets[0].stdout)["data"]["outcomes"]
    assert (first.outcome, second["outcome"]) == ("done", "skipped")
    assert f"task {first.task_id[:8]} was announced" in second["reason"]
    assert world.queued_ids() == [first.task_id]
