"""The page of ``stats --html`` in a real browser, with a hostile log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Page, chromium, page_of
from tests.support.world import Log, World

EVIL = (
    "</title></style><script>document.body.innerHTML = 'taken'</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
    "{{ 7 * 7 }} <svg onload=alert(1)> \u202egnp.exe \x1b[31m &amp; end"
)
HOUR = 3600

# What sticks out of the window, but for tables that can be scrolled.
_STICKS_OUT = """[...document.querySelectorAll('body *')].filter(
  each => !each.closest('.wide, figure') && each.getBoundingClientRect().right > innerWidth + 1
).map(each => each.tagName)"""
_TALLEST = "Math.max(...[...document.querySelectorAll('svg rect')].map(each => each.getBoundingClientRect().height))"
_LOADED = "document.readyState === 'complete' && document.title !== ''"
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"


async def look_at(page: Page, file: Path) -> None:
    await page.open(file.as_uri())
    async with asyncio.timeout(30):
        while not await page.evaluate(_LOADED):  # noqa: ASYNC110 - the page has no event for it
            await asyncio.sleep(0.05)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look with")
def test_the_page_shows_everything_without_scripts(world: World, log: Log, tmp_path: Path) -> None:
    world.order(42, "REVIEW", name="Ana")
    for ago in range(1, 20):
        log.run(42, ago=ago * HOUR, seconds=30 + ago)
    log.run(42, ago=60, error=EVIL)
    file = tmp_path / "page.html"
    assert world.run("stats", "--html", str(file), SITEGENCTL_CONTEXT="").returncode == 0
    profile = tmp_path / "chromium"
    profile.mkdir()

    async def see(debugger: str) -> None:
        async with page_of(debugger) as page:
            await look_at(page, file)
            text = await page.evaluate("document.body.innerText")
            assert "</title></style><script>document.body.innerHTML = 'taken'</script>" in text
            assert "\\u202egnp.exe \\x1b[31m &amp; end" in text
            assert "{{ 7 * 7 }}" in text
            assert await page.evaluate("document.scripts.length + document.images.length") == 0
            assert await page.evaluate("document.querySelectorAll('svg').length") == 3
            assert await page.evaluate("document.querySelectorAll('svg rect.good').length") > 20
            assert await page.evaluate("document.querySelectorAll('svg rect.bad').length") == 2
            assert await page.evaluate(_TALLEST) > 15
            backgrounds = set()
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                await page.send("Emulation.setEmulatedMedia", media="screen", features=features)
                backgrounds.add(await page.evaluate(_BACKGROUND))
            assert len(backgrounds) == 2
            # On paper it is light, whatever the screen is.
            await page.send("Emulation.setEmulatedMedia", media="print", features=features)
            assert await page.evaluate(_BACKGROUND) == "rgb(255, 255, 255)"
            for width in (360, 1400):
                await page.send(
                    "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
                )
                assert await page.evaluate(_STICKS_OUT) == []
            assert page.requested == [file.as_uri()]
            assert page.errors == []
            assert len((await page.send("Page.printToPDF"))["data"]) > 10_000

    with chromium(profile) as debugger:
        asyncio.run(see(debugger))
