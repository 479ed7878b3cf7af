"""The configured backend: the only place where its name is looked up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sitegenctl.config.backends import BACKENDS
from sitegenctl.config.settings import Settings

if TYPE_CHECKING:
    from sitegenctl.adapters.broker.backend import Backend


def backend_class(name: str) -> type[Backend]:
    """The class that provides the backend of this name."""
    module, _, attribute = BACKENDS[name].provider.partition(":")
    provider: type[Backend] = getattr(import_module(module), attribute)
    return provider


def backend_of(settings: Settings) -> Backend:
    """The configured backend."""
    return backend_class(settings.backend)(settings)
