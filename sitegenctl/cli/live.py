"""``live``: the screen that stays open."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli.options import Invocation, command

if TYPE_CHECKING:
    from sitegenctl.settings import Settings
    from sitegenctl.tui.preferences import Preferences


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "live")(live)


def live(
    call: Invocation,
    interval: Annotated[
        str | None, typer.Option("--interval", metavar="TIME", help="How often to look; 1s if not said otherwise.")
    ] = None,
    theme: Annotated[
        str | None, typer.Option("--theme", metavar="NAME", help="dark, light or monochrome, or one of Textual's.")
    ] = None,
) -> int:
    """Watch queue, orders and workers live, and mend what is wrong."""
    from sitegenctl.errors import UsageProblem

    settings = call.settings()
    settings.require_database_url()
    settings.require_redis_url()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem(
            "live needs a terminal", hint="sitegenctl inspect --watch writes to anything; --web shows it in a browser"
        )
    return open_live(settings, interval=interval, theme=theme)


def open_live(settings: Settings, *, interval: str | None = None, theme: str | None = None) -> int:
    """Show the live view until it is left; returns its exit code. Raises what ended it."""
    from sitegenctl.errors import SitegenError
    from sitegenctl.tui.app import LiveApp

    app = LiveApp(settings, _preferences(interval, theme))
    code = app.run()
    if isinstance(app.failure, SitegenError):
        raise app.failure
    if app.failure is not None:
        raise RuntimeError("the live view ended") from app.failure
    return code or app.return_code or 0


def _preferences(interval: str | None, theme: str | None) -> Preferences:
    from sitegenctl.tui.preferences import interval_of, known_theme, read_preferences

    preferences = read_preferences(os.environ)
    if interval is not None:
        preferences = replace(preferences, interval=interval_of(interval, "--interval"))
    if theme is not None:
        preferences = replace(preferences, theme=known_theme(theme, "--theme"))
    elif os.environ.get("NO_COLOR"):
        preferences = replace(preferences, theme="monochrome")
    return preferences
