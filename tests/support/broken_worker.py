"""A worker that answers, and answers one question with an error, as it does when the method raises."""

from __future__ import annotations

from celery.worker.control import Panel

from sitegenctl.config.settings import load_settings
from sitegenctl.worker.celery_app import make_app


def broken(state: object, **_: object) -> None:
    """Fail, as a worker does whose state is not what Celery believes it to be."""
    raise RuntimeError("the schedule changed size during iteration")


Panel.data["scheduled"] = broken
make_app(load_settings({})).worker_main(["worker", "-P", "solo", "--without-mingle", "--without-gossip"])
