"""Everything that the backend ``rq`` provides."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from sitegenctl.adapters.broker.backend import Backend
from sitegenctl.domain.queue.defaults import HARD_LIMIT

if TYPE_CHECKING:
    from sitegenctl.adapters.rq.events import RqEvents
    from sitegenctl.adapters.rq.health import RqHealth
    from sitegenctl.adapters.rq.options import RqOptions
    from sitegenctl.adapters.rq.queue import RqQueue
    from sitegenctl.adapters.rq.workers import RqWorkers
    from sitegenctl.domain.health.system import BackendTexts


class RqBackend(Backend):
    """RQ, which is installed with the extra ``rq``."""

    container = "crm-rq-worker"
    worker = "sitegenctl.worker.rq_worker"
    samples = "sitegenctl.demo.samples.rq_tasks"

    @property
    def texts(self) -> BackendTexts:
        from sitegenctl.domain.health.system import BackendTexts

        return BackendTexts(
            paused=(
                "rq suspends every worker of this Redis, also those of other queues and those that start later; what"
                " runs is finished, and a worker that waits for a task already takes one more."
            ),
            resumed="every worker of this Redis takes tasks again within a second or two, also those of other queues.",
            unattended="no worker is alive; one that starts respects it",
            silence="it hangs or is paused, or it was killed and the job that it had begun is still running",
            patience="a job that it had begun ends at its time limit at the latest: check again then",
            consuming="{queue} among its queues",
            limits=(
                f"publish with job_timeout={HARD_LIMIT}, as sitegenctl does: a job keeps the limit with which it was"
                " published"
            ),
            serialization=(
                "publish with the workers' own serializer; rq_serializer (SITEGENCTL_RQ_SERIALIZER) must name it"
            ),
            unreadable="workers that read another format fail them",
        )

    @property
    def options(self) -> RqOptions:
        from sitegenctl.adapters.rq.options import RqOptions

        self.require()
        settings = self.settings
        return RqOptions(
            queue=settings.queue,
            task=settings.task,
            prefix=settings.rq_key_prefix,
            serializer=settings.rq_serializer,
            hard_limit=settings.hard_time_limit,
            sentinel_master=settings.sentinel_master,
            sentinel_password=settings.sentinel_password and settings.sentinel_password.reveal(),
        )

    def require(self) -> None:
        """Raise ``UsageProblem`` where RQ is not installed, or too old for the key prefix."""
        from sitegenctl.adapters.rq.options import require_rq

        require_rq(self.settings.rq_key_prefix)

    def queue(self, closing: AsyncExitStack) -> RqQueue:
        from sitegenctl.adapters.rq.queue import RqQueue

        return RqQueue(self.url, self.options, timeout=self.timeout)

    def workers(self) -> RqWorkers:
        from sitegenctl.adapters.rq.workers import RqWorkers

        return RqWorkers(self.url, self.options, timeout=self.timeout)

    def events(self) -> RqEvents:
        from sitegenctl.adapters.rq.events import RqEvents

        return RqEvents(self.url, self.options, timeout=self.timeout)

    def probe(self) -> RqHealth:
        from sitegenctl.adapters.rq.health import RqHealth

        return RqHealth(self.url, self.options, timeout=self.timeout)

    def rq_parts(self) -> tuple[Any, Any]:
        """RQ's own queue, and the serializer of its jobs, for the reference worker. Raises ``UsageProblem``.

        This imports RQ with its key prefix in the environment: RQ must not be imported before.
        """
        from sitegenctl.adapters.redis.blocking import blocking_client
        from sitegenctl.adapters.rq.library import rq_queue, rq_serializer

        options = self.options
        connection = blocking_client(
            self.url, sentinel_master=options.sentinel_master, sentinel_password=options.sentinel_password
        )
        return rq_queue(options, connection), rq_serializer(options.serializer)
