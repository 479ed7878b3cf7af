from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from celery import Celery

from sitegenctl.config.settings import Settings
from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.health.check import Check, CheckStatus, CheckUp
from sitegenctl.domain.health.registry import checks_of
from sitegenctl.render.command import shell_line
from sitegenctl.render.doctor import doctor_report, doctor_text
from sitegenctl.session import deployment_commands
from tests.support.doctor_stage import NO_WORKER, RIGHT, restricted
from tests.support.fake_worker import FakeWorker
from tests.support.terminal import on_terminal
from tests.support.world import World, eventually

OnStage = Callable[[int], World]
NAMES = [check.name for check in checks_of("celery")]
QUICK = len(checks_of("celery", quick=True))


AWAY = {"REDIS_URL": "redis://:s3cret@127.0.0.1:1/0", "DATABASE_URL": "postgresql://crm:s3cret@127.0.0.1:1/crm"}


def test_healthy_system_is_exit_0_and_one_line_each(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    world.order(41, "REVIEW", files=8)
    process = world.run("doctor")
    assert (process.returncode, process.stderr) == (0, "")
    first, *rest = process.stdout.splitlines()
    assert first == f"healthy: {len(NAMES)} checks passed"
    assert [line[:2] for line in rest] == ["✓ "] * len(NAMES)
    quick = world.run("doctor", "--quick")
    assert (quick.returncode, quick.stderr) == (0, "")
    assert quick.stdout.splitlines()[0] == f"healthy: {QUICK} checks passed"


def test_failed_check_is_exit_5_with_its_fix(on_stage: OnStage) -> None:
    world = on_stage(NO_WORKER)
    for arguments in (["doctor"], ["doctor", "--quick"]):
        process = world.run(*arguments)
        assert (process.returncode, process.stderr) == (5, "")
        assert process.stdout.startswith("unhealthy: 1 failed")
        lines = process.stdout.splitlines()
        (worker,) = [number for number, line in enumerate(lines) if line.startswith("✗ worker")]
        assert "→ " in lines[worker + 1]


def test_warning_counts_only_with_strict(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    with world.redis() as client:
        client.config_set("appendonly", "no")
        try:
            lax, strict = world.run("doctor", "--quick"), world.run("doctor", "--quick", "--strict")
        finally:
            client.config_set("appendonly", "yes")
    assert (lax.returncode, strict.returncode) == (0, 5)
    assert lax.stdout.splitlines()[0] == f"healthy: {QUICK - 1} checks passed, 1 warning"
    assert strict.stdout.splitlines()[0] == "unhealthy: 1 warning"


@pytest.mark.parametrize("variable", AWAY)
@pytest.mark.parametrize("quick", [[], ["--quick"]], ids=["full", "quick"])
def test_unreachable_source_is_exit_3_in_one_line(world: World, variable: str, quick: list[str]) -> None:
    process = world.run("doctor", *quick, **{variable: AWAY[variable]})
    assert (process.returncode, process.stderr) == (3, "")
    assert "can't be reached" in process.stdout
    assert "s3cret" not in process.stdout
    result = world.run("doctor", *quick, "-o", "json", **{variable: AWAY[variable]})
    envelope = json.loads(result.stdout)
    assert (result.returncode, envelope["exit_code"], envelope["ok"]) == (3, 3, False)
    assert [error["source"] for error in envelope["errors"]] == ["broker" if variable == "REDIS_URL" else "database"]
    assert result.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in result.stderr


def test_checks_as_json_ndjson_and_csv(world: World) -> None:
    envelope = json.loads(world.run("doctor", "-o", "json").stdout)
    assert envelope["command"] == "doctor"
    checks = envelope["data"]["checks"]
    assert [check["name"] for check in checks] == NAMES
    for check in checks:
        assert set(check) == {"name", "status", "evidence", "remedy", "source"}
        assert check["status"] in {"ok", "warning", "failed", "unchecked"}
        assert check["source"] in set(Source)
        assert check["evidence"]
        assert (check["remedy"] is not None) or check["status"] in {"ok", "unchecked"}
    lines = [json.loads(line) for line in world.run("doctor", "-o", "ndjson").stdout.splitlines()]
    assert [line["name"] for line in lines] == [check["name"] for check in checks]
    rows = list(csv.DictReader(io.StringIO(world.run("doctor", "-o", "csv").stdout)))
    assert [row["status"] for row in rows] == [check["status"] for check in checks]


def test_quick_fails_if_the_user_may_not_ask_workers(on_stage: OnStage) -> None:
    world = on_stage(RIGHT)
    with restricted(world, "-publish"):
        process = world.run("doctor", "--quick", REDIS_URL=world.redis_url)
        refused = world.run("doctor", "--quick", REDIS_URL=world.redis_url.replace(":pw@", ":no@"))
    assert process.returncode == 5
    assert process.stdout.splitlines()[0] == "unhealthy: 1 failed"
    assert (
        "✗ worker             no worker can be asked: Redis does not let the user clerk execute PUBLISH"
        in process.stdout
    )
    assert "ACL SETUSER clerk +publish" in process.stdout
    assert refused.returncode == 3
    assert "→ check the password in REDIS_URL" in refused.stdout


def test_doctor_needs_a_database_url(world: World) -> None:
    process = world.run("doctor", DATABASE_URL="")
    assert process.returncode == 2
    assert "no database is configured" in process.stderr


def test_files_are_unchecked_without_a_sites_directory(world: World) -> None:
    checks = json.loads(world.run("doctor", "-o", "json", SITES_BASE_DIR="").stdout)["data"]["checks"]
    by_name = {check["name"]: check for check in checks}
    for name in ("sites directory", "finished sites", "disk space"):
        assert by_name[name]["status"] == "unchecked"
        assert by_name[name]["remedy"] == "set SITES_BASE_DIR to the workers' own"


def test_colour_only_for_terminals_without_no_color(world: World) -> None:
    assert "\x1b" not in world.run("doctor", "--quick").stdout
    assert "\x1b[32m✓ " in on_terminal("doctor", "--quick", TERM="xterm", NO_COLOR="").stdout
    assert "\x1b" not in on_terminal("doctor", "--quick", TERM="xterm").stdout


def result(name: str, status: CheckStatus, *evidence: str, remedy: Hint | None = None) -> Check:
    return Check(name=name, source=Source.BROKER, status=status, evidence=evidence, remedy=remedy)


LONG = CheckUp(
    checks=[
        result("redis", CheckStatus.OK, "answers in 0.3 ms, version 7.2.4"),
        result(
            "orders", CheckStatus.FAILED, "word " * 30, "forged\nline \x1b[2J", remedy=Remedy.run(Command.INSPECT_QUEUE)
        ),
        result("redis persistence", CheckStatus.WARNING, "unwise", remedy=Remedy.shell("redis-cli", "x" * 100)),
        result("disk space", CheckStatus.UNCHECKED, "not known"),
    ]
)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_checklist_fits_the_width(width: int) -> None:
    text = doctor_text(LONG, width=width, colour=False)
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= width or line.strip().startswith("→") for line in lines)
    assert " ".join(text.split()).startswith("unhealthy: 1 failed, 1 warning, 1 could not be checked")
    assert "→ redis-cli " + "x" * 100 in text  # a command is never wrapped
    assert not any(line.startswith("forged") or line.strip() == "line" for line in lines)


def test_remedies_name_the_context() -> None:
    report = doctor_report(LONG, "doctor", width=80, colour=False, selector="--context demo")
    assert "→ sitegenctl --context demo inspect queue\n" in report.text()
    assert report.data["checks"][1]["remedy"] == "sitegenctl --context demo inspect queue"
    assert report.data["checks"][2]["remedy"] == "redis-cli " + "x" * 100


def test_listener_and_blocked_client_are_no_worker(world: World) -> None:
    """Flower and other listeners to events, and a client that is blocked at a list, do not count as workers."""

    def wait() -> None:
        with world.redis() as client:
            while client.brpop(["nothing"], timeout=1) is None:
                pass

    with Celery(broker=world.redis_url, set_as_current=False) as app, app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={})
        threads = [Thread(target=receiver.capture, kwargs={"wakeup": False}), Thread(target=wait)]
        for thread in threads:
            thread.start()
        try:
            with world.redis() as client:
                eventually(lambda: {"brpop", "psubscribe"} <= {c["cmd"] for c in client.client_list()})
                without = world.run("doctor", "--quick")
                world.worker("-c", "1")
                with_worker = world.run("doctor", "--quick")
                assert not client.keys("*reply*")
        finally:
            receiver.should_stop = True
            with world.redis() as client:
                client.lpush("nothing", "something")
            for thread in threads:
                thread.join()
    assert without.returncode == 5
    assert "✗ worker " in without.stdout
    assert with_worker.returncode == 0
    assert re.search(r"✓ worker +1 worker connected to database", with_worker.stdout)


