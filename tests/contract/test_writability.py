"""Whether Redis accepts writes is checked before anything changes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from sitegenctl.errors import SourceError
from tests.support.servers import free_port, server
from tests.support.world import World, eventually


def require_writable(system: World, url: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        system.ask(lambda queue: queue.require_writable(), redis_url=url)
    return caught.value


def test_writable_redis_is_not_changed(system: World) -> None:
    system.publish(1)
    before = system.dumped()
    system.ask(lambda queue: queue.require_writable())
    assert system.dumped() == before


def _out_of_memory(client: Redis, folder: Path) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "100kb")


def _replica(client: Redis, folder: Path) -> None:
    client.replicaof("127.0.0.1", free_port())


def _disk_full(client: Redis, folder: Path) -> None:
    client.config_set("save", "3600 1")
    client.set("key", "value")
    shutil.rmtree(folder)
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] != "ok")


def _too_few_replicas(client: Redis, folder: Path) -> None:
    client.config_set("min-replicas-to-write", 1)


@pytest.mark.parametrize(
    ("refuse", "cause", "hint"),
    [
        (_out_of_memory, "out of memory", "maxmemory"),
        (_replica, "replica", "primary"),
        (_disk_full, "disk", "disk"),
        (_too_few_replicas, "too few replicas", "min-replicas-to-write"),
    ],
)
def test_cause_of_refused_writes_is_named(
    system: World, tmp_path: Path, refuse: Callable[[Redis, Path], None], cause: str, hint: str
) -> None:
    folder, port = tmp_path / "redis", free_port()
    folder.mkdir()
    url = f"redis://127.0.0.1:{port}/0"
    with server("--port", str(port), "--dir", str(folder), "--save", "", url=url), Redis.from_url(url) as client:
        refuse(client, folder)
        refusal = require_writable(system, url)
        keys = client.keys()
    assert refusal.source == "broker"
    assert cause in refusal.message
    assert hint in (refusal.hint or "")
    assert b"site_generation" not in b" ".join(keys)


def test_missing_write_permission_is_named(system: World) -> None:
    url = re.sub("//(.*@)?", "//reader:secret@", system.redis_url, count=1)
    with system.redis() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@read", "+select")
        try:
            refusal = require_writable(system, url)
        finally:
            client.execute_command("ACL", "DELUSER", "reader")
    assert "does not let this user execute LPUSHX" in refusal.message
    assert "ACL SETUSER" in (refusal.hint or "")
