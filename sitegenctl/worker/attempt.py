"""One attempt at an order's site, whichever queue asked for it: it ends with a result, or with a failure's reason.

What a generation does is in ``service.py``. Whether there will be another attempt, and how a task says that it failed,
is left to the queue's own module.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from sitegenctl.errors import SitegenError
from sitegenctl.worker.service import Generation, GenerationEnd, WorkerContext, generate, record_failure

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed, in one line; ``begun`` where all that a run needs was there, and the run itself failed."""

    reason: str
    begun: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a task makes of its order, for the ``number``-th time (from 1)."""

    workshop: WorkerContext
    order_id: int
    task_id: str
    number: int

    def make(
        self, *, resume: bool, limit: float, signal: type[Exception], ahead: float = 0.0
    ) -> dict[str, Any] | Failure:
        """Generate the site, in ``limit`` seconds; returns what the task returns, or why it failed.

        ``signal`` is what the queue's own limit raises, which goes off ``ahead`` seconds before ours or some time
        after it. Both are needed: ours doesn't reach a generator that hangs, and a signal is lost when it hits a
        callback of the event loop.
        """
        begun = False

        def on_begin() -> None:
            nonlocal begun
            begun = True

        async def generating() -> Generation:
            async with asyncio.timeout(limit + ahead):
                return await generate(
                    self.workshop, self.order_id, resume=resume, task_id=self.task_id, on_begin=on_begin
                )

        try:
            return self._told(asyncio.run(generating()))
        except (TimeoutError, signal):
            reason = f"it took longer than {limit:.0f} s"
        except SitegenError as exc:
            reason = exc.message
        except Exception as exc:  # noqa: BLE001 - a generator is anybody's code; whatever it raises is a failure
            _log.exception("the generator failed on order %s", self.order_id)
            reason = f"{type(exc).__name__}: {exc}"
        return Failure(reason=reason, begun=begun)

    def journal(self, failure: Failure, *, retry_in: float | None) -> None:
        """Write the failure into the generation log; ``retry_in`` is in seconds, None where it was the last attempt."""
        recording = record_failure(
            self.workshop,
            self.order_id,
            failure.reason,
            task_id=self.task_id,
            attempt=self.number,
            retry_in=retry_in,
        )
        try:
            asyncio.run(recording)
        except SitegenError as exc:
            # The database is away: the task's own state still tells, and so does the retry.
            _log.warning("the failure of order %s could not be journaled: %s", self.order_id, exc.message)

    def _told(self, ended: Generation) -> dict[str, Any]:
        generated = ended.end is GenerationEnd.GENERATED
        return {"success": generated, "skipped": not generated, "order_id": self.order_id, "message": ended.message}
