"""Write the screenshots in the README from a temporary demo.

make screenshots
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sitegenctl.config.settings import load_settings
from sitegenctl.tui.app import LiveApp
from sitegenctl.tui.preferences import Preferences

PICTURES = Path(__file__).parent / "img"
_PATIENCE = 30.0

#: Text on the screen when the first data is there.
_KNOWN = "attention"


@dataclass(frozen=True, kw_only=True)
class Screenshot:
    """A screen of ``size`` after pressing ``keys``, once ``shows`` is on it."""

    name: str
    size: tuple[int, int]
    keys: Sequence[str] = ()
    shows: str
    theme: str = "dark"
    commands: Sequence[Sequence[str]] = ()


SCREENSHOTS = (
    Screenshot(
        name="orders", size=(150, 36), keys=["down"] * 6, shows="newest first", commands=[("enqueue", "42", "38", "36")]
    ),
    Screenshot(
        name="plan",
        size=(120, 30),
        keys=["down", "space", "space", "space", "space", "space", "m"],
        shows="would be fixed",
    ),
    Screenshot(name="workers", size=(120, 24), keys=["3"], shows="up "),
    Screenshot(name="narrow", size=(80, 24), keys=["down"], shows="attention", theme="light"),
)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sitegenctl-") as folder:
        os.environ["SITEGENCTL_DATA_DIR"] = folder
        # The demo's broker has just started, and plans would wait for workers to reconnect.
        os.environ["SITEGENCTL_RECONNECT_TIME"] = "0s"
        _run("demo", "up", "--pace", "2s")
        try:
            for picture in SCREENSHOTS:
                for command in picture.commands:
                    _run("--context", "demo", *command)
                (PICTURES / f"live-{picture.name}.svg").write_text(asyncio.run(_draw(picture)), encoding="utf-8")
                print(f"docs/img/live-{picture.name}.svg")
        finally:
            _run("demo", "down")


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "sitegenctl", *arguments], check=True, stdout=subprocess.DEVNULL)


async def _draw(picture: Screenshot) -> str:
    app = LiveApp(load_settings({"context": "demo"}), Preferences(theme=picture.theme, interval=0.5))
    async with app.run_test(size=picture.size) as pilot:
        await _until(lambda: _KNOWN in _text(app))
        for key in picture.keys:
            await pilot.press(key)
        await _until(lambda: picture.shows in _text(app))
        return app.export_screenshot(title="sitegenctl live")


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(int(_PATIENCE / 0.1)):
        if condition():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"it never came true: {condition}")


def _text(app: LiveApp) -> str:
    # What is on the screen, as a picture has it: spaces in it don't break.
    return app.export_screenshot(simplify=True).replace("&#160;", " ")


if __name__ == "__main__":
    main()