def test_quick_asks_no_worker(world: World) -> None:
    with FakeWorker(world, {}) as worker:
        assert "✓ worker " in world.run("doctor", "--quick").stdout
    assert worker.asked == []


SECRET = "s3cret"


REDIS_URL, DATABASE_URL = f"redis://:{SECRET}@h:6380/2", f"postgresql://crm:{SECRET}@h:5433/crm"


@pytest.mark.parametrize(
    ("program", "url", "variable", "command"),
    [
        ("redis_cli", REDIS_URL, "REDIS_URL", 'redis-cli -u "$REDIS_URL"'),
        ("redis_cli", REDIS_URL, "SITEGENCTL_REDIS_URL", 'redis-cli -u "$SITEGENCTL_REDIS_URL"'),
        ("redis_cli", REDIS_URL, None, "redis-cli -h h -p 6380 -n 2 --askpass"),
        ("redis_cli", f"redis://clerk:{SECRET}@h", None, "redis-cli -h h -p 6379 -n 0 --user clerk --askpass"),
        # URLs that redis-cli does not understand.
        ("redis_cli", "redis+socket:///run/r.sock?virtual_host=3", "REDIS_URL", "redis-cli -s /run/r.sock -n 3"),
        (
            "redis_cli",
            "rediss://h:1?ssl_ca_certs=/a b.pem&ssl_cert_reqs=none",
            "REDIS_URL",
            "redis-cli -h h -p 1 -n 0 --tls --cacert '/a b.pem' --insecure",
        ),
        ("redis_cli", "sentinel://h:1;sentinel://i:1", "REDIS_URL", "redis-cli -h HOST_OF_THE_PRIMARY"),
        ("psql", DATABASE_URL, "DATABASE_URL", 'psql "$DATABASE_URL"'),
        ("psql", DATABASE_URL, None, "psql postgresql://crm@h:5433/crm"),
        # URLs that psql does not understand.
        ("psql", f"postgresql+asyncpg://crm:{SECRET}@h/crm", "DATABASE_URL", "psql postgresql://crm@h/crm"),
        (
            "psql",
            f"postgresql://crm:{SECRET}@h/crm?ssl=require",
            "DATABASE_URL",
            "psql 'postgresql://crm@h/crm?sslmode=require'",
        ),
        ("psql", f"postgresql:///crm?host=/run&password={SECRET}", None, "psql 'postgresql:///crm?host=/run'"),
        ("psql", f"postgresql://h/crm?options=-c%20app.key={SECRET}", None, "psql postgresql://h/crm"),
    ],
)
def test_client_command_reaches_the_server(program: str, url: str, variable: str | None, command: str) -> None:
    setting = {"redis_cli": "redis_url", "psql": "database_url"}[program]
    urls = {"redis_url": "redis://h", "database_url": "postgresql:///crm", setting: url}
    settings = Settings(**urls, variables={setting: variable} if variable else {})
    assert shell_line(getattr(deployment_commands(settings), program)) == command


