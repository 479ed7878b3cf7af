"""``events`` on RQ, with the names and fields of Celery's events."""

from __future__ import annotations

import json

from tests.support.commands import streaming
from tests.support.rq_world import RqWorld
from tests.support.world import eventually


def test_events_name_orders_and_write_nothing(rq: RqWorld) -> None:
    rq.gate.touch()
    with rq.redis() as client, streaming(rq, "events", "-o", "ndjson") as stream:
        # No worker is alive: silence is reported.
        eventually(lambda: "no worker is alive" in stream.notes)
        before = set(client.scan_iter())
        assert before == set()
        rq.stock_worker()
        stream.shows("worker-online")
        done = rq.publish(1)
        failing = rq.publish(99)
        stream.shows("task-succeeded")
        stream.shows("task-retried")
        rows = [json.loads(json.dumps(row)) for row in stream.rows]
        assert {row["order_id"] for row in rows if row.get("uuid") == done} == {1}
        ended = next(row for row in rows if row["type"] == "task-succeeded")
        assert {"uuid", "hostname", "timestamp", "runtime"} <= set(ended)
        retried = next(row for row in rows if row["type"] == "task-retried")
        assert (retried["uuid"], retried["order_id"], retried["retries"]) == (failing, 99, 1)
        assert "eta" in retried
        assert stream.interrupt() == 130
        assert "Traceback" not in stream.notes
