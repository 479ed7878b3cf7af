"""A worker or a beat as other systems have them; what it is like is told by its argument, an object in JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery

given = json.loads(sys.argv[1])
app = Celery("odd", broker=os.environ["REDIS_URL"], set_as_current=False)
app.conf.update(
    task_default_queue=given["queue"],
    broker_transport_options={"visibility_timeout": given.get("visibility_timeout", 3600)},
    broker_connection_retry_on_startup=True,
    beat_schedule={name: {"task": name, "schedule": 0.3} for name in given["tasks"]},
)


def work(*arguments: Any, seconds: float = 0, **options: Any) -> None:
    time.sleep(seconds)


for task in given["tasks"]:
    app.task(work, name=task, **given.get("options", {}))
if given.get("beat"):
    app.start(["beat", "--schedule", given["beat"]])
else:
    options = ["--concurrency", "1", "--without-mingle", "--without-gossip", "--hostname", given["name"]]
    app.worker_main(["worker", *options, *given.get("arguments", [])])
