"""What a check is, how a check-up ends, and the words that checks share.

The judgments themselves are in ``health_servers.py`` (Redis, PostgreSQL, files) and ``health_work.py`` (workers,
queue, orders); what was measured for them is in ``probes.py``. Nothing here measures anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Hint


class CheckStatus(StrEnum):
    """What came of one check."""

    OK = "ok"
    WARNING = "warning"  # it works, but it is unwise or about to break
    FAILED = "failed"
    UNCHECKED = "unchecked"  # it could not be looked at: never counts as passed


class CheckName(StrEnum):
    """Every check, in the order in which a check-up tells of them."""

    REDIS = "redis"
    PERSISTENCE = "redis persistence"
    EVICTION = "redis eviction"
    POSTGRES = "postgresql"
    SCHEMA = "schema"
    CLOCKS = "clocks"
    WORKER = "worker"
    WORKER_QUEUE = "worker queue"
    WORKER_TASK = "worker task"
    LIMITS = "time limits"
    SCHEDULER = "scheduler"
    VISIBILITY = "visibility timeout"
    PROGRESS = "queue progress"
    SERIALIZATION = "serialization"
    LEFTOVERS = "leftovers"
    BACKEND = "backend"
    BEAT = "beat"
    ORDERS = "orders"
    DIRECTORY = "sites directory"
    FINISHED_SITES = "finished sites"
    DISK = "disk space"


#: What there is to check of a Celery queue, and of one of RQ's, where no message is delivered twice because of a
#: timeout, nobody asks workers for replies, and beat is not there.
CELERY_CHECKS = tuple(name for name in CheckName if name is not CheckName.SCHEDULER)
RQ_CHECKS = tuple(name for name in CheckName if name not in (CheckName.VISIBILITY, CheckName.LEFTOVERS, CheckName.BEAT))


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what came of it, what was seen (most telling first), and what mends it.

    ``remedy`` is a command to type or, where none exists, an instruction; None when nothing needs mending.
    ``source`` is where it looked. ``unreachable`` says that the source itself did not answer.
    """

    name: CheckName
    status: CheckStatus
    evidence: tuple[str, ...]
    source: Source
    remedy: Hint | None = None
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckUp:
    """All checks of one run."""

    checks: Sequence[Check]
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """3 when a source can't be reached, 5 for a failed check (with ``strict`` also a warning), else 0."""
        if any(check.unreachable for check in self.checks):
            return 3
        bad = {CheckStatus.FAILED, CheckStatus.WARNING} if self.strict else {CheckStatus.FAILED}
        return 5 if any(check.status in bad for check in self.checks) else 0

    @property
    def summary(self) -> str:
        """The whole in one line, as in ``unhealthy: 2 failed, 1 warning, 3 could not be checked``."""
        counts = Counter(check.status for check in self.checks)
        told = [
            _count(counts[CheckStatus.FAILED], "failed", "failed"),
            _count(counts[CheckStatus.WARNING], "warning", "warnings"),
            _count(counts[CheckStatus.UNCHECKED], "could not be checked", "could not be checked"),
        ]
        if self.exit_code == 0:
            told.insert(0, _count(counts[CheckStatus.OK], "check passed", "checks passed"))
        verdict = "unhealthy" if self.exit_code else "healthy"
        return f"{verdict}: " + (", ".join(part for part in told if part) or "nothing was checked")


@dataclass(frozen=True, kw_only=True)
class WorkerCommands:
    """The commands that bring up a part of the system: what to type depends on how it is deployed."""

    redis: str = "docker start crm-redis"
    postgres: str = "docker start crm-postgres"
    worker: str = "docker start crm-celery-worker"
    # As long as a generation may take: what is killed before its end lies in `unacked` until the timeout.
    restart_worker: str = "docker restart --time 620 crm-celery-worker"
    beat: str | None = "docker ps --all --filter name=crm-celery-beat"
    restart_beat: str | None = "docker restart crm-celery-beat"


#: The same of a system on RQ.
RQ_COMMANDS = WorkerCommands(
    worker="docker start crm-rq-worker",
    restart_worker="docker restart --time 620 crm-rq-worker",
    beat=None,
    restart_beat=None,
)

#: For the demo's own stack, where one command starts whatever isn't running.
DEMO_COMMANDS = WorkerCommands(
    redis="sitegenctl demo up",
    postgres="sitegenctl demo up",
    worker="sitegenctl demo up",
    restart_worker="kill the worker (sitegenctl demo status tells its number), then sitegenctl demo up",
    beat=None,
    restart_beat=None,
)


@dataclass(frozen=True, kw_only=True)
class DeploymentCommands:
    """How the servers that were looked at are reached, as remedies say it; a password is never in it.

    ``redis_cli`` and ``psql`` are the beginnings of commands, ``worker`` that of one beside a worker. The others name
    the settings that point there.
    """

    redis_cli: str = 'redis-cli -u "$REDIS_URL"'
    psql: str = 'psql "$DATABASE_URL"'
    worker: str = "docker exec crm-celery-worker"
    redis_url: str = "REDIS_URL"
    database_url: str = "DATABASE_URL"
    sites_dir: str = "SITES_BASE_DIR"


def ok(name: CheckName, source: Source, *evidence: str) -> Check:
    """A check that passed."""
    return Check(name=name, status=CheckStatus.OK, evidence=evidence, source=source)


def warning(name: CheckName, source: Source, *evidence: str, remedy: Hint) -> Check:
    """A check that found something unwise."""
    return Check(name=name, status=CheckStatus.WARNING, evidence=evidence, source=source, remedy=remedy)


def failed(name: CheckName, source: Source, *evidence: str, remedy: Hint, unreachable: bool = False) -> Check:
    """A check that found something broken; ``unreachable`` when it is the source itself."""
    return Check(
        name=name,
        status=CheckStatus.FAILED,
        evidence=evidence,
        source=source,
        remedy=remedy,
        unreachable=unreachable,
    )


def unchecked(name: CheckName, source: Source, *evidence: str, remedy: Hint | None = None) -> Check:
    """A check that could not be made."""
    return Check(name=name, status=CheckStatus.UNCHECKED, evidence=evidence, source=source, remedy=remedy)


def listed(names: Collection[object], *, limit: int = 5) -> str:
    """The first few, and how many more there are."""
    shown = [str(name) for name in names][:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 message``, ``2 messages``; ``many`` where an s is not enough."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _count(number: int, one: str, many: str) -> str:
    return counted(number, one, many) if number else ""
