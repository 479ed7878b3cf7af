"""What a role may do in the orders database, and why it could not change orders there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.orders.order import OrderStatus

_INTEGER = frozenset({"smallint", "integer", "bigint"})
_TEXT = frozenset({"text", "character varying", "character", "citext"})
_TIME = frozenset({"timestamp without time zone", "timestamp with time zone"})
_JSON = frozenset({"json", "jsonb"})
_BOOLEAN = frozenset({"boolean"})

#: Columns that the console cannot do without, and the types that it understands.
NEEDED_COLUMNS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "site_orders": {
        "id": _INTEGER,
        "customer_name": _TEXT,
        "customer_email": _TEXT,
        "status": _TEXT,  # or an enum with all labels
        "site_url": _TEXT,
        "admin_notes": _TEXT,
        "created_at": _TIME,
        "updated_at": _TIME,
        "onboarding_completed_at": _TIME,
    },
    "site_onboardings": {"order_id": _INTEGER, "is_complete": _BOOLEAN, "business_name": _TEXT},
    "site_generation_logs": {
        "id": _INTEGER,
        "order_id": _INTEGER,
        "step": _TEXT,
        "message": _TEXT,
        "status": _TEXT,
        "details": _JSON,
        "created_at": _TIME,
    },
}

#: Columns of ``site_orders`` that due dates are made from, where they are there, readable and of these types.
PROMISE_COLUMNS: Mapping[str, frozenset[str]] = {
    "expected_delivery_date": _TIME | {"date"},
    "delivery_days": _INTEGER,
    "paid_at": _TIME | {"date"},
    "delivered_at": _TIME | {"date"},
    "actual_delivery_date": _TIME | {"date"},
}

_UPDATED = {"site_orders": ("status", "updated_at")}
_INSERTED = {"site_generation_logs": ("order_id", "step", "message", "status", "details")}


@dataclass(frozen=True, kw_only=True)
class ColumnAccess:
    """A column of a table, and the role's SELECT, INSERT and UPDATE privileges on it."""

    type: str
    labels: tuple[str, ...] | None = None  # of an enum
    privileges: frozenset[str] = frozenset()
    sequence: str | None = None  # the one that numbers the column, if the role may not use it


@dataclass(frozen=True, kw_only=True)
class DatabaseAccess:
    """The server's state and what ``role`` may do; row-level security hides rows of the ``hidden`` tables from it."""

    role: str
    in_recovery: bool = False
    is_read_only: bool = False
    hidden: tuple[str, ...] = ()
    columns: Mapping[str, Mapping[str, ColumnAccess]] = field(default_factory=dict)

    @property
    def is_authoritative(self) -> bool:
        """Whether a row that is missing here does not exist: a standby may lag."""
        return not (self.in_recovery or self.is_read_only)

    @property
    def promise_columns(self) -> Mapping[str, str]:
        """The types of those ``PROMISE_COLUMNS`` that are usable; none if no due date can be made from them."""
        known = self.columns.get("site_orders", {})
        usable = {
            name: known[name].type
            for name, types in PROMISE_COLUMNS.items()
            if name in known and known[name].type in types and "SELECT" in known[name].privileges
        }
        is_enough = "expected_delivery_date" in usable or {"delivery_days", "paid_at"} <= usable.keys()
        return usable if is_enough else {}


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why orders can't be changed; no other server helps with a ``is_refusal``, and ``is_schema`` is about tables."""

    message: str
    hint: Hint
    is_refusal: bool = False
    is_schema: bool = False


def why_not_readable(access: DatabaseAccess) -> Obstacle | None:
    """The first reason why not all orders can be read in this database; None if they can."""
    if access.hidden:
        return hidden_rows(access.role, access.hidden)
    return schema_obstacle(access) or _without_grants(access, {"SELECT"})


def why_not_writable(access: DatabaseAccess) -> Obstacle | None:
    """The first reason why orders can't be changed in this database; None if they can."""
    if access.in_recovery:
        return Obstacle(
            message="the database is a standby, which takes no writes and may lag",
            hint="point DATABASE_URL at the primary",
        )
    if access.is_read_only:
        return Obstacle(
            message=f"the database refuses writes: it is read-only for role {access.role}"
            " (default_transaction_read_only is on)",
            hint="point DATABASE_URL at the primary, or turn the setting off for the role, the database or the server",
        )
    if access.hidden:
        return hidden_rows(access.role, access.hidden)
    return schema_obstacle(access) or _without_grants(access, {"SELECT", "INSERT", "UPDATE", "USAGE"})


