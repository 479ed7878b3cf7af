"""Everything that the backend ``celery`` provides."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from sitegenctl.adapters.broker.backend import Backend
from sitegenctl.domain.queue.defaults import HARD_LIMIT, SOFT_LIMIT

if TYPE_CHECKING:
    from sitegenctl.adapters.celery.events import CeleryEvents
    from sitegenctl.adapters.celery.health import CeleryHealth
    from sitegenctl.adapters.celery.options import QueueOptions
    from sitegenctl.adapters.celery.queue import CeleryQueue
    from sitegenctl.adapters.celery.workers import CeleryWorkers
    from sitegenctl.domain.health.system import BackendTexts


class CeleryBackend(Backend):
    """Celery on its Redis transport."""

    container = "crm-celery-worker"
    beat_container = "crm-celery-beat"
    worker = "sitegenctl.worker.celery_app"
    samples = "sitegenctl.demo.samples.celery_tasks"

    @property
    def texts(self) -> BackendTexts:
        from sitegenctl.domain.health.system import BackendTexts

        return BackendTexts(
            paused="a worker that starts or restarts consumes again: pause it too. Workers finish their tasks.",
            resumed=(
                "a worker that was started for other queues now consumes this one, too, until it restarts; one of"
                " celery 5.3 that lost its connection to Redis no longer consumes: restart it."
            ),
            unattended="no worker responds to remote control: nothing to do",
            silence="it hangs or is paused, or it runs with -P solo and is in the middle of a task",
            patience="--timeout gives it longer",
            consuming="--queues={queue}",
            limits=(
                f"set task_soft_time_limit={SOFT_LIMIT} and task_time_limit={HARD_LIMIT} in the worker's app, and"
                " restart it"
            ),
            serialization="set task_serializer='json' in the program that publishes them",
            unreadable="workers that accept only JSON drop them",
        )

    @property
    def options(self) -> QueueOptions:
        from sitegenctl.adapters.celery.options import QueueOptions

        settings = self.settings
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
            sentinel_password=settings.sentinel_password and settings.sentinel_password.reveal(),
        )

    def require(self) -> None:
        """Celery is always installed."""

    def queue(self, closing: AsyncExitStack) -> CeleryQueue:
        from sitegenctl.adapters.celery.queue import CeleryQueue

        queue = CeleryQueue(self.url, self.options, timeout=self.timeout)
        closing.push_async_callback(queue.close)
        return queue

    def workers(self) -> CeleryWorkers:
        from sitegenctl.adapters.celery.workers import CeleryWorkers

        return CeleryWorkers(self.url, self.options, timeout=self.timeout)

    def events(self) -> CeleryEvents:
        from sitegenctl.adapters.celery.events import CeleryEvents

        return CeleryEvents(self.url, self.options, timeout=self.timeout)

    def probe(self) -> CeleryHealth:
        from sitegenctl.adapters.celery.health import CeleryHealth

        return CeleryHealth(self.url, self.options, timeout=self.timeout)

    def kombu_options(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """The broker's URL and the transport options of broker and result backend, as kombu takes them."""
        from sitegenctl.adapters.redis.urls import kombu_url

        options = self.options
        return kombu_url(self.url), options.transport_options, options.result_options
