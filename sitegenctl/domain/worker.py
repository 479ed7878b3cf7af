"""Workers, and what they answered when asked."""

from __future__ import annotations

from dataclasses import dataclass

from sitegenctl.domain.task import LiveTask


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One living worker that answered; ``tasks`` are those that it says it holds."""

    name: str
    tasks: tuple[LiveTask, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorkerSurvey:
    """The answers to one question to all workers.

    ``silent`` is the number of living workers that were asked and did not answer in time: they are there, so
    nothing may be concluded from their silence.
    """

    workers: tuple[Worker, ...] = ()
    silent: int = 0
