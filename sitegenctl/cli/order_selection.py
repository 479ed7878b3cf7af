"""Reading which orders a command line selects: numbers, ranges, files, or a query."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID
from sitegenctl.errors import UsageProblem

#: The largest number of orders in one call; more is a typing error.
MAX_ORDERS = 1_000_000

# Enough for MAX_ORDERS of the longest numbers.
_MAX_TEXT = 32 << 20
_CHUNK = 1 << 16

_SEPARATORS = re.compile(r"[\s,]+")


def read_order_ids(arguments: Sequence[str] | None, source: Path | None) -> list[int]:
    """Read order numbers from arguments and a file, each once, in the order given.

    Raises ``UsageProblem`` for the first word that is not an order number, and if there is no number.
    """
    ids = dict.fromkeys(_numbers((word, word) for argument in arguments or () for word in _SEPARATORS.split(argument)))
    if source is not None:
        before = len(ids)
        ids.update(dict.fromkeys(_numbers(_words_of(source))))
        if len(ids) == before:
            raise UsageProblem(f"{_name(source)} contains no order numbers")
    if not ids:
        raise UsageProblem(
            "no orders selected", hint="give order numbers such as 42 or 40-45, --from FILE or --condition"
        )
    return list(ids)


def read_statuses(words: Sequence[str] | None) -> frozenset[OrderStatus]:
    """Read statuses in upper or lower case. Raises ``UsageProblem`` for the first word that is not a status."""
    statuses = set()
    for word in words or ():
        label = word.upper().replace("-", "_")
        if label not in OrderStatus.__members__:
            known = ", ".join(status.lower() for status in OrderStatus)
            raise UsageProblem(f"{word} is not a status", hint=f"one of: {known}")
        statuses.add(OrderStatus(label))
    return frozenset(statuses)


def _words_of(source: Path) -> Iterator[tuple[str, str]]:
    try:
        if str(source) == "-":
            text = _read(sys.stdin, source)
        else:
            with source.open(encoding="utf-8-sig") as file:
                text = _read(file, source)
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{_name(source)} is not a text file") from exc
    except OSError as exc:
        raise UsageProblem(f"{_name(source)} cannot be read: {exc.strerror}") from exc
    for number, line in enumerate(text.splitlines(), 1):
        for word in _SEPARATORS.split(line.partition("#")[0]):
            yield word, f"{_name(source)}, line {number}: {word}"


def _read(file: TextIO, source: Path) -> str:
    """The whole text. Raises ``UsageProblem`` as soon as it is too long, also for a pipe without end."""
    chunks: list[str] = []
    lines = 0
    while chunk := file.read(_CHUNK):
        chunks.append(chunk)
        lines += chunk.count("\n")
        if lines > MAX_ORDERS or len(chunks) * _CHUNK > _MAX_TEXT:
            raise UsageProblem(
                f"{_name(source)} is too long: at most {MAX_ORDERS} lines and {_MAX_TEXT >> 20} MiB in one call"
            )
    return "".join(chunks)


def _name(source: Path) -> str:
    return "stdin" if str(source) == "-" else str(source)


def _numbers(words: Iterable[tuple[str, str]]) -> Iterator[int]:
    count = 0
    for word, where in words:
        if not word:
            continue
        match = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", word, re.ASCII)
        if match is None:
            raise UsageProblem(f"{where} is not an order number", hint="orders look like 42 or 40-45")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first == 0:
            raise UsageProblem(f"{where} is not an order number: the smallest is 1")
        if max(first, last) > MAX_ORDER_ID:
            raise UsageProblem(f"{where} is not an order number: the largest is {MAX_ORDER_ID}")
        if last < first:
            raise UsageProblem(f"{where} is a reversed range", hint=f"did you mean {last}-{first}?")
        count += last - first + 1
        if count > MAX_ORDERS:
            raise UsageProblem(f"{where}: more than {MAX_ORDERS} orders in one call")
        yield from range(first, last + 1)
