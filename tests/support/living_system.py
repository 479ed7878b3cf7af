"""A system with workers of the deployed kind, and operators who run `repair --yes` and `maintain` every second."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from sitegenctl.demo.servers.redis import PrivateRedis
from tests.support import processes
from tests.support.processes import Running
from tests.support.servers import RedisProxy
from tests.support.world import QUEUE, REPOSITORY, World, eventually

PYTHON = REPOSITORY / ".venv-deployed" / "bin" / "python"
#: Seconds that bound a hang: a loaded machine may take long to start a worker.
PATIENCE = 120.0
#: Conditions of an order that a worker is generating, whatever has become of the worker's connections.
ALIVE = frozenset({"running", "unknown"})
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


@dataclass(frozen=True)
class Run:
    """One run of an order, in seconds of the machine's monotonic clock; ``end`` is infinite while it goes on."""

    order_id: int
    task_id: str
    pid: int
    begin: float
    wall: float  # when it began, by the machine's wall clock
    end: float

    @property
    def is_going_on(self) -> bool:
        return math.isinf(self.end)


@dataclass
class System(World):
    """Servers, workers and what they generated; Redis is the test's own, so that it can be restarted."""

    proxy: RedisProxy = field(kw_only=True)
    #: Further settings of sitegenctl, as environment variables.
    options: dict[str, str] = field(default_factory=dict, kw_only=True)
    #: When each process was killed, by the monotonic clock.
    _killed: dict[int, float] = field(default_factory=dict, kw_only=True)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **super().environ,
            "SITEGENCTL_CONFIG": str(self.folder / "config.toml"),
            "SITEGENCTL_DATA_DIR": str(self.folder / "data"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            # Act at once on whatever is wrong.
            "SITEGENCTL_GRACE": "1s",
            "SITEGENCTL_TIMEOUT": "2s",
            **self.options,
        }

    def close(self) -> None:
        for order_id in {run.order_id for run in self.runs()}:
            self.finish(order_id)
        super().close()

    def enqueue_as_backend(self, *order_ids: int, **options: Any) -> list[str]:
        """Have the backend commit GENERATING and publish; returns the task ids."""
        for order_id in order_ids:
            self.order(order_id, "GENERATING")
        return [self.publish(order_id, **options) for order_id in order_ids]

    def finish(self, *order_ids: int) -> None:
        """Let current and later runs of these orders end."""
        for order_id in order_ids:
            (self.folder / f"finish-{order_id}").touch()

    def runs(self, order_id: int | None = None) -> list[Run]:
        """Runs so far, of one order or of all, in the order in which they began.

        A process that died in a run ended it when the test killed it; otherwise the time is unknown and at least the
        begin.
        """
        began = [record for record in self._run_records() if "pid" in record]
        dead = {record["pid"] for record in began if not _is_alive(record["pid"])}
        # Read again: a run of a process that is dead now may have ended before.
        ended = {record["run"]: record["at"] for record in self._run_records() if "pid" not in record}
        runs = []
        for record in began:
            if order_id in (None, record["order"]):
                pid, begin = record["pid"], record["at"]
                end = ended.get(record["run"], self._killed.get(pid, begin) if pid in dead else math.inf)
                runs.append(Run(record["order"], record["task"], pid, begin, record["wall"], end))
        return runs

    def _run_records(self) -> list[dict[str, Any]]:
        file = self.folder / "runs.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def overlaps(self) -> list[tuple[Run, Run]]:
        """Pairs of consecutive runs of an order where the second began before an earlier one had ended."""
        overlapping = []
        for order_id in sorted({run.order_id for run in self.runs()}):
            runs = self.runs(order_id)
            for first, second in pairwise(runs):
                if second.begin < max(run.end for run in runs if run.begin <= first.begin):
                    overlapping.append((first, second))
        return overlapping

    def is_running(self, order_id: int) -> bool:
        return any(run.is_going_on for run in self.runs(order_id))

    def wait_running(self, *order_ids: int) -> None:
        """Wait until a worker generates each of these orders, and has written so."""
        eventually(
            lambda: all(self.is_running(each) and "PHASE_1_START" in self.steps(each) for each in order_ids),
            patience=PATIENCE,
        )

    def wait_generated(self, *order_ids: int) -> None:
        """Wait until each of these orders is generated, has no task left and is called `done`."""
        for order_id in order_ids:
            eventually(lambda order_id=order_id: self.status(order_id) == "REVIEW", patience=PATIENCE)
            self.wait_condition(order_id, "done")

    def receivers(self) -> int:
        """How many subscribers a remote control request reaches."""
        with self.redis() as client:
            return int(client.publish("/0.celery.pidbox", b"{}"))

    def delivered(self, *order_ids: int) -> dict[int, tuple[str, float]]:
        """The delivery tag and the time of delivery (wall clock) of each of these orders' messages."""
        deliveries = {}
        with self.redis() as client:
            for tag, raw in client.hgetall("unacked").items():
                order_id = json.loads(base64.b64decode(json.loads(raw)[0]["body"]))[0][0]
                if order_id in order_ids:
                    deliveries[order_id] = (tag.decode(), float(client.zscore("unacked_index", tag)))
        return deliveries

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

        def ready() -> bool:
            assert worker.poll() is None, log.read_text()
            return " ready." in log.read_text()

        eventually(ready, patience=PATIENCE)
        return worker

    def worker_log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def wait_log(self, name: str, text: str, *, after: str = "") -> None:
        """Wait until a deployed worker has written this into its log, behind the text ``after``."""
        deadline = time.monotonic() + PATIENCE
        while text not in (log := self.worker_log(name))[max(log.find(after), 0) :] or after not in log:
            assert time.monotonic() < deadline, log[-4000:]
            time.sleep(0.05)

    def kill(self, worker: Running) -> None:
        """Kill a worker and its pool with -9, and wait until every process of its runs is gone."""
        pids = {run.pid for run in self.runs() if run.is_going_on and os.getpgid(run.pid) == worker.pid}
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        eventually(lambda: not any(map(_is_alive, pids)))
        self._killed.update(dict.fromkeys(pids, time.monotonic()))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of sitegenctl."""
        return self.run_process(*arguments, **self.environ)

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command that does not wait long for workers."""
        return processes.run("-c", _HURRIED, *arguments, env={**os.environ, **self.environ})

    def inspect(self, order_id: int) -> dict[str, Any]:
        """The data of `inspect ORDER -o json`."""
        process = self.command("inspect", str(order_id), "-o", "json")
        data: dict[str, Any] = json.loads(process.stdout)["data"]
        assert data is not None, process.stderr
        return data

    def condition(self, order_id: int) -> str:
        return str(self.inspect(order_id)["condition"])

    def wait_condition(self, order_id: int, *conditions: str) -> None:
        """Wait until the order is in one of these conditions."""
        deadline = time.monotonic() + PATIENCE
        while (order := self.inspect(order_id))["condition"] not in conditions:
            assert time.monotonic() < deadline, (conditions, order)

    @contextlib.contextmanager
    def operators(self, *commands: str, redis_stops: bool = False) -> Iterator[Operators]:
        """Run these commands (`repair --yes` and `maintain`) every second during the block, and check how they ended.

        Where ``redis_stops``, they may report that Redis cannot be reached.
        """
        operators = Operators(self, commands or ("repair --yes", "maintain"))
        try:
            yield operators
        finally:
            operators.stop()
        operators.check(_EXPECTED_CODES | {3} if redis_stops else _EXPECTED_CODES)


