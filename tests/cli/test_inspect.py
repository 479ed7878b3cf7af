from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from sitegenctl.demo.samples.plan import Manifest, plan_samples
from sitegenctl.demo.samples.seed import seed
from sitegenctl.domain.orders.run import RunCounts
from sitegenctl.operations.live_state import LiveSnapshot, LiveState
from sitegenctl.session import Session
from tests.support import processes
from tests.support.rq_world import RqWorld
from tests.support.world import QUEUE, Log, World, eventually

both = pytest.mark.parametrize("backend", ["celery", "rq"])

# Conditions that no source but the database and the broker decides.
WITHOUT_WORKER = {"running": "queued"}


def seeded(world: World) -> Manifest:
    return asyncio.run(
        seed(
            database_url=world.database_url,
            redis_url=world.redis_url,
            sites_dir=world.sites_dir,
            backend=world.backend,
            orders=60,
        )
    )


def data(world: World, *arguments: str, code: int = 0, **environ: str) -> dict:
    process = world.run(*arguments, "-o", "json", **environ)
    assert process.returncode == code, process.stderr
    return json.loads(process.stdout)["data"]


def listed(world: World, *arguments: str, code: int = 0, **environ: str) -> dict[int, str]:
    found = data(world, "inspect", "orders", "--limit", "1000", *arguments, code=code, **environ)
    return {order["order_id"]: order["condition"] for order in found["orders"]}


def expected(manifest: Manifest, **instead: str) -> dict[int, str]:
    """Hollow orders that finished more than a day ago are found only on request."""
    conditions = {
        order_id: instead.get(condition, condition)
        for condition, order_ids in manifest.conditions.items()
        for order_id in order_ids
    }
    age = {order_id: plan_samples().order(order_id).updated for order_id in manifest.conditions["hollow"]}
    assert {seconds > 86400 for seconds in age.values()} == {True, False}
    return {**conditions, **{order_id: "done" for order_id, seconds in age.items() if seconds > 86400}}


@both
def test_every_order_s_condition_is_right_without_a_worker(world: World) -> None:
    manifest = seeded(world)
    assert listed(world) == expected(manifest, running="queued")
    hollow = listed(world, "--condition", "hollow")
    assert set(hollow) == set(manifest.conditions["hollow"])


@pytest.mark.parametrize("backend", ["rq"])
def test_every_order_s_condition_is_right_with_a_worker_of_rq(world: RqWorld) -> None:
    manifest = seeded(world)
    worker = world.worker("--pace", "30s")
    eventually(lambda: listed(world) == expected(manifest))
    world.kill(worker)
    # It may only have lost Redis, but its runs take a run lock, and that is free.
    eventually(lambda: world.run("inspect", "orders").returncode == 3)  # Redis has seen its connections end
    unsure = listed(world, code=3)
    assert {unsure[order_id] for order_id in manifest.conditions["running"]} == {"orphaned"}
    world.expire()
    eventually(lambda: listed(world) == expected(manifest, running="orphaned"))


def test_conditions_with_a_worker_and_after_its_kill(world: World) -> None:
    manifest = seeded(world)
    worker = world.worker("--pace", "30s")
    wanted = expected(manifest)
    eventually(lambda: listed(world) == wanted)
    os.kill(worker.pid, signal.SIGSTOP)
    running = set(manifest.conditions["running"])
    stopped = listed(world, "--timeout", "2s", code=3)
    # The worker is silent; its runs hold their run locks in PostgreSQL.
    assert {stopped[order_id] for order_id in running} == {"running"}
    assert stopped[42] == "unstarted"
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    # No worker has its running tasks; those it had not taken still wait.
    eventually(lambda: listed(world) == expected(manifest, running="orphaned"))


def test_without_redis_conditions_are_unknown(world: World) -> None:
    seeded(world)
    away = listed(world, code=3, REDIS_URL="redis://127.0.0.1:1/0")
    assert set(away.values()) == {"unknown"}
    assert len(away) == 60


