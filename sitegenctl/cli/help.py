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

#: Examples of each command: its arguments, and what they are for.
EXAMPLES: dict[str, Sequence[tuple[str, str]]] = {
    "": (
        ("status", "What is wrong, and how to fix it"),
        ("inspect 28", "Where is order 28, and why"),
        ("live", "Watch everything on one screen"),
        ("demo tour", "Try it without a system of your own"),
    ),
    "status": (("status", "What is wrong now"), ("status --watch", "The same, refreshed every 2s")),
    "inspect": (
        ("inspect 28", "Where is order 28, and why"),
        ("inspect orders --condition failed", "Orders whose generation failed"),
        ("inspect queue", "What waits, in the order of delivery"),
        ("inspect workers", "Who is working on what"),
    ),
    "inspect ORDER": (("inspect 28 --last 50", "With its newest 50 log rows"),),
    "inspect orders": (
        ("inspect orders --status review --since 1d", "Orders that went to review within a day"),
        ("inspect orders --condition failed -o csv", "Failed orders for a spreadsheet"),
    ),
    "logs": (
        ("logs 28 -f", "Follow the log of order 28"),
        ("logs 28 30-35 --level error", "Only errors of several orders"),
    ),
    "history": (
        ("history --since 12h", "What happened last night, and who did it"),
        ("history --outcome failed", "Only what failed"),
    ),
    "events": (("events --order 28", "Only what happens to order 28"), ("events --type task-failed", "Only failures")),
    "stats": (("stats --since 7d", "The last week"),),
    "enqueue": (
        ("enqueue 28 --wait", "Follow the log until the site is there"),
        ("enqueue --condition held --dry-run", "What would be enqueued"),
    ),
    "start-stuck": (("start-stuck --dry-run", "What would be started"), ("start-stuck --yes", "Start without asking")),
    "retry-failed": (
        ("retry-failed --dry-run", "What would be retried"),
        ("retry-failed --match timeout", "Only failures whose reason has this text"),
    ),
    "reset": (("reset 28", "Discard the site of order 28 and generate it again"),),
    "reset-empty": (("reset-empty --dry-run", "What would be reset"),),
    "cancel": (
        ("cancel 28", "Remove order 28 from the queue and hold it"),
        ("cancel 28 --terminate", "Also if it is running"),
    ),
    "undo": (
        ("undo --dry-run", "What undoing your last command would do"),
        ("undo 1v3k8q2-x7m", "Undo this operation"),
    ),
    "repair": (
        ("repair --dry-run", "What is broken, and what would be done"),
        ("repair 28", "Fix only order 28"),
    ),
    "maintain": (
        ("maintain --dry-run", "What a run would do now"),
        ("maintain --yes", "One run, as cron starts it"),
    ),
    "trash list": (("trash list --order 28", "Earlier sites of order 28"),),
    "trash restore": (("trash restore 28 --dry-run", "What would come back"),),
    "queue pause": (("queue pause", "Workers finish what they have and take nothing new"),),
    "doctor": (("doctor", "Check everything"), ("doctor --quick", "Only what takes no time, for health checks")),
    "metrics": (("metrics", "Print the metrics once"), ("metrics --listen :9100", "Serve them to Prometheus")),
    "live": (("live", "Watch and fix orders"), ("live --web", "The same in a browser")),
    "config": (("config init", "Answer a few questions, get a context"), ("config show", "Settings and their origins")),
    "config use": (("config use demo", "Commands without --context act on the demo"),),
    "demo": (("demo up", "Start it in the background"), ("demo tour", "Start it and generate order 42")),
    "worker": (("worker --concurrency 2", "Two orders at once"),),
    "completion": (("completion bash", "Print the script; see the docs for where it goes"),),
}

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
        examples = EXAMPLES.get(ctx.command_path.partition(" ")[2], ())
        if examples:
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
