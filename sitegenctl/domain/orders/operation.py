"""Operations: what one execution of a command did to orders, as its journal rows in the generation log show it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sitegenctl.domain.orders.order import LogRow
from sitegenctl.domain.orders.run import OPERATOR_FAILED_SUFFIX, OPERATOR_PREFIX, OPERATOR_UNDO, OPERATOR_UNDO_BEGIN

# Crockford's base 32: no letter that is mistaken for a digit.
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"

_TIME_LENGTH, _RANDOM_LENGTH = 7, 3

# A century, in seconds: more is no idle time.
_MAX_IDLE = 100 * 365 * 86_400

_ID = re.compile(rf"[{_DIGITS}]{{{_TIME_LENGTH}}}-[{_DIGITS}]{{{_RANDOM_LENGTH}}}")


def new_operation_id(now: datetime) -> str:
    """An id such as ``1v3k8q2-x7m``: the second in which the operation begins, and a random part; they sort by time."""
    seconds = int(now.timestamp())
    time = "".join(_DIGITS[seconds >> (5 * place) & 31] for place in reversed(range(_TIME_LENGTH)))
    return f"{time}-{''.join(secrets.choice(_DIGITS) for _ in range(_RANDOM_LENGTH))}"


def is_operation_id(text: str) -> bool:
    """Whether the text has the form of an operation id."""
    return _ID.fullmatch(text) is not None


def began_at(operation: str) -> datetime:
    """The second in which an operation began, aware, by the clock of the machine that ran it."""
    seconds = 0
    for digit in operation[:_TIME_LENGTH]:
        seconds = seconds << 5 | _DIGITS.index(digit)
    return datetime.fromtimestamp(seconds, UTC)


class OperationKind(StrEnum):
    """Who began an operation."""

    OPERATOR = "operator"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, kw_only=True)
class RevokedTask:
    """A task that an operation removed."""

    task_id: str
    waited: bool = False  # no worker ran it
    resume: bool = True
    attempt: int = 1  # from 1
    eta: datetime | None = None  # aware; it was held until then


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """A journal row of the generation log; ``operation`` is None in rows of releases before 0.2."""

    log_id: int
    order_id: int
    step: str
    message: str
    operation: str | None = None
    actor: str | None = None
    host: str | None = None
    command: str | None = None
    before: str | None = None  # the status
    after: str | None = None  # the status that it set, None when it left the status
    task_id: str | None = None
    revoked: tuple[RevokedTask, ...] = ()
    resume: bool = True
    trashes: bool = False  # the files were to be moved to the trash
    file_count: int = 0  # of these, when it was planned
    undoes: str | None = None  # the operation that it reverses
    idle: timedelta | None = None  # since the order's last change, when it was planned
    at: datetime | None = None  # by the log's clock, naive
    age: timedelta | None = None

    @property
    def is_rollback(self) -> bool:
        """Whether it records that the operation failed for this order and was rolled back."""
        return self.step.endswith(OPERATOR_FAILED_SUFFIX)

    @property
    def reason(self) -> str:
        """The message without the operator, who is shown beside it."""
        return self.message.rpartition("; by ")[0] or self.message


def journal_row(row: LogRow) -> JournalRow | None:
    """The journal row in a log row; None if it is not one. Details of any shape are accepted."""
    if not row.step.startswith(OPERATOR_PREFIX):
        return None
    details = row.details if isinstance(row.details, dict) else {}

    def text(name: str) -> str | None:
        value = details.get(name)
        return value if isinstance(value, str) else None

    return JournalRow(
        log_id=row.log_id,
        order_id=row.order_id,
        step=row.step,
        message=row.message,
        operation=text("operation"),
        actor=text("actor"),
        host=text("host"),
        command=text("command"),
        before=text("before"),
        after=text("after"),
        task_id=text("task_id"),
        revoked=tuple(_revoked(details)),
        resume=details.get("resume") is not False,
        trashes=details.get("files") == "trash",
        file_count=count if isinstance(count := details.get("file_count"), int) else 0,
        undoes=text("undoes"),
        idle=idle_in(details),
        at=row.created_at,
        age=row.age,
    )


def _revoked(details: dict[str, Any]) -> Iterable[RevokedTask]:
    tasks = details.get("revoked")
    for task in tasks if isinstance(tasks, list) else ():
        if isinstance(task, dict) and isinstance(task.get("task_id"), str):
            attempt = task.get("attempt")
            yield RevokedTask(
                task_id=task["task_id"],
                waited=task.get("waited") is True,
                resume=task.get("resume") is not False,
                attempt=attempt if isinstance(attempt, int) and attempt > 0 else 1,
                eta=_time(task.get("eta")),
            )


def idle_in(details: Mapping[str, Any]) -> timedelta | None:
    """How long the order had been unchanged, by the details of a journal row; None where they don't say."""
    seconds = details.get("idle")
    if not isinstance(seconds, int | float) or not 0 <= seconds < _MAX_IDLE:
        return None
    return timedelta(seconds=seconds)


