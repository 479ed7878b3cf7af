"""The manifest of a seeding: which order was given which condition. Tests take it as the ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SCHEMA = "sitegenctl-demo-manifest/1"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was seeded.

    ``conditions`` maps the name of each condition to the ids of its orders, ascending: every order once, and
    under ``ghost`` also the id of one that doesn't exist. ``notes`` says for some conditions when exactly they
    hold. ``foreign`` is the number of messages in the queue that belong to no order.
    """

    orders: int
    seed: int
    foreign: int
    conditions: Mapping[str, Sequence[int]]
    notes: Mapping[str, str] = field(default_factory=dict)

    def condition_of(self, order_id: int) -> str:
        """The order's condition. Raises ``KeyError`` for an order that was not seeded."""
        for condition, order_ids in self.conditions.items():
            if order_id in order_ids:
                return condition
        raise KeyError(order_id)

    def to_json(self) -> str:
        """The manifest as a JSON document."""
        document = {
            "schema": _SCHEMA,
            "orders": self.orders,
            "seed": self.seed,
            "foreign": self.foreign,
            "conditions": {name: list(order_ids) for name, order_ids in self.conditions.items()},
            "notes": dict(self.notes),
        }
        # A line for each condition: people read it, and a million ids are no place for indentation.
        return _indented(document) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest. Raises ``ValueError`` for anything else."""
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("schema") != _SCHEMA:
            raise ValueError("not a manifest of sample orders")
        return cls(
            orders=document["orders"],
            seed=document["seed"],
            foreign=document["foreign"],
            conditions={name: tuple(ids) for name, ids in document["conditions"].items()},
            notes=document["notes"],
        )


def _indented(document: Mapping[str, Any]) -> str:
    def entries(mapping: Mapping[str, Any], indent: str) -> str:
        inner = f",\n{indent}".join(
            f"{json.dumps(key)}: " + (entries(value, indent + "  ") if isinstance(value, dict) else json.dumps(value))
            for key, value in mapping.items()
        )
        return f"{{\n{indent}{inner}\n{indent[:-2]}}}" if inner else "{}"

    return entries(document, "  ")
