"""Orders out of the rows that ``order_queries`` asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg

from sitegenctl.domain.orders.order import JournalEntry, Onboarding, Order, OrderStatus
from sitegenctl.domain.orders.run import Announcement, read_history

# Enum's own look-up takes as long as all the rest of an order.
_STATUSES: Mapping[str | None, OrderStatus] = {status.value: status for status in OrderStatus}


def order_of(row: asyncpg.Record) -> Order:
    """The order of a row."""
    status = status_of(row["status"])
    journaled = _facts(row["journal_details"])
    if not row["has_onboarding"]:
        onboarding = Onboarding.MISSING
    else:
        onboarding = Onboarding.COMPLETE if row["is_complete"] else Onboarding.PARTIAL
    return Order(
        order_id=row["id"],
        status=status,
        status_label=row["status"] if status is None else None,
        customer_name=row["customer_name"],
        customer_email=row["customer_email"],
        business_name=row["business_name"],
        onboarding=onboarding,
        onboarding_completed_at=row["onboarding_completed_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        site_url=row["site_url"],
        admin_notes=row["admin_notes"],
        idle=row["idle"],
        last_log_id=row["last_log_id"] or 0,
        history=read_history(
            row["steps"] or (),
            row["commands"] or (),
            ages=row["ages"] or (),
            announcement=_announcement(_facts(row["announcement"])),
        ),
        journal=_journal_entry(row["journal_step"], journaled, row["journal_age"]),
        last_error=row["last_error"],
        run_lock_held=row["run_lock_held"],
    )


def status_of(label: str | None) -> OrderStatus | None:
    """The status of this label; None for one that is not known."""
    return _STATUSES.get(label)


def _facts(details: str | None) -> dict[str, Any]:
    try:
        facts = json.loads(details) if details else {}
    except (ValueError, RecursionError):
        # PostgreSQL takes what Python doesn't, such as nesting without end.
        facts = {}
    return facts if isinstance(facts, dict) else {}


def _text(facts: dict[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) else None


def _announcement(facts: dict[str, Any]) -> Announcement:
    return Announcement(task_id=_text(facts, "task_id"), takes_lock=facts.get("run_lock") is True)


def _journal_entry(step: str | None, facts: dict[str, Any], age: timedelta | None) -> JournalEntry | None:
    if step is None:
        return None
    return JournalEntry(
        step=step,
        task_id=_text(facts, "task_id"),
        actor=_text(facts, "actor"),
        resume=facts.get("resume") is not False,
        age=age,
        after=_text(facts, "after"),
    )