def _time(value: Any) -> datetime | None:
    """A time with its zone in ISO 8601."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else None


class EntryOutcome(StrEnum):
    """What became of an order of an operation."""

    DONE = "done"
    ROLLED_BACK = "rolled-back"
    BEGUN = "begun"  # an undo that was killed before it was complete


@dataclass(frozen=True, kw_only=True)
class OperationEntry:
    """What an operation did to one order; the last row where it did several things."""

    row: JournalRow
    rollback: JournalRow | None = None
    undone_by: JournalRow | None = None

    @property
    def order_id(self) -> int:
        """The order."""
        return self.row.order_id

    @property
    def outcome(self) -> EntryOutcome:
        """Whether the change stands."""
        if self.row.step == OPERATOR_UNDO_BEGIN and self.rollback is None:
            return EntryOutcome.BEGUN
        return EntryOutcome.DONE if self.rollback is None else EntryOutcome.ROLLED_BACK


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One execution of a command; the first of its rows gives its time."""

    operation_id: str | None
    actor: str | None
    host: str | None
    command: str | None
    at: datetime | None
    log_id: int  # of its first row
    entries: Sequence[OperationEntry] = field(default_factory=tuple)

    @property
    def kind(self) -> OperationKind:
        """Whether a person or the scheduled maintenance began it."""
        is_maintenance = (self.command or "").partition(" ")[0] == "maintain"
        return OperationKind.MAINTENANCE if is_maintenance else OperationKind.OPERATOR

    @property
    def undoes(self) -> str | None:
        """The operation that it reverses."""
        return next((entry.row.undoes for entry in self.entries if entry.row.undoes), None)

    @property
    def undone_by(self) -> JournalRow | None:
        """The row of the operation that reversed it for any of its orders."""
        return next((entry.undone_by for entry in self.entries if entry.undone_by), None)


def operations_of(rows: Iterable[JournalRow]) -> list[Operation]:
    """Group journal rows, lowest id first, into operations; a row without an id is one of its own."""
    groups: dict[str | int, list[JournalRow]] = {}
    undone: dict[tuple[str, int], JournalRow] = {}
    for row in rows:
        groups.setdefault(row.operation or row.log_id, []).append(row)
        if row.undoes is not None and row.step == OPERATOR_UNDO:
            undone[row.undoes, row.order_id] = row
        elif row.undoes is not None and row.is_rollback:
            undone.pop((row.undoes, row.order_id), None)
    return [_operation(group, undone) for group in groups.values()]


def _operation(rows: Sequence[JournalRow], undone: Mapping[tuple[str, int], JournalRow]) -> Operation:
    first = rows[0]
    entries: dict[int, OperationEntry] = {}
    for row in rows:
        before = entries.get(row.order_id)
        if row.is_rollback and before is not None and before.rollback is None:
            entries[row.order_id] = OperationEntry(row=before.row, rollback=row)
        else:
            entries[row.order_id] = OperationEntry(row=row, rollback=row if row.is_rollback else None)
    return Operation(
        operation_id=first.operation,
        actor=first.actor,
        host=first.host,
        command=first.command,
        at=first.at,
        log_id=first.log_id,
        entries=tuple(
            replace(entry, undone_by=undone.get((first.operation or "", order_id)))
            for order_id, entry in entries.items()
        ),
    )
