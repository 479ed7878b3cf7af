"""Which queue and task are ours, and kombu's layout of them in Redis."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sitegenctl.domain.queue.task import DEFAULT_HARD_LIMIT, DEFAULT_RECONNECT

_PIDBOX = "celery.pidbox"


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Which queue and task are ours, and kombu's transport options.

    ``hard_limit`` is the time limit where neither a message nor a worker names one, ``reconnect_time`` how long after
    a restart of Redis workers may still be reconnecting. ``fanout_prefix`` is kombu's text for it, empty for its
    False. ``sentinel_master`` is kombu's ``master_name``, ``sentinel_password`` that of the sentinels.
    """

    queue: str = "site_generation"
    task: str = "app.tasks.site_generation.generate_site_task"
    global_keyprefix: str = ""
    sep: str = "\x06\x16"
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    visibility_timeout: timedelta = timedelta(hours=1)
    fanout_prefix: str = "/{db}."
    hard_limit: timedelta = DEFAULT_HARD_LIMIT
    reconnect_time: timedelta = DEFAULT_RECONNECT
    sentinel_master: str | None = None
    sentinel_password: str | None = None

    @property
    def lists(self) -> tuple[str, ...]:
        """The keys of the queue's lists, in the order in which they are served."""
        return tuple(self.list_for(self.queue, step) for step in self.priority_steps)

    def list_for(self, queue: str, priority: int) -> str:
        """The key of the list of a queue's messages with this priority."""
        step = self.priority_steps[bisect(self.priority_steps, priority) - 1]
        return self.global_keyprefix + (f"{queue}{self.sep}{step}" if step else queue)

    @property
    def unacked(self) -> str:
        """The key of the hash of delivered and unacknowledged messages."""
        return self.global_keyprefix + self.unacked_key

    @property
    def unacked_index(self) -> str:
        """The key of the sorted set of their delivery times."""
        return self.global_keyprefix + self.unacked_index_key

    def result_keys(self, task_id: str) -> tuple[str, ...]:
        """The keys that the task's result may have: Celery's prefix for results is another setting than kombu's."""
        plain = f"celery-task-meta-{task_id}"
        return (plain, self.global_keyprefix + plain) if self.global_keyprefix else (plain,)

    def control_channels(self, database: int, *, sentinel: bool) -> tuple[str, ...]:
        """The channels on which workers listen for remote control.

        With sentinels kombu before 5.4 leaves the placeholder for the database's number as it is.
        """
        filled = self.fanout_prefix.format(db=database)
        prefixes = dict.fromkeys((filled, self.fanout_prefix) if sentinel else (filled,))
        return tuple(f"{self.global_keyprefix}{prefix}{_PIDBOX}" for prefix in prefixes)

    @property
    def transport_options(self) -> dict[str, Any]:
        """The options as kombu takes them."""
        return {
            "global_keyprefix": self.global_keyprefix,
            "sep": self.sep,
            "priority_steps": list(self.priority_steps),
            "unacked_key": self.unacked_key,
            "unacked_index_key": self.unacked_index_key,
            "visibility_timeout": int(self.visibility_timeout.total_seconds()),
            "fanout_prefix": self.fanout_prefix,
            **self.result_options,
        }

    @property
    def result_options(self) -> dict[str, Any]:
        """The options of Celery's result backend."""
        if self.sentinel_master is None:
            return {}
        sentinel_kwargs = {"password": self.sentinel_password} if self.sentinel_password else {}
        return {"master_name": self.sentinel_master, "sentinel_kwargs": sentinel_kwargs}
