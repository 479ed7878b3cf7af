"""Ids of operations, and operations read from journal rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sitegenctl.domain.orders.operation import (
    EntryOutcome,
    OperationKind,
    began_at,
    is_operation_id,
    journal_row,
    new_operation_id,
    operations_of,
)
from sitegenctl.domain.orders.order import LogRow

NOW = datetime(2026, 12, 1, 3, 20, 59, tzinfo=UTC)


def row(log_id: int, order_id: int, step: str = "OPERATOR_ENQUEUE", details: Any = None) -> LogRow:
    return LogRow(
        log_id=log_id, order_id=order_id, step=step, message="Enqueued; by ana@crm", status="info",
        created_at=NOW.replace(tzinfo=None), details=details,
    )  # fmt: skip


def test_id_has_its_time_and_sorts_by_it() -> None:
    ids = [new_operation_id(NOW + timedelta(seconds=each)) for each in range(50)]
    assert ids == sorted(ids)
    assert len({*ids, *(new_operation_id(NOW) for _ in range(20))}) > 60
    assert [began_at(each) for each in ids] == [NOW + timedelta(seconds=each) for each in range(50)]


@pytest.mark.parametrize("text", ["42", "40-45", "1049", "1v3k8q2", "1v3k8q2-x7", "1V3K8Q2-X7M", "1v3k8q2-x7l", ""])
def test_order_numbers_are_no_operation_ids(text: str) -> None:
    assert not is_operation_id(text)
    assert is_operation_id(new_operation_id(NOW))


@pytest.mark.parametrize(
    "details",
    [None, "text", 5, [], {}, {"operation": 5, "revoked": "x"}, {"revoked": [None, {"task_id": 1}], "actor": []}],
)
def test_details_of_any_shape_are_read(details: Any) -> None:
    read = journal_row(row(1, 42, details=details))
    assert read is not None
    assert (read.operation, read.revoked, read.actor) == (None, (), None)
    assert journal_row(row(1, 42, step="START", details=details)) is None


def test_rows_are_grouped_and_rollbacks_are_matched() -> None:
    one, two = ({"operation": each, "command": "enqueue", "actor": "ana", "host": "crm"} for each in ("a", "b"))
    rows = [
        row(1, 42, details=one),
        row(2, 43, details=one),
        row(3, 42, details={**two, "command": "maintain"}),
        row(4, 43, "OPERATOR_ENQUEUE_FAILED", one),
        row(5, 44),
        row(6, 45),
    ]
    found = operations_of([each for each in map(journal_row, rows) if each is not None])
    assert [(each.operation_id, each.log_id, [entry.order_id for entry in each.entries]) for each in found] == [
        ("a", 1, [42, 43]), ("b", 3, [42]), (None, 5, [44]), (None, 6, [45]),
    ]  # fmt: skip
    assert [entry.outcome for entry in found[0].entries] == [EntryOutcome.DONE, EntryOutcome.ROLLED_BACK]
    assert [each.kind for each in found[:2]] == [OperationKind.OPERATOR, OperationKind.MAINTENANCE]
    assert found[0].entries[0].row.reason == "Enqueued"
