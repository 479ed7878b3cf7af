"""A real standby is read, never changed, and not trusted about missing orders."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sitegenctl.demo.servers.postgres import PrivatePostgres
from sitegenctl.demo.servers.unprivileged import existing_home, unprivileged_account
from tests.support.databases import create_schema, forget
from tests.support.world import World


@pytest.fixture
def standby(world: World) -> Iterator[World]:
    """The same system, its database a server in recovery."""
    with tempfile.TemporaryDirectory(prefix="sitegenctl-standby-") as name:
        folder = Path(name) / "postgres"
        try:
            url = PrivatePostgres(folder, durable=False).start().url
            asyncio.run(create_schema(url))
            system = replace(world, database_url=url)
            system.order(42)
            forget(url)
            PrivatePostgres(folder).stop()
            signal = existing_home(folder, unprivileged_account()) / "data" / "standby.signal"
            signal.touch()
            signal.chmod(0o666)  # PostgreSQL may run as another account
            PrivatePostgres(folder, durable=False).start()
            yield system
            forget(url)
        finally:
            PrivatePostgres(folder).remove()


def test_standby_is_read_and_never_changed(standby: World) -> None:
    environ = {"DATABASE_URL": standby.database_url}
    task_id = standby.publish(43)  # an order that has not arrived here

    assert standby.run("inspect", "42", **environ).returncode == 0
    order = standby.with_session(lambda session: session.orders.read_orders([42]))[42]
    assert order.run_lock_held is None  # a standby does not know the locks of its primary
    assert standby.with_session(lambda session: session.orders.is_authoritative()) is False

    for command in (["enqueue", "42"], ["repair"], ["cancel", "42"], ["maintain"], ["queue", "purge"]):
        for flags in (["--dry-run"], ["--yes"]):
            ran = standby.run(*command, *flags, **environ)
            assert ran.returncode == 3, ran
            assert "the database is a standby" in ran.stdout + ran.stderr
    health = standby.run("doctor", "--quick", "-o", "json", **environ)
    assert health.returncode == 5
    (check,) = [each for each in json.loads(health.stdout)["data"]["checks"] if each["name"] == "postgresql"]
    assert (check["status"], "standby" in check["evidence"][0]) == ("failed", True)
    assert standby.queued_ids() == [task_id]
