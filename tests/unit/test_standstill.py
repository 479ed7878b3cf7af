"""Why nothing is going to be generated, as far as workers can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey, standstill


def seen(*names: str, silent: int = 0, consumers: int | None = None) -> WorkerSurvey:
    return WorkerSurvey(workers=tuple(Worker(name=name) for name in names), silent=silent, consumers=consumers)


def roster(**queues: str) -> WorkerRoster:
    return WorkerRoster(workers=tuple(WorkerDetails(name=name, queues=(queue,)) for name, queue in queues.items()))


@pytest.mark.parametrize(
    ("survey", "known", "told"),
    [
        (seen(consumers=0), None, "no worker is alive"),
        (seen(consumers=0), roster(a="ours"), "no worker is alive"),  # it has gone since
        (replace(seen(consumers=0), may_run=True), None, "no worker responds to remote control"),
        (replace(seen(consumers=1), asked_by=None), None, "no worker responds"),
        (seen(consumers=1), None, "no worker responds to remote control"),
        (seen(), None, "no worker responds to remote control"),  # the client list could not be read
        (seen("a"), roster(a="ours"), None),
        (seen("a", "b"), roster(a="another", b="ours"), None),
        (seen("a"), roster(a="another"), "no worker consumes ours"),
        (seen("a"), None, None),  # nobody has asked yet
        (seen("a", "b"), roster(a="another"), None),  # of the one that has come nothing is known
        (seen("a", silent=1), roster(a="another"), None),  # nor of one that is silent
        (seen(silent=1), None, None),
    ],
)
def test_standstill(survey: WorkerSurvey, known: WorkerRoster | None, told: str | None) -> None:
    assert standstill(survey, known, queue="ours") == told
