"""Errors of database connections: locks, poolers, missing privileges."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.errors import translate
from sitegenctl.adapters.postgres.orders import PostgresOrders
from sitegenctl.errors import SourceError, TimedOut, Unreachable
from tests.support.servers import Certificates, make_certificates, pgbouncer, silent_server, tls_server
from tests.support.world import World, eventually


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
        ("ALTER ROLE {role} CONNECTION LIMIT 0", "the database has too many connections: too many connections for"),
        ("ALTER ROLE {role} NOLOGIN", 'the database refuses the login: role "{role}" is not permitted to log in'),
        ("ALTER ROLE {role} PASSWORD 'other'", "the database refuses the login: password authentication failed"),
        ("ALTER TABLE site_orders ENABLE ROW LEVEL SECURITY", "hides rows of site_orders from role {role}"),
        (
            "ALTER TABLE site_onboardings ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY mine ON site_onboardings USING (true)",
            "hides rows of site_onboardings from role {role}",
        ),
        ("REVOKE SELECT ON site_orders FROM {role}", "role {role} may not read site_orders: it lacks SELECT ON"),
    ],
    ids=[
        "connections",
        "login",
        "password",
        "row security",
        "row security that shows all",
        "grant",
    ],
)
def test_refusals_are_distinguished(world: World, statement: str, message: str) -> None:
    world.order(42)
    with clerk(world) as (role, url):
        for each in statement.format(role=role).split("; "):
            world.sql(each)
        clerks = replace(world, database_url=url)
        with pytest.raises(SourceError, match=re.escape(message.format(role=role))) as caught:
            clerks.with_session(lambda session: session.orders.read_orders(range(1, 20_000)))
        health = world.run("doctor", "--quick", "-o", "json", DATABASE_URL=url)
    assert caught.value.hint is not None
    remedy = check_of(health.stdout, "postgresql")["remedy"]
    assert "docker" not in remedy
    if statement.startswith("REVOKE"):
        assert caught.value.hint == remedy == f"GRANT SELECT ON site_orders TO {role}"


def check_of(report: str, name: str) -> dict[str, Any]:
    """The check with this name in doctor's JSON."""
    (check,) = [each for each in json.loads(report)["data"]["checks"] if each["name"] == name]
    return check


@pytest.mark.parametrize(
    ("call", "message", "kind"),
    [
        ("pg_cancel_backend", "an administrator canceled the query", SourceError),
        # asyncpg 0.29 does not keep the reason.
        ("pg_terminate_backend", "an administrator ended the connection|connection .* was lost", Unreachable),
    ],
)
def test_query_ended_by_an_administrator(world: World, call: str, message: str, kind: type[SourceError]) -> None:
    async def scenario() -> None:
        database = Database(world.database_url, timeout=20)
        sleeping = asyncio.create_task(database.fetch("SELECT pg_sleep(15) AS by_administrator"))
        sleeps = "FROM pg_stat_activity WHERE query LIKE '%AS by_administrator' AND state = 'active'"
        await asyncio.to_thread(eventually, lambda: world.sql(f"SELECT pid {sleeps}"))
        await asyncio.to_thread(world.sql, f"SELECT {call}(pid) {sleeps}")
        with pytest.raises(kind, match=message) as caught:
            await sleeping
        assert type(caught.value) is kind
        await database.close()

    asyncio.run(scenario())


NO_READING = "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {role}"


@pytest.mark.parametrize(
    "command",
    ["inspect 42", "inspect", "inspect orders", "logs 42", "stats", "history", "enqueue 42", "repair", "undo"],
)
def test_missing_grant_is_what_doctor_prints(world: World, command: str) -> None:
    world.order(42)
    with clerk(world) as (role, url):
        world.sql(NO_READING.format(role=role))
        grants = check_of(world.run("doctor", "--quick", "-o", "json", DATABASE_URL=url).stdout, "postgresql")["remedy"]
        ran = world.run(*command.split(), DATABASE_URL=url)
    assert grants.startswith(f"GRANT SELECT ON site_orders TO {role}; GRANT SELECT ON site_onboardings TO {role}; ")
    assert ran.stderr.endswith(f"hint: {grants}\n"), ran
    if command == "inspect 42":
        assert ran.stdout.splitlines()[:3] == [
            "order 42  UNKNOWN",
            "  the database could not be read",
            f"  → {grants}",
        ]


STATEMENT, PAUSE, SESSION = "statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"
CLERKS, DATABASES = "ALTER ROLE {role} SET {name} = '300ms'", "ALTER DATABASE {database} SET {name} = '300ms'"
IN_DATABASE = "ALTER ROLE {role} IN DATABASE {database} SET {name} = '300ms'"