def _without_grants(access: DatabaseAccess, privileges: Collection[str]) -> Obstacle | None:
    """Which tables the role may not read and not change, for want of these privileges."""
    missing = [grant for grant in missing_grants(access) if grant.privilege in privileges]
    if not missing:
        return None
    verbs = {
        verb: dict.fromkeys(grant.table for grant in missing if (grant.privilege == "SELECT") is (verb == "read"))
        for verb in ("read", "change")
    }
    refused = " and ".join(f"may not {verb} {', '.join(tables)}" for verb, tables in verbs.items() if tables)
    return Obstacle(
        message=f"role {access.role} {refused}: it lacks {', '.join(map(str, missing))}",
        hint="; ".join(f"GRANT {grant} TO {access.role}" for grant in missing),
        is_refusal=True,
    )


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A privilege that is needed for a table: on some columns, on the whole table, or on its sequence."""

    table: str
    privilege: str
    columns: tuple[str, ...] = ()  # none for the whole table
    sequence: str | None = None

    def __str__(self) -> str:
        if self.sequence is not None:
            return f"USAGE ON SEQUENCE {self.sequence}"
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{self.privilege}{columns} ON {self.table}"


def missing_grants(access: DatabaseAccess) -> list[Grant]:
    """What the role lacks to read and change orders; for tables whose schema is understood."""
    grants = []
    for table, columns in NEEDED_COLUMNS.items():
        known = access.columns[table]
        for privilege, names in (
            ("SELECT", tuple(columns)),
            ("UPDATE", _UPDATED.get(table, ())),
            ("INSERT", _INSERTED.get(table, ())),
        ):
            missing = tuple(name for name in names if privilege not in known[name].privileges)
            is_whole = privilege == "SELECT" and missing == names
            if missing:
                grants.append(Grant(table=table, privilege=privilege, columns=() if is_whole else missing))
        if table in _INSERTED:
            grants += [
                Grant(table=table, privilege="USAGE", sequence=column.sequence)
                for column in known.values()
                if column.sequence is not None
            ]
    return grants


def granted(access: DatabaseAccess) -> str:
    """Which tables the role may read and change, as in ``crm_user may read … and change …``."""
    missing = missing_grants(access)
    may: dict[str, list[str]] = {"read": [], "change": []}
    for table in NEEDED_COLUMNS:
        lacks = {grant.privilege for grant in missing if grant.table == table}
        if "SELECT" not in lacks:
            may["read"].append(table)
        if table in (*_UPDATED, *_INSERTED) and not lacks - {"SELECT"}:
            may["change"].append(table)
    return f"role {access.role} may " + "; ".join(
        f"{verb} {', '.join(tables) or 'nothing'}" for verb, tables in may.items()
    )


def schema_obstacle(access: DatabaseAccess) -> Obstacle | None:
    """The tables and columns that are missing or have other types; None if there are none."""
    problems = _schema_problems(access)
    if not problems:
        return None
    return Obstacle(
        message=f"the schema of the database is not understood: {'; '.join(problems)}",
        hint=Remedy.run(
            Command.DOCTOR,
            advice="check for missing migrations or a newer release; to compare it with the contract",
        ),
        is_refusal=True,
        is_schema=True,
    )


def hidden_rows(role: str, tables: tuple[str, ...]) -> Obstacle:
    """Row-level security hides rows of these tables from this role."""
    return Obstacle(
        message=f"row-level security hides rows of {' and '.join(tables) or 'a table'} from role {role}",
        hint=f"ALTER ROLE {role} BYPASSRLS, or connect as a role that may see every row",
    )


def _schema_problems(access: DatabaseAccess) -> list[str]:
    problems = []
    for table, needed in NEEDED_COLUMNS.items():
        columns = access.columns.get(table)
        if not columns:
            problems.append(f"there is no table {table}")
            continue
        for name, types in needed.items():
            column = columns.get(name)
            if column is None:
                problems.append(f"{table} has no column {name}")
            elif (table, name) == ("site_orders", "status") and column.labels is not None:
                missing = [status for status in OrderStatus if status not in column.labels]
                if missing:
                    problems.append(f"enum {column.type} lacks the label {' and '.join(missing)}")
            elif column.type not in types:
                problems.append(f"{table}.{name} is {column.type}")
    return problems