def test_unmounted_sites_make_only_file_checks_unknown(world: World) -> None:
    manifest = seeded(world)
    unmounted = str(world.sites_dir / "unmounted")
    found = listed(world, code=3, SITES_BASE_DIR=unmounted)
    wanted = expected(manifest, running="queued", empty="unknown", hollow="done")
    cut_short_with_files = {
        order_id
        for order_id in manifest.conditions["interrupted"]
        if "cut short" in " ".join(data(world, "inspect", str(order_id))["evidence"])
    }
    assert cut_short_with_files
    assert found == wanted | dict.fromkeys(cut_short_with_files, "unknown")


def test_the_overview_counts_agree_with_the_list(world: World) -> None:
    manifest = seeded(world)
    overview = data(world, "inspect")
    counts = {condition: entry["count"] for condition, entry in overview["by_condition"].items()}
    wanted: dict[str, int] = {}
    for condition in expected(manifest, running="queued").values():
        wanted[condition] = wanted.get(condition, 0) + 1
    assert counts == wanted
    assert sum(overview["by_status"].values()) == 60
    assert overview["depth"]["orphaned"]["count"] == len(manifest.conditions["orphaned"])
    assert overview["depth"]["queued"]["count"] == len(
        [*manifest.conditions["running"], *manifest.conditions["queued"]]
    )
    assert (overview["foreign"], overview["workers"], overview["silent_workers"]) == (manifest.foreign, [], 0)
    text = world.run("inspect").stdout
    faults = sum(entry["count"] for entry in overview["by_condition"].values() if entry["severity"] == "fault")
    waiting = overview["depth"]["queued"]["count"]
    assert text.splitlines()[:2] == [f"{waiting} tasks wait, and no worker is alive", f"{faults} orders need attention"]
    assert "no worker is alive: nothing will be generated" in text


def test_the_overview_of_a_quiet_system(world: World) -> None:
    assert world.run("inspect").stdout.splitlines()[0] == "no worker is alive"
    world.worker("-c", "1")
    text = world.run("inspect").stdout
    assert text.splitlines()[0] == "all well"
    assert "0 of 1 busy\n" in text


def test_the_overview_first_reports_that_no_worker_takes_tasks(world: World) -> None:
    world.order(42, "GENERATING", age="0 minutes")
    world.publish(42)
    assert world.run("inspect").stdout.splitlines()[0] == "1 task waits, and no worker is alive"
    world.order(41, "GENERATING", steps=["START", "ERROR"], age="3 hours")
    world.worker("-c", "1", environ={"SITEGENCTL_QUEUE": "elsewhere"})
    text = world.run("inspect").stdout
    assert text.splitlines()[:2] == [f"1 task waits, and no worker consumes {QUEUE}", "1 order needs attention"]
    assert f"0 of 1 busy  ! it does not consume {QUEUE}\n" in text


def test_the_overview_suggests_fixes_for_its_orders(world: World) -> None:
    failed = ["START", "ERROR"]
    world.order(31, "GENERATING", steps=failed * 3, age="3 hours")
    world.order(32, "GENERATING", steps=failed * 4, age="3 hours")
    assert "2  failed     31 32   fix the cause, then: sitegenctl reset ORDER" in world.run("inspect").stdout
    doctor = world.run("doctor", "--patience", "0s").stdout
    assert "fix the cause, then: sitegenctl reset ORDER" in doctor
    world.order(33, "GENERATING", steps=failed, age="3 hours")
    assert data(world, "inspect")["by_condition"]["failed"]["remedy"] == "sitegenctl retry-failed"


def test_the_overview_counts_the_runs_of_the_last_hour_and_day(world: World) -> None:
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], age="30 minutes", files=8)
    world.order(2, "GENERATING", steps=["START", "ERROR"], age="40 minutes")
    overview = data(world, "inspect")
    assert overview["last_hour"] == {"succeeded": 1, "failed": 1, "skipped": 0, "success_rate": 0.5}
    # Ids and times grow together; the window is found by bisection, also where it begins in the middle.
    world.sql("UPDATE site_generation_logs SET created_at = created_at - interval '3 hours' WHERE order_id = 1")
    overview = data(world, "inspect")
    assert (overview["last_hour"]["succeeded"], overview["last_hour"]["failed"]) == (0, 1)
    assert (overview["last_day"]["succeeded"], overview["last_day"]["failed"]) == (1, 1)


