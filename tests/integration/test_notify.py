"""``maintain --notify``: what became worse or better is posted once."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sitegenctl.adapters.system.network import connection_problem
from sitegenctl.adapters.system.webhook import post_json
from sitegenctl.errors import SourceError
from tests.support import processes
from tests.support.commands import Run
from tests.support.fake_worker import FakeWorker
from tests.support.faults import faulty_orders
from tests.support.receiver import receiver
from tests.support.world import TASK, World, eventually


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("SITEGENCTL_STATE_DIR", str(folder))
    return folder


Posts = list[tuple[str, bool, list[int]]]


def state_file(state: Path) -> Path:
    (file,) = state.glob("*.json")
    return file


def news(posted: list[dict[str, Any]]) -> Posts:
    """What was posted since this was asked."""
    found = [
        (each["topic"], each["better"], [order["order_id"] for order in each["orders"]])
        for post in posted
        for each in post["news"]
    ]
    posted.clear()
    return found


def test_news_is_posted_once_across_restarts(world: World, state: Path) -> None:
    world.order(41, "GENERATING", steps=["START"], onboarding="missing")
    with receiver() as (url, posted):
        assert world.run("maintain", "--notify", url).returncode in (0, 4)
        (post,) = posted
        assert post["schema"] == "sitegenctl-news/1"
        assert "s3cret" not in str(post)
        assert sorted(news(posted)) == [("orders", False, [41]), ("workers", False, [])]
        world.run("maintain", "--notify", url)
        assert news(posted) == []
        world.sql("UPDATE site_orders SET status = 'CANCELLED' WHERE id = 41")
        for expected in ([], [("orders", True, [41])]):
            world.run("maintain", SITEGENCTL_NOTIFY=url)
            assert news(posted) == expected
    assert "s3cret" not in state_file(state).read_text()
    assert all(file.stat().st_mode & 0o77 == 0 for file in state.iterdir())


def test_late_orders_of_any_status_are_posted_once(world: World, state: Path) -> None:
    for order_id, status in ((1, "PAID"), (2, "REVIEW"), (3, "DELIVERED"), (4, "GENERATING")):
        world.order(order_id, status, steps=["START", "SUCCESS"], files=8, age="2 days")
        world.sql(
            "UPDATE site_orders SET expected_delivery_date = timezone('utc', now()) - interval '1 hour' WHERE id = $1",
            order_id,
        )
    with receiver() as (url, posted):
        world.run("maintain", "--notify", url)
        assert [orders for topic, _, orders in news(posted) if topic == "promise"] == [[1, 2, 4]]
        world.run("maintain", "--notify", url)
        assert news(posted) == []


def test_end_of_a_problem_is_posted_with_the_customer(world: World, state: Path) -> None:
    world.order(41, "GENERATING", steps=["START"], onboarding="missing", age="5 hours", files=8)
    world.sql(
        "UPDATE site_orders SET paid_at = created_at, expected_delivery_date = timezone('utc', now()) - interval '3h'"
    )
    with receiver() as (url, posted):
        world.run("maintain", "--notify", url)
        assert sorted(news(posted)) == [("orders", False, [41]), ("promise", False, [41]), ("workers", False, [])]
        world.sql(
            "UPDATE site_orders SET status = 'DELIVERED', delivered_at = timezone('utc', now()),"
            " updated_at = timezone('utc', now())"
        )
        world.run("maintain", "--notify", url)
        world.run("maintain", "--notify", url)
        delivered, recovered = [each for post in posted for each in post["news"]]
    assert (delivered["topic"], delivered["text"]) == ("promise", "1 order was delivered, 3h late")
    assert (recovered["topic"], recovered["text"]) == ("orders", "1 order needs no attention any more")
    assert delivered["orders"] == recovered["orders"] == [{"order_id": 41, "customer": "Ana Souza"}]


def test_what_maintenance_lists_is_posted(world: World, run: Run, state: Path) -> None:
    faulty_orders(world)
    world.sql("INSERT INTO site_orders (id, customer_name, customer_email, total_price) VALUES (16, 'Ana', 'a@b', 1)")
    with receiver() as (url, posted):
        _, report = run("maintain", "--notify", url)
        listed = {left["order_id"]: left["condition"] for left in report["data"]["attention"]}
        assert listed[16] == "unknown"
        (post,) = posted
        texts = {each["subject"]: each["text"] for each in post["news"] if each["topic"] == "orders"}
        assert texts["unknown"] == "1 order is in an unknown condition"
        assert {
            order["order_id"]: each["subject"]
            for each in post["news"]
            if each["topic"] == "orders"
            for order in each["orders"]
        } == listed
        posted.clear()
        run("maintain", "--notify", url)
        assert news(posted) == []


def test_worker_of_another_queue_is_posted(world: World, state: Path) -> None:
    with (
        FakeWorker(
            world, {"active_queues": [{"name": "other"}], "registered": [TASK], "conf": {}, "report": {"ok": ""}}
        ),
        receiver() as (url, posted),
    ):
        world.run("maintain", "--notify", url)
        (post,) = posted
    assert [each["text"] for each in post["news"]] == ["no worker consumes site_generation"]


@pytest.mark.parametrize("kind", ["file", "unwritable", "none"])
def test_state_that_cannot_be_kept_is_warned_of(
    world: World, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "none":
        monkeypatch.setattr("sitegenctl.config.file.state_dir", lambda _: None)
    elif kind == "file":
        monkeypatch.setenv("SITEGENCTL_STATE_DIR", str(tmp_path / "file"))
        (tmp_path / "file").write_text("")
    else:
        monkeypatch.setenv("SITEGENCTL_STATE_DIR", "/proc/self/sitegenctl")
    with receiver() as (url, posted):
        for _ in range(2):
            process = world.run("maintain", "--notify", url)
            assert news(posted) == [("workers", False, [])]
            (line,) = process.stderr.splitlines()
            assert line.startswith("warning: the same news is posted with every run: ")


def test_run_that_still_posts_excludes_another(world: World, state: Path) -> None:
    with receiver(answers=False) as (url, posted):
        process = processes.start("-m", "sitegenctl", "maintain", "--notify", url)
        eventually(lambda: posted)
        # The lock in the database is free again.
        assert world.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
        other = world.run("maintain", "--notify", url)
        assert (other.returncode, other.stderr) == (
            6,
            "error: another maintenance run is active; nothing was done\n",
        )
        assert world.run("maintain", "--dry-run", "--notify", url).returncode == 0
    process.wait(60)
    assert len(posted) == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "it closed the connection without a response"),
        (b"SSH-2.0-OpenSSH\r\n", "it does not respond as a web server"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP status 404"),
    ],
)
def test_reason_of_a_failed_post_is_in_plain_words(reply: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                # All of it: closing with unread data would reset the connection.
                with connection.makefile("rb") as request:
                    while request.read(1) not in (b"}", b""):
                        pass
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/t0ken"
        with pytest.raises(SourceError) as failure:
            asyncio.run(post_json(url, {}, timeout=10))
        thread.join()
    assert failure.value.message == f"127.0.0.1 was not notified: {reason}"


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason} (_ssl.c:1000)")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (TimeoutError(), "it did not respond in time"),
        (socket.gaierror(8, "nodename nor servname provided"), "the name of its host can't be resolved"),
        (ConnectionResetError(), "it closed the connection"),
        (EOFError(), "it closed the connection"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"), "Connection refused"),
        (_tls("WRONG_VERSION_NUMBER"), "TLS failed: wrong version number"),
        (OSError(), "the connection failed"),
    ],
)
def test_connection_problem_is_in_plain_words(error: Exception, problem: str) -> None:
    assert connection_problem(error) == problem


@pytest.mark.parametrize("how", ["refuses", "fails", "hangs", "redirects"])
def test_failed_notification_does_not_fail_the_run_and_is_posted_later(world: World, how: str, state: Path) -> None:
    world.order(3)
    with receiver({"fails": 500, "redirects": 307}.get(how, 200), answers=how != "hangs") as (url, posted):
        began = time.monotonic()
        process = world.run_process(
            "maintain", "--notify", "http://127.0.0.1:1/?token=s3cret" if how == "refuses" else url
        )
        took = time.monotonic() - began
        posted.clear()
    assert (process.returncode, process.stdout.splitlines()[0]) == (0, "start-stuck: 1 started")
    assert process.stderr.startswith("note: 127.0.0.1 was not notified: ")
    assert "s3cret" not in process.stderr
    assert took < 30
    with receiver() as (url, posted):
        world.run("maintain", "--notify", url)
        assert news(posted) == [("workers", False, [])]


def test_news_is_posted_after_stdout_is_closed(world: World, state: Path) -> None:
    world.order(3)
    read, write = os.pipe()
    os.close(read)
    with receiver() as (url, posted):
        process = processes.start("-m", "sitegenctl", "maintain", "--notify", url, stdout=write)
        os.close(write)
        assert process.wait(60) == 0
    assert news(posted) == [("workers", False, [])]


def test_unreachable_source_is_news_and_hides_nothing_else(world: World, state: Path) -> None:
    world.order(41, "GENERATING", steps=["START"], onboarding="missing")
    with receiver() as (url, posted):
        world.run("maintain", "--notify", url)
        posted.clear()
        down = {"SITES_BASE_DIR": str(state / "missing")}
        for expected in ([("source", False, [])], []):
            assert world.run("maintain", "--notify", url, **down).returncode == 3
            assert news(posted) == expected
        for expected in ([], [("source", True, [])]):
            world.run("maintain", "--notify", url)
            assert news(posted) == expected


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ({"DATABASE_URL": "postgresql://u@127.0.0.1:1/none"}, "database"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, "broker"),
    ],
)
def test_unreachable_server_is_posted(world: World, down: dict[str, str], expected: str, state: Path) -> None:
    with receiver() as (url, posted):
        assert world.run("maintain", "--notify", url, **down).returncode == 3
        (post,) = posted
    assert [(each["topic"], each["subject"]) for each in post["news"]] == [("source", expected)]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"41": "failed: x", "notified-x": 5}'])
def test_damaged_state_is_replaced(world: World, content: str, state: Path) -> None:
    world.order(41, "GENERATING", steps=["START"], onboarding="missing")
    with receiver() as (url, posted):
        world.run("maintain", "--notify", url)
        state_file(state).write_text(content)
        posted.clear()
        world.run("maintain", "--notify", url)
        assert sorted(news(posted)) == [("orders", False, [41]), ("workers", False, [])]
        world.run("maintain", "--notify", url)
        assert news(posted) == []


def test_dry_run_shows_the_news_and_posts_nothing(world: World, state: Path) -> None:
    world.order(41, "GENERATING", steps=["START"], onboarding="missing")
    with receiver() as (url, posted):
        process = world.run("maintain", "--dry-run", "--notify", url, "--notify-format", "slack")
        assert "note: would post: 1 order is blocked: 41 " in process.stderr
        assert posted == []
        world.run("maintain", "--notify", url, "--notify-format", "slack")
        assert [list(post) for post in posted] == [["text"]]


def test_url_is_masked(world: World) -> None:
    shown = world.run("config", "show", SITEGENCTL_NOTIFY="https://hooks.example/services/T0/B0/s3cret").stdout
    assert "s3cret" not in shown
    assert "notify" in shown
