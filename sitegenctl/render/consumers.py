"""Workers that were paused or resumed, and the tasks that a purge leaves."""

from __future__ import annotations

from collections.abc import Mapping

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.domain.health.system import BackendTexts
from sitegenctl.domain.ports import Consumers
from sitegenctl.domain.queue.task import TaskState
from sitegenctl.render.command import hint_text
from sitegenctl.render.output import Report, error_data
from sitegenctl.render.text import neutralise

#: What to do about a worker that did not respond.
_MAY_OBEY = Remedy.run(Command.INSPECT_WORKERS, advice="it may still do so; to check")


def consumers_report(
    consumers: Consumers,
    *,
    command: str,
    queue: str,
    texts: BackendTexts,
    pausing: bool,
    dry_run: bool = False,
    selector: str | None = None,
) -> Report:
    """Report a pause or resume: exit code 1 where a worker rejected it, 3 where one did not respond."""
    rows = [{"worker": name, "outcome": "done", "reason": None} for name in consumers.acknowledged]
    rows += [{"worker": name, "outcome": "failed", "reason": reason} for name, reason in consumers.rejected.items()]
    errors = [error_data(f"{name}: {reason}", source="workers") for name, reason in consumers.rejected.items()]
    if silent := consumers.unresponsive:
        message = f"{silent} living worker{'' if silent == 1 else 's'} did not respond"
        errors.append(error_data(message, hint_text(_MAY_OBEY, selector), "workers"))
    return Report(
        command=command,
        data={"dry_run": dry_run, "queue": queue, "workers": rows, "silent": consumers.unresponsive},
        rows=rows,
        columns=("worker", "outcome", "reason"),
        text=lambda: _text(consumers, queue=queue, texts=texts, pausing=pausing, dry_run=dry_run),
        exit_code=1 if consumers.rejected else 3 if consumers.unresponsive else 0,
        errors=errors,
    )


def survivors_note(survivors: Mapping[TaskState, int], foreign: int) -> list[Hint]:
    """Notes on the tasks that a purge leaves."""
    apart = (TaskState.ORPHANED, TaskState.UNACCOUNTED)
    kept = [f"{count} {state}" for state, count in survivors.items() if state not in apart]
    notes: list[Hint] = []
    if orphaned := survivors.get(TaskState.ORPHANED):
        notes.append(
            Remedy.run(
                Command.REPAIR, advice=f"{orphaned} orphaned, at no worker and not in the queue; to requeue them"
            )
        )
    if unaccounted := survivors.get(TaskState.UNACCOUNTED):
        notes.append(
            f"{unaccounted} unaccounted: delivered, and at no worker that responds; they may be running and stay"
        )
    if kept:
        notes.append(f"workers hold {', '.join(kept)}: those survive and will be finished")
    if foreign:
        plural = "message that belongs" if foreign == 1 else "messages that belong"
        notes.append(f"{foreign} {plural} to no order {'stays' if foreign == 1 else 'stay'} in the queue")
    return notes


def _text(consumers: Consumers, *, queue: str, texts: BackendTexts, pausing: bool, dry_run: bool) -> str:
    done = f"{'would be ' if dry_run else ''}{'paused' if pausing else 'resumed'}"
    total = len(consumers.acknowledged) + len(consumers.rejected) + consumers.unresponsive
    if not total:
        return f"{texts.unattended}\n"
    lines = [f"{done}: {len(consumers.acknowledged)} of {total} workers on {queue}"]
    lines += [f"  {neutralise(name)}" for name in consumers.acknowledged]
    lines.append(f"note: {texts.paused if pausing else texts.resumed}")
    return "\n".join(lines) + "\n"