def test_a_failure_within_the_grace_period_is_not_all_well(world: World) -> None:
    world.order(42, "GENERATING", steps=["START", "ERROR"], age="5 seconds")
    process = world.run("inspect")
    assert "1 order needs attention" in process.stdout
    assert "all well" not in process.stdout
    assert listed(world) == {42: "failed"}


@both
def test_recently_finished_orders_without_files_are_hollow_everywhere(world: World) -> None:
    for order_id in range(10, 30):
        world.order(order_id, "DELIVERED", files=8, age="2 days")
    world.order(1, "REVIEW", steps=["START", "SUCCESS"], age="3 hours")
    world.order(2, "DELIVERED", age="3 hours", files=3)
    world.order(3, "DELIVERED", steps=["START", "SUCCESS"], age="2 days")
    world.order(4, "REVIEW", steps=["START", "SUCCESS"], age="1 minute")  # within the grace period
    world.order(5, "DELIVERED", age="3 hours", files=8)
    found = listed(world)
    assert {order_id: found[order_id] for order_id in (1, 2, 3, 4, 5)} == {
        **{1: "hollow", 2: "hollow", 3: "done", 4: "done", 5: "done"}
    }
    assert set(listed(world, "--condition", "hollow")) == {1, 2, 3, 4}
    assert not set(listed(world, "--condition", "done")) & {1, 2}
    overview = data(world, "inspect")
    assert overview["by_condition"]["hollow"]["count"] == 2
    assert "2 orders need attention" in world.run("inspect").stdout

    async def poll(session: Session) -> LiveSnapshot:
        return await LiveState(session).poll()

    assert world.with_session(poll).by_condition["hollow"] == 2
    # Without the right directory no order is called hollow.
    unmounted = str(world.sites_dir / "unmounted")
    assert "hollow" not in listed(world, code=3, SITES_BASE_DIR=unmounted).values()


def test_inspect_live_and_stats_count_the_same_runs(world: World, log: Log) -> None:
    failed_twice = [("START", 1900), ("PHASE_1_ERROR", 1890), ("ERROR", 1830), ("ERROR", 1829)]
    world.order(1, "GENERATING")
    log.rows(1, [*failed_twice, ("START", 1700), ("SUCCESS", 1640), ("SKIP", 1600)])
    world.order(2, "GENERATING")
    log.rows(2, [("RESUME", 1900), ("START", 1899), ("ERROR", 1810), ("ERROR", 1809), ("ERROR", 1808)])
    world.order(3, "REVIEW", files=8)
    log.rows(3, [("SKIP", 1500)])
    overview = data(world, "inspect")
    assert overview["last_hour"] == {"succeeded": 1, "failed": 2, "skipped": 2, "success_rate": pytest.approx(1 / 3)}
    assert overview["last_day"] == overview["last_hour"]
    report = data(world, "stats", "--since", "1h")
    assert {name: report["runs"][name] for name in overview["last_hour"]} == overview["last_hour"]
    assert report["durations"]["failed"]["longest"] == pytest.approx(90, abs=1)

    async def poll(session: Session) -> LiveSnapshot:
        return await LiveState(session).poll()

    live = world.with_session(poll)
    assert live.last_hour == RunCounts(succeeded=1, failed=2, skipped=2)


@pytest.mark.parametrize(
    ("away", "source"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "broker"),
        ({"DATABASE_URL": "postgresql://crm:pw@127.0.0.1:1/crm"}, "database"),
        ({"SITES_BASE_DIR": "/nowhere"}, "files"),
    ],
)
def test_the_overview_names_the_unreachable_source(world: World, away: dict[str, str], source: str) -> None:
    world.order(42, "GENERATING", steps=["START"])
    process = world.run("inspect", "-o", "json", **away)
    assert process.returncode == 3
    assert {error["source"] for error in json.loads(process.stdout)["errors"]} == {source}
    text = world.run("inspect", **away)
    assert "Traceback" not in text.stderr
    assert text.stdout.splitlines()[0] != "all well"


