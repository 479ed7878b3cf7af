"""A decorator for values that exist in very large numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def slotted(cls: type[T]) -> type[T]:
    """Make a dataclass with slots that only the type checker treats as frozen.

    Freezing at run time costs a call for each field: a sixth of the time that it takes to read a long queue.
    """
    return dataclass(kw_only=True, slots=True, unsafe_hash=True)(cls)
