from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sitegenctl.domain.orders.run_reader import LoggedRun, RunRow, RunStream
from sitegenctl.domain.orders.stage import RUN_STAGES, STAGES, stage_of
from tests.support.values import STEPS

# One run as each of the two generators of the system writes it; the facts about the system have the steps.
TEMPLATE_RUN = [
    *("START", "PHASE_1_START", "AI_STRATEGY", "PHASE_1_COMPLETE", "FETCH_DATA"),
    *("TEMPLATE_START", "TEMPLATE_COPIED", "TEMPLATE_CUSTOMIZED", "WRITE_FILES", "WRITE_PROGRESS", "WRITE_COMPLETE"),
    *("INTEGRATIONS_START", "GITHUB_PUSH", "R2_UPLOAD", "PAGES_DEPLOY", "DNS_RECORD", "FINALIZE", "SUCCESS"),
]
PROMPT_RUN = [
    *("RESUME", "PHASE_1_SKIP", "FETCH_DATA", "BUILD_PROMPT", "AI_GENERATION", "AI_COMPLETE", "PARSE_RESULT"),
    *("WRITE_FILES", "WRITE_COMPLETE", "FINALIZE", "SUCCESS"),
]


@pytest.mark.parametrize("run", [TEMPLATE_RUN, PROMPT_RUN], ids=["template", "prompt"])
def test_a_run_never_goes_back(run: list[str]) -> None:
    shares = [stage.share if (stage := stage_of(step)) else None for step in run]
    assert None not in shares
    assert shares == sorted(shares, key=lambda share: share or 0)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("START", "starting"),
        ("RESUME_DECISION", "starting"),
        ("CLEANUP", "starting"),
        ("PHASE_1_ERROR", "briefing"),  # not fatal: the run goes on
        ("FETCH_DATA", "reading"),
        ("TEMPLATE_START", "building"),
        ("WRITE_FILES", "writing"),
        ("GITHUB_ERROR", "publishing"),
        ("FINALIZE", "finishing"),
        ("SKIP", "skipped"),
    ],
)
def test_the_stage_of_a_step(step: str, name: str) -> None:
    stage = stage_of(step)
    assert stage.name == name


# The steps that trials against the real system have added to those of the two generators.
@pytest.mark.parametrize(
    ("steps", "name"),
    [
        (("TEMPLATE_CUSTOMIZE", "TEMPLATE_NOT_FOUND", "TEMPLATE_ERROR", "AI_ERROR"), "building"),
        (("AI_CONTENT_GENERATION", "AI_CONTENT_APPLIED", "AI_CONTENT_ERROR"), "building"),
        (("WRITE_ERROR", "SECURITY_WARNING"), "writing"),
        (("CLEANUP_WARNING",), "starting"),
        (("INTEGRATIONS_ERROR", "PAGES_EXISTS", "PAGES_GITHUB_CONNECTED", "PAGES_GITHUB_WARNING"), "publishing"),
        (("R2_SKIP", "DNS_SKIP"), "publishing"),
    ],
)
def test_steps_of_the_real_system_are_known(steps: tuple[str, ...], name: str) -> None:
    assert {stage.name if (stage := stage_of(step)) else None for step in steps} == {name}


@given(st.lists(st.sampled_from([*STEPS, *TEMPLATE_RUN, *PROMPT_RUN, "CLEANUP_WARNING", "AI_CONTENT_ERROR"])))
def test_progress_of_a_run_never_goes_back(steps: list[str]) -> None:
    stream = RunStream()
    reached: list[tuple[LoggedRun, float]] = []
    for number, step in enumerate(steps):
        stream.feed(RunRow(log_id=number, step=step))
        for run in stream.newest():
            share = run.stage.share if run.stage is not None else 0.0
            assert all(share >= before for other, before in reached if other is run)
            reached.append((run, share))


@pytest.mark.parametrize("step", [None, "", "ERROR", "OPERATOR_ENQUEUE", "SOMETHING_NEW", "start"])
def test_a_step_that_does_not_tell(step: str | None) -> None:
    assert stage_of(step) is None


@pytest.mark.parametrize("prefix", STAGES)
def test_no_earlier_prefix_hides_a_stage(prefix: str) -> None:
    hiding = [other for other in list(STAGES)[: list(STAGES).index(prefix)] if prefix.startswith(other)]
    assert not hiding, f"{prefix} must stand before {hiding[0]} in STAGES"


@given(st.text())
def test_any_step_has_a_share_of_the_whole_or_none(step: str) -> None:
    stage = stage_of(step)
    assert stage is None or 0 <= stage.share <= 1


def test_run_stages_are_in_the_order_of_a_run() -> None:
    expected = ("starting", "briefing", "reading", "building", "writing", "publishing", "finishing")
    assert expected == RUN_STAGES
