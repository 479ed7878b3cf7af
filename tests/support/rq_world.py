"""The same system on RQ: published and worked by RQ itself, as its backend and its stock workers do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rq import Queue, Retry
from rq.job import Job

from tests.support.processes import Running
from tests.support.world import QUEUE, World

JOB = "app.workers.site_generation_worker.generate_site_job"
JOBS = Path(__file__).with_name("contract_jobs")

#: How long ago the worker of a job that is lost should have given a sign of life.
_LATE = 30.0


@dataclass
class RqWorld(World):
    backend = "rq"
    task_name = JOB

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "SITEGENCTL_BACKEND": "rq"}

    # --- the queue ----------------------------------------------------------------------------------------

    @contextmanager
    def queue(self, **options: Any) -> Iterator[Queue]:
        with self.redis() as client:
            yield Queue(QUEUE, connection=client, **options)

    def publish(
        self,
        order_id: int = 42,
        *,
        task: str = JOB,
        task_id: str | None = None,
        due: timedelta | None = None,
        **options: Any,
    ) -> str:
        """Publish as the backend does."""
        given = {"resume": True, "job_id": task_id, "retry": Retry(max=3, interval=[60, 120, 240]), **options}
        with self.queue() as queue:
            if due is not None:
                return str(queue.enqueue_in(due, task, order_id, **given).id)
            return str(queue.enqueue(task, order_id, **given).id)

    def fetch(self, task_id: str) -> Job:
        with self.redis() as client:
            return Job.fetch(task_id, connection=client)

    def queued_ids(self) -> list[str]:
        with self.queue() as queue:
            return queue.get_job_ids()

    def deliver(self, *, late: float = _LATE) -> None:
        """Have the next job taken up by a worker that is gone: its next heartbeat is ``late`` seconds overdue.

        It began a minute before it promised that.
        """
        with self.redis() as client:
            taken = client.lpop(f"rq:queue:{QUEUE}")
            assert taken is not None
            task_id = taken.decode()
            began = (datetime.now(UTC) - timedelta(seconds=late + 60)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            started = {"status": "started", "worker_name": "gone", "started_at": began}
            client.hset(f"rq:job:{task_id}", mapping=started)
            client.zadd(f"rq:wip:{QUEUE}", {f"{task_id}:{'e' * 32}": time.time() - late})

    def deliver_to_dead_worker(self) -> None:
        self.deliver(late=3600)

    def overdue(self) -> None:
        """Let the time go by within which the workers of jobs in work must give another sign of life."""
        with self.redis() as client:
            for member, _ in client.zscan_iter(f"rq:wip:{QUEUE}"):
                client.zadd(f"rq:wip:{QUEUE}", {member: time.time() - 1})

    def expire(self) -> None:
        """Let the time go by after which a job cannot be running any more, whatever became of its worker."""
        long_ago = datetime.now(UTC) - timedelta(days=1)
        with self.redis() as client:
            for member, _ in client.zscan_iter(f"rq:wip:{QUEUE}"):
                client.zadd(f"rq:wip:{QUEUE}", {member: long_ago.timestamp()})
                job_id = re.sub(r":[0-9a-f]{32}$", "", member.decode())
                client.hset(f"rq:job:{job_id}", "started_at", long_ago.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
                if client.exists(f"rq:execution:{member.decode()}"):
                    client.hset(f"rq:execution:{member.decode()}", "created_at", long_ago.timestamp())

    # --- workers ------------------------------------------------------------------------------------------

    def stock_worker(self, *arguments: str, queues: tuple[str, ...] = (QUEUE,), jobs: Path = JOBS) -> Running:
        """Start RQ's own worker, and wait until it is there; it runs the jobs of this folder."""
        command = ("-m", "rq.cli", "worker", "--url", self.redis_url, "--path", str(jobs), *arguments, *queues)
        return self._at_work(*command, log="rq-worker", env=dict(os.environ), cwd=self.folder)

    def start_gated_worker(self) -> Running:
        return self.stock_worker()

    def begun(self) -> list[int]:
        file = self.folder / "begun"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []

    def has_ended(self, order_id: int) -> bool:
        with self.redis() as client:
            done = client.zrange(f"rq:finished:{QUEUE}", 0, -1)
        return any(self.fetch(job_id.decode()).args == (order_id,) for job_id in done)

    def kill(self, worker: Running) -> None:
        for pid in descendants(worker.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        worker.wait()

    def close(self) -> None:
        for process in self._processes:
            self.kill(process)


def descendants(of: int) -> list[int]:
    """A process and those that it has begun: RQ gives that of a job a group of its own, and before 2 a session."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name in parentheses: state, parent.
                _, _, rest = (entry / "stat").read_text().rpartition(")")
                children.setdefault(int(rest.split()[1]), []).append(int(entry.name))
    found = [of]
    for pid in found:
        found += children.get(pid, [])
    return found
