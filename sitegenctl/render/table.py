"""Text tables that fit the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sitegenctl.domain.diagnosis.condition import Severity
from sitegenctl.render.text import shorten

#: Ids and names are cut to this width: those of a UUID, an address and most businesses are shorter.
MAX_NAME = 60

#: Reasons are cut to this width; what explains one order has them whole.
MAX_REASON = 300

#: Colours by severity.
SEVERITY_STYLES = {Severity.FAULT: "red", Severity.UNKNOWN: "yellow", Severity.OK: ""}


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The size of the output in columns and lines, and whether it shows colours."""

    width: int
    colour: bool
    height: int = sys.maxsize


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table; ``may_shrink`` cuts it where space is short, and narrower screens omit it.

    Cells are cut to ``most`` columns, also where the screen is wider or there is none.
    """

    heading: str
    number: bool = False
    may_shrink: bool = False
    from_width: int = 0
    most: int = MAX_NAME


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of cells, coloured by its severity."""

    cells: Sequence[str]
    severity: Severity = Severity.OK


def table(columns: Sequence[Column], lines: Sequence[Line], screen: Screen, *, indent: int = 0) -> str:
    """The table; every cell is neutralised here."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim" if screen.colour else "")
    kept = [index for index, column in enumerate(columns) if screen.width >= column.from_width]
    cells = [[shorten(line.cells[index], columns[index].most) for index in kept] for line in lines]
    for place, index in enumerate(kept):
        column = columns[index]
        widest = max((cell_len(row[place]) for row in cells), default=0)
        shown.add_column(
            column.heading,
            justify="right" if column.number else "left",
            # Rich shrinks only columns that may wrap; the cells prevent wrapping.
            no_wrap=not column.may_shrink,
            min_width=4 if column.may_shrink else max(widest, cell_len(column.heading)),
        )
    for line, row in zip(lines, cells, strict=True):
        style = SEVERITY_STYLES[line.severity]
        shown.add_row(*(Text(cell, style=style, no_wrap=True, overflow="ellipsis") for cell in row))
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=screen.width,
        force_terminal=screen.colour,
        color_system="standard" if screen.colour else None,
        highlight=False,
    )
    console.print(Padding(shown, (0, 0, 0, indent), expand=False))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def coloured(text: str, severity: Severity, screen: Screen) -> str:
    """The text in the colour of its severity, where the screen shows colours."""
    codes = {Severity.FAULT: "31", Severity.UNKNOWN: "33"}
    if not screen.colour or severity not in codes:
        return text
    return f"\x1b[{codes[severity]}m{text}\x1b[0m"