class Operators:
    """Runs each command once a second, all of them side by side, as processes of their own."""

    def __init__(self, system: System, commands: Sequence[str]) -> None:
        self._system = system
        self._stopped = threading.Event()
        self._begun = dict.fromkeys(commands, 0)
        self._processes: dict[str, list[subprocess.CompletedProcess[str]]] = {command: [] for command in commands}
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(each,), name=each) for each in commands]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the running commands end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def check(self, expected: frozenset[int]) -> None:
        """Assert that every command ended with an expected exit code and without an unexpected error."""
        assert not self._errors, self._errors
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
            order = self._system.inspect(order_id)
            assert order["condition"] in among, order
            assert order["condition"] != "unknown" or order["until"], order
            process = self._system.operate("repair", str(order_id), "--yes")
            assert process.returncode in _EXPECTED_CODES, process.stderr
        self.rounds(1)
        for order_id in order_ids:
            order = self._system.inspect(order_id)
            assert order["condition"] in among, order

    def _work(self, command: str) -> None:
        try:
            while not self._stopped.is_set():
                begun = time.monotonic()
                self._begun[command] += 1
                self._processes[command].append(self._system.operate(*command.split()))
                self._stopped.wait(max(0.0, 1.0 - (time.monotonic() - begun)))
        except BaseException as exc:  # noqa: BLE001 - raised by `rounds` and `check`
            self._errors.append(exc)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


@contextlib.contextmanager
def living_system(folder: Path, database_url: str, *, persistence: bool) -> Iterator[System]:
    """A system with a Redis of its own, and no worker yet."""
    server = PrivateRedis(folder / "redis", persistence=persistence).start()
    sites_dir = folder / "sites"
    sites_dir.mkdir()
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    try:
        with RedisProxy(port) as proxy:
            system = System(database_url=database_url, redis_url=server.url, sites_dir=sites_dir, proxy=proxy)
            try:
                yield system
            finally:
                system.close()
    finally:
        with contextlib.suppress(Exception):
            PrivateRedis(folder / "redis").stop()
