"""The embedded stack on real servers: up, down, and recovery from a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import site
import socket
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis

import sitegenctl
from sitegenctl.demo.servers.base import ServerState
from sitegenctl.demo.servers.lock import exclusive
from sitegenctl.demo.servers.processes import Account, run_to_end, wait_until
from sitegenctl.demo.servers.unprivileged import existing_home, unprivileged_account
from sitegenctl.demo.stack import Stack, StackState, default_root
from sitegenctl.errors import SitegenError, SourceError, UsageProblem
from tests.support.databases import query

# A worker with children: one that inherits everything, as a prefork pool's, and one that closes everything.
WORKER = """
import os, signal, subprocess, sys, time
if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
print("worker of", os.environ["REDIS_URL"], os.environ.get("PACE"), flush=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
if os.fork() == 0:
    time.sleep(600)
print("ready", os.getpid(), flush=True)
time.sleep(600)
"""
PARTS = {"redis", "postgres", "worker"}
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def make_stack(root: Path, script: str = WORKER, **options: Any) -> Stack:
    argv = (sys.executable, "-c", script, str(root))
    options.setdefault(
        "worker_ready", lambda state: f"ready {state.worker.process.pid}\n" in state.worker.log.read_text()
    )
    return Stack(root=root, worker_argv=argv, **options)


def write_order(state: StackState) -> None:
    """Seed the stack; fails if an earlier seeding left anything."""
    query(state.postgres.url, "CREATE TABLE orders AS SELECT 42 AS id")
    with contextlib.closing(redis.Redis.from_url(state.redis.url)) as client:
        assert client.lpush("site_generation", "task") == 1
    (state.sites / "project_1").mkdir(exist_ok=True)


def holds_the_order(state: StackState) -> bool:
    with contextlib.closing(redis.Redis.from_url(state.redis.url)) as client:
        queued = client.lrange("site_generation", 0, -1)
    return query(state.postgres.url, "SELECT id FROM orders") == [(42,)] and queued == [b"task"]


def quiet(_: str) -> None:
    pass


def up(stack: Stack, **changes: Any) -> StackState:
    arguments = {"progress": quiet, "seed": write_order, "worker_env": {"PACE": "1"}} | changes
    return stack.up(**arguments)


def kill(part: ServerState) -> None:
    assert part.process is not None
    os.kill(part.process.pid, signal.SIGKILL)
    assert wait_until(lambda: not part.alive, 5)


def places(root: Path) -> list[str]:
    return [str(root), str(existing_home(root / "postgres", unprivileged_account()))]


def processes_of(where: list[str]) -> list[str]:
    """Every process that has one of the folders on its command line or as its working directory."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            line = f"{process.pid} {' '.join(process.cmdline())} in {process.cwd()}"
            if any(place in line for place in where) and process.status() != psutil.STATUS_ZOMBIE:
                lines.append(line)
    return lines


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "data" / "demo"
    yield root
    where = places(root)
    make_stack(root, worker_grace=0.1).down()
    assert processes_of(where) == []
    assert [place for place in where if Path(place).exists()] == []


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack for tests that keep its servers and its orders."""
    root = tmp_path_factory.mktemp("standing") / "demo"
    up(make_stack(root))
    yield root
    make_stack(root, worker_grace=0.1).down()
    assert processes_of(places(root)) == []


def without_worker(root: Path) -> None:
    state = make_stack(root).status()
    assert state is not None
    if state.worker.alive:
        kill(state.worker)


def test_up_starts_everything_once_and_down_leaves_nothing(root: Path) -> None:
    stack = make_stack(root)
    assert stack.status() is None
    assert stack.down() == ()
    assert not root.exists()

    messages: list[str] = []
    at_seeding: list[StackState] = []
    state = up(stack, progress=messages.append, seed=lambda state: (at_seeding.append(state), write_order(state)))
    assert messages == ["Starting Redis", "Starting PostgreSQL", "Writing the sample orders", "Starting the worker"]
    assert [part.alive for part in at_seeding[0].parts] == [True, True, False]
    assert not at_seeding[0].seeded
    assert [part.alive for part in state.parts] == [True, True, True]
    assert state.seeded
    assert holds_the_order(state)
    assert state.worker.log.read_text().startswith(f"worker of {state.redis.url} 1\n")
    assert state == stack.status()

    context = tomllib.loads((root / "context.toml").read_text())
    assert context == {
        "database_url": state.postgres.url,
        "redis_url": state.redis.url,
        "sites_dir": str(root / "sites"),
        "backend": "celery",
    }
    for path in (root, *root.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 in (0, 0o011), path
    password = state.postgres.url.split(":")[2].split("@")[0]
    assert password not in repr(state)

    messages.clear()
    assert up(stack, progress=messages.append, seed=lambda _: pytest.fail("seeded twice")) == state
    assert messages == []

    where = places(root)
    assert len(processes_of(where)) > 4
    assert stack.down() == ("worker", "Redis", "PostgreSQL")
    assert processes_of(where) == []
    assert [place for place in where if Path(place).exists()] == []
    assert stack.down() == ()


def test_up_recovers_killed_parts_and_keeps_the_data(standing: Path) -> None:
    stack = make_stack(standing)
    state = up(stack)
    for victims in ({"redis"}, {"postgres"}, {"worker"}, PARTS):
        for name in victims:
            kill(getattr(state, name))
        status = stack.status()
        assert status is not None
        assert {name for name in PARTS if not getattr(status, name).alive} == victims
        before, state = state, up(stack, seed=lambda _: pytest.fail("seeded twice"))
        assert [part.alive for part in state.parts] == [True, True, True]
        assert holds_the_order(state)
        # The worker restarts with its servers: it may not survive the loss of one.
        restarted = victims | {"worker"}
        assert {name for name in PARTS if getattr(before, name).process != getattr(state, name).process} == restarted
        # Only the new processes are left: a worker and its two children, and the servers.
        assert len([line for line in processes_of([str(standing)]) if sys.executable in line]) == 3


def test_the_worker_restarts_when_redis_gets_another_port(standing: Path) -> None:
    stack = make_stack(standing)
    state = up(stack)
    kill(state.redis)

    taken: list[socket.socket] = []

    def take_port() -> bool:
        with contextlib.suppress(OSError):  # an outgoing connection of another process may have the port for a moment
            taken.append(socket.create_server(("127.0.0.1", urlsplit(state.redis.url).port or 0)))
        return bool(taken)

    assert wait_until(take_port, 60)
    with taken[0]:
        again = up(stack)
    assert again.redis.url != state.redis.url
    assert again.worker.process.pid != state.worker.process.pid
    assert again.worker.log.read_text().count(again.redis.url) == 1
    assert tomllib.loads((standing / "context.toml").read_text())["redis_url"] == again.redis.url
    assert holds_the_order(again)


# `up` in a process of its own, which kills itself at the given moment. "unrecorded" is between the start of a server
# and the writing of its pid.
UP = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from test_demo_stack import make_stack, up, write_order, places
root, moment = Path(sys.argv[2]), sys.argv[3]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def progress(line):
    print(line, flush=True)
    if line == moment:
        die()
def seed(state):
    write_order(state)
    if moment == "seeded":
        die()
def watch():
    while not any(Path(place, "data.new", "base").exists() for place in places(root)):
        time.sleep(0.001)
    die()
if moment in ("redis unrecorded", "postgres unrecorded"):
    from sitegenctl.demo.servers import processes
    real = processes.write_whole
    part = moment.split()[0]
    processes.write_whole = lambda path, *rest, **options: die() if path.parent.name != "demo" and (
        (path.parent.name == "redis") == (part == "redis")) else real(path, *rest, **options)
if moment == "initdb":
    threading.Thread(target=watch, daemon=True).start()
if moment == "worker unready":
    import sitegenctl.demo.stack
    sitegenctl.demo.stack.Stack._await_worker = die
up(make_stack(root), progress=progress, seed=seed)
"""


def up_elsewhere(root: Path, moment: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", UP, str(Path(__file__).parent), str(root), moment]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_up_recovers_from_a_series_of_killed_ups(root: Path) -> None:
    for moment in ("redis unrecorded", "initdb", "postgres unrecorded", "seeded", "worker unready"):
        killed = up_elsewhere(root, moment)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL, moment
    state = up(make_stack(root))
    assert [part.alive for part in state.parts] == [True, True, True]
    assert holds_the_order(state)
    running = processes_of(places(root))
    assert len([line for line in running if "redis-server" in line or " -D " in line]) == 2
    assert len([line for line in running if sys.executable in line]) == 3


@pytest.mark.parametrize("moment", ["initdb", "postgres unrecorded"])
def test_down_leaves_nothing_of_a_killed_up(root: Path, moment: str) -> None:
    killed = up_elsewhere(root, moment)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    where = places(root)
    make_stack(root).down()
    assert processes_of(where) == []
    assert [place for place in where if Path(place).exists()] == []


def test_an_interrupted_up_stops_its_processes(root: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    stack = make_stack(root)
    with pytest.raises(KeyboardInterrupt):
        up(stack, seed=interrupt)
    assert processes_of(places(root)) == []

    state = up(stack)
    kill(state.worker)
    kill(state.redis)
    with pytest.raises(KeyboardInterrupt):
        up(make_stack(root, worker_ready=interrupt))
    status = stack.status()
    assert status is not None
    assert [part.alive for part in status.parts] == [False, True, False]
    assert status.postgres.process.pid == state.postgres.process.pid
    assert [line for line in processes_of([str(root)]) if sys.executable in line] == []


def test_two_ups_at_the_same_time_make_one_stack(root: Path) -> None:
    both = [up_elsewhere(root, "never") for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("Writing the sample orders") for text in outputs) == 1
    state = make_stack(root).status()
    assert state is not None
    assert holds_the_order(state)


def test_up_and_down_wait_for_each_other(root: Path) -> None:
    messages: list[str] = []
    with exclusive(root, 1, quiet), pytest.raises(SitegenError, match="another demo up or demo down"):
        up(make_stack(root, lock_timeout=0.1), progress=messages.append)
    assert messages == ["Waiting for another demo up or demo down"]
    with exclusive(root, 1, quiet), pytest.raises(SitegenError):
        make_stack(root, lock_timeout=0.1).down()


def test_a_worker_that_exits_at_once_reports_why(standing: Path) -> None:
    without_worker(standing)
    script = "raise SystemExit('ModuleNotFoundError: no such generator')"
    with pytest.raises(SourceError) as caught:
        up(make_stack(standing, script))
    assert caught.value.message == "the worker did not start: ModuleNotFoundError: no such generator"
    assert str(standing / "worker.log") in caught.value.hint


def test_a_worker_ignoring_signals_is_killed_with_children(root: Path) -> None:
    stack = make_stack(root, STUBBORN + STUBBORN.replace("TERM", "QUIT") + WORKER, worker_grace=0.1)
    up(stack)
    stack._worker_stop_steps = [(number, 0.1) for number, _ in stack._worker_stop_steps]
    assert "worker" in stack.down()


def test_the_worker_does_not_inherit_the_operators_settings(standing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_worker(standing)
    monkeypatch.setenv("DATABASE_URL", "postgresql://production/orders")
    monkeypatch.setenv("SITEGENCTL_DATABASE_URL", "postgresql://production/orders")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://production/0")
    monkeypatch.setenv("PGPASSWORD", "production")
    script = "import os, time; print(sorted(os.environ.items()), '\\nready', os.getpid(), flush=True); time.sleep(600)"
    state = up(make_stack(standing, script))
    printed = state.worker.log.read_text()
    assert "production" not in printed
    assert state.postgres.url in printed


def test_down_can_keep_the_sites_for_the_next_up(root: Path) -> None:
    stack = make_stack(root)
    up(stack)
    stack.down(keep_sites=True)
    assert [entry.name for entry in root.iterdir()] == ["sites"]
    assert (root / "sites" / "project_1").is_dir()
    assert up(stack).seeded
    stack.down()


def test_a_foreign_folder_is_neither_used_nor_removed(tmp_path: Path) -> None:
    for name in ("postgres", "redis", "sites"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("years of work")
    stack = make_stack(tmp_path)
    with pytest.raises(UsageProblem, match="postgres"):
        up(stack)
    assert stack.status() is None
    assert stack.down() == ()
    assert len(list(tmp_path.glob("*/thesis.txt"))) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="otherwise every test here runs as an ordinary user")
def test_an_ordinary_user_needs_only_the_folder(request: pytest.FixtureRequest) -> None:
    entry = pwd.getpwnam("nobody")
    account = Account(name="nobody", uid=entry.pw_uid, gid=entry.pw_gid)
    folder = Path(tempfile.mkdtemp(prefix="sitegenctl-test-"))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    os.chown(folder, account.uid, account.gid)
    # The interpreter of this environment may lie in root's home; its packages are elsewhere.
    modules = os.pathsep.join([str(Path(sitegenctl.__file__).parents[1]), *site.getsitepackages()])
    env = {"PATH": os.defpath, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": modules}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in filter(None, (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin"))):
        with contextlib.suppress(SourceError):
            if run_to_end([python, "-c", TRY], env=env, account=account, timeout=30).returncode == 0:
                break
    else:
        pytest.skip("no interpreter that another account may run")
    argv = [python, "-c", ORDINARY, str(folder / "demo")]
    done = run_to_end(argv, env=env, account=account, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["('worker', 'Redis', 'PostgreSQL')"], done.stdout
    assert list(folder.iterdir()) == []


TRY = "import asyncpg, sitegenctl"
ORDINARY = """
import os, signal, sys
from pathlib import Path
from sitegenctl.demo.servers.processes import wait_until
from sitegenctl.demo.stack import Stack
stack = Stack(root=Path(sys.argv[1]), worker_argv=["/bin/sh", "-c", "sleep 600 & wait"])
def up(seed):
    return stack.up(progress=print, seed=seed, worker_env={})
os.kill(up(lambda state: print(state.parts)).postgres.process.pid, signal.SIGKILL)
assert wait_until(lambda: not stack.status().postgres.alive, 5)
assert up(None).postgres.alive
assert (stack.root / "postgres" / "data").stat().st_uid == os.getuid() != 0
print(stack.down())
"""


def test_settings_read_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SITEGENCTL_DATA_DIR", str(tmp_path))
    assert default_root() == tmp_path / "demo"
