"""``maintain --notify``: what became worse or better is posted once."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.receiver import receiver
from tests.support.world import World


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("SITEGENCTL_STATE_DIR", str(folder))
    return folder


def news(posted: list[dict[str, Any]]) -> list[tuple[str, bool, list[int]]]:
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
        world.run("maintain", SITEGENCTL_NOTIFY=url)
        assert news(posted) == [("orders", True, [41])]
    (file,) = state.iterdir()
    assert "s3cret" not in file.read_text()
    assert file.stat().st_mode & 0o77 == 0


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
        world.run("maintain", "--notify", url)
        assert news(posted) == [("source", True, [])]


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
        (file,) = state.iterdir()
        file.write_text(content)
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
