"""Publishing jobs to an RQ queue in bulk, under ids chosen before.

A job is written and queued in one transaction, many jobs in one round trip. Where a job of that id has been before
(finished, failed, cancelled), nothing of it stays: RQ would write over it, and the time at which Redis forgets the
old one would come for the new one as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sitegenctl.adapters.redis.client import Command
from sitegenctl.adapters.redis.connection import Link
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.rq.job import ACTOR_FIELD, ENQUEUED_AT_FIELD, ORDER_FIELD, RETRIES_FIELD
from sitegenctl.adapters.rq.library import RqLibrary
from sitegenctl.adapters.rq.options import RqOptions
from sitegenctl.domain.ports import PublishFailure
from sitegenctl.domain.queue.defaults import RETRIES
from sitegenctl.domain.queue.task import Publication
from sitegenctl.errors import SourceError, UsageProblem

#: Jobs in one transaction: Redis is busy with it for a millisecond or two.
_AT_ONCE = 100


async def publish(
    link: Link, library: RqLibrary, options: RqOptions, publications: Sequence[Publication]
) -> Mapping[str, PublishFailure]:
    """Publish under exactly the given ids; returns the failure of each id that failed.

    Where RQ can't write jobs as it was told to, all fail for certain: their orders are claimed by now, and have to be
    given back. When the connection is lost on the way, it isn't known which arrived: all that were not confirmed are
    reported.
    """
    failures: dict[str, PublishFailure] = {}
    try:
        written = [(publication.task_id, _commands_of(publication, library, options)) for publication in publications]
    except UsageProblem as exc:
        return {each.task_id: PublishFailure(reason=exc.message, certain=True) for each in publications}
    for start in range(0, len(publications), _AT_ONCE):
        jobs = written[start : start + _AT_ONCE]
        commands = [command for _, job in jobs for command in job]
        try:
            *queued, done = await link.execute(("MULTI",), *commands, ("EXEC",), keep_refusals=True)
        except SourceError as exc:
            lost = publications[start:]
            return failures | {each.task_id: PublishFailure(reason=exc.message, certain=False) for each in lost}
        if not isinstance(done, list):
            # It says of the command that it would not take why; then it has done none of them.
            why = next((reply for reply in queued if isinstance(reply, Refusal)), done)
            failures |= {task_id: PublishFailure(reason=why.message, certain=True) for task_id, _ in jobs}
            continue
        replies = iter(done)
        for task_id, job in jobs:
            failure = _failure([next(replies) for _ in job])
            if failure is not None:
                failures[task_id] = failure
    return failures


def _commands_of(publication: Publication, library: RqLibrary, options: RqOptions) -> list[Command]:
    """What publishes one job; the last of them puts it into the queue."""
    job_id = publication.task_id
    histories = (options.finished, options.failed, options.canceled, options.scheduled, options.deferred)
    *writing, queueing = library.publication(publication)
    return [
        ("DEL", options.job(job_id)),
        *(("ZREM", history, job_id) for history in histories),
        *writing,
        (
            "HSET",
            options.job(job_id),
            *(ORDER_FIELD, publication.order_id),
            *(ENQUEUED_AT_FIELD, publication.enqueued_at.isoformat()),
            *(ACTOR_FIELD, publication.actor),
            *(RETRIES_FIELD, RETRIES),
        ),
        queueing,
    ]


def _failure(replies: Sequence[Any]) -> PublishFailure | None:
    """Why a job was not published, from the replies to its commands."""
    refused = next((reply for reply in replies if isinstance(reply, Exception)), None)
    if refused is None:
        return None
    # What is in the queue, without its job written as it should be, a worker passes over or fails.
    return PublishFailure(reason=str(refused), certain=isinstance(replies[-1], Exception))
