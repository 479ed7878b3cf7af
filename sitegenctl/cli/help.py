"""Help pages: usage, options, commands in groups, global options, examples. And the command that a near miss means.

Plain text without frames, so that it fits the terminal of a phone and can be searched.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

from sitegenctl.cli.complete import innermost
from sitegenctl.cli.terminal import width
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import UsageProblem
from sitegenctl.render.command import hint_text

GLOBAL_OPTIONS = "Global options"

_MAX_WIDTH = 100

_ORDER_COMMANDS = (Command.INSPECT, Command.ENQUEUE, Command.REPAIR, Command.RESET, Command.CANCEL)

_NEAR_MISSES: dict[Command, str] = {
    Command.INSPECT: "get show describe order view info find",
    Command.INSPECT_ORDERS: "orders list ls jobs",
    Command.INSPECT_QUEUE: "waiting pending tasks depth",
    Command.INSPECT_WORKERS: "worker workers ps nodes",
    Command.STATUS: "overview summary health ping",
    Command.LIVE: "top watch monitor ui tui dashboard",
    Command.LOGS: "log tail follow",
    Command.HISTORY: "past activity audit journal who",
    Command.ENQUEUE: "start run submit publish generate send add push resume",
    Command.RETRY_FAILED: "retry requeue",
    Command.START_STUCK: "start-all",
    Command.RESET: "restart redo rebuild regenerate purge delete",
    Command.CANCEL: "stop kill abort revoke remove rm hold terminate",
    Command.REPAIR: "fix heal recover",
    Command.DOCTOR: "check diagnose verify test",
    Command.MAINTAIN: "cron auto",
    Command.DEMO_UP: "up",
    Command.DEMO_DOWN: "down",
    Command.CONFIG_INIT: "init setup configure login",
    Command.CONFIG_SHOW: "settings env",
}

#: The command that a word means which is not one.
MEANT = {word: command for command, words in _NEAR_MISSES.items() for word in words.split()}


def meant(words: Sequence[str]) -> Remedy | None:
    """The command that these words probably mean; orders are taken along where the command takes them."""
    words = [word for word in words if not word.startswith("-")]
    orders = tuple(int(word) for word in words if word.isascii() and word.isdigit())
    command = MEANT.get(words[0]) if words else None
    if command is None:
        return None
    if orders and command is Command.RETRY_FAILED:
        command = Command.ENQUEUE
    if command is Command.INSPECT and not orders:
        # `get orders`, `show queue`
        below = MEANT.get(words[1] if len(words) > 1 else "orders", Command.INSPECT_ORDERS)
        command = Command.INSPECT_QUEUE if "queue" in words else below
    if command not in _ORDER_COMMANDS:
        orders = ()
    return Remedy.run(command, *orders[:1])


def meant_error(problem: str, remedy: Remedy, ctx: Any) -> UsageProblem:
    """The error with the command to run instead, on the system that the options select."""
    from sitegenctl.config.settings import Settings

    selected = {name: innermost(ctx, name) for name in ("context", "env_file")}
    return UsageProblem(problem, hint=hint_text(remedy, Settings(**selected).selector))


def examples_of(command: Any) -> Sequence[tuple[str, str]]:
    """The examples of a command: its arguments, and what they are for."""
    return getattr(command.callback, "examples", ())


class _Page:
    """The parts of a help page that commands and groups share."""

    name: str | None
    get_params: Any

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                is_argument = param.param_type_name == "argument"
                title = "Arguments" if is_argument else getattr(param, "rich_help_panel", None) or "Options"
                sections.setdefault(title, []).append(record)
        shared = sections.pop(GLOBAL_OPTIONS, [])
        for title, rows in (*sections.items(), *self._commands(ctx), (GLOBAL_OPTIONS, shared)):
            _write(formatter, title, rows)
        if examples := examples_of(self):
            with formatter.section(_heading("Examples")):
                for line, purpose in examples:
                    formatter.write(f"  # {purpose}\n  sitegenctl {line}\n")

    def _commands(self, ctx: Any) -> Iterable[tuple[str, list[tuple[str, str]]]]:
        return ()


class HelpCommand(_Page, TyperCommand):
    """A command with this kind of help page."""


class HelpGroup(_Page, TyperGroup):
    """A group of commands with this kind of help page."""

    def _commands(self, ctx: Any) -> Iterable[tuple[str, list[tuple[str, str]]]]:
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            if not (command := self.commands[name]).hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name, command.get_short_help_str(1000)))
        return panels.items()


def help_width() -> int:
    """Columns for a help page."""
    return min(width(), _MAX_WIDTH)


def _write(formatter: Any, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(_heading(title)):
            formatter.write_dl(rows, col_max=min(30, formatter.width // 3))


def _heading(title: str) -> str:
    is_plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return title if is_plain else f"\x1b[1m{title}\x1b[0m"
