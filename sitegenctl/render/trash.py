"""The sites in the trash, as rows and as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.domain.diagnosis.describe import describe_age
from sitegenctl.domain.health.check import size
from sitegenctl.domain.orders.site import TrashContents
from sitegenctl.domain.ports import PruneResult
from sitegenctl.render.output import row_of
from sitegenctl.render.table import Column, Line, Screen, table
from sitegenctl.render.text import neutralise

TRASH_COLUMNS = ("order_id", "trashed_at", "age_seconds", "operation", "files", "size", "name")

_TABLE = (
    Column(heading="order", number=True),
    Column(heading="in the trash since", from_width=60),
    Column(heading="age", number=True),
    Column(heading="operation"),
    Column(heading="files", number=True),
    Column(heading="size", number=True),
)


def trash_rows(contents: TrashContents, now: datetime) -> list[dict[str, Any]]:
    """The entries for the envelope; files and size are None where they can't be counted."""
    rows = []
    for entry in contents.entries:
        files = contents.files.get(entry.name)
        counted = {"files": files.count if files else None, "size": files.size if files else None}
        rows.append(row_of(entry, TRASH_COLUMNS, trashed_at=entry.at, age_seconds=now - entry.at, **counted))
    return rows


def trash_text(contents: TrashContents, now: datetime, screen: Screen) -> str:
    """The entries as a table, and what is not in it."""
    lines = []
    for entry in contents.entries:
        files = contents.files.get(entry.name)
        cells = (
            str(entry.order_id),
            f"{entry.at.astimezone():%Y-%m-%d %H:%M}",
            describe_age(now - entry.at),
            entry.operation or "-",
            str(files.count) if files else "unreadable",
            size(files.size) if files and files.size is not None else "-",
        )
        lines.append(Line(cells=cells, severity=Severity.OK if files else Severity.UNKNOWN))
    text = table(_TABLE, lines, screen) if lines else "no sites in the trash\n"
    if contents.beyond:
        text += f"({contents.beyond} more; --limit or --order shows them)\n"
    if foreign := contents.foreign:
        text += (
            f"({foreign} other {'file' if foreign == 1 else 'files'} in the trash: not of sitegenctl, never touched)\n"
        )
    return text


def prune_text(result: PruneResult, *, dry_run: bool) -> str:
    """How many sites were deleted, and which could not be."""
    what = "old site" if result.count == 1 else "old sites"
    lines = [f"{result.count} {what} {'would be ' if dry_run else ''}deleted from the trash"]
    lines += [f"  {neutralise(name)}  {neutralise(reason)}" for name, reason in result.failed.items()]
    return "".join(f"{line}\n" for line in lines)
