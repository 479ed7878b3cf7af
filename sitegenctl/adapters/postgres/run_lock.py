"""The PostgreSQL advisory lock that a run of the reference worker holds for as long as it lives.

Two keys: a constant that keeps other programs' locks apart, and the order. A free lock proves that a run which takes
one is dead.
"""

from __future__ import annotations

#: First key ("site" in ASCII).
LOCK_SPACE = 0x73697465

#: First key of the lock that the writes of one run share, and that the next run waits for before it begins.
FENCE_SPACE = LOCK_SPACE + 1

_INT4_MAX = 2**31 - 1


def run_lock_key(order_id: int) -> int:
    """Second key, which PostgreSQL limits to 32 bits: the id itself, or below zero for an id that is too large."""
    return order_id if order_id <= _INT4_MAX else order_id % _INT4_MAX - 2**31


#: The second keys of the run locks that are held, as ``pg_locks`` shows them: unsigned.
HELD_RUN_LOCKS = f"""
SELECT objid::bigint FROM pg_locks
 WHERE locktype = 'advisory' AND classid::bigint = {LOCK_SPACE} AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - constants of this module


def unsigned_key(column: str) -> str:
    """SQL for the second key of an order id as ``pg_locks`` shows it; the same as ``run_lock_key``."""
    return f"CASE WHEN {column} <= {_INT4_MAX} THEN {column}::bigint ELSE {column}::bigint % {_INT4_MAX} + {2**31} END"
