"""Processes forked by the test server behave like fresh ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.world import World, eventually

_REPORT = """
import gc, json, locale, os, signal, sys, threading
streams = (sys.stdin, sys.stdout, sys.stderr)
traits = lambda s: (s.encoding, s.errors, s.line_buffering, s.write_through, s.fileno(), s.isatty())
print(json.dumps({
    "name": __name__, "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "executable": sys.executable,
    "environ": dict(os.environ), "cwd": os.getcwd(), "streams": [traits(each) for each in streams],
    "same": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "handlers": [str(signal.getsignal(each)).partition(" at ")[0] for each in range(1, 32)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "wakeup": signal.set_wakeup_fd(-1),
    "descriptors": sorted(os.listdir("/proc/self/fd")), "leads": os.getsid(0) == os.getpid(),
    "group": os.getpgid(0) == os.getpid(),
    "threads": threading.active_count(), "gc": [gc.isenabled(), gc.get_threshold()], "flags": list(sys.flags),
    "warnings": sys.warnoptions, "locale": locale.setlocale(locale.LC_CTYPE), "umask": os.umask(0o77),
}))
"""


def report_of(begin: Callable[..., processes.Running], *arguments: str, **options: Any) -> dict[str, Any]:
    process = begin(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    return dict(json.loads(stdout))


@pytest.mark.parametrize("leads", [False, True])
@pytest.mark.parametrize("how", ["-c", "-m"])
def test_a_forked_process_has_the_state_of_a_fresh_one(tmp_path: Path, leads: bool, how: str) -> None:
    (tmp_path / "report.py").write_text(_REPORT)
    arguments = [how, "report" if how == "-m" else _REPORT, "a b", "", "\udcff"]
    environ = {**os.environ, "ODD": "\udcff", "PYTHONPATH": f"{tmp_path}{os.pathsep}elsewhere"}
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": tmp_path, "env": environ, "start_new_session": leads}
    forked = report_of(processes.start, *arguments, **given)
    assert forked == report_of(processes.start_fresh, *arguments, **given)
    assert forked["leads"] is leads


def test_start_up_variables_need_a_fresh_process() -> None:
    for process, is_forked in (
        (processes.start("-c", "pass"), True),
        (processes.start("-c", "pass", env={**os.environ, "PYTHONIOENCODING": "latin-1"}), False),
        (processes.start("-c", "pass", env={**os.environ, "LC_ALL": "C"}), False),
    ):
        assert isinstance(process, processes.Forked) is is_forked
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("raise SystemExit(7)", 7),
        ("raise SystemExit('no')", 1),
        ("raise ValueError", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("import os; os._exit(3)", 3),
        ("import os, sys; os.close(1); sys.stdout.write('x')", None),  # depends on buffering
    ],
)
def test_it_ends_as_a_fresh_one_ends(code: str, ended: int | None) -> None:
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    forked, fresh = (begin("-c", code, **quiet).wait(30) for begin in (processes.start, processes.start_fresh))
    assert forked == fresh
    assert ended in (forked, None)


def test_exit_waits_for_threads_and_runs_atexit_handlers() -> None:
    code = (
        "import atexit, celery, threading, time; atexit.register(print, 'at the exit', celery.__name__)\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()"
    )
    assert processes.run("-c", code).stdout == "thread\nat the exit celery\n"


def test_forked_processes_have_different_random_seeds() -> None:
    code = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), next(tempfile._get_candidate_names()))"
    first, second = (processes.run("-c", code).stdout.split() for _ in range(2))
    assert not set(first) & set(second)


def test_waiting_times_out() -> None:
    process = processes.start("-c", "import signal; signal.pause()", stdout=subprocess.PIPE)
    with process:
        assert process.poll() is None
        for wait in (process.wait, lambda timeout: process.communicate(None, timeout)):
            with pytest.raises(subprocess.TimeoutExpired):
                wait(timeout=0.05)
        process.kill()
    assert process.poll() == process.returncode == -signal.SIGKILL
    process.send_signal(signal.SIGKILL)  # sends nothing: the pid may belong to another process now


def test_command_and_worker_run_in_fresh_processes(world: World) -> None:
    world.order(42)
    world.worker("-c", "1", environ={"PYTHONHASHSEED": "0"})  # read at the start of the interpreter
    command = ("-m", "sitegenctl", "enqueue", "42", "--wait")
    process = processes.start_fresh(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.splitlines()[-1].startswith("42  generated  BUILDING → REVIEW")
    eventually(lambda: world.status() == "REVIEW")
