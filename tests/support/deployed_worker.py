"""The deployed kind of worker: the contract's task on celery 5.3.4, which takes no lock and names no task in its log.

`celery -A tests.support.deployed_worker worker`, in the environment with the deployed pins; imports nothing of
sitegenctl. From the environment: LIVING_BROKER and LIVING_DATABASE (URLs), LIVING_SITES (the directory of sites),
LIVING_FOLDER (records of runs, and the files `finish-ORDER` and `fail-ORDER` for which a run waits) and LIVING_CONF
(further Celery settings as JSON).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
from celery import Celery

QUEUE = "site_generation"
TASK = "app.tasks.site_generation.generate_site_task"
FILES = 8

_CONF = {
    "task_serializer": "json",
    "accept_content": ["json"],
    "result_serializer": "json",
    "timezone": "UTC",
    "enable_utc": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_time_limit": 600,
    "task_soft_time_limit": 540,
    "worker_prefetch_multiplier": 1,
    "worker_max_tasks_per_child": 50,
    "result_expires": 24 * 3600,
    "task_default_queue": QUEUE,
    "task_default_exchange": QUEUE,
    "task_default_routing_key": QUEUE,
    "broker_connection_retry_on_startup": True,
}


@contextlib.contextmanager
def recorded(folder: Path, order_id: int, task_id: str) -> Iterator[None]:
    """Record the begin and the end of a run; a process that is killed leaves a begin alone."""
    run = uuid.uuid4().hex
    _record(folder, run=run, order=order_id, task=task_id, pid=os.getpid(), wall=time.time())
    try:
        yield
    finally:
        _record(folder, run=run)


def _record(folder: Path, **record: Any) -> None:
    # One write to a file opened for appending, so that lines of several processes never mix.
    with (folder / "runs.jsonl").open("ab", buffering=0) as file:
        file.write(json.dumps({**record, "at": time.monotonic()}).encode() + b"\n")
        os.fsync(file.fileno())


def _execute(statement: str, *arguments: Any) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(os.environ["LIVING_DATABASE"])
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(run())


def _log(order_id: int, step: str, message: str, status: str = "info") -> None:
    statement = "INSERT INTO site_generation_logs (order_id, step, message, status) VALUES ($1, $2, $3, $4)"
    _execute(statement, order_id, step, message, status)


def _generate(order_id: int) -> dict[str, Any]:
    folder = Path(os.environ["LIVING_FOLDER"])
    site = Path(os.environ["LIVING_SITES"]) / f"project_{order_id}"
    if site.exists():
        _log(order_id, "RESUME", "Resuming site generation")
        shutil.rmtree(site)
    else:
        _log(order_id, "START", "Starting site generation")
    _log(order_id, "PHASE_1_START", "Phase 1: strategic briefing")
    # Here the deployed generator waits for a model, for minutes and without a row in the log.
    while not (folder / f"finish-{order_id}").exists():
        if (folder / f"fail-{order_id}").exists():
            _log(order_id, "ERROR", "Generation failed: the model refused", "error")
            note = "Generation Failed: the model refused. Will retry automatically."
            _execute("UPDATE site_orders SET admin_notes = $2 WHERE id = $1", order_id, note)
            return {"success": False, "error": "the model refused", "can_retry": True}
        time.sleep(0.02)
    _log(order_id, "PHASE_1_COMPLETE", "Phase 1 complete", "success")
    _log(order_id, "WRITE_FILES", f"Writing {FILES} files")
    # Two runs at once delete each other's folders; here that is for the record of runs to show.
    site.mkdir(exist_ok=True)
    for number in range(FILES):
        (site / f"page{number}.html").write_text("<p>page</p>")
    _log(order_id, "FINALIZE", "Finalizing")
    _execute(
        "UPDATE site_orders SET status = 'REVIEW', updated_at = timezone('utc', now()) WHERE id = $1",
        order_id,
    )
    _log(order_id, "SUCCESS", "Site generated", "success")
    return {"success": True, "order_id": order_id}


def _make_app() -> Celery:
    app = Celery("deployed", broker=os.environ["LIVING_BROKER"], backend=os.environ["LIVING_BROKER"])
    app.conf.update({**_CONF, **json.loads(os.environ.get("LIVING_CONF", "{}"))})

    def generate_site_task(self: Any, order_id: int, resume: bool = True) -> dict[str, Any]:
        rows = _execute(
            "SELECT o.status::text, s.id AS onboarding FROM site_orders o"
            " LEFT JOIN site_onboardings s ON s.order_id = o.id WHERE o.id = $1",
            order_id,
        )
        if not rows or rows[0]["onboarding"] is None:
            raise self.retry(exc=LookupError(f"order {order_id} or its onboarding is missing"), countdown=60)
        if rows[0]["status"] in ("REVIEW", "DELIVERED"):
            _log(order_id, "SKIP", "Already generated", "warning")
            return {"success": True, "skipped": True}
        with recorded(Path(os.environ["LIVING_FOLDER"]), order_id, str(self.request.id)):
            return _generate(order_id)

    app.task(generate_site_task, bind=True, name=TASK, max_retries=3)
    return app


if "LIVING_BROKER" in os.environ:
    app = _make_app()
