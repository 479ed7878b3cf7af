"""docs/deploy/roles.sql: every command works with its roles, and each of its grants is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sitegenctl.cli.app import COMMANDS as ALL_COMMANDS
from tests.support.world import World

SCRIPT = Path(__file__).parents[2] / "docs" / "deploy" / "roles.sql"
OPERATOR, READER = f"sitegenctl_{os.getpid()}", f"sitegenctl_{os.getpid()}_reader"
# They read no orders: settings, the demo and scripts for shells.
WITHOUT_ORDERS = {"config", "demo", "completion"}
# They run until they are stopped, from the same readers; and the worker is the CRM's, with the CRM's role.
NOT_RUN = {"live", "events", "worker"}
COMMANDS = (
    "status",
    "inspect",
    "inspect 42",
    "inspect orders --search example",
    "inspect queue",
    "logs 42",
    "history",
    "stats --since 7d",
    "metrics",
    "doctor --quick",
    "enqueue 42 --yes",
    "undo --yes",
    "enqueue 42 --yes",
    "cancel 42 --yes",
    "enqueue 42 --yes",
    "queue purge --yes",
    "repair --yes",
    "retry-failed --yes",
    "start-stuck --yes",
    "reset 42 --yes",
    "reset-empty --yes",
    "trash list",
    "maintain",
)

#: A column of the grant that can be left out.
OPTIONAL = "expected_delivery_date"
READS = ("inspect orders", "inspect 42", "logs 42")


def statements() -> list[str]:
    text = re.sub(r"^--.*$", "", SCRIPT.read_text(), flags=re.MULTILINE)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


@pytest.fixture
def roles(world: World) -> Iterator[World]:
    """The roles of the script, in a database that PUBLIC may not use."""
    server = urlsplit(world.database_url)
    database = server.path.lstrip("/")

    def run(statement: str) -> None:
        named = statement.replace(':"DBNAME"', f'"{database}"').replace("sitegenctl", OPERATOR)
        world.sql(named.replace(f"{OPERATOR}_reader", READER))

    world.sql(f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC')
    world.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    try:
        for statement in statements():
            run(statement)
        for role in (OPERATOR, READER):
            world.sql(f"ALTER ROLE {role} PASSWORD 'pw'")
        yield world
    finally:
        world.sql(f"DROP OWNED BY {OPERATOR}, {READER}")
        world.sql(f"DROP ROLE {OPERATOR}, {READER}")
        world.sql("GRANT USAGE ON SCHEMA public TO PUBLIC")
        world.sql(f'GRANT CONNECT ON DATABASE "{database}" TO PUBLIC')


def url_of(world: World, role: str) -> str:
    server = urlsplit(world.database_url)
    return server._replace(netloc=f"{role}:pw@{server.hostname}:{server.port}").geturl()


def test_every_command_works_with_the_least_privileges(roles: World) -> None:
    assert {command.split()[0] for command in COMMANDS} == set(ALL_COMMANDS) - WITHOUT_ORDERS - NOT_RUN
    roles.order(42)
    changes = ("--yes", "maintain")
    for command in COMMANDS:
        done = roles.run(*command.split(), DATABASE_URL=url_of(roles, OPERATOR))
        assert done.returncode == 0 or (command.split()[0], done.returncode) == ("doctor", 5), (command, done)
        assert "GRANT" not in done.stdout + done.stderr
        if not any(word in command for word in changes):
            read = roles.run("--read-only", *command.split(), DATABASE_URL=url_of(roles, READER))
            assert read.returncode == done.returncode, (command, read)
    roles.sql("UPDATE site_orders SET expected_delivery_date = '2199-12-31' WHERE id = 42")
    assert "2199-12-31" in roles.run("inspect", "42", DATABASE_URL=url_of(roles, READER)).stdout
    refused = roles.run("enqueue", "42", "--dry-run", DATABASE_URL=url_of(roles, READER))
    assert refused.returncode == 4


def _each_privilege() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each single privilege of the script, and commands: without it, at least one fails."""
    for statement in statements():
        if match := re.fullmatch(r"GRANT (.*) (ON .*) TO (\w+)", statement):
            privilege, target, role = match.groups()
            if OPTIONAL in privilege:
                continue
            verb, _, columns = privilege.partition(" (")
            commands = READS if role.endswith("_reader") else ("enqueue 42 --yes",)
            for column in columns.rstrip(")").split(", "):
                yield f"{verb}{f' ({column})' if column else ''} {target} FROM {role}", commands


def test_each_privilege_is_needed(roles: World) -> None:
    database = urlsplit(roles.database_url).path.lstrip("/")
    roles.order(42)
    privileges = list(_each_privilege())
    assert len(privileges) == 29
    for privilege, commands in privileges:
        named = privilege.replace(':"DBNAME"', f'"{database}"').replace("sitegenctl", OPERATOR)
        named = named.replace(f"{OPERATOR}_reader", READER)
        roles.sql(f"REVOKE {named}")
        codes = [roles.run(*command.split(), DATABASE_URL=url_of(roles, OPERATOR)).returncode for command in commands]
        assert not {3, 4}.isdisjoint(codes), (privilege, commands, codes)
        assert roles.status() == "BUILDING"
        roles.sql(f"GRANT {named.replace(' FROM ', ' TO ')}")
    assert roles.run("enqueue", "42", "--yes", DATABASE_URL=url_of(roles, OPERATOR)).returncode == 0
