"""What the checks expect of the system: its queue and task, its deployment, and the texts of its backend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sitegenctl.domain.diagnosis.remedy import Remedy, ShellCommand


@dataclass(frozen=True, kw_only=True)
class BackendTexts:
    """Texts about workers and the queue that depend on the backend.

    ``paused`` and ``resumed`` are notes on a queue that was paused or resumed, ``unattended`` is the note if there was
    no worker. ``silence`` is why a connected worker may not respond, ``patience`` what to do then. ``consuming`` is the
    option that makes a worker consume ``{queue}``. ``limits`` sets the system's time limits, ``serialization`` fixes
    messages in another format than the workers', and ``unreadable`` is what workers do with them.
    """

    paused: str
    resumed: str
    unattended: str
    silence: str
    patience: str
    consuming: str
    limits: str
    serialization: str
    unreadable: str


#: How often beat sends its message.
BEAT_INTERVAL = timedelta(seconds=120)


@dataclass(frozen=True, kw_only=True)
class DeploymentCommands:
    """How the parts of the system are started and reached. No password is in it.

    ``redis_cli``, ``psql`` and ``in_worker`` are the beginnings of commands. ``redis_url``, ``database_url`` and
    ``sites_dir`` name the settings to correct. ``show_beat`` and ``restart_beat`` are None where there is no beat.
    """

    start_redis: Remedy
    start_postgres: Remedy
    start_worker: Remedy
    restart_worker: Remedy
    show_beat: Remedy | None = None
    restart_beat: Remedy | None = None
    redis_cli: ShellCommand
    psql: ShellCommand
    in_worker: ShellCommand
    redis_url: str
    database_url: str
    sites_dir: str


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
