"""One attempt to generate an order's site, for every backend: it ends with a result or with the reason of a failure.

Further attempts, and how a task reports a failure, depend on the backend.
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
    """The reason of a failed attempt; ``begun`` if the order was complete and the run itself failed."""

    reason: str
    begun: bool


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The attempt ``number`` (from 1) of a task at its order."""

    context: WorkerContext
    order_id: int
    task_id: str
    number: int

    def run(
        self, *, resume: bool, limit: float, signal: type[Exception], ahead: float = 0.0
    ) -> dict[str, Any] | Failure:
        """Generate the site within ``limit`` seconds; return the result of the task, or the failure.

        ``signal`` is the exception that the backend's own time limit raises, ``ahead`` seconds before ours or later.
        Both limits are needed: ours does not reach a generator that hangs, and a signal is lost if it is raised in a
        callback of the event loop.
        """
        begun = False

        def on_begin() -> None:
            nonlocal begun
            begun = True

        async def generation() -> Generation:
            async with asyncio.timeout(limit + ahead):
                return await generate(
                    self.context, self.order_id, resume=resume, task_id=self.task_id, on_begin=on_begin
                )

        try:
            ended = asyncio.run(generation())
        except (TimeoutError, signal):
            reason = f"it took longer than {limit:.0f} s"
        except SitegenError as exc:
            reason = exc.message
        except Exception as exc:  # noqa: BLE001 - a generator is a plug-in and may raise anything
            _log.exception("The generator failed for order %s", self.order_id)
            reason = f"{type(exc).__name__}: {exc}"
        else:
            is_generated = ended.end is GenerationEnd.GENERATED
            return {
                "success": is_generated,
                "skipped": not is_generated,
                "order_id": self.order_id,
                "message": ended.message,
            }
        return Failure(reason=reason, begun=begun)

    def journal(self, failure: Failure, *, retry_in: float | None) -> None:
        """Write the failure into the generation log; ``retry_in`` is in seconds, None after the last attempt."""
        try:
            asyncio.run(
                record_failure(
                    self.context,
                    self.order_id,
                    failure.reason,
                    task_id=self.task_id,
                    attempt=self.number,
                    retry_in=retry_in,
                )
            )
        except SitegenError as exc:
            # The state of the task still shows the failure.
            _log.warning("Could not write the failure of order %s into its log: %s", self.order_id, exc.message)