@pytest.mark.parametrize(
    ("name", "statement", "query", "origin", "hint"),
    [
        (STATEMENT, CLERKS, "", "300 ms, the {name} of role {role}", "ALTER ROLE {role} SET {name} = '30s'"),
        (STATEMENT, CLERKS, "{name}=200", "200 ms, the {name} of DATABASE_URL", "remove {name} from DATABASE_URL"),
        (STATEMENT, "", "options=-c%20{name}%3D200", "200 ms, the {name} of DATABASE_URL", "remove {name} from"),
        (STATEMENT, "", "options=-c%20{name}%3D1", "1 ms, the {name} of DATABASE_URL", "remove {name} from"),
        (STATEMENT, DATABASES, "", "300 ms, the {name} of database {database}", "ALTER ROLE {role} SET {name} = '30s'"),
        (
            STATEMENT,
            IN_DATABASE,
            "",
            "300 ms, the {name} of role {role} in database {database}",
            "ALTER ROLE {role} IN DATABASE {database} SET {name} = '30s'",
        ),
        (PAUSE, CLERKS, "", "the {name} of role {role} is 300 ms", "ALTER ROLE {role} SET {name} = '30s'"),
        (PAUSE, "", "{name}=200", "the {name} of DATABASE_URL is 200 ms", "remove {name} from DATABASE_URL"),
        ("transaction_timeout", CLERKS, "", "the {name} of role {role} is 300 ms", "ALTER ROLE {role} SET {name}"),
    ],
)
def test_time_limit_is_named_with_its_origin(
    world: World, name: str, statement: str, query: str, origin: str, hint: str
) -> None:
    async def pause(database: Database) -> None:
        async with database.transaction() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await asyncio.to_thread(
                eventually, lambda: not world.sql(f"SELECT FROM pg_stat_activity WHERE pid = {pid}")
            )
            await connection.fetch("SELECT 1")

    async def scenario(url: str) -> SourceError:
        database = Database(url, timeout=20)
        with pytest.raises(TimedOut) as caught:
            await (database.fetch("SELECT pg_sleep(20)") if name == STATEMENT else pause(database))
        await database.close()
        return caught.value

    if not world.sql(f"SELECT FROM pg_settings WHERE name = '{name}'"):
        pytest.skip(f"this PostgreSQL has no {name}")
    with clerk(world) as (role, url):
        names = {"role": role, "database": urlsplit(url).path[1:], "name": name}
        if statement:
            world.sql(statement.format(**names))
        error = asyncio.run(scenario(f"{url}?{query.format(**names)}"))
    event = "the database canceled the query after" if name == STATEMENT else "the connection to the database was lost;"
    assert error.message == f"{event} {origin.format(**names)}"
    assert hint.format(**names) in error.hint


@pytest.mark.parametrize("command", ["inspect 42", "inspect", "inspect orders", "logs 42", "enqueue 42", "maintain"])
def test_shortest_time_limit_is_named(world: World, command: str) -> None:
    """One that cancels whatever is sent, also the query for the limit."""
    world.order(42)
    world.sql("CREATE FUNCTION wait() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END' LANGUAGE plpgsql")
    world.sql("CREATE TRIGGER wait BEFORE INSERT ON site_generation_logs FOR EACH ROW EXECUTE FUNCTION wait()")
    ran = world.run(*command.split(), DATABASE_URL=f"{world.database_url}?options=-c%20statement_timeout%3D1")
    assert ran.returncode == 3, ran
    assert "after 1 ms, the statement_timeout of DATABASE_URL" in ran.stderr
    assert "hint: remove statement_timeout from DATABASE_URL, or give it more time\n" in ran.stderr


def test_connection_that_was_idle_for_too_long_is_replaced(world: World) -> None:
    async def scenario() -> None:
        database = Database(f"{world.database_url}?idle_session_timeout=50", timeout=20)
        for _ in range(3):
            ((pid,),) = await database.fetch("SELECT pg_backend_pid()")
            ended = f"SELECT FROM pg_stat_activity WHERE pid = {pid}"
            await asyncio.to_thread(eventually, lambda ended=ended: not world.sql(ended))
        await database.close()

    asyncio.run(scenario())


