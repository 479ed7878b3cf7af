"""What the checks expect of the system: its queue and task, its deployment, and the texts of its backend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.remedy import Remedy, ShellCommand


@dataclass(frozen=True, kw_only=True)
class BackendTexts:
    """Texts about workers and the queue that depend on the backend."""

    paused: str  # note on a paused queue
    resumed: str  # note on a resumed queue
    unattended: str  # note if there was no worker
    silence: str  # why a connected worker may not respond
    patience: str  # what to do then
    consuming: str  # the option that makes a worker consume `{queue}`
    limits: str  # how to set the system's time limits
    serialization: str  # how to fix messages in another format than the workers'
    unreadable: str  # what workers do with such messages


#: How often beat sends its message.
BEAT_INTERVAL = timedelta(seconds=120)


@dataclass(frozen=True, kw_only=True)
class DeploymentCommands:
    """How the parts of the system are started and reached. No password is in it."""

    start_redis: Remedy
    start_postgres: Remedy
    start_worker: Remedy
    restart_worker: Remedy
    show_beat: Remedy | None = None  # None where there is no beat
    restart_beat: Remedy | None = None  # None where there is no beat
    redis_cli: ShellCommand  # the beginning of a command
    psql: ShellCommand  # the beginning of a command
    in_worker: ShellCommand  # the beginning of a command
    redis_url: str  # the name of the setting
    database_url: str  # the name of the setting
    sites_dir: str  # the name of the setting


@dataclass(frozen=True, kw_only=True)
class System:
    """The system that is checked; ``keyprefix`` is kombu's ``global_keyprefix``."""

    queue: str
    task: str
    commands: DeploymentCommands
    texts: BackendTexts
    keyprefix: str = ""
    read_only: bool = False
    beat_interval: timedelta = BEAT_INTERVAL
