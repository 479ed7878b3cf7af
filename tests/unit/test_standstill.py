from __future__ import annotations

from dataclasses import replace

import pytest

from sitegenctl.domain.queue.worker import Worker, WorkerDetails, WorkerRoster, WorkerSurvey, standstill


def survey_of(*names: str, silent: int = 0, consumers: int | None = None) -> WorkerSurvey:
    return WorkerSurvey(workers=tuple(Worker(name=name) for name in names), silent=silent, consumers=consumers)


def roster(**queues: str) -> WorkerRoster:
    return WorkerRoster(workers=tuple(WorkerDetails(name=name, queues=(queue,)) for name, queue in queues.items()))


@pytest.mark.parametrize(
    ("survey", "known", "expected"),
    [
        (survey_of(consumers=0), None, "no worker is alive"),
        (survey_of(consumers=0), roster(a="ours"), "no worker is alive"),  # it stopped since
        (replace(survey_of(consumers=0), may_run=True), None, "no worker responds to remote control"),
        (replace(survey_of(consumers=1), asked_by=None), None, "no worker responds"),
        (survey_of(consumers=1), None, "no worker responds to remote control"),
        (survey_of(), None, "no worker responds to remote control"),  # the client list could not be read
        (survey_of("a"), roster(a="ours"), None),
        (survey_of("a", "b"), roster(a="another", b="ours"), None),
        (survey_of("a"), roster(a="another"), "no worker consumes ours"),
        (survey_of("a"), None, None),  # the roster was not read yet
        (survey_of("a", "b"), roster(a="another"), None),  # the details of the new worker are unknown
        (survey_of("a", silent=1), roster(a="another"), None),  # nor are those of a silent one
        (survey_of(silent=1), None, None),
    ],
)
def test_standstill(survey: WorkerSurvey, known: WorkerRoster | None, expected: str | None) -> None:
    assert standstill(survey, known, queue="ours") == expected