def test_remedy_for_a_context_shows_no_password(world: World, tmp_path: Path) -> None:
    world.sql("ALTER TYPE sitecta RENAME VALUE 'FORM' TO 'FORMULAR'")
    world.order(2)
    config = f'[contexts.prod]\nredis_url = "{world.redis_url}"\ndatabase_url = "{world.database_url}"\n'
    (tmp_path / "config.toml").write_text(config)
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "postgresql://127.0.0.1:1/crm"}
    ran = world.run("--context", "prod", "doctor", SITES_BASE_DIR="", **nowhere)
    assert ran.returncode == 5
    assert "$REDIS_URL" not in ran.stdout
    assert "$DATABASE_URL" not in ran.stdout
    redis, postgres = urlsplit(world.redis_url), urlsplit(world.database_url)
    for password in (redis.password, postgres.password):
        assert password
        assert password not in ran.stdout
    redis_cli = f"redis-cli -h 127.0.0.1 -p {redis.port} -n {redis.path[1:]} --askpass"
    assert f"→ {redis_cli} CONFIG SET appendonly yes " in ran.stdout
    psql = f"psql postgresql://{postgres.username}@127.0.0.1:{postgres.port}{postgres.path}"
    assert f"→ {psql} -c \"ALTER TYPE sitecta ADD VALUE 'FORM';\"" in ran.stdout
    assert "→ sitegenctl --context prod start-stuck" in ran.stdout
    assert "→ set sites_dir of context prod to the workers' own" in ran.stdout
    checks = json.loads(world.run("--context", "prod", "doctor", "-o", "json", **nowhere).stdout)["data"]["checks"]
    remedies = {check["name"]: check["remedy"] for check in checks}
    assert remedies["backend"] == "sitegenctl --context prod start-stuck"
    assert remedies["redis persistence"].startswith(redis_cli)
