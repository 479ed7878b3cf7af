"""Short descriptions that are the same everywhere: of a task, an order's files, an age, a time."""

from __future__ import annotations

from datetime import datetime, timedelta

from sitegenctl.domain.orders.promise import Promise
from sitegenctl.domain.orders.site import SiteFiles
from sitegenctl.domain.queue.task import LiveTask


def describe_task(task: LiveTask) -> str:
    """Describe which task it is and where."""
    where = f" at {task.worker}" if task.worker else ""
    if task.position is not None:
        where = " (next)" if task.position == 0 else f" (place {task.position + 1})"
    return f"task {task.task_id} {task.state}{where}"


def describe_exhausted(attempts: int, maximum: int) -> str:
    """Describe that an order has no attempts left; an operator may have made more than the maximum."""
    return (
        f"attempts exhausted ({attempts} of {maximum})"
        if attempts <= maximum
        else (f"attempts exhausted ({attempts}, and the maximum is {maximum})")
    )


def describe_files(files: SiteFiles) -> str:
    """Describe how many files there are."""
    if not files.complete:
        return f"{files.count} files or more"
    return "1 file" if files.count == 1 else f"{files.count} files"


def describe_age(age: timedelta | None) -> str:
    """Describe an age in its two largest units, as in ``3h 12m``."""
    if age is None:
        return "an unknown time"
    seconds = max(0, int(age.total_seconds()))
    for unit, sub, size, sub_size in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if seconds >= size:
            rest = seconds % size // sub_size
            return f"{seconds // size}{unit} {rest}{sub}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"


def describe_due(due_in: timedelta | None, promise: Promise | None = None) -> str:
    """Describe when an order is due, as in ``late 5h`` or ``in 30m, will be late``; empty without a due date."""
    if due_in is None:
        return ""
    time = f"late {describe_age(-due_in)}" if due_in < timedelta(0) else f"in {describe_age(due_in)}"
    return f"{time}, {promise}" if promise is Promise.WILL_BE_LATE else time


def describe_wait(wait: timedelta, now: datetime | None) -> str:
    """Describe how long until something, and when that is, as in ``4m 30s, at 14:07``."""
    at = f", at {describe_time(now + wait, now)}" if now is not None else ""
    return f"{describe_age(wait)}{at}"


def describe_time(moment: datetime, now: datetime | None = None) -> str:
    """The time of day in this machine's zone, as in ``14:07``; with the date where that is not today's."""
    local = moment.astimezone()
    if now is not None and local.date() == now.astimezone().date():
        return f"{local:%H:%M}"
    return f"{local:%Y-%m-%d %H:%M}"
