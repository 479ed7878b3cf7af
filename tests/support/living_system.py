"""A system with live workers of the deployed kind, and operators who run `repair --yes` and `maintain` every second."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery

from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support import processes
from tests.support.living_runs import Runs
from tests.support.processes import Running
from tests.support.redis_proxy import RedisProxy
from tests.support.world import QUEUE, World, eventually

REPOSITORY = Path(__file__).parents[2]
PYTHON = REPOSITORY / ".venv-deployed" / "bin" / "python"
#: Seconds that bound a hang: a loaded machine may take long to start a worker.
PATIENCE = 120.0
#: What `inspect` may call an order that a worker is generating, whatever has become of the worker's connections.
ALIVE = frozenset({"running", "unknown"})

# What is wrong is acted on at once.
_GRACE = "1s"
# An operator's command, which gives workers 0.3 s to reply: `maintain` asks them a dozen times, and one that replies
# later counts as unreachable, which is what these tests are about.
_HURRIED = """
from sitegenctl.__main__ import main
from sitegenctl.adapters.celery.workers import CeleryWorkers

make = CeleryWorkers.__init__

def hurried(self, *arguments, **options):
    make(self, *arguments, **options)
    assert self.reply_timeout
    self.reply_timeout = 0.3

CeleryWorkers.__init__ = hurried
main()
"""
#: Exit codes of operators: done, overtaken by the other, refused or left for a person, another maintenance run.
_EXPECTED_CODES = frozenset({0, 1, 4, 6})
_WITHOUT_REDIS = _EXPECTED_CODES | {3}


@dataclass
class System(World):
    """Servers, workers and what they generated; Redis is the test's own, so that it can be restarted."""

    folder: Path = field(kw_only=True)
    persistence: bool = field(default=True, kw_only=True)
    proxy: RedisProxy = field(kw_only=True)
    runs: Runs = field(kw_only=True)
    #: Further settings of sitegenctl, as environment variables.
    options: dict[str, str] = field(default_factory=dict, kw_only=True)
    #: Seconds from the fault to the next run of its order, where that is what a test is about.
    recovery: float | None = field(default=None, kw_only=True)
    _deployed: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, kw_only=True)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **super().environ,
            "SITEGENCTL_CONFIG": str(self.folder / "config.toml"),
            "SITEGENCTL_DATA_DIR": str(self.folder / "data"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "SITEGENCTL_GRACE": _GRACE,
            "SITEGENCTL_TIMEOUT": "2s",
            **self.options,
        }

    def close(self) -> None:
        for order_id in {run.order_id for run in self.runs.all()}:
            self.finish(order_id)
        super().close()

    # --- orders -------------------------------------------------------------------------------------------

    def enqueue_as_backend(self, *order_ids: int, **options: Any) -> list[str]:
        """Have the backend commit GENERATING and publish; returns the task ids."""
        for order_id in order_ids:
            self.order(order_id, "GENERATING")
        return [self.publish(order_id, **options) for order_id in order_ids]

    def finish(self, *order_ids: int) -> None:
        """Let the runs of these orders come to their end, those to come too."""
        for order_id in order_ids:
            (self.folder / f"finish-{order_id}").touch()

    def is_running(self, *order_ids: int) -> bool:
        return all(any(run.is_going_on for run in self.runs.of(order_id)) for order_id in order_ids)

    def wait_running(self, *order_ids: int) -> None:
        """Wait until a worker generates each of these orders, and has written so."""
        eventually(
            lambda: self.is_running(*order_ids) and all("PHASE_1_START" in self.steps(each) for each in order_ids),
            patience=PATIENCE,
        )

    def journal(self) -> list[str]:
        """What operators have written into the log, for a test that fails."""
        rows = self.sql("SELECT order_id, message, created_at FROM site_generation_logs WHERE step LIKE 'OPERATOR%'")
        return [f"{row['created_at']} {row['order_id']} {row['message']}" for row in rows]

    def wait_generated(self, *order_ids: int) -> None:
        """Wait until each of these orders is generated, has no task left and is called `done`."""
        for order_id in order_ids:
            eventually(lambda order_id=order_id: self.status(order_id) == "REVIEW", patience=PATIENCE)
            self.wait_condition(order_id, "done")

    # --- Redis --------------------------------------------------------------------------------------------

    def stop_redis(self) -> None:
        """Stop Redis when the only worker has nothing to send; no operator may be at work, nor may it have a heartbeat.

        A worker that cannot send an answer to remote control or a heartbeat tries again until Redis is back. It logs
        nothing of that, and meanwhile it does not notice that its other connections are gone.
        """
        with self.backend_client() as app:
            # Requests are answered in turn, so that nothing is left from before this one.
            assert app.control.ping(timeout=PATIENCE, limit=1)
        assert PrivateRedis(self.folder / "redis").stop()

    def start_redis(self) -> None:
        """Start Redis again; without persistence it has forgotten everything."""
        assert PrivateRedis(self.folder / "redis", persistence=self.persistence).start().url == self.redis_url

    def receivers(self) -> int:
        """How many subscribers a remote control request reaches."""
        with self.redis() as client:
            return int(client.publish("/0.celery.pidbox", b"{}"))

    def delivered(self, *order_ids: int) -> dict[int, tuple[str, float]]:
        """The delivery tag and the time of delivery (wall clock) of each of these orders' messages."""
        found = {}
        with self.redis() as client:
            for tag, raw in client.hgetall("unacked").items():
                order_id = json.loads(base64.b64decode(json.loads(raw)[0]["body"]))[0][0]
                if order_id in order_ids:
                    found[order_id] = (tag.decode(), float(client.zscore("unacked_index", tag)))
        return found

    def redeliver(self, order_id: int) -> None:
        """Move the order's delivery back to the queue, as kombu does after the visibility timeout."""
        tag, _ = self.delivered(order_id)[order_id]
        with self.redis() as client:
            message = json.loads(client.hget("unacked", tag))[0]
            client.hdel("unacked", tag)
            client.zrem("unacked_index", tag)
            client.rpush(QUEUE, json.dumps(message))

    @contextlib.contextmanager
    def backend_client(self) -> Iterator[Celery]:
        """A Celery client that is not sitegenctl."""
        with Celery(broker=self.redis_url, set_as_current=False) as app:
            yield app

    # --- workers ------------------------------------------------------------------------------------------

    def deployed(
        self, name: str, concurrency: int = 2, *, proxied: bool = False, heartbeat: bool = True, **conf: Any
    ) -> Running:
        """Start a worker of the deployed kind and wait until it consumes; ``conf`` are Celery settings."""
        assert PYTHON.exists(), "make .venv-deployed/.installed"
        broker = self.redis_url
        if proxied:
            port = broker.rpartition(":")[2].partition("/")[0]
            broker = broker.replace(f":{port}/", f":{self.proxy.port}/")
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "LIVING_BROKER": broker,
            "LIVING_DATABASE": self.database_url,
            "LIVING_SITES": str(self.sites_dir),
            "LIVING_FOLDER": str(self.folder),
            "LIVING_CONF": json.dumps(conf),
        }
        app = ("-A", "tests.support.deployed_worker", "worker", "-n", f"{name}@host", "-Q", QUEUE)
        options = () if heartbeat else ("--without-heartbeat",)
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            worker = subprocess.Popen(
                [PYTHON, "-m", "celery", *app, "-c", str(concurrency), "-l", "INFO", *options],
                env=environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(worker)
        self._deployed[name] = worker

        def ready() -> bool:
            assert worker.poll() is None, log.read_text()
            return " ready." in log.read_text()

        eventually(ready, patience=PATIENCE)
        return worker

    def reference(self) -> Running:
        """Start a reference worker, which takes a run lock for each order."""
        environ = {
            **self.environ,
            "SITEGENCTL_GENERATOR": "tests.support.living_generator:recording",
            "PYTHONPATH": str(REPOSITORY),
            "LIVING_FOLDER": str(self.folder),
        }
        return self.worker("-c", "1", environ=environ, cwd=self.folder)

    def worker_log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait_log(self, name: str, text: str, *, after: str = "") -> None:
        """Wait until a deployed worker has written this into its log, behind the text ``after``."""
        deadline = time.monotonic() + PATIENCE
        while text not in (log := self.worker_log(name))[max(log.find(after), 0) :] or after not in log:
            assert time.monotonic() < deadline, log[-4000:] + self._stack(name)
            time.sleep(0.05)

    def _stack(self, name: str) -> str:
        """What a deployed worker logs now: the stack of its main process, which it dumps on SIGUSR1."""
        before = len(self.worker_log(name))
        self._deployed[name].send_signal(signal.SIGUSR1)
        with contextlib.suppress(AssertionError):  # a process that is dead or stopped dumps nothing
            eventually(lambda: "LOCAL VARIABLES" in self.worker_log(name)[before:])
        return self.worker_log(name)[before:]

    def kill(self, worker: Running) -> None:
        """Kill a worker and its pool with -9, and wait until every process of its runs is gone."""
        pids = {run.pid for run in self.runs.all() if run.is_going_on and os.getpgid(run.pid) == worker.pid}
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        eventually(lambda: not pids & {run.pid for run in self.runs.all() if run.is_going_on})

    # --- operators ----------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of sitegenctl."""
        return self.run_process(*arguments, **self.environ)

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that does not wait long for workers."""
        return processes.run("-c", _HURRIED, *arguments, env={**os.environ, **self.environ})

    def inspect(self, order_id: int) -> dict[str, Any]:
        """What `inspect ORDER -o json` shows."""
        process = self.command("inspect", str(order_id), "-o", "json")
        data: dict[str, Any] = json.loads(process.stdout)["data"]
        assert data is not None, process.stderr
        return data

    def condition(self, order_id: int) -> str:
        return str(self.inspect(order_id)["condition"])

    def wait_condition(self, order_id: int, *conditions: str) -> None:
        """Wait until the order is in one of these conditions."""
        deadline = time.monotonic() + PATIENCE
        while (shown := self.inspect(order_id))["condition"] not in conditions:
            assert time.monotonic() < deadline, (conditions, shown)

    @contextlib.contextmanager
    def operators(self, *commands: str) -> Iterator[Operators]:
        """These commands (`repair --yes` and `maintain`) run every second for as long as the block lasts."""
        operators = Operators(self, commands or ("repair --yes", "maintain"))
        try:
            yield operators
        finally:
            operators.stop()
        operators.check()


class Operators:
    """Commands that are repeated every second, as processes of their own, beside the others."""

    def __init__(self, system: System, commands: Sequence[str]) -> None:
        self._system = system
        self._stopped = threading.Event()
        self._begun = dict.fromkeys(commands, 0)
        self._processes: dict[str, list[subprocess.CompletedProcess[str]]] = {command: [] for command in commands}
        self._errors: list[BaseException] = []
        self._redis_was_away = False
        self._threads = [threading.Thread(target=self._work, args=(each,), name=each) for each in commands]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the running commands end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def redis_goes_away(self) -> None:
        """Accept that commands report from now on that Redis cannot be reached."""
        self._redis_was_away = True

    def check(self) -> None:
        """No command ended otherwise than commands may."""
        assert not self._errors, self._errors
        expected = _WITHOUT_REDIS if self._redis_was_away else _EXPECTED_CODES
        for process in itertools.chain(*self._processes.values()):
            assert process.returncode in expected, (process.returncode, process.stdout, process.stderr)
            assert not re.search("unexpected|Traceback", process.stderr), process.stderr

    def rounds(self, count: int = 2) -> None:
        """Wait until each command has begun and ended ``count`` times from now on."""
        enough = {name: begun + count for name, begun in self._begun.items()}

        def through() -> bool:
            assert not self._errors, self._errors
            return all(len(self._processes[name]) >= number for name, number in enough.items())

        eventually(through, patience=PATIENCE)

    def try_to_repair(self, *order_ids: int, among: frozenset[str] = ALIVE) -> None:
        """Have operators try to repair orders that are being generated, by number as well.

        Each order's condition must be ``among`` these, with the time at which an unknown one can be decided.
        """
        for order_id in order_ids:
            shown = self._system.inspect(order_id)
            assert shown["condition"] in among, shown
            assert shown["condition"] != "unknown" or shown["until"], shown
            process = self._system.operate("repair", str(order_id), "--yes")
            assert process.returncode in _EXPECTED_CODES, process.stderr
        self.rounds(1)
        for order_id in order_ids:
            shown = self._system.inspect(order_id)
            assert shown["condition"] in among, shown

    def _work(self, command: str) -> None:
        try:
            while not self._stopped.is_set():
                begun = time.monotonic()
                self._begun[command] += 1
                self._processes[command].append(self._system.operate(*command.split()))
                self._stopped.wait(max(0.0, 1.0 - (time.monotonic() - begun)))
        except BaseException as exc:  # noqa: BLE001 - raised where the operators are waited for
            self._errors.append(exc)


@contextlib.contextmanager
def living_system(folder: Path, database_url: str, *, persistence: bool = True) -> Iterator[System]:
    """A system with a Redis of its own, and no worker yet."""
    server = PrivateRedis(folder / "redis", persistence=persistence).start()
    sites_dir = folder / "sites"
    sites_dir.mkdir()
    runs = Runs(folder)
    runs.start()
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    try:
        with RedisProxy(port) as proxy:
            system = System(
                database_url=database_url,
                redis_url=server.url,
                sites_dir=sites_dir,
                folder=folder,
                persistence=persistence,
                proxy=proxy,
                runs=runs,
            )
            try:
                yield system
            finally:
                system.close()
    finally:
        runs.stop()
        with contextlib.suppress(Exception):
            PrivateRedis(folder / "redis").stop()
