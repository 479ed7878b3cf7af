"""``metrics`` on real servers: once, to a file, and served."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support import processes
from tests.support.processes import Running
from tests.support.rq_world import RqWorld
from tests.support.world import Log, World, eventually

PROMTOOL = shutil.which("promtool")


def samples(text: str) -> dict[str, float]:
    """Each sample under its name and the labels that tell it apart from others of the name."""
    return {
        " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def busy(world: World, log: Log) -> None:
    """One order in each of four conditions, tasks that are live, and runs of today."""
    world.order(1, "REVIEW", files=8)
    world.order(2, "GENERATING", age="3 hours", steps=["START", "ERROR"])
    world.order(3, "BUILDING")
    world.order(4, "BUILDING", onboarding="partial")
    world.publish(3)
    (midnight,) = world.sql("SELECT extract(epoch FROM localtimestamp - date_trunc('day', localtimestamp)) AS ago")
    # Long ago, and today, however short today is yet.
    log.run(1, ago=3 * 86400)
    log.run(1, ago=float(midnight["ago"]) / 2, seconds=40)


def test_metrics_are_in_a_format_prometheus_accepts(world: World, log: Log) -> None:
    busy(world, log)
    process = world.run("metrics")
    assert (process.returncode, process.stderr) == (0, "")
    values = samples(process.stdout)
    assert [values[f"sitegenctl_source_up {source}"] for source in ("database", "broker", "workers", "files")] == [
        1
    ] * 4
    assert all(0 < values[f"sitegenctl_source_latency_seconds {source}"] < 5 for source in ("database", "broker"))
    assert values["sitegenctl_queue_tasks queued"] == 1
    assert values["sitegenctl_orders failed fault"] == 1
    assert values["sitegenctl_orders queued ok"] == 1
    assert values["sitegenctl_orders waiting ok"] == 1
    assert values["sitegenctl_orders done ok"] == 1
    assert values["sitegenctl_orders_in_status GENERATING"] == 1
    assert values["sitegenctl_orders_longest_in_fault_seconds failed"] == pytest.approx(3 * 3600, abs=600)
    assert values["sitegenctl_workers"] == 0
    assert values["sitegenctl_runs_total success"] == 1
    assert values["sitegenctl_run_duration_seconds_sum success"] == 40
    assert values["sitegenctl_run_duration_seconds_bucket 45.0 success"] == 1
    assert values["sitegenctl_run_duration_seconds_bucket 30.0 success"] == 0
    assert values["sitegenctl_run_stage_duration_seconds_count writing"] == 1
    if PROMTOOL:
        check = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=process.stdout, capture_output=True, text=True, check=False
        )
        assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


def test_an_rq_queue_is_measured_alike(rq: RqWorld) -> None:
    rq.order(3)
    rq.publish(3)
    process = rq.run("metrics")
    assert (process.returncode, process.stderr) == (0, "")
    values = samples(process.stdout)
    assert values["sitegenctl_queue_tasks queued"] == 1
    assert values["sitegenctl_orders queued ok"] == 1
    assert values["sitegenctl_workers"] == 0


def test_as_json_it_is_an_envelope_of_samples(world: World) -> None:
    process = world.run("metrics", "-o", "json")
    rows = json.loads(process.stdout)["data"]["metrics"]
    assert {"metric": "sitegenctl_workers", "labels": {}, "value": 0.0} in rows
    assert world.run("metrics", "-o", "csv").stdout.startswith("metric,labels,value\n")


def test_an_unreachable_source_is_named_the_rest_measured(world: World) -> None:
    world.order(2, "GENERATING", steps=["START", "ERROR"])
    process = world.run("metrics", REDIS_URL="redis://127.0.0.1:1/0")
    assert process.returncode == 3
    assert process.stderr.startswith("error: Redis can't be reached")
    values = samples(process.stdout)
    assert (values["sitegenctl_source_up broker"], values["sitegenctl_source_up workers"]) == (0, 0)
    assert values["sitegenctl_source_up database"] == 1
    assert values["sitegenctl_orders_in_status GENERATING"] == 1
    assert not any(name.startswith("sitegenctl_queue") for name in values)
    nowhere = world.run("metrics", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    values = samples(nowhere.stdout)
    assert nowhere.returncode == 3
    assert (values["sitegenctl_source_up database"], values["sitegenctl_source_up broker"]) == (0, 1)
    assert not any(name.startswith(("sitegenctl_orders", "sitegenctl_run")) for name in values)


def test_a_textfile_is_written_atomically_without_output(world: World, tmp_path: Path) -> None:
    file = tmp_path / "textfile" / "sitegenctl.prom"
    assert world.run("metrics", "--textfile", str(file)).returncode == 2
    file.parent.mkdir()
    process = world.run("metrics", "--textfile", str(file))
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert samples(file.read_text())["sitegenctl_source_up broker"] == 1
    assert [path.name for path in file.parent.iterdir()] == ["sitegenctl.prom"]
    # node_exporter runs as another user.
    assert file.stat().st_mode & 0o777 == 0o644
    away = world.run("metrics", "--textfile", str(file), REDIS_URL="redis://127.0.0.1:1/0")
    assert (away.returncode, away.stdout) == (3, "")
    assert samples(file.read_text())["sitegenctl_source_up broker"] == 0


@contextmanager
def listening(address: str, folder: Path) -> Iterator[tuple[Running, str]]:
    """The server and the link that it prints; its stderr goes into the folder."""
    link, complaints = folder / "stdout", folder / "stderr"
    with link.open("wb") as stdout, complaints.open("wb") as stderr:
        process = processes.start(
            *("-m", "sitegenctl", "metrics", "--listen", address),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=dict(os.environ),
        )
    try:
        yield process, eventually(lambda: link.read_text().strip() or (process.poll() and complaints.read_text()))
    finally:
        process.kill()
        process.wait()


def get(link: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    """The status, the type and the body of what a server answers."""
    parts = urlsplit(link)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, parts.path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        connection.close()


def test_each_scrape_gets_a_fresh_measurement(world: World, tmp_path: Path) -> None:
    with listening("0", tmp_path) as (process, link):
        assert link.startswith("http://127.0.0.1:")
        status, kind, body = get(link)
        assert (status, kind.startswith("text/plain; version=")) == (200, True)
        assert samples(body.decode())["sitegenctl_queue_tasks queued"] == 0
        world.order(3)
        world.publish(3)
        _, _, body = get(link, Accept="application/openmetrics-text; version=1.0.0", Accept_Encoding="gzip")
        text = gzip.decompress(body).decode()
        assert text.endswith("# EOF\n")
        queued = [
            sample.value
            for family in openmetrics(text)
            for sample in family.samples
            if (sample.name, sample.labels.get("state")) == ("sitegenctl_queue_tasks", "queued")
        ]
        assert queued == [1]
        assert get(link, "POST")[0] == 405
        assert [get(urljoin(link, path))[0] for path in ("/", "/favicon.ico", "/metrics/")] == [200, 404, 404]
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "stderr").read_text() == ""


def test_idle_clients_do_not_block_scrapes(world: World, tmp_path: Path) -> None:
    with listening("0", tmp_path) as (process, link), contextlib.ExitStack() as clients:
        address = ("127.0.0.1", urlsplit(link).port or 0)
        clients.enter_context(socket.create_connection(address))
        assert get(link)[0] == 200
        idle = [clients.enter_context(socket.create_connection(address, timeout=60)) for _ in range(8)]
        # More clients than are served at once: the scrape waits until the first ones time out.
        assert get(link)[0] == 200
        assert idle[0].recv(1) == b""
        for _ in range(9):
            clients.enter_context(socket.create_connection(address))
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "stderr").read_text() == ""


def test_taken_port_is_refused_and_a_public_address_warned_of(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = world.run("metrics", "--listen", f":{port}")
        assert process.returncode == 2
        assert process.stderr == f"error: --listen 127.0.0.1:{port}: Address already in use\n"
    with listening("0.0.0.0:0", tmp_path) as (open_to_all, link):
        assert link.startswith("http://0.0.0.0:")
        open_to_all.terminate()
        open_to_all.wait(timeout=30)
    assert (tmp_path / "stderr").read_text() == "warning: other machines can read the metrics, unencrypted\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--listen", "nowhere"], "--listen nowhere: not an address such as 9187"),
        (["--listen", "127.0.0.1:99999"], "--listen 127.0.0.1:99999: not an address"),
        (["--listen", "9187", "-o", "ndjson"], "--listen serves Prometheus' own format"),
        (["--listen", "9187", "--textfile", "x.prom"], "--textfile and --listen"),
        (["--textfile", "metrics.txt"], "end in .prom"),
    ],
)
def test_bad_input_is_one_clear_line(world: World, arguments: list[str], complaint: str) -> None:
    process = world.run("metrics", *arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert complaint in process.stderr
    assert len(process.stderr.splitlines()) == 1
