"""Parse what Redis replies to CLIENT LIST and INFO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Client:
    """A line of CLIENT LIST; ``fields`` are all its fields as text."""

    id: int
    address: str
    database: int
    flags: str
    command: str
    fields: Mapping[str, str]

    @property
    def is_blocked(self) -> bool:
        """Whether it waits in a blocking command."""
        return "b" in self.flags

    @property
    def is_server(self) -> bool:
        """Whether it is a replica or a primary rather than a client."""
        return not {"S", "M"}.isdisjoint(self.flags)


def read_clients(listing: object) -> list[Client] | None:
    """Parse a reply to CLIENT LIST; None if any line is invalid, so that no client is overlooked."""
    if not isinstance(listing, bytes):
        return None
    clients = []
    for line in listing.splitlines():
        if not line.strip():
            continue
        fields = dict(word.decode(errors="replace").split("=", 1) for word in line.split() if b"=" in word)
        try:
            number, database = int(fields["id"]), int(fields["db"])
            clients.append(
                Client(
                    id=number,
                    address=fields.get("addr", ""),
                    database=database,
                    flags=fields["flags"],
                    command=fields["cmd"].lower(),
                    fields=fields,
                )
            )
        except (KeyError, ValueError):
            return None
    return clients


def uptime_in(info: object) -> timedelta | None:
    """The uptime in a reply to ``INFO server``; None if it is missing."""
    seconds = re.search(rb"uptime_in_seconds:(\d{1,10})", info) if isinstance(info, bytes) else None
    return timedelta(seconds=int(seconds[1])) if seconds is not None else None
