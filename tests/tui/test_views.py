"""All other views, help, key bar and palette, over real servers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from textual.command import CommandPalette

from sitegenctl.domain.health.check import CheckStatus
from sitegenctl.tui.preferences import KEYS
from sitegenctl.tui.views import VIEWS
from sitegenctl.tui.widgets.live_table import LiveTable
from tests.support.live_view import Live, live
from tests.support.world import World


def current(view: Live) -> str:
    return view.app.view.NAME


async def test_queue_in_running_order(world: World) -> None:
    def some() -> None:
        for number in (1, 2, 3):
            world.order(number, "GENERATING", name=f"N{number}")
        world.publish(2)
        world.publish(1)
        world.publish(task="beat.tick")
        world.enqueue(3, force=True)

    await asyncio.to_thread(some)
    async with live(world) as view:
        await view.sees("2 Queue 4")  # as many as it lists
        await view.press("2")
        await view.until(lambda: len(view.rows_of("queue")) == 4)
        rows = view.rows_of("queue")
        assert [row.split()[:3] for row in rows] == [
            *(["1", "queued", "2"], ["2", "queued", "1"], ["3", "queued", "-"], ["4", "queued", "3"]),
        ]
        assert "beat.tick" in rows[2]
        assert "Padaria N3" in rows[3]
        # From a task to its order.
        await view.press("down", "enter")
        assert current(view) == "orders"
        await view.until(lambda: view.table.key == 1)


async def test_task_is_as_old_as_on_the_command_line(world: World) -> None:
    """A message of Celery has no time: its order's last change counts."""

    def some() -> None:
        world.order(42, "GENERATING", age="3 hours")
        world.publish(42)

    await asyncio.to_thread(some)
    assert " 3h " in (await asyncio.to_thread(world.run, "inspect", "queue")).stdout
    async with live(world, size=(150, 40)) as view:
        await view.sees("queued at position 1, attempt 1, 3h old")
        await view.press("2")
        await view.until(lambda: " 3h " in "".join(view.rows_of("queue")))


async def test_real_worker_running_an_order(world: World) -> None:
    await asyncio.to_thread(world.order, 42, name="Ana")
    worker = await asyncio.to_thread(world.worker, "-c", "2", generator="gated")
    async with live(world, size=(120, 60)) as view:
        await view.press("4")
        await view.pilot.pause()
        await asyncio.to_thread(world.enqueue, 42)
        await view.sees("task-started")
        assert "42" in next(line for line in view.rows_of("events") if "task-started" in line).split()
        await view.press("3")
        await view.until(lambda: len(view.rows_of("workers")) == 3)
        await view.until(lambda: any("running " in line for line in view.rows_of("workers")))
        main, *processes = view.rows_of("workers")
        assert str(worker.pid) in main
        assert "1 of 2" in main
        assert sorted(line.split()[2] for line in processes) == ["idle", "running"]
        (running,) = (line for line in processes if "running " in line)
        assert "Padaria Ana" in running
        assert " MB" in running
        # From a process to its order, whose timeline is updated.
        await view.press("down")
        if "idle" in processes[0]:
            await view.press("down")
        await view.press("enter")
        await view.sees("42 RUNNING", "1 task", "task-started")
        world.gate.touch()
        await view.sees("42 DONE", "SUCCESS", "page5.html", "task-succeeded")
        await view.press("4")
        events = await view.sees("task-succeeded")
        assert events.index("task-succeeded") < events.index("task-started")  # the newest first


async def test_no_worker_and_an_empty_queue(world: World) -> None:
    async with live(world) as view:
        # No order has a fault, but nothing will be generated.
        await view.sees("no orders", "✗ no worker is alive", "✗ workers", "3 Workers 0")
        assert "all well" not in view.text
        for key, text in (("2", "the queue is empty"), ("3", "no worker responds")):
            await view.press(key)
            await view.sees(text)
        await view.press("4")
        await view.sees("no worker is alive: no events until one is")
        await view.press("enter", "escape", "space", "m", "y")
        assert current(view) == "orders"


