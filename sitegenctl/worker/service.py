"""Generating one order in stages, for every backend, with the generation log of the deployed system.

The stages are the strategy (ends with the BRIEFING deliverable), the site (ends with the renaming of the complete
folder) and the transition to REVIEW. A resumed generation continues after the last completed stage. Further attempts,
and how a task reports a failure, depend on the backend.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sitegenctl.config.settings import Settings
from sitegenctl.domain.orders.generation import Brief, GenerationRecords, GenerationStore, Generator
from sitegenctl.domain.orders.order import OrderStatus
from sitegenctl.domain.ports import SiteStore
from sitegenctl.errors import GenerationError, SitegenError
from sitegenctl.session import worker_stores
from sitegenctl.worker.plugins import checked, load_generator

_log = logging.getLogger(__name__)


class GenerationEnd(StrEnum):
    """How a generation that did not fail ended."""

    GENERATED = "generated"
    SKIPPED = "skipped"  # the order is finished or cancelled
    GAVE_WAY = "gave_way"  # another task is generating the same order


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The end of a generation, with a message for the operator."""

    end: GenerationEnd
    message: str


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a generation works with. ``pace`` is a pause in seconds after each step, for demonstrations."""

    store: GenerationStore
    sites: SiteStore
    generator: Generator
    site_url_base: str
    pace: float = 0.0


def worker_context(settings: Settings) -> WorkerContext:
    """Return the context for these settings. Raises ``UsageProblem`` for missing settings or an unknown generator."""
    store, sites = worker_stores(settings)
    return WorkerContext(
        store=store,
        sites=sites,
        generator=load_generator(settings.generator),
        site_url_base=settings.site_url_base,
        pace=settings.pace.total_seconds(),
    )


async def generate(
    context: WorkerContext, order_id: int, *, resume: bool, task_id: str, on_begin: Callable[[], None] = lambda: None
) -> Generation:
    """Generate the site of an order. Raises ``SitegenError``, or any exception of the generator, if it fails.

    ``on_begin`` is called when the order has been read: whatever fails afterwards is the run itself.
    """
    async with context.store.lock(order_id) as records:
        if records is None:
            message = f"another task is generating order {order_id}: gave way"
            return Generation(end=GenerationEnd.GAVE_WAY, message=message)
        status = await records.status(order_id)
        if status is OrderStatus.CANCELLED or (status is not None and status.is_finished):
            message = f"Order is {status}: nothing to generate"
            await records.log(order_id, "SKIP", message, "warning", task_id=task_id)
            return Generation(end=GenerationEnd.SKIPPED, message=message)
        site_url = f"{context.site_url_base.rstrip('/')}/project_{order_id}/"
        brief = await records.brief(order_id, site_url)
        on_begin()
        return await _Run(context=context, records=records, brief=brief, task_id=task_id).run(resume=resume)


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

    def journal(self, reason: str, *, retry_in: float | None) -> None:
        """Write an ERROR row for the failure, and the note that the system's own screens show.

        ``retry_in`` is in seconds, None after the last attempt. Nothing is written while another run holds the order's
        lock.
        """
        next_attempt = "no retry left" if retry_in is None else f"retry in {retry_in:.0f} s"
        message, note = f"{reason} (attempt {self.number}, {next_attempt})", f"{reason} ({next_attempt})"
        details = {"task_id": self.task_id, "attempt": self.number, "retry_in": retry_in}
        try:
            asyncio.run(self.context.store.record_failure(self.order_id, message, note, **details))
        except SitegenError as exc:
            # The state of the task still shows the failure.
            _log.warning("Could not write the failure of order %s into its log: %s", self.order_id, exc.message)


@dataclass(frozen=True, kw_only=True)
class _Run:
    context: WorkerContext
    records: GenerationRecords
    brief: Brief
    task_id: str

    async def run(self, *, resume: bool) -> Generation:
        has_briefing, has_site = await self._begin(resume=resume)
        if has_briefing:
            await self._log("PHASE_1_SKIP", "Briefing exists")
        else:
            await self._strategy()
        if not has_site:
            await self._site()
        await self._log("FINALIZE", "Setting the order to REVIEW")
        success = f"Site generated: {self.brief.site_url}"
        if not await self.records.finish(self.brief.order_id, self.brief.site_url, success, task_id=self.task_id):
            message = "The order is no longer GENERATING: its status was changed during the run"
            await self._log("SKIP", message, "warning")
            return Generation(end=GenerationEnd.SKIPPED, message=message)
        message = f"order {self.brief.order_id} generated: {self.brief.site_url}"
        return Generation(end=GenerationEnd.GENERATED, message=message)

    async def _begin(self, *, resume: bool) -> tuple[bool, bool]:
        """Write the first rows and remove incomplete files; return whether there is a briefing, and a whole site."""
        order_id = self.brief.order_id
        sites = self.context.sites
        counts = await sites.count([order_id])
        if order_id not in counts:
            raise GenerationError(f"cannot count the files of order {order_id}")
        files = counts[order_id]
        has_briefing = resume and await self.records.has_briefing(order_id)
        has_site = resume and not files.is_empty
        # `run_lock` shows observers that this run is over once its lock is free.
        if resume and (has_briefing or files.count):
            await self._log("RESUME", f"Resuming: {files.count} files on disk", run_lock=True, files=files.count)
            next_stage = "finalize" if has_site else "site" if has_briefing else "strategy"
            await self._log("RESUME_DECISION", f"Continuing with stage {next_stage}", stage=next_stage)
        else:
            await self._log("START", f"Generating the site of {self.brief.business_name}", run_lock=True)
        leftovers = await sites.discard_leftovers(order_id)
        is_trashed = False
        if not has_site:
            trashing = await sites.trash([order_id])
            if order_id in trashing.failed:
                raise GenerationError(f"cannot move the old site to the trash: {trashing.failed[order_id]}")
            is_trashed = order_id in trashing.moved
        if leftovers or is_trashed:
            await self._log("CLEANUP", "Removed files of an earlier run", leftovers=leftovers, trashed=is_trashed)
        return has_briefing, has_site

    async def _strategy(self) -> None:
        await self._log("PHASE_1_START", "Preparing the strategy")
        title, content = briefing(self.brief)
        await self._log("AI_STRATEGY", f"Strategy for {self.brief.niche} in {self.brief.primary_city}")
        await self.records.save_briefing(self.brief.order_id, title, content)
        await self._log("PHASE_1_COMPLETE", "Briefing saved", "success")

    async def _site(self) -> None:
        await self._log("FETCH_DATA", "Onboarding read", services=len(self.brief.services))
        await self._log("TEMPLATE_START", "Rendering the pages")
        # Not in a thread: a time limit is raised in the main thread and must reach a generator that hangs.
        files = checked(self.context.generator(self.brief))
        await self._log("TEMPLATE_CUSTOMIZED", f"{len(files)} files rendered", files=len(files))
        await self._log("WRITE_FILES", f"Writing {len(files)} files")
        await self.context.sites.replace(self.brief.order_id, files, self.task_id)
        size = sum(len(file.content) for file in files)
        await self._log("WRITE_COMPLETE", f"{len(files)} files, {size} bytes", "success", files=len(files))

    async def _log(self, step: str, message: str, status: str = "info", **details: Any) -> None:
        await self.records.log(self.brief.order_id, step, message, status, task_id=self.task_id, **details)
        if self.context.pace:
            await asyncio.sleep(self.context.pace)


def briefing(brief: Brief) -> tuple[str, str]:
    """Return the BRIEFING deliverable: title and Markdown, in the customer's own words."""
    sections = {
        "Business": f"{brief.business_name}, {brief.custom_niche or brief.niche.title()}",
        "Place": f"{brief.primary_city}, {brief.state}",
        "Main service": brief.primary_service,
        "Services": ", ".join(brief.services) or None,
        "Objective": brief.site_objective,
        "Tone": brief.tone.lower(),
        "Call to action": brief.cta_text or brief.primary_cta.lower(),
        "Keywords": ", ".join(brief.target_keywords) or None,
    }
    lines = [f"- **{name}**: {text}" for name, text in sections.items() if text]
    return f"Briefing: {brief.business_name}", "\n".join([f"# {brief.business_name}", "", *lines, ""])
