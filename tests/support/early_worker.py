"""A worker that acknowledges its tasks as it takes them, so that it alone knows of them."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("early", broker=os.environ["REDIS_URL"])


@app.task(name="app.tasks.site_generation.generate_site_task")
def generate(order_id: int, resume: bool = True) -> None:
    """Take longer than anybody looks."""
    time.sleep(60)
