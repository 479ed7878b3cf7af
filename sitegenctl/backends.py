"""Which kind of queue it is, as far as it must be known: part of the composition root, and known nowhere above."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sitegenctl.config.settings import Settings

if TYPE_CHECKING:
    from sitegenctl.adapters.celery.options import QueueOptions
    from sitegenctl.adapters.rq.options import RqOptions
    from sitegenctl.domain.health.backend_texts import BackendTexts
    from sitegenctl.domain.health.check import CheckName, WorkerCommands
    from sitegenctl.domain.health.facts import BrokerProbe
    from sitegenctl.domain.ports import EventSource, QueueBackend, WorkerSource


class Backend(Protocol):
    """One kind of queue, as far as it must be known which it is: here, and nowhere above."""

    @property
    def container(self) -> str:
        """What the system's own worker runs in."""
        ...

    @property
    def terms(self) -> BackendTexts:
        """What is said otherwise of it than of another."""
        ...

    @property
    def starts(self) -> WorkerCommands:
        """How its workers are started."""
        ...

    @property
    def checks(self) -> tuple[CheckName, ...]:
        """What a check-up looks at."""
        ...

    def queue(self, closing: AsyncExitStack) -> QueueBackend:
        """The broker and its workers; ``closing`` closes it."""
        ...

    def workers(self) -> WorkerSource:
        """The workers alone."""
        ...

    def events(self) -> EventSource:
        """Where events are heard."""
        ...

    def probe(self) -> BrokerProbe:
        """What a check-up measures the broker with."""
        ...

    def require(self) -> None:
        """Raise ``UsageProblem`` where what it takes isn't installed."""
        ...


@dataclass(frozen=True)
class _Celery:
    settings: Settings
    container: str = "crm-celery-worker"

    @property
    def terms(self) -> BackendTexts:
        from sitegenctl.domain.health.backend_texts import CELERY_TERMS

        return CELERY_TERMS

    @property
    def starts(self) -> WorkerCommands:
        from sitegenctl.domain.health.check import WorkerCommands

        return WorkerCommands()

    @property
    def checks(self) -> tuple[CheckName, ...]:
        from sitegenctl.domain.health.check import CELERY_CHECKS

        return CELERY_CHECKS

    def queue(self, closing: AsyncExitStack) -> QueueBackend:
        from sitegenctl.adapters.celery.queue import CeleryQueue

        queue = CeleryQueue(*self._place, timeout=self._timeout)
        closing.push_async_callback(queue.close)
        return queue

    def workers(self) -> WorkerSource:
        from sitegenctl.adapters.celery.workers import CeleryWorkers

        return CeleryWorkers(*self._place, timeout=self._timeout)

    def events(self) -> EventSource:
        from sitegenctl.adapters.celery.events import CeleryEvents

        return CeleryEvents(*self._place, timeout=self._timeout)

    def probe(self) -> BrokerProbe:
        from sitegenctl.adapters.celery.health import RedisHealth

        return RedisHealth(*self._place, timeout=self._timeout)

    def require(self) -> None:
        """It is always there."""

    @property
    def _place(self) -> tuple[str, QueueOptions]:
        return redis_url(self.settings), queue_options(self.settings)

    @property
    def _timeout(self) -> float:
        return self.settings.timeout.total_seconds()


@dataclass(frozen=True)
class _Rq:
    settings: Settings
    container: str = "crm-rq-worker"

    @property
    def terms(self) -> BackendTexts:
        from sitegenctl.domain.health.backend_texts import RQ_TERMS

        return RQ_TERMS

    @property
    def starts(self) -> WorkerCommands:
        from sitegenctl.domain.health.check import RQ_COMMANDS

        return RQ_COMMANDS

    @property
    def checks(self) -> tuple[CheckName, ...]:
        from sitegenctl.domain.health.check import RQ_CHECKS

        return RQ_CHECKS

    def queue(self, closing: AsyncExitStack) -> QueueBackend:
        from sitegenctl.adapters.rq.queue import RqQueue

        return RqQueue(*self._place, timeout=self._timeout)

    def workers(self) -> WorkerSource:
        from sitegenctl.adapters.rq.workers import RqWorkers

        return RqWorkers(*self._place, timeout=self._timeout)

    def events(self) -> EventSource:
        from sitegenctl.adapters.rq.events import RqEvents

        return RqEvents(*self._place, timeout=self._timeout)

    def probe(self) -> BrokerProbe:
        from sitegenctl.adapters.rq.health import RqHealth

        return RqHealth(*self._place, timeout=self._timeout)

    def require(self) -> None:
        """Raises ``UsageProblem`` where RQ isn't installed."""
        rq_options(self.settings)

    @property
    def _place(self) -> tuple[str, RqOptions]:
        return redis_url(self.settings), rq_options(self.settings)

    @property
    def _timeout(self) -> float:
        return self.settings.timeout.total_seconds()


def backend_of(settings: Settings) -> Backend:
    """The one place where it is asked which backend it is. Raises ``UsageProblem`` where it isn't installed."""
    return _Rq(settings) if settings.backend == "rq" else _Celery(settings)


def rq_options(settings: Settings) -> RqOptions:
    """Which queue and job are ours, as RQ's adapters and the reference worker take it.

    Raises ``UsageProblem`` where RQ isn't installed, or can't be what it is to be: to say so early is better than
    half-way.
    """
    from sitegenctl.adapters.rq.options import RqOptions, require_rq

    require_rq(settings.rq_key_prefix)
    return RqOptions(
        queue=settings.queue,
        task=settings.task,
        prefix=settings.rq_key_prefix,
        serializer=settings.rq_serializer,
        hard_limit=settings.hard_time_limit,
        sentinel_master=settings.sentinel_master,
        sentinel_password=settings.sentinel_password.reveal() if settings.sentinel_password else None,
    )


def redis_url(settings: Settings) -> str:
    """The broker's URL. Raises ``UsageProblem`` for none, or one with an option that nobody knows."""
    from sitegenctl.adapters.redis.urls import require_redis

    url = settings.require_redis_url()
    require_redis(url)
    return url


def queue_options(settings: Settings) -> QueueOptions:
    """Which queue and task are ours, as Celery's adapters take it."""
    from sitegenctl.adapters.celery.options import QueueOptions

    return QueueOptions(
        queue=settings.queue,
        task=settings.task,
        global_keyprefix=settings.global_keyprefix,
        sep=settings.sep,
        priority_steps=settings.priority_steps,
        unacked_key=settings.unacked_key,
        unacked_index_key=settings.unacked_index_key,
        visibility_timeout=settings.visibility_timeout,
        fanout_prefix=settings.fanout_prefix,
        hard_limit=settings.hard_time_limit,
        reconnect_time=settings.reconnect_time,
        sentinel_master=settings.sentinel_master,
        sentinel_password=settings.sentinel_password.reveal() if settings.sentinel_password else None,
    )
