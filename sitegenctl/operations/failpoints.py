"""The moments between the parts of a mutation, at which a process may die and nothing may be lost.

Nothing happens at any of them: crash tests put a kill there.
"""

from __future__ import annotations

from enum import StrEnum


class Checkpoint(StrEnum):
    """What has just been completed, for the orders of one chunk."""

    LOOKED = "looked"  # the queue was read once more
    CLAIMED = "claimed"  # the database has the new status and the journal
    WITHDRAWN = "withdrawn"  # the tasks to take away are gone
    TRASHED = "trashed"  # the files are in the trash
    PUBLISHED = "published"  # the new tasks are in the queue
    PUT_BACK = "put_back"  # orphaned tasks are in the queue again
    TAKEN_BACK = "taken_back"  # what failed has been restored
    LOCKED = "locked"  # maintenance holds its lock
    STEPPED = "stepped"  # one step of maintenance is done


def reached(checkpoint: Checkpoint) -> None:
    """Pass a checkpoint."""
