"""The stages of a run: what each step of the log means for its progress."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run; ``share`` of its work, from 0 to 1, is done when the stage begins."""

    name: str
    share: float


#: By the prefix of a step; the first match decides. A row of a step that is not here does not change the progress.
#: Shares follow the steps of a run, not their durations, which depend on the generator.
STAGES = {
    "SUCCESS": Stage(name="done", share=1.0),
    "SKIP": Stage(name="skipped", share=1.0),
    "FINALIZE": Stage(name="finishing", share=0.95),
    "DNS_": Stage(name="publishing", share=0.9),
    "PAGES_": Stage(name="publishing", share=0.87),
    "R2_": Stage(name="publishing", share=0.84),
    "GITHUB_": Stage(name="publishing", share=0.8),
    "INTEGRATIONS_": Stage(name="publishing", share=0.78),
    "WRITE_COMPLETE": Stage(name="writing", share=0.75),
    "WRITE_PROGRESS": Stage(name="writing", share=0.68),
    "WRITE_": Stage(name="writing", share=0.6),
    "SECURITY_WARNING": Stage(name="writing", share=0.6),  # about a file that is to be written
    "PARSE_RESULT": Stage(name="building", share=0.55),
    "AI_COMPLETE": Stage(name="building", share=0.5),
    "AI_GENERATION": Stage(name="building", share=0.4),
    "AI_ERROR": Stage(name="building", share=0.4),
    "AI_CONTENT_APPLIED": Stage(name="building", share=0.48),
    "AI_CONTENT_ERROR": Stage(name="building", share=0.48),  # not fatal: the template's own texts stay
    "AI_CONTENT_": Stage(name="building", share=0.44),
    "BUILD_PROMPT": Stage(name="building", share=0.35),
    "TEMPLATE_CUSTOMIZED": Stage(name="building", share=0.5),
    "TEMPLATE_CUSTOMIZE": Stage(name="building", share=0.46),
    "TEMPLATE_COPIED": Stage(name="building", share=0.42),
    "TEMPLATE_": Stage(name="building", share=0.35),
    "FETCH_DATA": Stage(name="reading", share=0.3),
    "PHASE_1_COMPLETE": Stage(name="briefing", share=0.25),
    "PHASE_1_SKIP": Stage(name="briefing", share=0.25),
    "PHASE_1_ERROR": Stage(name="briefing", share=0.25),
    "AI_STRATEGY": Stage(name="briefing", share=0.15),
    "PHASE_1_": Stage(name="briefing", share=0.08),
    "START": Stage(name="starting", share=0.03),
    "RESUME": Stage(name="starting", share=0.02),
    "CLEANUP": Stage(name="starting", share=0.02),
}

#: The names of the stages that a run passes, in its order; skipped and finished runs are in none of them.
RUN_STAGES = tuple(dict.fromkeys(stage.name for stage in reversed(STAGES.values()) if stage.share < 1))


@lru_cache(maxsize=1024)
def stage_of(step: str | None) -> Stage | None:
    """The stage of a run with this last step; None for an unknown step."""
    if step is None:
        return None
    return next((stage for prefix, stage in STAGES.items() if step.startswith(prefix)), None)
