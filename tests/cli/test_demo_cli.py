from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sitegenctl.demo.samples.plan import MIN_ORDERS
from sitegenctl.demo.servers.lock import only_tour
from sitegenctl.demo.stack import Stack
from tests.support import processes
from tests.support.world import eventually

FAST = ("--pace", "0s", "--orders", "47")


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's data directory; the demo is taken down afterwards."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("SITEGENCTL_DATA_DIR", str(folder))
    yield folder
    Stack(root=folder / "demo").down()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a running demo, for tests that keep its servers and orders."""
    folder = tmp_path_factory.mktemp("standing")
    up = demo("demo", "up", *FAST, SITEGENCTL_DATA_DIR=str(folder))
    assert up.returncode == 0, up.stderr
    yield folder
    Stack(root=folder / "demo").down()
    assert running_in(folder) == []


@pytest.fixture
def stands(standing: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the user's own."""
    monkeypatch.setenv("SITEGENCTL_DATA_DIR", str(standing))
    return standing


def demo(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return processes.run("-m", "sitegenctl", *arguments, given="", env={**os.environ, **environ}, timeout=250)


def running_in(data: Path) -> list[int]:
    """All processes whose command line or environment contains this data directory."""
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            texts = [*process.cmdline(), *process.environ().values()]
            is_running = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if is_running and any(str(data) in text for text in texts):
                pids.append(process.pid)
    return pids


def test_the_tour_without_a_terminal(data: Path) -> None:
    tour = demo("demo", "tour", *FAST)
    assert tour.returncode == 0, tour.stderr
    assert "SUCCESS" in tour.stdout
    site = data / "demo" / "sites" / "project_42" / "index.html"
    assert str(site) in tour.stdout
    assert site.stat().st_size > 1000
    assert running_in(data) == []
    assert [path.name for path in (data / "demo").iterdir()] == ["sites"]


def test_printed_steps_work_as_typed(data: Path, tmp_path: Path) -> None:
    """Those of the tour, then those of `demo up`, in a shell that has no sitegenctl on PATH."""
    environ = {"PATH": os.defpath, "SHELL": "/bin/sh", "SITEGENCTL_CONFIG": str(tmp_path / "config.toml")}
    tour = demo("demo", "tour", *FAST, **environ)
    assert tour.returncode == 0, tour.stderr
    steps = _steps(tour.stdout)
    assert steps[:2] == [f". {sys.prefix}/bin/activate", "sitegenctl demo up --orders 47"]
    assert steps[-2:] == ["sitegenctl config use demo", "sitegenctl demo down"]
    # The live view needs a terminal, and `demo down` comes last. `demo up` prints more steps on stderr.
    script = [step for step in steps[:-1] if not step.endswith(" live")]
    typed = subprocess.run(
        ["sh", "-e"],
        input="\n".join([*script, "sitegenctl status"]),
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert typed.returncode == 0, typed.stderr
    assert "need attention" in typed.stdout
    assert _steps(typed.stderr) == ["sitegenctl --context demo status", *steps[-3:]]


def _steps(output: str) -> list[str]:
    """The commands below "try next"."""
    _, _, listed = output.partition("try next:\n")
    return [line[2:].partition("  ")[0] for line in listed.splitlines() if line.startswith("  ")]


def test_a_second_tour_at_the_same_time_is_refused(data: Path) -> None:
    with only_tour(data):
        second = demo("demo", "tour", *FAST)
    assert second.returncode == 1
    assert second.stderr.splitlines()[0] == "error: another tour of the demo is running"
    assert list(data.iterdir()) == []


def test_up_defines_a_context_and_down_leaves_nothing(data: Path) -> None:
    assert demo("demo", "status").returncode == 3
    up = demo("demo", "up", *FAST)
    assert up.returncode == 0, up.stderr
    inspected = demo("--context", "demo", "inspect", "42", "-o", "json", DATABASE_URL="postgresql://elsewhere/prod")
    assert json.loads(inspected.stdout)["data"]["condition"] == "unstarted"
    again = demo("demo", "up", *FAST)
    assert again.returncode == 0
    assert again.stdout == up.stdout  # the same processes on the same ports
    for secret in _secrets(data):
        assert secret not in up.stdout + up.stderr
    down = demo("demo", "down")
    assert (down.returncode, down.stdout) == (0, "stopped worker, Redis, PostgreSQL\n")
    assert running_in(data) == []
    assert list(data.iterdir()) == []
    assert demo("demo", "down").stdout == "the demo is not up\n"
    refused = demo("--context", "demo", "inspect", "42")
    assert (refused.returncode, refused.stderr) == (2, "error: the demo is not up\nhint: sitegenctl demo up\n")


@pytest.mark.parametrize("orders", ["0", "-5", str(MIN_ORDERS - 1)])
def test_the_minimum_of_orders_is_the_real_one(data: Path, orders: str) -> None:
    refused = demo("demo", "up", "--orders", orders)
    assert refused.returncode == 2
    assert f"a number from {MIN_ORDERS}" in refused.stderr
    assert list(data.iterdir()) == []
    assert f"at least {MIN_ORDERS}." in " ".join(demo("demo", "up", "--help").stdout.split())


@pytest.mark.usefixtures("stands")
def test_a_running_demo_is_suggested() -> None:
    suggested = "hint: the demo is up: add --context demo, or make it the default with: sitegenctl config use demo"
    for command in ("inspect", "inspect 42", "enqueue 42", "doctor", "live --web"):
        assert suggested in demo(*command.split()).stderr


@pytest.mark.parametrize("source", ["chosen", "variable", "option", "env file", "broken"])
def test_demo_commands_ignore_the_chosen_context(data: Path, tmp_path: Path, source: str) -> None:
    """The demo may be the chosen context itself: it is not up before `demo up`."""
    config = tmp_path / "config.toml"
    config.write_text('[contexts.shop]\ngrace = "soon"\n')
    assert demo("config", "use", "demo").returncode == 0
    if source == "broken":
        config.write_text("[[")
    options = {"option": ["--context", "shop"], "env file": ["--env-file", "/nowhere"]}.get(source, [])
    environ = {"SITEGENCTL_CONTEXT": "shop" if source == "variable" else ""}
    assert demo(*options, "demo", "status", **environ).stderr.startswith("error: the demo is not up")
    assert demo(*options, "demo", "down", **environ).stdout == "the demo is not up\n"
    up = demo(*options, "demo", "up", *FAST, "--backend", "celery", **environ)
    assert up.returncode == 0, up.stderr
    assert demo(*options, "demo", "status", **environ).returncode == 0
    if source == "chosen":
        assert demo("inspect").returncode == 0
    assert demo(*options, "demo", "down", **environ).stdout == "stopped worker, Redis, PostgreSQL\n"


def pids() -> dict[str, int]:
    """Of the parts of the demo that is up, by their names."""
    parts = json.loads(demo("demo", "status", "-o", "json").stdout)["data"]["parts"]
    return {part["name"]: part["pid"] for part in parts}


@pytest.mark.usefixtures("stands")
def test_the_tour_leaves_a_running_demo_up() -> None:
    before = pids()
    tour = demo("demo", "tour", *FAST)
    assert tour.returncode == 0, tour.stderr
    assert pids() == before
    os.kill(before["PostgreSQL"], signal.SIGKILL)
    eventually(lambda: demo("demo", "status").returncode == 3)
    recovered = demo("demo", "up", *FAST)
    assert recovered.returncode == 0, recovered.stderr
    tour = demo("demo", "tour", *FAST)
    assert tour.returncode == 0, tour.stderr


def test_the_demo_on_rq(data: Path) -> None:
    up = demo("demo", "up", "--backend", "rq", *FAST)
    assert up.returncode == 0, up.stderr
    # Without --backend, the demo keeps its backend.
    again = demo("demo", "up", *FAST)
    assert (again.stdout, "note:" in again.stderr) == (up.stdout, False)
    status = json.loads(demo("demo", "status", "-o", "json").stdout)["data"]
    assert status["backend"] == "rq"
    os.kill(status["parts"][2]["pid"], signal.SIGKILL)
    eventually(lambda: demo("demo", "status").returncode == 3)
    other = demo("demo", "up", "--backend", "celery", *FAST)
    assert other.returncode == 0, other.stderr
    assert "note: the demo already has 47 orders with seed 42 on rq" in other.stderr
    tour = demo("demo", "tour", "--backend", "rq", *FAST)
    assert tour.returncode == 0, tour.stderr
    assert "SUCCESS" in tour.stdout
    task_id = tour.stdout.partition(" task ")[2].split()[0]
    inspected = demo("--context", "demo", "inspect", "task", task_id, "-o", "json")
    assert json.loads(inspected.stdout)["data"]["name"] == "app.workers.site_generation_worker.generate_site_job"
    assert demo("demo", "down").stdout == "stopped worker, Redis, PostgreSQL\n"
    assert running_in(data) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--backend", "sidekiq", "'sidekiq' is not a backend"), ("--pace", "slow", "'slow' is not a duration")],
)
def test_invalid_values_are_refused_before_anything_starts(data: Path, option: str, value: str, message: str) -> None:
    process = demo("demo", "up", option, value)
    assert process.returncode == 2
    assert message in process.stderr
    assert list(data.iterdir()) == []


def test_a_failed_generation_fails_the_tour(stands: Path) -> None:
    # The sites folder can't be written: a file stands where the tour's site would be written to.
    sites, elsewhere = stands / "demo" / "sites", stands / "demo" / "elsewhere"
    sites.rename(elsewhere)
    sites.touch()
    try:
        tour = demo("demo", "tour", *FAST)
    finally:
        sites.unlink()
        elsewhere.rename(sites)
    assert tour.returncode == 1
    assert any(line.startswith("error: ") for line in tour.stderr.splitlines())
    assert "Traceback" not in tour.stderr


def test_a_signal_at_any_moment_stops_everything(data: Path) -> None:
    moments = random.Random(7)
    # From the first second to the generation itself.
    for number, earliest in zip([signal.SIGINT, signal.SIGTERM] * 2, (0.6, 1.7, 2.8, 3.9), strict=True):
        # SIGTERM is for what a script has started in the background, where Ctrl-C is ignored.
        background = None if number is signal.SIGINT else lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = subprocess.Popen(
            [sys.executable, "-m", "sitegenctl", "demo", "tour", *FAST],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=background,
        )
        # The moment itself is tested, so there is no condition to wait for.
        time.sleep(moments.uniform(earliest, earliest + 1.1))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        # Killed by the signal only before anything had been started.
        killed = process.returncode in (-number, -signal.SIGINT) and b"Starting" not in stderr
        assert killed or process.returncode in (130, 0), stderr.decode()
        assert b"Traceback" not in stderr
        assert running_in(data) == []


def _secrets(data: Path) -> list[str]:
    context = (data / "demo" / "context.toml").read_text()
    return [line.split("@")[0].rsplit(":", 1)[1] for line in context.splitlines() if "@" in line]
