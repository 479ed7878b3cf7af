"""How the orders are when a sequence begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.support.operators import ORDERS
from tests.support.simulated_system import LivingSystem

#: How an order may be when it begins: its status, other facts, and how many messages there are for it.
SITUATIONS: dict[str, tuple[str, dict[str, Any], int]] = {
    "left behind": ("GENERATING", {}, 1),
    "begun and left behind": ("GENERATING", {"steps": ["START"], "files": 2}, 1),
    "ready": ("BUILDING", {}, 0),
    "held": ("BUILDING", {"steps": ["OPERATOR_CANCEL"]}, 0),
    "not ready": ("BUILDING", {"onboarding": "partial"}, 0),
    "queued": ("GENERATING", {}, 1),
    "queued twice": ("GENERATING", {}, 2),
    "lost": ("GENERATING", {}, 0),
    "failed": ("GENERATING", {"steps": ["START", "ERROR"], "files": 3}, 0),
    "failed too often": ("GENERATING", {"steps": ["START", "ERROR"] * 3}, 0),
    "cut short": ("GENERATING", {"steps": ["START"], "files": 2}, 0),
    "cut short late": ("GENERATING", {"steps": ["START"], "files": 6}, 0),
    "blocked": ("GENERATING", {"onboarding": "missing"}, 0),
    "cancelled": ("CANCELLED", {}, 1),
}
situation = st.sampled_from([*SITUATIONS, "lost", "failed", "cut short"])


def begin(system: LivingSystem, situations: Sequence[str]) -> None:
    """Empty the system, and put these orders there, after two that are finished."""
    system.empty()
    for order_id, status in ((1, "REVIEW"), (2, "DELIVERED")):
        system.order(order_id, status, steps=["START", "SUCCESS"])
        system.make_site(order_id)
    for order_id, name in zip(ORDERS[2:], situations, strict=True):
        status, facts, messages = SITUATIONS[name]
        system.order(order_id, status, **facts)
        for _ in range(messages):
            system.send(order_id)
        if name.endswith("left behind"):
            system.leave_behind(order_id)
