"""Errors of database connections: locks, poolers, missing privileges."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import asyncpg
import pytest

from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.errors import SourceError
from tests.support.servers import pgbouncer
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
        clerks = replace(world, database_url=url)
        with pytest.raises(SourceError, match=re.escape(message.format(role=role))) as caught:
            clerks.with_session(lambda session: session.orders.read_orders(range(1, 20_000)))
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


def test_documented_grants_are_sufficient(world: World) -> None:
    world.order(42)
    with clerk(world) as (_, url):
        assert world.run("enqueue", "42", DATABASE_URL=url).returncode == 0
    assert world.status() == "GENERATING"


REFUSED = ("REVOKE UPDATE (status) ON site_orders FROM {role}", 4, "UPDATE (status) ON site_orders")


@pytest.mark.parametrize(
    ("command", "statement", "code", "reason"),
    [
        *((command, *REFUSED) for command in ("enqueue 42", "enqueue 42 --dry-run", "repair", "repair --dry-run")),
        *((command, *REFUSED) for command in ("maintain", "maintain --dry-run", "queue purge", "start-stuck")),
        *(
            ("enqueue 42", *each)
            for each in (
                ("ALTER ROLE {role} SET default_transaction_read_only = on", 3, "it is read-only for role {role}"),
                ("ALTER TABLE site_orders ENABLE ROW LEVEL SECURITY", 3, "hides rows of site_orders from role {role}"),
                ("REVOKE INSERT ON site_generation_logs FROM {role}", 4, "INSERT (order_id, step, message, status"),
                ("REVOKE USAGE ON SEQUENCE site_generation_logs_id_seq FROM {role}", 4, "site_generation_logs_id_seq"),
                ("ALTER TABLE site_orders ALTER updated_at TYPE date", 4, "site_orders.updated_at is date"),
                ("ALTER TYPE siteorderstatus RENAME VALUE 'REVIEW' TO 'DONE'", 4, "lacks the label REVIEW"),
            )
        ),
    ],
)
def test_missing_write_access_is_reported_before_planning(
    world: World, command: str, statement: str, code: int, reason: str
) -> None:
    world.order(42)
    world.publish(43)
    with clerk(world) as (role, url):
        world.sql(statement.format(role=role))
        ran = world.run(*command.split(), DATABASE_URL=url)
        assert (ran.returncode, reason.format(role=role) in ran.stdout + ran.stderr) == (code, True), ran
        if command == "enqueue 42":
            health = world.run("doctor", "-o", "json", DATABASE_URL=url)
            assert (health.returncode, reason.format(role=role) in health.stdout) == (5, True), health
    assert world.steps() == []
    assert len(world.queued()) == 1


def test_read_only_dry_run_works_on_a_primary(world: World) -> None:
    world.order(42)
    for command in (["enqueue", "42"], ["repair"], ["maintain"]):
        ran = world.run("--read-only", *command, "--dry-run")
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("read_only", [True, False])
def test_read_only_copy_is_not_authoritative(world: World, read_only: bool) -> None:
    with clerk(world) as (role, url):
        if read_only:
            world.sql(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        clerks = replace(world, database_url=url)
        assert clerks.with_session(lambda session: session.orders.is_authoritative()) is not read_only
