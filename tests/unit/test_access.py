from __future__ import annotations

from dataclasses import replace

import pytest

from sitegenctl.domain.health.access import ColumnAccess, Obstacle, granted, why_not_readable, why_not_writable
from sitegenctl.domain.orders.order import OrderStatus
from tests.support.values import FULL_ACCESS, PRIVILEGES, columns


def obstacle_with(table: str, column: str, access: ColumnAccess | None) -> Obstacle | None:
    """What is in the way where this column is different, or missing."""
    known = columns()
    known[table].pop(column)
    if access is not None:
        known[table][column] = access
    return why_not_writable(replace(FULL_ACCESS, columns=known))


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
    assert message in obstacle.message
    assert not obstacle.is_refusal


@pytest.mark.parametrize("change", [{"in_recovery": True}, {"is_read_only": True}])
def test_copy_is_not_authoritative(change: dict[str, object]) -> None:
    assert not replace(FULL_ACCESS, **change).is_authoritative


@pytest.mark.parametrize("kind", ["text", "character varying"])
def test_status_may_be_a_text(kind: str) -> None:
    assert obstacle_with("site_orders", "status", ColumnAccess(type=kind, privileges=PRIVILEGES)) is None


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
    obstacle = obstacle_with(table, column, access)
    assert message in obstacle.message
    assert (obstacle.is_refusal, obstacle.is_schema) == (True, True)


def test_missing_table() -> None:
    known = columns()
    del known["site_onboardings"]
    obstacle = why_not_writable(replace(FULL_ACCESS, columns=known))
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
    obstacle = obstacle_with(table, column, replace(columns()[table][column], privileges=PRIVILEGES - {privilege}))
    assert obstacle.hint == grant
    assert (obstacle.is_refusal, obstacle.is_schema) == (True, False)


@pytest.mark.parametrize(
    ("table", "privilege", "message", "summary"),
    [
        (
            "site_onboardings",
            "SELECT",
            "may not read site_onboardings: it lacks SELECT ON site_onboardings",
            "may read site_orders, site_generation_logs; change site_orders, site_generation_logs",
        ),
        (
            "site_orders",
            "UPDATE",
            "may not change site_orders: it lacks UPDATE (status, updated_at) ON site_orders",
            "may read site_orders, site_onboardings, site_generation_logs; change site_generation_logs",
        ),
        (
            "site_generation_logs",
            "INSERT",
            "may not change site_generation_logs: it lacks INSERT (order_id, step, message, status, details)",
            "may read site_orders, site_onboardings, site_generation_logs; change site_orders",
        ),
    ],
)
def test_tables_without_grants_are_named(table: str, privilege: str, message: str, summary: str) -> None:
    known = columns()
    known[table] = {name: replace(column, privileges=PRIVILEGES - {privilege}) for name, column in known[table].items()}
    access = replace(FULL_ACCESS, columns=known)
    assert f"role crm_user {message}" in why_not_writable(access).message
    assert (why_not_readable(access) is None) is (privilege != "SELECT")
    assert granted(access) == f"role crm_user {summary}"


def test_sequence_that_may_not_be_used() -> None:
    access = replace(columns()["site_generation_logs"]["id"], sequence="logs_id_seq")
    obstacle = obstacle_with("site_generation_logs", "id", access)
    assert obstacle.hint == "GRANT USAGE ON SEQUENCE logs_id_seq TO crm_user"


def test_unwritten_tables_need_no_grant() -> None:
    access = replace(columns()["site_orders"]["admin_notes"], privileges=frozenset({"SELECT"}))
    assert obstacle_with("site_orders", "admin_notes", access) is None
