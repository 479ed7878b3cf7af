"""What the ``backend.py`` of each backend package provides. Adapters are imported when they are first needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings
    from sitegenctl.domain.health.probes import BrokerProbe
    from sitegenctl.domain.health.system import BackendTexts
    from sitegenctl.domain.ports import EventSource, QueueBackend, WorkerSource


class Backend(ABC):
    """One kind of queue, with these settings.

    ``container`` is the one that the system's own worker runs in, ``beat_container`` that of its beat, if it has one.
    ``worker`` is the module whose ``run_worker`` runs the reference worker, ``samples`` the module that seeds the
    demo's queue (``SampleQueue``): both are above the adapters, and imported by name.
    """

    container: ClassVar[str]
    beat_container: ClassVar[str | None] = None
    worker: ClassVar[str]
    samples: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Seconds for each call.
        self.timeout = settings.timeout.total_seconds()

    @property
    def url(self) -> str:
        """The broker's URL. Raises ``UsageProblem`` for none, or one with an unknown option."""
        from sitegenctl.adapters.redis.urls import require_redis

        url = self.settings.require_url("redis")
        require_redis(url)
        return url

    @property
    @abstractmethod
    def texts(self) -> BackendTexts:
        """Texts that differ between backends."""

    @abstractmethod
    def require(self) -> None:
        """Raise ``UsageProblem`` where a library that it needs is not installed."""

    @abstractmethod
    def queue(self, closing: AsyncExitStack) -> QueueBackend:
        """The broker and its workers; ``closing`` closes it."""

    @abstractmethod
    def workers(self) -> WorkerSource:
        """The workers alone."""

    @abstractmethod
    def events(self) -> EventSource:
        """The events of tasks and workers."""

    @abstractmethod
    def probe(self) -> BrokerProbe:
        """The doctor's measurements of the broker."""
