"""Texts that differ between backends; each backend package provides its own."""

from __future__ import annotations

from dataclasses import dataclass


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
