"""What a role may do in a database as the contract has it."""

from __future__ import annotations

from sitegenctl.domain.health.access import NEEDED_COLUMNS, ColumnAccess, DatabaseAccess
from sitegenctl.domain.orders.order import OrderStatus

PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE"})


def columns() -> dict[str, dict[str, ColumnAccess]]:
    """All columns that are needed, of a type that is understood, with every privilege."""
    made = {
        table: {name: ColumnAccess(type=min(types), privileges=PRIVILEGES) for name, types in needed.items()}
        for table, needed in NEEDED_COLUMNS.items()
    }
    made["site_orders"]["status"] = ColumnAccess(
        type="siteorderstatus", labels=tuple(OrderStatus), privileges=PRIVILEGES
    )
    return made


FULL_ACCESS = DatabaseAccess(role="crm_user", columns=columns())
