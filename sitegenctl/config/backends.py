"""The kinds of queue that sitegenctl knows. A new one costs a line here and a package with a ``backend.py``."""

from __future__ import annotations

from typing import NamedTuple


class RegisteredBackend(NamedTuple):
    """The class that provides a backend, as ``module:class``, and the task that the backend publishes by default."""

    provider: str
    task: str


BACKENDS = {
    "celery": RegisteredBackend(
        "sitegenctl.adapters.celery.backend:CeleryBackend", "app.tasks.site_generation.generate_site_task"
    ),
    "rq": RegisteredBackend(
        "sitegenctl.adapters.rq.backend:RqBackend", "app.workers.site_generation_worker.generate_site_job"
    ),
}
