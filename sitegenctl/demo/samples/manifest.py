"""The manifest of a seeding: the condition of every sample order. Tests take it as the ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SCHEMA = "sitegenctl-demo-manifest/1"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What was seeded.

    ``conditions`` maps the name of each condition to the ids of its orders, ascending; under ``ghost`` also the id of
    an order that does not exist. ``notes`` says for some conditions when exactly they hold. ``foreign`` is the number
    of messages in the queue that belong to no order.
    """

    orders: int
    seed: int
    foreign: int
    conditions: Mapping[str, Sequence[int]]
    notes: Mapping[str, str] = field(default_factory=dict)

    def condition_of(self, order_id: int) -> str:
        """Return the condition of an order. Raises ``KeyError`` for an order that was not seeded."""
        for condition, order_ids in self.conditions.items():
            if order_id in order_ids:
                return condition
        raise KeyError(order_id)

    def to_json(self) -> str:
        """Return the manifest as a JSON document with one line per condition."""
        rows = [f"  {json.dumps(name)}: {json.dumps(list(ids))}" for name, ids in self.conditions.items()]
        entries = {
            "schema": json.dumps(_SCHEMA),
            "orders": str(self.orders),
            "seed": str(self.seed),
            "foreign": str(self.foreign),
            "conditions": "{\n" + ",\n".join(rows) + "\n }",
            "notes": json.dumps(dict(self.notes), indent=2),
        }
        return "{\n" + ",\n".join(f' "{key}": {value}' for key, value in entries.items()) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest. Raises ``ValueError`` for anything else."""
        document = json.loads(text)
        if not isinstance(document, dict) or document.pop("schema", None) != _SCHEMA:
            raise ValueError("not a manifest of sample orders")
        conditions = {name: tuple(ids) for name, ids in document["conditions"].items()}
        return cls(**{**document, "conditions": conditions})
