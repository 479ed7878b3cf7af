"""Orders as people name them: numbers, ranges, files, or by what they are. All is read before anything is done."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sitegenctl.domain.diagnosis.condition import Condition
from sitegenctl.domain.diagnosis.listing import OrderFilter, OrderQuery, SortBy
from sitegenctl.domain.orders.order import MAX_ORDER_ID, OrderStatus
from sitegenctl.errors import UsageProblem

#: More orders than this in one call is a slip of the finger.
MAX_ORDERS = 1_000_000


def read_order_ids(arguments: Sequence[str] | None, source: Path | None) -> list[int]:
    """Read the orders named by arguments and file, each once, in the order given.

    Raises ``UsageProblem`` for the first word that is no order number, and when no order is named at all.
    """
    ids = dict.fromkeys(_numbers((word, word) for argument in arguments or () for word in _words(argument)))
    if source is not None:
        before = len(ids)
        ids.update(dict.fromkeys(_numbers(_words_of(source))))
        if len(ids) == before:
            raise UsageProblem(f"{_name(source)} names no order")
    if not ids:
        raise UsageProblem(
            "no order given", hint="give order numbers, such as 42 or 40-45, or --from FILE, or --condition"
        )
    return list(ids)


def read_statuses(words: Sequence[str] | None) -> frozenset[OrderStatus]:
    """Read statuses in upper or lower case. Raises ``UsageProblem`` for the first word that is none."""
    found = set()
    for word in words or ():
        label = word.upper().replace("-", "_")
        if label not in OrderStatus.__members__:
            known = ", ".join(status.lower() for status in OrderStatus)
            raise UsageProblem(f"{word} is not a status", hint=f"one of: {known}")
        found.add(OrderStatus(label))
    return frozenset(found)


def read_choice(
    arguments: Sequence[str] | None,
    source: Path | None,
    conditions: Sequence[Condition] | None,
    statuses: Sequence[str] | None,
    search: str | None,
) -> list[int] | OrderQuery:
    """Read which orders are meant: by number, or (all there are) by what they are.

    Raises ``UsageProblem`` when neither is given, or both.
    """
    by_number = bool(arguments) or source is not None
    by_kind = bool(conditions or statuses) or search is not None
    if by_number and by_kind:
        raise UsageProblem("orders are named by number or by --condition, --status and --search, not both")
    if not by_kind:
        return read_order_ids(arguments, source)
    return OrderQuery(
        filter=OrderFilter(statuses=read_statuses(statuses), search=search),
        conditions=frozenset(conditions or ()),
        sort=SortBy.ID,
        limit=MAX_ORDERS,
    )


def read_restriction(
    arguments: Sequence[str] | None,
    source: Path | None,
    conditions: Sequence[Condition] | None,
    statuses: Sequence[str] | None,
    search: str | None,
) -> list[int] | OrderQuery | None:
    """Read to which orders a command keeps that chooses them by itself; None is to none in particular.

    Raises ``UsageProblem`` as ``read_choice`` does.
    """
    if not arguments and source is None and not conditions and not statuses and search is None:
        return None
    return read_choice(arguments, source, conditions, statuses, search)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


def _words_of(source: Path) -> Iterator[tuple[str, str]]:
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageProblem(f"{_name(source)} is not a text file") from exc
    except OSError as exc:
        raise UsageProblem(f"{_name(source)} can't be read: {exc.strerror}") from exc
    for number, line in enumerate(text.splitlines(), 1):
        for word in _words(line.partition("#")[0]):
            yield word, f"{_name(source)}, line {number}: {word}"


def _name(source: Path) -> str:
    return "stdin" if str(source) == "-" else str(source)


def _numbers(words: Iterable[tuple[str, str]]) -> Iterator[int]:
    count = 0
    for word, where in words:
        match = re.fullmatch(r"(\d{1,20})(?:-(\d{1,20}))?", word, re.ASCII)
        if match is None:
            raise UsageProblem(f"{where} is not an order number", hint="orders look like 42 or 40-45")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first == 0:
            raise UsageProblem(f"{where} is not an order number: they begin at 1")
        if max(first, last) > MAX_ORDER_ID:
            raise UsageProblem(f"{where} is not an order number: the largest is {MAX_ORDER_ID}")
        if last < first:
            raise UsageProblem(f"{where} runs backwards", hint=f"did you mean {last}-{first}?")
        count += last - first + 1
        if count > MAX_ORDERS:
            raise UsageProblem(f"{where}: more than {MAX_ORDERS} orders in one call")
        yield from range(first, last + 1)
