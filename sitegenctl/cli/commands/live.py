"""``live``: the full-screen view, on a terminal or in a browser."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, examples, number, option, service
from sitegenctl.cli.terminal import can_draw, is_served
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import SitegenError, UsageProblem

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.tui.preferences import Preferences

_PANEL = "In a browser"


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """The options of ``--web``."""

    web: Annotated[
        bool, option("--web", help="Serve the view to browsers; print its link.", rich_help_panel=_PANEL)
    ] = False
    port: Annotated[
        int | None, number("--port", min=0, max=65535, help="Port (default 8765); 0 is any.", rich_help_panel=_PANEL)
    ] = None
    host: Annotated[
        str | None, option("--host", metavar="ADDR", help="Address (default 127.0.0.1).", rich_help_panel=_PANEL)
    ] = None
    public_url: Annotated[
        str | None,
        option(
            "--public-url", metavar="URL", help="Address that browsers use, behind a proxy.", rich_help_panel=_PANEL
        ),
    ] = None
    allow_actions: Annotated[
        bool, option("--allow-actions", help="Allow browsers to make changes.", rich_help_panel=_PANEL)
    ] = False


@examples(("live", "Watch and fix orders"), ("live --web", "The same in a browser"))
@service(lambda options: options["web"].web)
def live(
    call: Invocation,
    web: WebOptions,
    interval: Annotated[
        str | None, option("--interval", metavar="TIME", help="Refresh every TIME (default 1s).")
    ] = None,
    theme: Annotated[
        str | None,
        option(
            "--theme",
            metavar="THEME",
            help="dark, light, monochrome or a Textual theme.",
            autocompletion=complete.one_of("dark", "light", "monochrome"),
        ),
    ] = None,
) -> int:
    """Watch queue, orders and workers; fix orders."""
    if not web.web:
        for name, given in {
            "--port": web.port,
            "--host": web.host,
            "--public-url": web.public_url,
            "--allow-actions": web.allow_actions or None,
        }.items():
            if given is not None:
                raise UsageProblem(f"{name} needs --web", hint=Remedy.run(Command.LIVE, help=True))
    settings = call.settings()
    settings.require_url("database")
    settings.require_url("redis")
    if web.web:
        return _serve(call, settings, web, interval=interval, theme=theme)
    hint = Remedy.run(
        Command.INSPECT, advice="without a terminal", note="--web shows the view in a browser", watch=True
    )
    if not is_served() and not can_draw():
        raise UsageProblem("live needs a terminal", hint=hint)
    if not is_served() and os.environ.get("TERM") == "dumb":
        raise UsageProblem("live needs a terminal that can be drawn on, and TERM is dumb", hint=hint)
    return open_live(settings, interval=interval, theme=theme)


def open_live(settings: Settings, *, interval: str | None = None, theme: str | None = None) -> int:
    """Run the live view; returns its exit code. Raises the error that ended it."""
    from sitegenctl.tui.app import LiveApp
    from sitegenctl.tui.terminal_driver import DRIVER_SIGNALS

    app = LiveApp(settings, _preferences(interval, theme))
    # The view handles these signals itself, so that the batch in progress is finished.
    with signals.restored_handlers(*DRIVER_SIGNALS):
        code = signals.run(app.run_async())
    if isinstance(app.failure, SitegenError):
        raise app.failure
    if app.failure is not None:
        raise RuntimeError("the live view ended") from app.failure
    return code or app.return_code or 0


def _serve(call: Invocation, settings: Settings, web: WebOptions, *, interval: str | None, theme: str | None) -> int:
    """Serve the view until stopped. Each browser gets a process of this command with the same options."""
    if web.allow_actions and settings.read_only:
        is_flag = bool(call.options["read_only"])
        raise UsageProblem(f"--allow-actions contradicts {'--read-only' if is_flag else settings.origins['read_only']}")
    if web.host == "":
        raise UsageProblem("--host must be a name or an address of this machine")
    from sitegenctl.web.live import PublicUrl, WebView, serve

    public = None if web.public_url is None else PublicUrl.parse(web.public_url)
    # Report a bad value here, not in every browser.
    _preferences(interval, theme)
    given = {
        "--context": call.options["context"],
        "--env-file": call.options["env_file"],
        "--timeout": call.options["timeout"],
        "--interval": interval,
        "--theme": theme,
    }
    # Joined by =, so that a value may begin with a dash.
    flags = [f"{name}={value}" for name, value in given.items() if value is not None]
    if not web.allow_actions:
        flags.append("--read-only")
    # sys.stdout is replaced while serving.
    stdout = sys.stdout

    def announce(link: str, reachable: bool) -> None:
        print(link, file=stdout, flush=True)
        if reachable:
            print("warning: other machines can reach it, unencrypted; only the link protects it", file=sys.stderr)

    title = "sitegenctl live" + (f" · {settings.context}" if settings.context else "")
    served = [sys.executable, "-m", "sitegenctl", "live", *flags]
    port = 8765 if web.port is None else web.port
    view = WebView(served, title=title, public=public)
    signals.run(serve(view, host=web.host or "127.0.0.1", port=port, announce=announce))
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
