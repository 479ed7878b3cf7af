"""Celery workers and a beat that differ from sitegenctl's own; the first argument is a JSON object with settings."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery
from celery.worker.control import Panel

settings = json.loads(sys.argv[1])
app = Celery("odd", broker=os.environ["REDIS_URL"], set_as_current=False)
app.conf.update(
    task_default_queue=settings["queue"],
    broker_transport_options={"visibility_timeout": settings.get("visibility_timeout", 3600)},
    broker_connection_retry_on_startup=True,
    beat_schedule={name: {"task": name, "schedule": 0.3} for name in settings["tasks"]},
)


def work(*arguments: Any, seconds: float = settings.get("seconds", 0), **options: Any) -> None:
    time.sleep(seconds)


def fail(state: object, **_: object) -> None:
    """Answer remote control with an error, as a method does that raises."""
    raise RuntimeError("the schedule changed size during iteration")


for task in settings["tasks"]:
    app.task(work, name=task, **settings.get("options", {}))
for method in settings.get("broken_methods", ()):
    Panel.data[method] = fail
if settings.get("beat"):
    app.start(["beat", "--schedule", settings["beat"]])
else:
    options = ["--concurrency", "1", "--without-mingle", "--without-gossip", "--hostname", settings["name"]]
    app.worker_main(["worker", *options, *settings.get("arguments", [])])