def test_slow_query_is_not_an_unreachable_server(world: World) -> None:
    async def scenario() -> None:
        database = Database(world.database_url, timeout=0.2)
        with pytest.raises(TimedOut, match="the database did not respond in time"):
            await database.fetch("SELECT pg_sleep(20)")
        await database.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "message", "kind"),
    [
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), "connection .* was lost", Unreachable),
        (asyncpg.InterfaceError("cannot perform operation"), "the connection to the database was lost", Unreachable),
        (asyncpg.ConnectionDoesNotExistError("closed"), "the connection to the database was lost", Unreachable),
        (ConnectionResetError(104, "reset"), "the connection to the database was lost", Unreachable),
        (asyncpg.CannotConnectNowError("starting up"), "does not accept connections yet: starting up", Unreachable),
        (asyncpg.TooManyConnectionsError("sorry"), "the database has too many connections: sorry", Unreachable),
        (asyncpg.DiskFullError("no space"), "the database is out of resources: no space", Unreachable),
        (asyncpg.IdleSessionTimeoutError("idle"), "a time limit of the database ended the connection", Unreachable),
        (asyncpg.DeadlockDetectedError("deadlock"), "canceled the transaction: deadlock", SourceError),
        (asyncpg.SerializationError("recovery"), "canceled the transaction: recovery", SourceError),
        (asyncpg.ReadOnlySQLTransactionError("x"), "the database refuses writes: it is read-only", SourceError),
        (asyncpg.DataCorruptedError("page"), "the database failed: page", SourceError),
        (TimeoutError(), "the database did not respond in time", TimedOut),
    ],
)
def test_driver_errors_have_their_own_meaning(error: Exception, message: str, kind: type[SourceError]) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert re.search(message, translated.message)
    assert translated.hint is not None


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("127.0.0.1:1/crm", "127.0.0.1:1 refuses connections"),
        ("/crm?host=/nonexistent", "/nonexistent refuses connections"),
    ],
)
def test_start_is_suggested_where_a_connection_is_refused(world: World, rest: str, message: str) -> None:
    health = world.run("doctor", "--quick", "-o", "json", DATABASE_URL=f"postgresql://{rest}")
    check = check_of(health.stdout, "postgresql")
    assert health.returncode == 3
    assert message in check["evidence"][0]
    assert check["remedy"].startswith("docker start crm-postgres")


@pytest.mark.parametrize(
    ("query", "ignored"),
    [
        ("channel_binding=require", "channel_binding"),
        ("gssencmode=prefer", "gssencmode"),
        ("keepalives=1&keepalives_idle=30&tcp_user_timeout=9", "keepalives, keepalives_idle, tcp_user_timeout"),
        ("load_balance_hosts=random", "load_balance_hosts"),
        ("sslcompression=0&sslsni=1", "sslcompression, sslsni"),
        ("fallback_application_name=crm", "fallback_application_name"),
        ("async_fallback=true&prepared_statement_cache_size=0", "async_fallback, prepared_statement_cache_size"),
        ("pool_size=5&max_overflow=2", "pool_size, max_overflow"),
        ("pgbouncer=true&schema=public&connection_limit=5", "pgbouncer, schema, connection_limit"),
        ("ssl=prefer&connect_timeout=3&application_name=crm&client_encoding=utf8", None),
        ("options=-c%20statement_timeout%3D20s", None),
        ("search_path=public&target_session_attrs=read-write", None),
    ],
)
def test_url_parameters_do_not_keep_it_from_connecting(world: World, query: str, ignored: str | None) -> None:
    world.order(42)
    url = f"{world.database_url}?{query}"
    ran = world.run("inspect", "42", DATABASE_URL=url)
    assert ran.returncode == 0, ran.stderr
    shown = world.run("config", "show", DATABASE_URL=url)
    assert shown.stderr == (f"warning: ignored in database_url: {ignored}\n" if ignored else "")


@pytest.mark.parametrize(
    ("variable", "query", "problem"),
    [
        ("DATABASE_URL", "connect_timeout=s3cret", "DATABASE_URL: connect_timeout must be a number of seconds"),
        ("REDIS_URL", "db=s3cret", "REDIS_URL: db must be a number"),
    ],
)
def test_parameter_of_another_kind_is_one_line(world: World, variable: str, query: str, problem: str) -> None:
    url = f"{world.environ[variable]}?{query}"
    for command in (["inspect", "42"], ["inspect"], ["doctor"], ["enqueue", "42"], ["maintain"]):
        ran = world.run(*command, **{variable: url})
        assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", f"error: {problem}\n"), command
    shown = world.run("config", "show", **{variable: url})
    assert (shown.returncode, shown.stderr) == (0, f"warning: {problem}\n")
    assert "s3cret" not in shown.stdout


