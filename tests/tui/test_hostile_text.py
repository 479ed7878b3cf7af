"""Untrusted text is shown literally; no text ends the view."""

from __future__ import annotations

import asyncio
import json

from sitegenctl.domain.queue.event import Event
from sitegenctl.operations.follow import Notice
from sitegenctl.tui.service import EventsReceived
from tests.support.live_view import Live, live
from tests.support.world import QUEUE, World

HOSTILE = {
    "escapes": "\x1b[2J\x1b[31mred\x07\x9b1m",
    "bidi": "a\u202eevil\u202c\u2066b\u200f",
    "markup": "[red]x[/] [@click=app.quit]free[/] [/nope] [bold",
    "lines": "one\ntwo\r\nthree\ttab\u2028four",
    "hidden": "zero\u200bwidth\ufeff\U000e0041",
    "wide": "日本語のとても長い店の名前" * 9,
    "long": "x" * 5000,
    "combining": "e\u0301" * 200,
    "emoji": "❤️ 1️⃣ 👍🏽 🇧🇷 " * 9,
}


def controls(text: str) -> set[str]:
    """Characters that must never reach a terminal."""
    return {char for char in text.replace("\n", "") if ord(char) < 32 or 0x7F <= ord(char) < 0xA0} | (
        set(text) & set("\u202e\u202c\u2066\u200f\u200b\ufeff\u2028\U000e0041\ufe0f\u20e3🏽🇧")
    )


def hostile_order(world: World, number: int, text: str) -> None:
    world.order(number, "GENERATING", steps=["START"], name=text)
    for column in ("customer_name", "customer_email", "admin_notes", "site_url"):
        world.sql(f"UPDATE site_orders SET {column} = $1 WHERE id = $2", text, number)  # noqa: S608 - columns named above
    world.sql("UPDATE site_onboardings SET business_name = $1 WHERE order_id = $2", text, number)
    world.sql(
        "INSERT INTO site_generation_logs (order_id, step, message, status, details, created_at)"
        " VALUES ($5, $1, $2, $3, $4, localtimestamp - interval '3h'), ($5, 'ERROR', $2, 'error', $4, NULL)",
        text[:100],
        text,
        text[:20],
        json.dumps({"why": text}),
        number,
    )
    folder = world.site(number)
    folder.mkdir()
    (folder / text.replace("/", "|")[:60]).write_text("x")


async def test_text_typed_by_customers(world: World) -> None:
    kinds = dict(enumerate(HOSTILE, 41))

    def some() -> None:
        for number, kind in kinds.items():
            hostile_order(world, number, HOSTILE[kind])

    await asyncio.to_thread(some)
    async with live(world, size=(150, 40)) as view:
        for number, kind in kinds.items():
            await view.go_to(number)
            assert not controls(await view.sees(f"{number} FAILED", "the last run ended in ERROR"))
            if kind == "markup":
                await view.sees("[red]x[/] [@click=app.quit]free[/]")
                await click_everywhere(view)
            if kind == "escapes":
                await view.sees("\\x1b[2J\\x1b[31mred\\x07")
            await view.go_to(number)
            await view.act("R", f"reset order {number}? 1 would be reset")
            assert not controls(view.text)
            await view.press("escape", "y", "o")
        for view_number in "2345":
            await view.press(view_number)
            assert not controls(view.text)
        await view.press("1", "slash", *"[red]x[/]")
        await view.until(lambda: [kinds[number] for number in view.listed] == ["markup"])
        assert view.app.is_running


async def click_everywhere(view: Live) -> None:
    """Follow any link that markup could have created."""
    for y in range(4, 36, 4):
        await view.pilot.click(offset=(120, y))
    assert view.app.is_running


async def test_hostile_tasks_and_messages(world: World) -> None:
    def publish() -> None:
        world.order(42, "GENERATING")
        world.publish(42, task_id="\x1b[31m[red]id[/]\u202e")
        world.publish(42, task="[@click=app.quit]\x1b[2Jtask\n")
        with world.redis() as client:
            client.lpush(QUEUE, b"\xff\xfe not json \x1b[2J", "{}", '["[red]"]')

    await asyncio.to_thread(publish)
    async with live(world, size=(200, 60)) as view:
        await view.press("2")
        shown = await view.sees("\\x1b[31m[red]id[/]\\u202e", "[@click=app.quit]\\x1b[2Jtask ")
        assert not controls(shown)
        assert len(view.rows_of("queue")) == 5
        for y in range(6, 12):
            await view.pilot.click(offset=(30, y), times=2)
        assert view.app.is_running


async def test_hostile_events(world: World) -> None:
    text = "\x1b[2J[@click=app.quit]x[/]\u202e\n\udcff"
    event = Event(type=text, fields={"exception": text}, worker=text, error=text, order_id=42, task_id=text)
    await asyncio.to_thread(world.order, 42, "GENERATING")
    async with live(world) as view:
        await view.until(lambda: view.listed == [42])
        view.app.post_message(EventsReceived([event, Notice(message=text)]))
        await view.press("4")
        shown = await view.sees("\\x1b[2J[@click")
        assert not controls(shown)
        await view.press("1")
        assert view.app.is_running


async def test_hostile_path_in_the_banner(world: World) -> None:
    odd = world.sites_dir / "\x1b[31m[red]no[/]"
    await asyncio.to_thread(world.order, 42, "GENERATING", steps=["START"])
    async with live(world, sites_dir=str(odd)) as view:
        await view.until(lambda: "\\x1b[31m[red]no[/]" in view.banner)
        assert not controls(view.text)