def test_unconfigured_sites_directory_shows_unknown_files(world: World) -> None:
    world.order(42, "GENERATING", steps=["START"])
    process = world.run("inspect", "42", "-o", "json", SITES_BASE_DIR="")
    found = json.loads(process.stdout)
    assert (process.returncode, found["data"]["condition"], found["data"]["files"]) == (3, "unknown", None)
    assert found["errors"][0]["message"] == "no sites directory is configured"


def test_a_list_is_filtered_sorted_and_paged(world: World) -> None:
    world.order(1, "DELIVERED", name="Zoe", age="1 day", files=8)
    world.order(2, "GENERATING", steps=["START", "ERROR"], name="ana", age="2 days")
    world.order(3, "PAID", name="Bea 100%", age="10 minutes")
    world.order(4, "BUILDING", name="Caio", age="3 hours")

    def ids(*arguments: str) -> list[int]:
        return [order["order_id"] for order in data(world, "inspect", "orders", *arguments)["orders"]]

    assert ids() == [2, 4, 3, 1]  # faults first, in the order of the conditions
    assert ids("--sort", "id") == [1, 2, 3, 4]
    assert ids("--sort", "id", "--reverse") == [4, 3, 2, 1]
    assert ids("--sort", "name") == [2, 3, 4, 1]
    assert ids("--sort", "updated") == [3, 4, 1, 2]
    assert ids("--sort", "status") == [3, 4, 2, 1]
    assert ids("--status", "paid", "--status", "delivered") == [3, 1]
    assert ids("--condition", "failed", "-C", "waiting") == [2, 3]
    assert ids("--search", "zoe") == [1]
    assert ids("--search", "100%") == [3]
    assert ids("--search", "_") == []
    assert ids("--search", "4") == [4]
    assert ids("--since", "5h") == [4, 3]
    assert ids("--limit", "1", "--page", "3") == [3]
    pages = [ids("--sort", "name", "--limit", "1", "--page", str(page)) for page in range(1, 6)]
    assert pages == [[2], [3], [4], [1], []]
    assert data(world, "inspect", "orders", "--limit", "1")["total"] == 4
    text = world.run("inspect", "orders", "--limit", "2").stdout
    assert "1 to 2 of 4" in text


@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_lists_are_grouped_by_condition_oldest_first(world: World) -> None:
    for order_id, status, age in (
        (1, "DELIVERED", "1 hour"),
        (2, "BUILDING", "3 hours"),
        (3, "PAID", "1 hour"),
        (4, "GENERATING", "2 hours"),
        (5, "CANCELLED", "9 hours"),
        (6, "GENERATING", "4 hours"),
        (7, "REVIEW", "8 hours"),
        (8, "BUILDING", "5 hours"),
        (9, "ONBOARDING_PENDING", "2 hours"),
        (10, "GENERATING", "1 hour"),
    ):
        world.order(order_id, status, age=age, onboarding="missing" if order_id in (3, 9) else "complete", files=8)
    # Order 99 does not exist.
    for order_id in (99, 7, 10):
        world.publish(order_id)

    def ids(*arguments: str) -> list[int]:
        return [order["order_id"] for order in data(world, "inspect", "orders", *arguments)["orders"]]

    # ghost, interrupted, unstarted, perhaps missing, queued, waiting, done, cancelled
    expected = [7, 6, 4, 8, 2, 99, 10, 3, 9, 1, 5]
    assert ids() == expected
    assert [order_id for page in range(1, 5) for order_id in ids("--limit", "3", "--page", str(page))] == expected
    assert ids("--reverse") == [5, 1, 9, 3, 10, 99, 2, 8, 4, 6, 7]
    for sort in ("name", "status", "created", "updated"):
        assert ids("--sort", sort)[-1] == ids("--sort", sort, "--reverse")[-1] == 99


