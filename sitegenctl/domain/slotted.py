"""Values of which there are very many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def light(cls: type[T]) -> type[T]:
    """A frozen dataclass like all others, but for Python: only the type checker sees that nothing is assigned to it.

    Python freezes at the cost of one call for each field: a sixth of the time that reading a long queue takes.
    """
    return dataclass(kw_only=True, slots=True, unsafe_hash=True)(cls)
