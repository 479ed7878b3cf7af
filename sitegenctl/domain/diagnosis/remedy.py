"""What fixes a fault: a command, a sentence for a person, or both. ``render`` writes the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias


class Command(StrEnum):
    """Commands that a remedy can name; the values are their words."""

    ENQUEUE = "enqueue"
    RETRY_FAILED = "retry-failed"
    START_STUCK = "start-stuck"
    REPAIR = "repair"
    RESET = "reset"
    RESET_EMPTY = "reset-empty"
    CANCEL = "cancel"
    UNDO = "undo"
    TRASH_LIST = "trash list"
    TRASH_PRUNE = "trash prune"
    TRASH_RESTORE = "trash restore"
    MAINTAIN = "maintain"
    STATUS = "status"
    INSPECT = "inspect"
    INSPECT_ORDERS = "inspect orders"
    INSPECT_QUEUE = "inspect queue"
    INSPECT_WORKERS = "inspect workers"
    LOGS = "logs"
    HISTORY = "history"
    LIVE = "live"
    DOCTOR = "doctor"
    QUEUE_RESUME = "queue resume"
    CONFIG_SHOW = "config show"
    CONFIG_INIT = "config init"
    DEMO_UP = "demo up"
    DEMO_DOWN = "demo down"

    @property
    def is_for_demo(self) -> bool:
        """Whether the command is about the demo, whatever the context."""
        return self in (Command.DEMO_UP, Command.DEMO_DOWN)


class Variable(str):
    """The name of an environment variable, which the shell expands."""

    __slots__ = ()


@dataclass(frozen=True)
class ShellCommand:
    """A command of another program, such as redis-cli; words are not quoted."""

    words: tuple[str, ...]

    def followed_by(self, *words: str) -> ShellCommand:
        """The command with more words."""
        return ShellCommand((*self.words, *words))


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Advice for a person, then a command for the operator, then a note on it; each may be missing."""

    advice: str | None = None
    command: Command | ShellCommand | None = None
    orders: tuple[int, ...] = ()
    any_order: bool = False  # stands for the number of any order that the remedy is shown for
    operation: str | None = None  # the id of an operation
    options: tuple[tuple[str, str | bool], ...] = ()  # by parameter name; True is a flag
    note: str | None = None

    @classmethod
    def run(
        cls, command: Command, *orders: int, advice: str | None = None, note: str | None = None, **options: str | bool
    ) -> Remedy:
        """Run a command for these orders, or without any for what it chooses itself."""
        return cls(advice=advice, command=command, orders=orders, options=tuple(options.items()), note=note)

    @classmethod
    def shell(cls, *words: str, advice: str | None = None, note: str | None = None) -> Remedy:
        """Run a command of another program."""
        return cls(advice=advice, command=ShellCommand(words), note=note)

    @property
    def for_any_order(self) -> Remedy:
        """The same for any order, so that the remedies of several orders can be compared."""
        return replace(self, orders=(), any_order=True) if self.orders else self


#: What to do about an error or a refusal: a sentence, or a remedy that names a command.
Hint: TypeAlias = str | Remedy

#: Where one source cannot be read.
RUN_DOCTOR = Remedy(command=Command.DOCTOR, advice="to find the cause and its fix")