def test_columns_are_sorted_by_what_they_show(world: World) -> None:
    # By the business, the customer or the log, not by a column that is not shown.
    names = ["Águas", "agua", "Zeta", "Éden", "eden 2", "Łódź", "Loja", "Ñandu", "nando", "Ôba", "obá"]
    for order_id, name in enumerate(names, 1):
        world.order(order_id, ("PAID", "BUILDING", "REVIEW")[order_id % 3], files=8)
        world.sql("UPDATE site_orders SET customer_name = $1 WHERE id = $2", f"customer {100 - order_id}", order_id)
        world.sql("UPDATE site_onboardings SET business_name = $1 WHERE order_id = $2", name, order_id)
    world.order(12, "REVIEW", name="Omar", onboarding="missing", files=8)
    world.order(13, "GENERATING", name="x", age="30 days")
    world.sql("UPDATE site_onboardings SET business_name = '' WHERE order_id = 13")
    world.sql("INSERT INTO site_generation_logs (order_id, step, message) VALUES (13, 'START', '')")

    def listed(*arguments: str) -> list[str]:
        orders = data(world, "inspect", "orders", *arguments)["orders"]
        return [order["business_name"] or order["customer_name"] for order in orders]

    expected = ["agua", "Águas", "Éden", "eden 2", "Łódź", "Loja", "nando", "Ñandu", "Ôba", "obá", "Omar", "x", "Zeta"]
    assert listed("--sort", "name") == expected
    # Equal letters stay in the order of the numbers.
    backwards = [*reversed(expected[10:]), "Ôba", "obá", *reversed(expected[:8])]
    assert listed("--sort", "name", "--reverse") == backwards
    assert listed("--sort", "updated")[0] == "x"


def test_the_queue_is_shown_in_the_order_in_which_it_will_run(world: World) -> None:
    for order_id in (1, 2, 3):
        world.order(order_id, "GENERATING", name=f"Customer {order_id}")
    world.worker("-c", "1", "--pace", "30s")
    running = world.publish(1)
    eventually(lambda: states(world) == ["running"])
    scheduled = world.publish(9, eta=datetime.now(UTC) + timedelta(hours=1))
    second = world.publish(3)
    first = world.publish(2, task="app.tasks.other")
    tasks = data(world, "inspect", "queue")["tasks"]
    # A busy worker takes no task: the scheduled one is still in the list, and runs last.
    assert [task["task_id"] for task in tasks] == [running, second, first, scheduled]
    assert tasks[0]["customer_name"] == "Customer 1"
    assert tasks[2]["foreign"] == "another task"
    text = world.run("inspect", "queue", "--limit", "2").stdout
    assert "Customer 1" in text
    assert "2 more" in text


def test_the_queue_shows_why_a_message_has_no_order(world: World) -> None:
    past = datetime.now(UTC) - timedelta(minutes=5)
    expired = world.publish(1, expires=past)
    reasons = {
        world.publish(2, task="app.tasks.other"): "another task",
        world.publish("abc"): "its arguments name no order",
        world.publish(4, serializer="yaml"): "serialized as application/x-yaml, not JSON",
        world.publish(5, compression="lzma"): None,
        world.publish("6", compression="gzip"): None,
    }
    tasks = data(world, "inspect", "queue")["tasks"]
    found = {task["task_id"]: task["foreign"] for task in tasks}
    assert found.pop(expired).startswith("expired 5m ")
    assert found == reasons
    assert [task["order_id"] for task in tasks] == [None, None, None, None, 5, 6]
    text = world.run("inspect", "queue", COLUMNS="200").stdout
    assert all(reason in text for reason in ("expired 5m ", *reasons.values()) if reason is not None)
    assert "not ours" not in text
    doctor = world.run("doctor", "--patience", "1s").stdout
    assert "skipped 1: message that may be of any order: its arguments name no order" in doctor


def states(world: World) -> list[str]:
    return [task["state"] for task in data(world, "inspect", "queue")["tasks"]]


def test_workers_show_their_details_and_tasks(world: World) -> None:
    assert world.run("inspect", "workers").stdout == "no worker is alive: nothing will be generated\n"
    world.order(1, "GENERATING")
    world.worker("-c", "1", "--pace", "30s")
    task_id = world.publish(1)
    eventually(lambda: states(world) == ["running"])
    (worker,) = data(world, "inspect", "workers")["workers"]
    assert (worker["concurrency"], worker["queues"]) == (1, ["site_generation"])
    assert [task["task_id"] for task in worker["active"]] == [task_id]
    text = world.run("inspect", "workers").stdout
    assert text.splitlines()[0] == "1 worker responds"
    assert "order 1  for " in text


