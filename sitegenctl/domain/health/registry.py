"""The registry of checks. A check belongs to the module of its facts; the order here is that of the report."""

from __future__ import annotations

from sitegenctl.domain.health import files, messages, orders, postgres, redis, workers
from sitegenctl.domain.health.check import Definition

CHECKS: tuple[Definition, ...] = tuple(
    each
    for module in (redis, postgres, workers, messages, orders, files)
    for each in vars(module).values()
    if isinstance(each, Definition)
)


def checks_of(backend: str, *, quick: bool = False) -> tuple[Definition, ...]:
    """The checks of a backend, or only the quick ones."""
    return tuple(
        check
        for check in CHECKS
        if (check.quick or not quick) and (check.backends is None or backend in check.backends)
    )
