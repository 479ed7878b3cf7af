"""Why orders can't be changed in a database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitegenctl.domain.health.access import ColumnAccess, why_not_writable
from sitegenctl.domain.orders.order import OrderStatus
from tests.support.access import FULL_ACCESS, PRIVILEGES, columns


def test_nothing_is_in_the_way_of_full_access() -> None:
    assert why_not_writable(FULL_ACCESS) is None
    assert FULL_ACCESS.is_authoritative


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_recovery": True}, "the database is a standby"),
        ({"is_read_only": True}, "read-only for role crm_user"),
        ({"hidden": ("site_orders", "site_onboardings")}, "hides rows of site_orders and site_onboardings"),
    ],
)
def test_server_that_would_not_do(change: dict[str, object], message: str) -> None:
    obstacle = why_not_writable(replace(FULL_ACCESS, **change))
    assert obstacle is not None
    assert message in obstacle.message
    assert not obstacle.is_refusal


@pytest.mark.parametrize("change", [{"in_recovery": True}, {"is_read_only": True}])
def test_copy_is_not_authoritative(change: dict[str, object]) -> None:
    assert not replace(FULL_ACCESS, **change).is_authoritative


@pytest.mark.parametrize("kind", ["text", "character varying"])
def test_status_may_be_a_text(kind: str) -> None:
    known = columns()
    known["site_orders"]["status"] = ColumnAccess(type=kind, privileges=PRIVILEGES)
    assert why_not_writable(replace(FULL_ACCESS, columns=known)) is None


@pytest.mark.parametrize(
    ("table", "column", "access", "message"),
    [
        ("site_orders", "updated_at", None, "site_orders has no column updated_at"),
        ("site_orders", "updated_at", ColumnAccess(type="date"), "site_orders.updated_at is date"),
        ("site_orders", "id", ColumnAccess(type="uuid"), "site_orders.id is uuid"),
        ("site_orders", "status", ColumnAccess(type="integer"), "site_orders.status is integer"),
        (
            "site_orders",
            "status",
            ColumnAccess(type="state", labels=tuple(OrderStatus)[1:]),
            "enum state lacks the label PENDING_PAYMENT",
        ),
        ("site_generation_logs", "details", ColumnAccess(type="text"), "site_generation_logs.details is text"),
    ],
)
def test_schema_that_is_not_understood(table: str, column: str, access: ColumnAccess | None, message: str) -> None:
    known = columns()
    if access is None:
        del known[table][column]
    else:
        known[table][column] = access
    obstacle = why_not_writable(replace(FULL_ACCESS, columns=known))
    assert obstacle is not None
    assert message in obstacle.message
    assert (obstacle.is_refusal, obstacle.is_schema) == (True, True)


def test_missing_table() -> None:
    known = columns()
    del known["site_onboardings"]
    obstacle = why_not_writable(replace(FULL_ACCESS, columns=known))
    assert obstacle is not None
    assert "there is no table site_onboardings" in obstacle.message


@pytest.mark.parametrize(
    ("table", "column", "privilege", "grant"),
    [
        ("site_orders", "status", "UPDATE", "GRANT UPDATE (status) ON site_orders TO crm_user"),
        ("site_orders", "admin_notes", "SELECT", "GRANT SELECT (admin_notes) ON site_orders TO crm_user"),
        ("site_generation_logs", "details", "INSERT", "GRANT INSERT (details) ON site_generation_logs TO crm_user"),
    ],
)
def test_missing_grant(table: str, column: str, privilege: str, grant: str) -> None:
    known = columns()
    known[table][column] = replace(known[table][column], privileges=PRIVILEGES - {privilege})
    obstacle = why_not_writable(replace(FULL_ACCESS, columns=known))
    assert obstacle is not None
    assert obstacle.hint == grant
    assert (obstacle.is_refusal, obstacle.is_schema) == (True, False)


def test_sequence_that_may_not_be_used() -> None:
    known = columns()
    known["site_generation_logs"]["id"] = replace(known["site_generation_logs"]["id"], sequence="logs_id_seq")
    obstacle = why_not_writable(replace(FULL_ACCESS, columns=known))
    assert obstacle is not None
    assert obstacle.hint == "GRANT USAGE ON SEQUENCE logs_id_seq TO crm_user"


def test_unwritten_tables_need_no_grant() -> None:
    known = columns()
    known["site_orders"]["admin_notes"] = replace(known["site_orders"]["admin_notes"], privileges=frozenset({"SELECT"}))
    assert why_not_writable(replace(FULL_ACCESS, columns=known)) is None
