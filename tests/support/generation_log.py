"""Writing the generation log: runs of every kind, at known ages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tests.support.world import World


class Log:
    """Writes rows of the log, in the order in which they are told."""

    def __init__(self, world: World) -> None:
        self._world = world

    def rows(self, order_id: int, rows: Sequence[tuple[str, float]], *, message: str = "") -> None:
        """Steps and how many seconds ago they were written; ``message`` is for those that are an ERROR."""
        self._world.sql(
            "INSERT INTO site_generation_logs (order_id, step, message, status, created_at)"
            " SELECT $1, step, CASE step WHEN 'ERROR' THEN $2::text ELSE step END, 'info', localtimestamp - age"
            " FROM unnest($3::text[], $4::interval[]) WITH ORDINALITY AS row(step, age, place) ORDER BY place",
            order_id,
            message,
            [step for step, _ in rows],
            [timedelta(seconds=age) for _, age in rows],
        )

    def run(self, order_id: int, *, ago: float, seconds: float = 40, error: str | None = None) -> None:
        """A run that ended so many seconds ago and took so many."""
        began = ago + seconds
        made = [("START", began), ("PHASE_1_START", began - 1), ("FETCH_DATA", ago + seconds / 2)]
        if error is None:
            made += [("WRITE_FILES", ago + 2), ("FINALIZE", ago + 1)]
        self.rows(order_id, [*made, ("SUCCESS" if error is None else "ERROR", ago)], message=error or "")
