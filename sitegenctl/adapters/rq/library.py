"""RQ itself, for what writes: it says how a job is queued and a worker told, and our own link sends it.

RQ's client is a blocking one, and waits without a limit. What RQ would send is taken down instead of being sent, by
something that RQ takes for its connection; so RQ decides what is written, and how, when and whether for certain it
is sent is decided where everything else is.

Here alone RQ is imported. It takes its key prefix from the environment, when it is imported.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from redis import Redis

from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.rq.options import SERIALIZERS, RqOptions
from sitegenctl.domain.queue.defaults import HARD_LIMIT, RESULTS_KEPT, RETRIES
from sitegenctl.domain.queue.task import Publication
from sitegenctl.errors import UsageProblem

_PREFIX = "RQ_KEY_PREFIX"

#: Seconds after which what could not begin is tried again, for each of the retries.
INTERVALS = (60, 120, 240)


class Recorder(Redis):
    """What RQ takes for a connection or pipeline, and notes the commands that it would have sent. It never connects."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[Command] = []

    def execute_command(self, *args: Any, **_: Any) -> Recorder:
        """Note one command; it has no reply."""
        self._noted.append(tuple(map(_plain, args)))
        return self

    def pipeline(self, *_: Any, **__: Any) -> Any:
        """Another one for the same commands."""
        return self

    def take(self) -> list[Command]:
        """What was noted, once."""
        noted, self._noted = self._noted, []
        return noted


def _plain(value: Any) -> str | bytes | int | float:
    """The value as it is sent; RQ's states are texts of a kind of their own."""
    if isinstance(value, Enum):
        return str(value.value)
    return value if isinstance(value, str | bytes | int | float) else str(value)


@dataclass(frozen=True)
class RqLibrary:
    """RQ, as far as it is needed. Raises ``UsageProblem`` where it isn't what the options want it to be."""

    options: RqOptions

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder()

    @cached_property
    def _queue(self) -> Any:
        rq = _imported(self.options.prefix)
        queue = rq.Queue(self.options.queue, connection=self._recorder, serializer=self.serializer)
        # Else it would ask its connection, for the sake of Redis before 4.0.
        queue.redis_server_version = (6, 2, 0)
        return queue

    def queue_on(self, connection: Any) -> Any:
        """RQ's own queue on a connection that RQ's own worker, or somebody in its place, works with."""
        return _imported(self.options.prefix).Queue(
            self.options.queue, connection=connection, serializer=self.serializer
        )

    @property
    def serializer(self) -> Any:
        """What turns jobs into bytes, and bytes into jobs."""
        from rq.serializers import resolve_serializer

        name = self.options.serializer
        try:
            return resolve_serializer(SERIALIZERS.get(name, name))
        except (ImportError, AttributeError, ValueError, NotImplementedError) as exc:
            raise UsageProblem(
                f"rq_serializer {name!r} can't be used: {str(exc).splitlines()[0]}",
                hint=f"it is {' or '.join(SERIALIZERS)}, or the path of a class with dumps and loads",
            ) from exc

    def publication(self, publication: Publication) -> list[Command]:
        """The commands that queue a job under exactly this id."""
        from rq import Retry

        queue = self._queue
        data = queue.prepare_data(
            self.options.task,
            args=(publication.order_id,),
            kwargs={"resume": publication.resume},
            job_id=publication.task_id,
            # RQ's own defaults are three minutes and eight.
            timeout=HARD_LIMIT,
            result_ttl=RESULTS_KEPT,
            retry=Retry(max=RETRIES, interval=list(INTERVALS)),
            # For people and for other tools; what we read of it is beside it.
            meta={"order_id": publication.order_id, "actor": publication.actor},
        )
        queue.enqueue_many([data], pipeline=self._recorder)
        return self._recorder.take()

    def stop(self, worker: str, job_id: str) -> list[Command]:
        """The commands that tell a worker to stop this job, if it is the one that it runs."""
        _imported(self.options.prefix)
        from rq.command import send_command

        # Not send_stop_job_command, which would unpickle the job's meta to find the worker.
        send_command(self._recorder, worker, "stop-job", job_id=job_id)
        return self._recorder.take()

    def suspend(self) -> list[Command]:
        """The commands that keep every worker from taking another job."""
        _imported(self.options.prefix)
        from rq.suspension import suspend

        suspend(self._recorder)
        return self._recorder.take()

    def resume(self) -> list[Command]:
        """The commands that let them again."""
        _imported(self.options.prefix)
        from rq.suspension import resume

        resume(self._recorder)
        return self._recorder.take()


def _imported(prefix: str) -> Any:
    """The package, with its keys under this prefix."""
    if "rq" not in sys.modules:
        os.environ[_PREFIX] = prefix
    try:
        import rq
        from rq import defaults
    except ImportError as exc:
        raise UsageProblem(f"rq can't be imported: {exc}") from exc
    # Somebody else has imported it before; a generator's plug-in, say. Before RQ 3 there is only one prefix.
    known = getattr(defaults, _PREFIX, prefix)
    if known != prefix:
        raise UsageProblem(f"rq was imported before, and keeps its keys under {known!r}, not under {prefix!r}")
    return rq
