"""What this console publishes, against what Celery itself publishes: newest and as deployed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.world import QUEUE, TASK, World

DEPLOYED = Path(__file__).parents[2] / ".venv-deployed" / "bin" / "python"

# Run where the Celery to compare with is installed: first Celery publishes, then our adapter.
_BOTH = f"""
import asyncio, json, sys
from datetime import UTC, datetime
from celery import Celery
from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.celery.queue import CeleryQueue
from sitegenctl.domain.queue.task import Publication
url, attempt = sys.argv[1], json.loads(sys.argv[2])
eta = datetime(2026, 1, 2, tzinfo=UTC) if attempt > 1 else None
headers = {{"sitegenctl_enqueued_at": "2026-01-01T00:00:00+00:00", "sitegenctl_actor": "ana@crm"}}
Celery(broker=url).send_task({TASK!r}, args=[42], kwargs={{"resume": True}}, task_id="task-1", queue={QUEUE!r}, headers=headers, eta=eta, retries=attempt - 1)
task = Publication(task_id="task-1", order_id=42, resume=True, actor="ana@crm", enqueued_at=datetime(2026, 1, 1, tzinfo=UTC), eta=eta, attempt=attempt)
async def publish():
    queue = CeleryQueue(url, QueueOptions(), timeout=5)
    assert await queue.publish([task]) == {{}}
    await queue.close()
asyncio.run(publish())
"""  # noqa: E501 - a script


@pytest.mark.parametrize("attempt", [1, 3], ids=["now", "a later attempt"])
@pytest.mark.parametrize("python", [sys.executable, str(DEPLOYED)], ids=["installed", "deployed"])
def test_message_equals_celery_except_ids_and_origin(world: World, python: str, attempt: int) -> None:
    subprocess.run([python, "-c", _BOTH, world.redis_url, str(attempt)], check=True, timeout=60)
    with world.redis() as client:
        ours, celerys = (raw.decode() for raw in client.lrange(QUEUE, 0, -1))
    assert _but_for_ids(ours) == _but_for_ids(celerys)
    assert ours != celerys  # the delivery tags differ, so the comparison above left something out
    assert json.loads(ours)["properties"]["delivery_tag"] not in celerys


def _but_for_ids(raw: str) -> str:
    without = re.sub(r'"origin": "gen\d+@', '"origin": "gen0@', raw)
    return re.sub(r'"(reply_to|delivery_tag)": "[0-9a-f-]{36}"', r'"\1": "id"', without)