async def test_queue_that_no_worker_consumes(world: World) -> None:
    await asyncio.to_thread(world.worker, "-c", "1", environ={"SITEGENCTL_QUEUE": "another"})
    async with live(world, size=(80, 24)) as view:
        await view.sees("✗ no worker consumes site_generation", "● work", "3 Workers 1")
        await view.press("3")
        await view.until(lambda: any("wrong queue" in row for row in view.rows_of("workers")))
        await view.pilot.resize_terminal(140, 24)
        await view.sees("does not consume site_generation")


async def test_key_bar(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START", "ERROR"])
    async with live(world, size=(40, 15), keys={"help": "f1"}) as view:
        await view.until(lambda: view.listed == [42])
        # The most important keys fit any width.
        await view.until(lambda: view.lines[-1] == " / filter  m fix  f1 help  q quit")
        await view.pilot.resize_terminal(200, 15)
        keys = " / filter  space mark  a all  m fix  e enqueue  s start  t retry  p repair  R reset  C cancel"
        await view.until(lambda: view.lines[-1].startswith(keys) and view.lines[-1].endswith("f1 help  q quit"))
        # Each can be clicked.
        await view.pilot.click(offset=(view.lines[-1].index("reset"), 14))
        await view.until(lambda: view.dialog is not None and "reset order 42?" in view.part("title"))
        assert view.lines[-1].startswith(keys)  # also below a plan
        await view.press("escape", "slash")
        await view.until(lambda: view.lines[-1] == " enter to the list  esc close")
        await view.press("escape", "2")
        await view.until(lambda: "R reset" not in view.lines[-1] and view.lines[-1].endswith("f1 help  q quit"))


async def test_history_view(world: World) -> None:
    def some() -> None:
        for order_id in (1, 2, 3):
            world.order(order_id, steps=["START", "ERROR"] if order_id == 1 else (), age="1 hour", name=f"N{order_id}")
        world.enqueue(2, 3, force=True)

    await asyncio.to_thread(some)
    async with live(world) as view:
        await view.press("6")
        table = view.app.query_one("#history LiveTable", LiveTable)
        await view.until(lambda: len(table.rows) == 2)
        # The cursor is on the newest one, and stays there.
        screen = await view.sees("2 orders", "BUILDING → GENERATING  done: Enqueued", "since")
        assert "Padaria N1" in screen
        await asyncio.to_thread(world.enqueue, 1)
        await view.until(lambda: len(table.rows) == 3 and table.key == table.rows[-1].log_id)
        await view.press("slash", *"kind:run")
        await view.until(lambda: [type(row).__name__ for row in table.rows] == ["RunActivity"])
        # A mistake is explained and hides nothing.
        await view.press("x")
        await view.sees("no kind is 'runx'")
        await view.until(lambda: len(table.rows) == 3)
        await view.press("space", *"nobody")
        await view.sees("nothing matches")
        await view.press("enter", "escape")
        await view.until(lambda: len(table.rows) == 3)
        # From a run to its order.
        await view.press("home", "enter")
        assert current(view) == "orders"
        await view.until(lambda: view.table.key == 1)


async def test_doctor_view(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", onboarding="missing")
    ahead = timedelta()
    async with live(world, keys={"look": "f2"}, now=lambda: datetime.now(UTC) + ahead) as view:
        await view.press("5")
        await view.sees("redis", "postgresql", "sites directory", "✗  worker ")
        doctor = view.app.query_one("#doctor")
        table = view.app.query_one("#doctor LiveTable", LiveTable)
        assert table.has_focus
        await view.sees("checked ", "s ago  ·  f2 checks again")
        # The cursor is on the first failed check.
        assert table.row == next(check for check in table.rows if check.status is CheckStatus.FAILED)
        await view.press("home")
        while table.row is not None and table.row.name != "worker":
            await view.press("down")
        await view.sees("→ ")
        assert doctor.display
        world.sites_dir.rename(world.sites_dir.with_name("gone"))
        # The age of the checks is shown.
        ahead = timedelta(hours=2)
        await view.sees("checked 2h ago")
        await view.press("f2")
        await view.until(lambda: any("✗  sites directory" in line for line in view.lines))
        assert "checked 2h ago" not in view.text
        world.sites_dir.with_name("gone").rename(world.sites_dir)
        await view.press("f5")
        await view.until(lambda: any("✓  sites directory" in line for line in view.lines))
        await view.press("escape")
        assert current(view) == "orders"


async def test_switching_views_by_key_and_click(world: World) -> None:
    await asyncio.to_thread(world.order, 42)
    async with live(world) as view:
        names = [view.NAME for view in VIEWS]
        for number, name in enumerate(names, 1):
            await view.press(str(number))
            assert current(view) == name
        (tabs,) = (line for line in view.lines if "1 Orders" in line)
        at = view.lines.index(tabs)
        for name in (*names, "orders"):
            await view.pilot.click(offset=(tabs.index(name.capitalize()) + 1, at))
            assert current(view) == name


async def test_help_lists_the_configured_keys(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START", "ERROR"])
    async with live(world, keys={"reset": "ctrl+r", "fix": "f2", "mark": "%"}, size=(120, 60)) as view:
        await view.sees(" f2  fix it: would be retried")
        await view.press("question_mark")
        shown = await view.sees("Keys", "ctrl+r", "f2", "%")
        for binding in (*KEYS, *LiveTable.BINDINGS):
            assert binding.tooltip in shown
        assert "ctrl+p" in shown
        await view.press("escape")
        # The old keys do nothing.
        await view.press("R", "space", "m")
        assert (view.dialog, view.marked) == (None, set())
        await view.press("percent_sign")
        assert view.marked == {42}
        await view.act("ctrl+r", "reset order 42?")


async def test_keys_that_close_help(world: World) -> None:
    async with live(world) as view:
        for key in ("escape", "question_mark", "q", "enter"):
            await view.press("question_mark")
            await view.sees("Capital letters are destructive")
            await view.press(key)
            await view.until(lambda: "Capital letters are destructive" not in view.text)
            assert view.app.is_running


async def test_command_palette(world: World) -> None:
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START", "ERROR"])
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        await view.press("ctrl+p")
        await view.until(lambda: isinstance(view.app.screen, CommandPalette))
        await view.press(*"workers")
        await view.sees("Show workers")
        await view.press("enter")
        await view.until(lambda: current(view) == "workers")
        await view.press("1", "ctrl+p", *"theme: light")
        await view.sees("Change the colours")
        await view.press("enter")
        await view.until(lambda: view.app.theme == "light")


async def test_copying_and_opening(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")

    def some() -> None:
        world.order(41, "REVIEW", name="With", files=8, steps=["START", "SUCCESS"])
        world.order(42, "REVIEW", name="Without")
        world.order(43, "REVIEW", name="Odd")
        world.sql("UPDATE site_orders SET site_url = 'https://sites.example.com/41' WHERE id = 41")
        world.sql("UPDATE site_orders SET site_url = 'javascript:alert(1)' WHERE id = 43")
        world.site(43).symlink_to("/etc")

    await asyncio.to_thread(some)
    async with live(world) as view:
        monkeypatch.setattr(view.app, "open_url", lambda url, **_: opened.append(url))
        monkeypatch.setattr("webbrowser.open", opened.append)
        await view.go_to(41)
        await view.press("y")
        assert view.app.clipboard == "41"
        await view.press("o", "O")
        assert opened == ["https://sites.example.com/41", Path(world.site(41)).as_uri()]
        for order_id in (42, 43):  # no script is opened, and no link is followed
            await view.go_to(order_id)
            await view.press("o", "O")
        await view.sees("this order has no site to open", "this order has no folder to open")
        await view.sees("symbolic")  # why the link's files are unknown
        assert len(opened) == 2
        await view.press("a", "y")
        assert view.app.clipboard == "42 41 43"  # that without files needs attention
        # Without a desktop, the address is copied instead.
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            monkeypatch.delenv(name, raising=False)
        await view.go_to(41)
        for key, address in (("o", "https://sites.example.com/41"), ("O", str(world.site(41)))):
            await view.press(key)
            assert view.app.clipboard == address
        await view.sees("cannot open it without a desktop")
        assert len(opened) == 2
