"""Whether Redis accepts writes is checked before anything changes."""

from __future__ import annotations

import json
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


_REFUSALS = pytest.mark.parametrize(
    ("refuse", "cause", "hint"),
    [
        (_out_of_memory, "out of memory", "maxmemory"),
        (_replica, "replica", "primary"),
        (_disk_full, "disk", "disk"),
        (_too_few_replicas, "too few replicas", "min-replicas-to-write"),
    ],
)


@_REFUSALS
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


@pytest.mark.parametrize("command", ["repair", "enqueue 42", "reset 42", "maintain"])
def test_dry_run_predicts_that_redis_refuses(system: World, tmp_path: Path, command: str) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    system.order(42, "GENERATING")
    with server("--port", str(port), "--dir", str(tmp_path), "--save", "", url=url), Redis.from_url(url) as client:
        _too_few_replicas(client, tmp_path)
        arguments = (*command.split(), "-o", "json", *([] if command == "maintain" else ["--yes"]))
        runs = [system.run(*arguments, *dry_run, REDIS_URL=url) for dry_run in (["--dry-run"], [])]
    dry, real = (json.loads(run.stdout) for run in runs)
    assert "too few replicas" in json.dumps(dry["errors"])
    assert dry["errors"] == real["errors"]
    assert runs[0].returncode == runs[1].returncode != 0
    assert (system.status(), system.steps()) == ("GENERATING", [])


@_REFUSALS
def test_workers_do_not_hang_where_redis_refuses_writes(
    system: World, tmp_path: Path, refuse: Callable[[Redis, Path], None], cause: str, hint: str
) -> None:
    folder, port = tmp_path / "redis", free_port()
    folder.mkdir()
    system.order(42, "GENERATING")
    system.redis_url = f"redis://127.0.0.1:{port}/0"
    with (
        server("--port", str(port), "--dir", str(folder), "--save", "", url=system.redis_url),
        system.redis() as client,
    ):
        system.publish(42)
        system.deliver(**({"late": -60} if system.backend == "rq" else {}))
        refuse(client, folder)
        for command in ("inspect", "inspect workers", "inspect 42", "doctor"):
            ran = system.run(*command.split(), REDIS_URL=system.redis_url)
            shown = ran.stdout + ran.stderr
            assert re.search(f"no worker can (be asked|send heartbeats): .*{cause}", shown), (command, shown)
            assert hint in shown, (command, shown)
            assert "hangs" not in shown, (command, shown)
            assert "respond" not in shown, (command, shown)
            assert ran.returncode == (5 if command == "doctor" else 3), (command, shown)


def test_missing_write_permission_is_named(system: World) -> None:
    url = re.sub("//(.*@)?", "//reader:secret@", system.redis_url, count=1)
    with system.redis() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@read", "+select")
        try:
            refusal = require_writable(system, url)
        finally:
            client.execute_command("ACL", "DELUSER", "reader")
    assert "does not let the user reader execute LPUSHX" in refusal.message
    assert "ACL SETUSER" in (refusal.hint or "")
