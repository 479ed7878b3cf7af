"""The deployment files: each passes its validator, and each command line in them is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis

from sitegenctl.cli.app import run
from sitegenctl.config.env_file import read_env_file
from sitegenctl.demo.servers.redis import redis_binary
from tests.support import processes
from tests.support.databases import sql
from tests.support.world import World, eventually

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "sitegenctl"}
CRONJOB = yaml.safe_load((DEPLOY / "kubernetes" / "cronjob.yaml").read_text())
JOB: list[str] = CRONJOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
CRONTAB = [
    line.split(None, 6)
    for line in (DEPLOY / "cron" / "sitegenctl").read_text().splitlines()
    if line and not line.startswith("#") and not re.match(r"[A-Z]+=", line)
]


def needs(program: str) -> str:
    """The program, or else the test is skipped."""
    return shutil.which(program) or pytest.skip(f"there is no {program}")


def exec_start(unit: Path) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    return shlex.split(line)


# Every command line, by where it stands, without the program itself.
COMMANDS = {
    **{f"compose {name}": shlex.join(service["command"]) for name, service in OURS.items()},
    **{f"systemd {unit.name}": shlex.join(exec_start(unit)) for unit in UNITS if unit.suffix == ".service"},
    "kubernetes": JOB[2],
    **{f"cron {number}": line[6] for number, line in enumerate(CRONTAB)},
    "dockerfile": shlex.join(json.loads(re.findall(r"^CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0])),
}


def ours(command: str) -> list[list[str]]:
    """Each call of sitegenctl in a command line, without the program itself and what the shell does around it."""
    calls = re.findall(r"(?:^|[\s/'])sitegenctl ((?:--?[a-z]|[a-z]).*)", command, re.MULTILINE)
    return [shlex.split(re.split(r"\s\d?>|\s?[&|;<]", call)[0]) for call in calls]


@pytest.mark.parametrize("place", COMMANDS)
def test_every_command_line_is_one_of_ours(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    calls = ours(COMMANDS[place])
    assert calls
    for arguments in calls:
        # Here, and not in a process of its own: it is only parsed.
        assert run([*arguments, "--help"]) == 0, (place, arguments)
    assert capsys.readouterr().err == ""


def test_all_of_them_were_found() -> None:
    assert ours(COMMANDS["kubernetes"]) == [["maintain", "--jitter", "20s"]]
    assert set(OURS) == {
        *("celery-worker", "crm-rq-worker", "sitegenctl-maintain", "sitegenctl-live", "sitegenctl-metrics"),
    }
    assert len(CRONTAB) == 4
    assert ours(COMMANDS["systemd sitegenctl-maintain.service"]) == [["maintain"]]
    assert ours(COMMANDS["compose sitegenctl-maintain"]) == [["maintain"]]
    assert ours(COMMANDS["cron 2"]) == [["--env-file", "/srv/crm/.env", "doctor", "--strict"]]


@pytest.mark.parametrize(
    "file",
    [
        *(
            "compose.yaml",
            "docs/deploy/README.md",
            "docs/deploy/cron/sitegenctl",
            "docs/deploy/kubernetes/cronjob.yaml",
        ),
        *("docs/deploy/systemd/sitegenctl-maintain.service", "docs/guides/notify.md"),
    ],
)
def test_receiver_of_notifications_is_named_in_the_environment(file: str) -> None:
    text = (ROOT / file).read_text()
    assert re.search(r"\bSITEGENCTL_NOTIFY\b", text)
    assert "SITEGENCTL_NOTIFY_FORMAT" in text
    # Other users can read the command line.
    assert not any("--notify" in each for command in COMMANDS.values() for each in ours(command))
    assert not re.search(r"--notify[ =](?!URL)\S*(http|\$)", text)


# --- each through its own validator ---------------------------------------------------------------------------


def test_compose_takes_the_file(tmp_path: Path) -> None:
    program = [needs("docker-compose")] if shutil.which("docker-compose") else [needs("docker"), "compose"]
    environ = {**os.environ, "POSTGRES_PASSWORD": "s3cret"}
    if subprocess.run([*program, "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose")
    command = [*program, "--file", str(ROOT / "compose.yaml"), "config"]
    process = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stderr
    unset = {name: value for name, value in environ.items() if name != "POSTGRES_PASSWORD"}
    refused = subprocess.run(command, capture_output=True, text=True, env=unset, cwd=tmp_path, check=False)
    assert refused.returncode != 0
    assert "set it in .env" in refused.stderr


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = needs("systemd-analyze")
    for unit in UNITS:
        # The validator searches for the program: use the one of this environment.
        text = unit.read_text().replace("/opt/sitegenctl/bin/sitegenctl", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text)
    command = [program, "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout + process.stderr) == (0, "")


def test_environment_file_is_read_alike_by_systemd_and_env_file(tmp_path: Path) -> None:
    (block,) = re.findall(r"```ini\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    # systemd.exec(5): comments on lines of their own, no `export`, no expansion, backslashes escape in double quotes.
    assigned = dict(re.findall(r'^([A-Z_]+)="([^"\\$]*)"$', block, re.MULTILINE))
    assert len(assigned) == len([line for line in block.splitlines() if not line.startswith("#")])
    (tmp_path / "environment").write_text(block)
    assert read_env_file(tmp_path / "environment", assigned) == assigned
    units = [unit.read_text() for unit in UNITS if unit.suffix == ".service"]
    assert all("\nEnvironmentFile=/etc/sitegenctl/environment\n" in unit for unit in units)


def test_kubernetes_takes_the_job() -> None:
    program = needs("kubernetes-validate")
    for version in ("1.27", "1.34"):
        command = [program, "--strict", "-k", version, str(DEPLOY / "kubernetes" / "cronjob.yaml")]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr


def test_hadolint_takes_the_dockerfile() -> None:
    process = subprocess.run(
        [needs("hadolint"), "--failure-threshold", "style", str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout


def test_cron_lines_have_five_fields_and_a_user() -> None:
    for *fields, user, command in CRONTAB:
        assert all(re.fullmatch(r"\*(/\d+)?|\d+", field) for field in fields)
        assert user == "sitegenctl"
        # Cron takes it for the end of the line.
        assert "%" not in command


# --- what the files promise -----------------------------------------------------------------------------------


def test_the_worker_is_as_deployed() -> None:
    worker = SERVICES["celery-worker"]
    assert worker["deploy"]["resources"] == {"limits": {"memory": "2G"}, "reservations": {"memory": "1G"}}
    assert worker["command"][-2:] == ["--concurrency", "2"]
    # As long as the hard limit of a task, at least.
    assert int(worker["stop_grace_period"].rstrip("s")) > 600
    assert SERVICES["crm-db"]["image"] == "postgres:15"
    assert SERVICES["crm-redis"]["image"] == "redis:7"


def test_optional_services_have_profiles_and_ports_are_local() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert {name for name, profile in profiles.items() if profile is None} == {
        *("crm-db", "crm-redis", "celery-worker", "sitegenctl-maintain", "sitegenctl-live"),
    }
    assert (profiles["crm-rq-worker"], profiles["flower"]) == (["rq"], ["flower"])
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nothing_of_ours_runs_as_root_or_may_become_it() -> None:
    assert re.findall(r"^USER (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == ["$UID"]
    for service in OURS.values():
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert "no-new-privileges:true" in service["security_opt"]


@pytest.fixture
def deployed_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis that is started as compose.yaml starts it."""
    place = tmp_path / "redis.sock"
    process = subprocess.Popen(
        [str(redis_binary()), *SERVICES["crm-redis"]["command"][1:], "--port", "0", "--unixsocket", str(place)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(place.exists)
        with Redis(unix_socket_path=str(place)) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def test_the_queue_survives_a_restart_without_eviction(deployed_redis: Redis) -> None:
    assert deployed_redis.config_get("appendonly") == {"appendonly": "yes"}
    assert deployed_redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_tables_are_those_of_the_contract(world: World) -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from schema import TARGET, contract
    finally:
        sys.path.pop(0)
    assert TARGET.read_text() == contract(), "make schema"
    world.sql("CREATE SCHEMA deployed")
    # As PostgreSQL's image runs it: one script, in a database that has none of them.
    statements = [(statement,) for statement in contract().partition("\n")[2].split(";\n") if statement.strip()]
    sql(world.database_url)(("SET search_path TO deployed",), *statements)
    counts = world.sql(
        "SELECT table_schema, count(*) FROM information_schema.columns"
        " WHERE table_schema IN ('public', 'deployed') GROUP BY 1 ORDER BY 1"
    )
    assert counts[0][1] == counts[1][1] > 80


# --- each command line run ------------------------------------------------------------------------------------


def is_healthy(service: str, folder: Path, *replaced: tuple[str, str]) -> bool:
    """Run the health check of a service as Docker does."""
    kind, *command = OURS[service]["healthcheck"]["test"]
    for old, new in replaced:
        command = [word.replace(old, new) for word in command]
    command = [word.replace("$$", "$") for word in command]
    return not subprocess.run(
        ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else command, env=with_program(folder), check=False
    ).returncode


def test_each_service_has_a_health_check_of_its_own() -> None:
    assert all(service["healthcheck"]["test"] for service in SERVICES.values())
    checks = [
        str(service["healthcheck"]["test"]) for service in OURS.values() if "worker" not in str(service["command"])
    ]
    assert len(set(checks)) == len(checks) == 3


@pytest.mark.parametrize(("backend", "service"), [("celery", "celery-worker"), ("rq", "crm-rq-worker")])
def test_a_worker_and_its_health_check(world: World, tmp_path: Path, backend: str, service: str) -> None:
    if backend == "rq":
        assert OURS[service]["environment"]["SITEGENCTL_BACKEND"] == os.environ["SITEGENCTL_BACKEND"] == "rq"
    assert not is_healthy(service, tmp_path)
    ((_, *arguments),) = ours(COMMANDS[f"compose {service}"])
    worker = world.worker(*arguments)
    assert is_healthy(service, tmp_path)
    # A worker of another container does not count.
    assert not is_healthy(service, tmp_path, ("$$(hostname)", "other"))
    worker.terminate()
    worker.wait(30)
    assert not is_healthy(service, tmp_path)


@pytest.mark.parametrize("place", ["systemd sitegenctl-maintain.service", "dockerfile"])
def test_examples_that_end(world: World, place: str) -> None:
    world.order(42)
    (arguments,) = ours(COMMANDS[place])
    process = world.run(*arguments)
    assert process.returncode == 0, process.stderr
    assert world.status() == ("BUILDING" if place == "dockerfile" else "GENERATING")


@pytest.mark.parametrize(
    "place",
    [
        *("compose sitegenctl-live", "compose sitegenctl-metrics"),
        *("systemd sitegenctl-live.service", "systemd sitegenctl-metrics.service"),
    ],
)
def test_examples_that_run_until_stopped(world: World, place: str, tmp_path: Path) -> None:
    (arguments,) = ours(COMMANDS[place])
    service = place.removeprefix("compose ") if place.startswith("compose") else None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    link = tmp_path / "stdout"
    with link.open("wb") as stdout:
        process = processes.start(
            *("-m", "sitegenctl", *(re.sub(r"8765|9187", port, word) for word in arguments)),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
    try:
        assert eventually(lambda: f":{port}/" in link.read_text() or process.poll() is not None)
        assert service is None or is_healthy(service, tmp_path, ("8765", port), ("9187", port))
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10):
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert service is None or not is_healthy(service, tmp_path, ("8765", port), ("9187", port))
    finally:
        process.kill()
        process.wait()


def test_the_maintenance_service_runs_and_stops_on_request(world: World, tmp_path: Path) -> None:
    world.order(42)
    shell, flag, script = SERVICES["sitegenctl-maintain"]["command"]
    last_run = tmp_path / "last-run"
    (place,) = re.findall(r"touch (\S+?);", script)
    script = script.replace(place, str(last_run))
    healthy = partial(is_healthy, "sitegenctl-maintain", tmp_path, (place, str(last_run)))
    assert not healthy()
    process = subprocess.Popen(
        [shell, flag, script.replace("$$", "$")], env=with_program(tmp_path), stdin=subprocess.DEVNULL
    )
    try:
        eventually(lambda: world.status() == "GENERATING")
        eventually(healthy)
        # Three intervals without a run.
        long_ago = last_run.stat().st_mtime - 16 * 60
        os.utime(last_run, (long_ago, long_ago))
        assert not healthy()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


def with_program(folder: Path, script: str = f'exec {sys.executable} -m sitegenctl "$@"') -> dict[str, str]:
    """The environment of a shell that finds sitegenctl, and these sources of it; or else this script."""
    program = folder / "bin" / "sitegenctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(("code", "result"), [(0, 0), (1, 1), (3, 3), (4, 4), (6, 0)])
def test_the_cronjob_succeeds_if_another_run_is_active(tmp_path: Path, code: int, result: int) -> None:
    process = subprocess.run(JOB, env=with_program(tmp_path, f"exit {code}"), check=False)
    assert process.returncode == result


def test_the_cronjob_passes_on_sigterm_and_waits(tmp_path: Path) -> None:
    script = "trap 'sleep 0.2; exit 130' TERM; echo started; while :; do sleep 0.1; done"
    with subprocess.Popen(JOB, env=with_program(tmp_path, script), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.terminate()
        assert process.wait(timeout=30) == 130


def test_the_cronjob_changes_orders(world: World, tmp_path: Path) -> None:
    world.order(42)
    *shell, script = JOB
    assert not subprocess.run(
        [*shell, script.replace("20s", "1ms")], env=with_program(tmp_path), check=False
    ).returncode
    assert world.status() == "GENERATING"


def mailed(home: Path, command: str, environ: dict[str, str]) -> str:
    """What cron mails of a command."""
    process = subprocess.run(
        ["/bin/sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environ, "HOME": str(home)},
        cwd=home,
        check=False,
    )
    return process.stdout


def test_cron_mails_only_news(tmp_path: Path) -> None:
    command = CRONTAB[0][6]

    def run_of(output: str, code: int) -> str:
        return mailed(tmp_path, command, with_program(tmp_path, f"echo '{output}' | grep . >&2; exit {code}"))

    assert run_of("", 0) == ""
    assert run_of("repair: 1 repaired", 0) == "repair: 1 repaired\n"
    assert run_of("", 0) == ""
    assert run_of("database unreachable", 3) == "database unreachable\n"
    assert run_of("error: another maintenance run is active", 6) == ""
    # An outage that lasts is no news.
    assert run_of("database unreachable", 3) == ""
    assert run_of("", 0) == ""
    assert run_of("database unreachable", 3) == "database unreachable\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "maintain.txt"]


def test_the_user_of_cron_can_write_where_its_lines_do() -> None:
    guide = (DEPLOY / "README.md").read_text()
    (made,) = re.findall(r"^install --directory --owner=sitegenctl (.*)$", guide, re.MULTILINE)
    files = [Path(file) for line in CRONTAB for file in re.findall(r"(?:--textfile|--html|>) ?(/(?!dev/)\S+)", line[6])]
    assert {str(file.parent) for file in files} == set(made.split())


def test_the_lines_of_cron_as_its_shell_runs_them(world: World, tmp_path: Path) -> None:
    world.order(42)
    env_file, textfile, page = tmp_path / "crm.env", tmp_path / "sitegenctl.prom", tmp_path / "week.html"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in world.environ.items()))
    env_file.chmod(0o600)
    places = {
        "/srv/crm/.env": env_file,
        "/var/lib/node_exporter/textfile/sitegenctl.prom": textfile,
        "/var/www/reports/site-generation.html": page,
        "--jitter 30s": "--jitter 1ms",
    }
    environ = {name: value for name, value in with_program(tmp_path).items() if name not in world.environ}
    outputs = []
    for *_, command in CRONTAB:
        for place, ours_here in places.items():
            command = command.replace(place, str(ours_here))
        outputs.append(mailed(tmp_path, command, environ))
    assert "GENERATING" in outputs[0]
    assert (outputs[1], outputs[3]) == ("", "")
    # No worker runs, and cron mails the report.
    assert outputs[2].startswith("unhealthy: ")
    assert "sitegenctl_source_up" in textfile.read_text()
    assert page.read_text().startswith("<!doctype html>")
