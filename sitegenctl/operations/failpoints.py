"""Points between the parts of a mutation at which a process may die without losing anything.

Nothing happens at any of them; crash tests kill the process there.
"""

from __future__ import annotations

from enum import StrEnum


class Failpoint(StrEnum):
    """What has just been completed, for the orders of one batch."""

    RECHECKED = "rechecked"  # the queue was read again
    APPLIED = "applied"  # the database has the new status and the journal
    REVOKED = "revoked"  # the tasks to remove are gone
    TRASHED = "trashed"  # the files are in the trash
    UNTRASHED = "untrashed"  # the files are back from the trash
    UNDONE = "undone"  # the database has the status from before, once tasks and files are as before
    PUBLISHED = "published"  # the new tasks are in the queue
    REQUEUED = "requeued"  # orphaned tasks are in the queue again
    ROLLED_BACK = "rolled_back"  # what failed has been restored
    LOCKED = "locked"  # maintenance holds its lock
    STEP_DONE = "step_done"  # one step of maintenance is done


def reached(failpoint: Failpoint) -> None:
    """Pass a failpoint."""
