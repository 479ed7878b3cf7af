"""One generation, stage by stage, on a real database and directory, without a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

from sitegenctl.domain.orders.generation import Brief, Generator
from sitegenctl.domain.orders.run import RunOutcome
from sitegenctl.domain.orders.run_reader import read_history
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.errors import GenerationError, SitegenError
from sitegenctl.session import worker_stores
from sitegenctl.worker.service import Attempt, Generation, GenerationEnd, WorkerContext, generate
from tests.support import generators
from tests.support.world import World

FRESH = [
    "START", "PHASE_1_START", "AI_STRATEGY", "PHASE_1_COMPLETE", "FETCH_DATA", "TEMPLATE_START",
    "TEMPLATE_CUSTOMIZED", "WRITE_FILES", "WRITE_COMPLETE", "FINALIZE", "SUCCESS",
]  # fmt: skip


def worker_context(world: World, generator: Generator = generators.small) -> WorkerContext:
    store, sites = worker_stores(world.settings())
    return WorkerContext(store=store, sites=sites, generator=generator, site_url_base="https://sites.test/")


def work(world: World, *, resume: bool = True, generator: Generator = generators.small) -> Generation:
    return asyncio.run(generate(worker_context(world, generator), 42, resume=resume, task_id="task-1"))


def briefings(world: World) -> list[asyncpg.Record]:
    return world.sql("SELECT * FROM site_deliverables WHERE order_id = 42 AND type = 'BRIEFING'")


async def cancel(world: World) -> None:
    connection = await asyncpg.connect(world.database_url)
    await connection.execute("UPDATE site_orders SET status = 'CANCELLED'")
    await connection.close()


def in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end while the loop of this thread is blocked."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_a_whole_generation(world: World) -> None:
    world.order(42, "GENERATING")
    assert work(world).end is GenerationEnd.GENERATED
    assert world.steps() == FRESH
    shares = [stage.share if (stage := stage_of(step)) else None for step in FRESH]
    assert None not in shares, f"{FRESH[shares.index(None)]} has no stage in domain/orders/stage.py"
    assert shares == sorted(map(float, filter(None, shares))), "a step begins an earlier stage than the step before it"
    assert world.status() == "REVIEW"
    assert world.sql("SELECT site_url FROM site_orders")[0][0] == "https://sites.test/project_42/"
    assert len(world.site_files()) == 6
    (briefing,) = briefings(world)
    assert "Padaria Ana Souza" in briefing["content"]
    history = read_history(world.steps())
    assert history.last_run is not None
    assert history.last_run.outcome is RunOutcome.SUCCESS


def test_the_order_and_its_log_finish_together(world: World) -> None:
    world.order(42, "GENERATING")
    world.sql("ALTER TABLE site_generation_logs ADD CHECK (step <> 'SUCCESS')")
    with pytest.raises(SitegenError):
        work(world)
    assert (world.status(), world.steps()[-1]) == ("GENERATING", "FINALIZE")


@pytest.mark.parametrize("status", ["REVIEW", "DELIVERED", "CANCELLED"])
def test_finished_and_cancelled_orders_are_skipped(world: World, status: str) -> None:
    world.order(42, status, files=8)
    assert work(world).end is GenerationEnd.SKIPPED
    assert world.steps() == ["SKIP"]
    assert world.status() == status
    assert len(world.site_files()) == 8


def test_without_an_onboarding_it_fails(world: World) -> None:
    world.order(42, "GENERATING", onboarding="missing")
    with pytest.raises(GenerationError, match="no onboarding"):
        work(world)
    assert world.status() == "GENERATING"


def test_an_incomplete_onboarding_is_enough(world: World) -> None:
    world.order(42, "GENERATING", onboarding="partial")
    work(world)
    assert world.status() == "REVIEW"


def test_an_order_that_does_not_exist_fails(world: World) -> None:
    with pytest.raises(GenerationError, match="no order 42"):
        work(world)


def test_a_failing_generator_changes_no_files(world: World) -> None:
    world.order(42, "GENERATING")
    with pytest.raises(RuntimeError, match="oven"):
        work(world, generator=generators.broken)
    assert (world.status(), world.site().exists()) == ("GENERATING", False)


def test_a_run_resumes_after_the_last_completed_stage(world: World) -> None:
    world.order(42, "GENERATING")
    with pytest.raises(RuntimeError):
        work(world, generator=generators.broken)
    work(world)
    after_the_briefing = FRESH[FRESH.index("FETCH_DATA") :]
    assert world.steps()[6:] == ["RESUME", "RESUME_DECISION", "PHASE_1_SKIP", *after_the_briefing]
    assert world.status() == "REVIEW"
    assert len(briefings(world)) == 1


def test_a_run_resumes_after_a_complete_site(world: World) -> None:
    world.order(42, "GENERATING")
    work(world)
    world.sql("UPDATE site_orders SET status = 'GENERATING'")
    work(world, generator=generators.broken)  # not called
    assert world.steps()[len(FRESH) :] == ["RESUME", "RESUME_DECISION", "PHASE_1_SKIP", "FINALIZE", "SUCCESS"]


def test_without_resume_everything_is_generated_again(world: World) -> None:
    world.order(42, "GENERATING")
    work(world)
    world.sql("UPDATE site_orders SET status = 'GENERATING'")
    world.sql("UPDATE site_deliverables SET content = 'old'")
    work(world, resume=False)
    assert world.steps()[len(FRESH) :] == [FRESH[0], "CLEANUP", *FRESH[1:]]
    (briefing,) = briefings(world)
    assert briefing["content"] != "old"


def test_the_old_site_is_moved_to_the_trash(world: World) -> None:
    world.order(42, "GENERATING", files=3)
    work(world)
    (trashed,) = (world.sites_dir / ".trash").iterdir()
    assert len(list(trashed.iterdir())) == 3
    assert len(world.site_files()) == 6


def test_files_of_a_killed_run_are_removed(world: World) -> None:
    world.order(42, "GENERATING")
    leftover = world.sites_dir / ".project_42.partial-dead"
    leftover.mkdir()
    (leftover / "half.html").write_text("half")
    work(world)
    assert "CLEANUP" in world.steps()
    assert not leftover.exists()


def test_a_second_generation_at_the_same_time_gives_way(world: World) -> None:
    world.order(42, "GENERATING")
    ends: list[GenerationEnd] = []

    def while_generating(brief: Brief):
        # Another task; for the database, another process.
        second = generate(worker_context(world), brief.order_id, resume=True, task_id="task-2")
        ends.append(in_thread(second).end)
        return generators.small(brief)

    assert work(world, generator=while_generating).end is GenerationEnd.GENERATED
    assert ends == [GenerationEnd.GAVE_WAY]
    assert world.steps() == FRESH


def test_an_order_cancelled_during_the_run_stays_cancelled(world: World) -> None:
    world.order(42, "GENERATING")

    def cancelled(brief: Brief):
        in_thread(cancel(world))
        return generators.small(brief)

    assert work(world, generator=cancelled).end is GenerationEnd.SKIPPED
    assert world.status() == "CANCELLED"
    assert world.steps()[-1] == "SKIP"


def test_a_generator_cannot_write_outside_the_site(world: World) -> None:
    world.order(42, "GENERATING")
    with pytest.raises(SitegenError):
        work(world, generator=generators.escaping)
    assert not (world.sites_dir / "outside.html").exists()


def test_malformed_onboarding_columns_are_tolerated(world: World) -> None:
    world.order(42, "GENERATING")
    world.sql(
        "UPDATE site_onboardings SET services = '{\"not\": \"a list\"}', business_hours = '[1, 2]',"
        ' testimonials = \'[3, {"name": "x"}, {"text": "good"}]\', service_descriptions = \'null\''
    )
    briefs: list[Brief] = []
    work(world, generator=lambda brief: (briefs.append(brief), generators.small(brief))[1])
    (brief,) = briefs
    assert (brief.services, brief.business_hours, brief.service_descriptions) == ([], {}, {})
    assert [testimonial.text for testimonial in brief.testimonials] == ["good"]


def test_a_failure_is_logged_and_other_notes_are_kept(world: World) -> None:
    world.order(42, "GENERATING")
    world.sql("UPDATE site_orders SET admin_notes = 'call\nAna'")
    context = worker_context(world)

    def fail(number: int, retry_in: float | None) -> None:
        Attempt(context=context, order_id=42, task_id="t", number=number).journal("no\nluck", retry_in=retry_in)

    def notes() -> str:
        return str(world.sql("SELECT admin_notes FROM site_orders")[0][0])

    fail(1, 60.0)
    assert notes() == "Generation Failed: no luck (retry in 60 s)\ncall\nAna"
    fail(4, None)
    assert notes() == "Generation Failed: no luck (no retry left)\ncall\nAna"
    assert [row["status"] for row in world.log()] == ["error", "error"]
    work(world)
    assert notes() == "call\nAna"
    Attempt(context=context, order_id=99, task_id="t", number=1).journal("no such order", retry_in=None)


def test_a_failure_is_not_logged_into_another_run(world: World) -> None:
    world.order(42, "GENERATING")
    context = worker_context(world)

    async def scenario() -> None:
        async with context.store.lock(42) as records:
            assert records is not None
            await records.log(42, "START", "")
            attempt = Attempt(context=context, order_id=42, task_id="t", number=1)
            await asyncio.to_thread(attempt.journal, "too late", retry_in=None)

    asyncio.run(scenario())
    assert world.steps() == ["START"]
    assert world.sql("SELECT admin_notes FROM site_orders")[0][0] is None