@pytest.mark.parametrize("place", ["127.0.0.1:1,{server}", "{silent},{server}", "{server},127.0.0.1:1"])
@pytest.mark.parametrize("form", ["postgresql://{login}@{place}{path}", "postgresql://{login}@{path}?host={place}"])
def test_first_host_that_accepts_is_used(world: World, place: str, form: str) -> None:
    world.order(42)
    server = urlsplit(world.database_url)
    with silent_server() as silent:
        place = place.format(server=f"{server.hostname}:{server.port}", silent=silent)
        url = form.format(login=f"{server.username}:{server.password}", place=place, path=server.path)
        ran = world.run("inspect", "42", DATABASE_URL=url)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("places", "limit", "message", "is_refused"),
    [
        ("127.0.0.1:1,127.0.0.1:2", "1m", "127.0.0.1:1 refuses connections; 127.0.0.1:2 refuses connections", True),
        # A refusal that this process reads later than half of the limit would count as no response.
        ("127.0.0.1:1,{silent}", "5s", "127.0.0.1:1 refuses connections; {silent} did not respond in time", False),
    ],
)
def test_each_of_several_hosts_has_its_reason(
    world: World, places: str, limit: str, message: str, is_refused: bool
) -> None:
    with silent_server() as silent:
        url = f"postgresql://u:p@{places.format(silent=silent)}/crm"
        health = world.run("--timeout", limit, "doctor", "--quick", "-o", "json", DATABASE_URL=url)
    check = check_of(health.stdout, "postgresql")
    assert check["evidence"][0] == f"the database can't be reached: {message.format(silent=silent)}"
    assert check["remedy"].startswith("docker start") is is_refused


@pytest.mark.parametrize(
    ("place", "query", "message"),
    [
        ("nowhere.invalid:5432", "", "the name of the host in nowhere.invalid:5432 can't be resolved"),
        ("{silent}", "", "{silent} did not respond in time"),
        ("{server}", "sslmode=require", "{server} does not respond as a PostgreSQL server with TLS"),
        ("{server}", "sslmode=verify-full&sslrootcert=/nonexistent/ca.pem", "/nonexistent/ca.pem: No such file"),
        ("{server}", "sslmode=require&sslrootcert={key}", "{key} holds no certificate (sslrootcert)"),
        ("{server}", "sslmode=require&sslrootcert={ca}&sslcert=/nonexistent/c.pem", "/nonexistent/c.pem: No such file"),
        ("{tls}", "sslmode=verify-full&sslrootcert={other}", "its certificate is not trusted: self-signed"),
        ("localhost:{tls_port}", "sslmode=verify-full&sslrootcert={ca}", "its certificate is for another host"),
        ("{server}", "target_session_attrs=standby", "no server is in the state of target_session_attrs=standby"),
        ("{server}", "timezone=Nowhere", 'the database refuses an option: invalid value for parameter "TimeZone"'),
        ("{server}", "options=-c%20nonsense=1", "the database refuses an option: unrecognized configuration parameter"),
    ],
)
def test_connection_faults_are_distinguished(
    world: World, certificates: Certificates, tmp_path: Path, place: str, query: str, message: str
) -> None:
    other = make_certificates(tmp_path)
    with silent_server() as silent, tls_server(certificates) as tls:
        server = urlsplit(world.database_url)
        names = {
            "silent": silent,
            "server": f"{server.hostname}:{server.port}",
            "tls": tls,
            "tls_port": tls.rpartition(":")[2],
            "ca": str(certificates.certificate),
            "key": str(certificates.key),
            "other": str(other.certificate),
        }
        login = f"{server.username}:{server.password}"
        url = f"postgresql://{login}@{place}{server.path}?{query}".format(**names)
        health = world.run("--timeout", "1s", "doctor", "--quick", "-o", "json", DATABASE_URL=url)
    check = check_of(health.stdout, "postgresql")
    assert health.returncode == 3
    assert message.format(**names) in check["evidence"][0]
    assert "docker" not in check["remedy"]


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


@pytest.mark.parametrize(
    ("statement", "read_only", "status", "evidence"),
    [
        ("SELECT 1", False, "ok", "{role} may read and change orders"),
        ("REVOKE SELECT ON site_onboardings FROM {role}", True, "failed", "may not read site_onboardings"),
        ("REVOKE UPDATE (status) ON site_orders FROM {role}", False, "failed", "may not change site_orders"),
        ("REVOKE UPDATE (status) ON site_orders FROM {role}", True, "ok", "may not change site_orders"),
        ("ALTER ROLE {role} SET default_transaction_read_only = on", True, "ok", "it is read-only for role {role}"),
        ("ALTER TABLE site_orders ENABLE ROW LEVEL SECURITY", True, "failed", "hides rows of site_orders"),
    ],
)
def test_doctor_names_the_tables_of_missing_grants(
    world: World, statement: str, read_only: bool, status: str, evidence: str
) -> None:
    with clerk(world) as (role, url):
        world.sql(statement.format(role=role))
        flags = ["--read-only"] if read_only else []
        check = check_of(world.run(*flags, "doctor", "--quick", "-o", "json", DATABASE_URL=url).stdout, "postgresql")
    assert check["status"] == status
    assert evidence.format(role=role) in " ".join(check["evidence"])


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
