"""A worker that sends heartbeats and, as Celery's default is, no events of its tasks."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("silent", broker=os.environ["REDIS_URL"])
app.conf.task_default_queue = "silent"


@app.task(name="silent.work")
def work() -> None:
    """Do nothing."""
