"""``live``: the screen that stays open, on a terminal or in a browser."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, command
from sitegenctl.cli.terminal import can_draw, is_served

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.tui.preferences import Preferences

_PANEL = "In a browser"
_HOST = "127.0.0.1"
_PORT = 8765


Interval = Annotated[
    str | None, typer.Option("--interval", metavar="TIME", help="How often to look; 1s if not said otherwise.")
]
Theme = Annotated[
    str | None,
    typer.Option(
        "--theme",
        metavar="THEME",
        help="dark, light, monochrome or a Textual theme.",
        autocompletion=complete.one_of("dark", "light", "monochrome"),
    ),
]
Web = Annotated[bool, typer.Option("--web", help="Show it in a browser: prints a link.", rich_help_panel=_PANEL)]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=0,
        max=65535,
        metavar="N",
        help=f"Listen at this port ({_PORT}); 0 takes any that is free.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="ADDR",
        help="Listen at this address instead of for this machine alone.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
AllowActions = Annotated[
    bool,
    typer.Option("--allow-actions", help="Let browsers change something; else they only look.", rich_help_panel=_PANEL),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "live", service=lambda options: options["web"])(live)


def live(
    call: Invocation,
    interval: Interval = None,
    theme: Theme = None,
    web: Web = False,
    port: Port = None,
    host: Host = None,
    allow_actions: AllowActions = False,
) -> int:
    """Watch queue, orders and workers live, and mend what is wrong."""
    from sitegenctl.errors import UsageProblem

    if not web:
        for name, given in {"--port": port, "--host": host, "--allow-actions": allow_actions or None}.items():
            if given is not None:
                raise UsageProblem(f"{name} needs --web", hint="sitegenctl live --help")
    settings = call.settings()
    settings.require_database_url()
    settings.require_redis_url()
    if web:
        _require_web(settings, allow_actions=allow_actions)
        # What is no good is said here, not in every browser.
        _preferences(interval, theme)
        served = _served_command(call, interval=interval, theme=theme, read_only=not allow_actions)
        return _serve(served, settings, host=_HOST if host is None else host, port=_PORT if port is None else port)
    hint = "sitegenctl inspect --watch writes to anything; --web shows it in a browser"
    if not is_served() and not can_draw():
        raise UsageProblem("live needs a terminal", hint=hint)
    if not is_served() and os.environ.get("TERM") == "dumb":
        raise UsageProblem("live needs a terminal that can be drawn on, and TERM is dumb", hint=hint)
    return open_live(settings, interval=interval, theme=theme)


def open_live(settings: Settings, *, interval: str | None = None, theme: str | None = None) -> int:
    """Show the live view until it is left; returns its exit code. Raises what ended it."""
    from sitegenctl.errors import SitegenError
    from sitegenctl.tui.app import LiveApp
    from sitegenctl.tui.terminal_driver import DRIVER_SIGNALS

    app = LiveApp(settings, _preferences(interval, theme))
    # Closing the terminal, too, lets what is being moved get through its chunk.
    with signals.signals_put_back(*DRIVER_SIGNALS):
        code = signals.run(app.run_async())
    if isinstance(app.failure, SitegenError):
        raise app.failure
    if app.failure is not None:
        raise RuntimeError("the live view ended") from app.failure
    return code or app.return_code or 0


def _require_web(settings: Settings, *, allow_actions: bool) -> None:
    """Raise ``UsageProblem`` where browsers can't be served, or are to do what nobody may."""
    from sitegenctl.errors import UsageProblem

    if allow_actions and settings.read_only:
        where = settings.origins["read_only"]
        raise UsageProblem(f"--allow-actions contradicts {'--read-only' if where == 'flag' else where}")
    try:
        import textual_serve  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise UsageProblem("--web needs the extra web", hint="pip install 'sitegenctl[web]'") from exc


def _served_command(call: Invocation, *, interval: str | None, theme: str | None, read_only: bool) -> list[str]:
    """What each browser gets: the same command with the same flags. The rest it reads where we have read it."""
    given = {
        "--context": call.options.get("context"),
        "--env-file": call.options.get("env_file"),
        "--timeout": call.options.get("timeout"),
        "--interval": interval,
        "--theme": theme,
    }
    # Joined by =, so that a value that begins with a dash stays one.
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    return [sys.executable, "-m", "sitegenctl", "live", *flags, *(["--read-only"] if read_only else [])]


def _serve(served: list[str], settings: Settings, *, host: str, port: int) -> int:
    from sitegenctl.errors import UsageProblem
    from sitegenctl.web.live import serve

    if not host:
        raise UsageProblem("--host must be a name or an address of this machine")
    # While it serves, sys.stdout is somewhere else.
    stdout = sys.stdout

    def announce(link: str, reachable: bool) -> None:
        print(link, file=stdout, flush=True)
        if reachable:
            print(
                "warning: other machines can reach it, unencrypted; the link is all that protects it", file=sys.stderr
            )

    place = f" · {settings.context}" if settings.context else ""
    signals.run(serve(served, host=host, port=port, title=f"sitegenctl live{place}", announce=announce))
    return 0


def _preferences(interval: str | None, theme: str | None) -> Preferences:
    from sitegenctl.tui.preferences import parse_interval, parse_theme, read_preferences

    preferences = read_preferences(os.environ)
    if interval is not None:
        preferences = replace(preferences, interval=parse_interval(interval, "--interval"))
    if theme is not None:
        preferences = replace(preferences, theme=parse_theme(theme, "--theme"))
    elif os.environ.get("NO_COLOR"):
        preferences = replace(preferences, theme="monochrome")
    return preferences
