"""Errors of database connections: locks, poolers, missing privileges."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.errors import SourceError
from tests.support.poolers import pgbouncer
from tests.support.world import World


def test_locked_table_is_not_reported_as_unreachable(world: World) -> None:
    async def scenario() -> None:
        migration = await asyncpg.connect(world.database_url)
        store = PostgresOrders(world.database_url, timeout=1)
        try:
            await migration.execute("BEGIN; LOCK TABLE site_orders")
            with pytest.raises(SourceError, match="a table is locked by another transaction"):
                await store.read_orders([42])
            await migration.execute("ROLLBACK")
            assert await store.read_orders([42]) == {}
        finally:
            await store.close()
            await migration.close()

    asyncio.run(scenario())


def test_pooler_refusal_is_not_reported_as_unreachable(world: World) -> None:
    with pgbouncer(world.database_url, "transaction") as url:
        ran = world.run("doctor", "--quick", DATABASE_URL=f"{url}?work_mem=4MB")
    assert "the pooler refused: unsupported startup parameter: work_mem" in ran.stdout
    assert "docker start crm-postgres" not in ran.stdout


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER ROLE {role} SET statement_timeout = '1ms'", "the database canceled the query: canceling statement"),
        ("ALTER TABLE site_orders ENABLE ROW LEVEL SECURITY", "hides rows of site_orders from role {role}"),
        (
            "ALTER TABLE site_onboardings ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY mine ON site_onboardings USING (true)",
            "hides rows of site_onboardings from role {role}",
        ),
        ("REVOKE SELECT ON site_orders FROM {role}", "permission denied for table site_orders"),
    ],
    ids=["statement timeout", "row security", "row security that shows all", "grant"],
)
def test_refusals_are_distinguished(world: World, statement: str, message: str) -> None:
    world.order(42)
    with clerk(world) as (role, url):
        for each in statement.format(role=role).split("; "):
            world.sql(each)

        async def scenario() -> None:
            store = PostgresOrders(url, timeout=5)
            try:
                await store.read_orders(range(1, 20_000))
            finally:
                await store.close()

        with pytest.raises(SourceError, match=re.escape(message.format(role=role))) as caught:
            asyncio.run(scenario())
    assert caught.value.hint is not None


GRANTS = (
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT UPDATE (status, updated_at) ON site_orders TO {role}",
    "GRANT INSERT ON site_generation_logs TO {role}",
    "GRANT USAGE ON SEQUENCE site_generation_logs_id_seq TO {role}",
)


@contextmanager
def clerk(world: World) -> Iterator[tuple[str, str]]:
    """A role that may do just what the console does, and the URL for it."""
    role = f"clerk_{os.getpid()}"
    world.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        for grant in GRANTS:
            world.sql(grant.format(role=role))
        server = urlsplit(world.database_url)
        yield role, server._replace(netloc=f"{role}:pw@{server.hostname}:{server.port}").geturl()
    finally:
        world.sql(f"DROP OWNED BY {role}")
        world.sql(f"DROP ROLE {role}")


def writable(url: str) -> bool:
    """Whether ``require_writable`` lets a command go on; returns what ``is_authoritative`` says."""

    async def scenario() -> bool:
        store = PostgresOrders(url, timeout=5)
        try:
            await store.require_writable()
            return await store.is_authoritative()
        finally:
            await store.close()

    return asyncio.run(scenario())


def test_documented_grants_are_sufficient(world: World) -> None:
    world.order(42)
    with clerk(world) as (_, url):
        assert writable(url)
        assert world.run("enqueue", "42", DATABASE_URL=url).returncode == 0
    assert world.status() == "GENERATING"


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("statement", "code", "reason"),
    [
        ("ALTER ROLE {role} SET default_transaction_read_only = on", 3, "it is read-only for role {role}"),
        ("ALTER TABLE site_orders ENABLE ROW LEVEL SECURITY", 3, "hides rows of site_orders from role {role}"),
        ("REVOKE UPDATE (status) ON site_orders FROM {role}", 4, "UPDATE (status) ON site_orders"),
        ("REVOKE INSERT ON site_generation_logs FROM {role}", 4, "INSERT (order_id, step, message, status, details)"),
        ("REVOKE USAGE ON SEQUENCE site_generation_logs_id_seq FROM {role}", 4, "site_generation_logs_id_seq"),
        ("ALTER TABLE site_orders ALTER updated_at TYPE date", 4, "site_orders.updated_at is date"),
        ("ALTER TYPE siteorderstatus RENAME VALUE 'REVIEW' TO 'DONE'", 4, "siteorderstatus lacks the label REVIEW"),
    ],
)
@pytest.mark.parametrize("command", ["enqueue 42", "repair", "maintain", "queue purge", "start-stuck"])
def test_missing_write_access_is_reported_before_planning(
    world: World, command: str, statement: str, code: int, reason: str, flags: list[str]
) -> None:
    world.order(42)
    world.publish(43)
    with clerk(world) as (role, url):
        world.sql(statement.format(role=role))
        ran = world.run(
            *command.split(), *flags, *([] if flags or command == "maintain" else ["--yes"]), DATABASE_URL=url
        )
        assert (ran.returncode, reason.format(role=role) in ran.stdout + ran.stderr) == (code, True), ran
        health = world.run("doctor", "-o", "json", DATABASE_URL=url)
        assert (health.returncode, reason.format(role=role) in health.stdout) == (5, True), health
    assert world.steps() == []
    assert len(world.queued()) == 1


def test_read_only_dry_run_works_on_a_primary(world: World) -> None:
    world.order(42)
    for command in (["enqueue", "42"], ["repair"], ["maintain"]):
        ran = world.run("--read-only", *command, "--dry-run")
        assert ran.returncode == 0, ran.stderr


def test_read_only_copy_is_not_authoritative(world: World) -> None:
    with clerk(world) as (role, url):
        world.sql(f"ALTER ROLE {role} SET default_transaction_read_only = on")

        async def ask() -> bool:
            store = PostgresOrders(url, timeout=5)
            try:
                return await store.is_authoritative()
            finally:
                await store.close()

        assert asyncio.run(ask()) is False