def test_one_task_waiting_running_and_finished(world: World) -> None:
    world.order(42, name="Ana")
    world.enqueue(42)
    (task_id,) = world.queued_ids()
    assert data(world, "inspect", "task", task_id, DATABASE_URL="")["order_id"] == 42
    waiting = data(world, "inspect", "task", task_id)
    assert (waiting["place"], waiting["order_id"], waiting["state"]) == ("queue", 42, "queued")
    assert waiting["headers"]["task"].endswith("generate_site_task")
    world.worker("-c", "1")
    finished = eventually(lambda: (found := data(world, "inspect", "task", task_id))["place"] == "result" and found)
    assert finished["result"]["status"] == "SUCCESS"
    nowhere = world.run("inspect", "task", "no-such-task")
    assert nowhere.returncode == 4
    assert nowhere.stderr.startswith("error: there is no task no-such-task")


@pytest.mark.parametrize("watch", [["--watch"], ["--watch", "0.2s"]])
def test_watching_redraws_until_it_is_interrupted(world: World, watch: list[str]) -> None:
    import subprocess

    world.order(42)
    process = processes.start(
        *("-m", "sitegenctl", "inspect", "42", *watch, "-o", "ndjson"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert json.loads(process.stdout.readline())["condition"] == "unstarted"
    world.publish(42)
    conditions: Iterable[str] = (json.loads(line)["condition"] for line in process.stdout)
    assert next(condition for condition in conditions if condition != "unstarted") == "queued"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "interrupted\n")


def test_an_orders_history_has_tasks_times_and_operators(world: World) -> None:
    """Also where the database's sessions are in another zone than UTC."""
    name = world.database_url.rsplit("/", 1)[1]
    world.sql(f"ALTER DATABASE {name} SET timezone TO 'America/Sao_Paulo'")
    world.order(42, steps=["START", "ERROR"], age="3 hours")
    world.enqueue(42)
    waiting = data(world, "inspect", "42")["timeline"]
    assert ("task", "task enqueued") in [(entry["kind"], entry["step"]) for entry in waiting]
    world.worker("-c", "1", generator="small")
    eventually(lambda: world.status() == "REVIEW")
    with_result = eventually(
        lambda: (
            (found := data(world, "inspect", "42", "--last", "50")["timeline"])[-1]["step"] == "task SUCCESS" and found
        )
    )
    shown = [(entry["kind"], entry["step"]) for entry in with_result]
    assert shown[:2] == [("log", "START"), ("log", "ERROR")]
    assert shown[2] == ("journal", "OPERATOR_ENQUEUE")
    assert shown[-2:] == [("log", "SUCCESS"), ("task", "task SUCCESS")]
    assert [entry["at"] for entry in with_result] == sorted(entry["at"] for entry in with_result)
    assert "· task SUCCESS" in world.run("inspect", "42").stdout


@pytest.mark.parametrize("backend", ["celery", "rq"])
def test_long_ids_and_names_are_shortened_in_tables(world: World) -> None:
    world.order(42, "GENERATING", name="日本語" * 1000)
    world.publish(42, task_id="t" * 3000)
    for command in ("inspect", "inspect orders", "inspect queue", "inspect workers"):
        assert max(map(len, world.run(*command.split()).stdout.splitlines())) < 500, command
    assert data(world, "inspect", "queue")["tasks"][0]["task_id"] == "t" * 3000


def test_hostile_text_keeps_every_screen_whole(world: World) -> None:
    hostile = "\x1b[2J\u202eevil[bold]\nforged"
    world.order(42, name=hostile)
    world.publish(42)
    world.publish(1, task="x\x1b[2Jy")
    for arguments in (["inspect"], ["inspect", "orders"], ["inspect", "queue"]):
        text = world.run(*arguments).stdout
        assert all(line.isprintable() for line in text.splitlines()), arguments
        assert not any(line.strip().startswith("forged") for line in text.splitlines())
    exact = data(world, "inspect", "orders")["orders"][0]["customer_name"]
    assert exact == hostile
