"""What the ACL of Redis does not permit is named, with the rule that grants it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sitegenctl.errors import SourceError
from sitegenctl.render.command import hint_text
from sitegenctl.session import Session
from tests.support.world import World

USERS = Path(__file__).parents[2] / "docs" / "deploy" / "redis"
READS = (
    *("status", "inspect 42", "inspect queue", "inspect workers", "inspect task {task}", "metrics", "doctor"),
    "doctor --quick",
)
CHANGES = (
    *("enqueue 42 --yes", "undo --yes", "enqueue 42 --yes", "cancel 42 --yes", "cancel 1 --terminate --yes"),
    *("repair --yes", "repair 2 --worker-dead --yes", "reset 42 --yes", "queue purge --yes", "maintain"),
)


@pytest.fixture
def clerk(system: World) -> Iterator[Callable[..., None]]:
    """Make a user with these rules, and use Redis as that user."""
    url = system.redis_url

    def become(*rules: str) -> None:
        with Redis.from_url(url) as client:
            client.execute_command("ACL", "SETUSER", "clerk", *rules)
        system.redis_url = f"redis://clerk:pw@{url.rpartition('@')[2].removeprefix('redis://')}"

    yield become
    system.redis_url = url
    with Redis.from_url(url) as client:
        client.execute_command("ACL", "DELUSER", "clerk")


@pytest.fixture
def listener(system: World) -> Iterator[None]:
    """A client on the channel of remote control: without any there is no reply to wait for."""
    with system.redis() as client, client.pubsub() as pubsub:
        pubsub.psubscribe("/*.pidbox")
        assert pubsub.get_message(timeout=10)
        yield


# What remote control needs on Celery, and the workers' records on RQ.
@pytest.mark.parametrize(
    ("backend", "rule", "command", "grant"),
    [
        ("celery", "resetchannels", "PUBLISH", "+publish '&/{db}.celery.pidbox*'"),
        ("celery", "-publish", "PUBLISH", "+publish '&/{db}.celery.pidbox*'"),
        ("celery", "-sadd", "SADD", "+sadd '~_kombu.binding.reply.celery.pidbox'"),
        ("celery", "-brpop", "BRPOP", "+brpop '~*.reply.celery.pidbox'"),
        ("celery", "resetkeys ~site_generation* ~unacked*", "SADD", "+sadd '~_kombu.binding.reply.celery.pidbox'"),
        ("rq", "-smembers", "SMEMBERS", "+smembers"),
        ("rq", "resetkeys ~none", "(SMEMBERS|LRANGE)", "'~rq:"),
    ],
)
def test_workers_that_cannot_be_asked_are_no_hanging_ones(
    system: World,
    clerk: Callable[..., None],
    listener: None,
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    command: str,
    grant: str,
) -> None:
    system.order(42, "GENERATING")
    system.publish(42)
    clerk("reset", "on", ">pw", "~*", "&*", "+@all", *rule.split())
    system.configure(monkeypatch)
    grant = grant.format(db=system.redis_url.rpartition("/")[2])
    codes = {}
    for line in ("inspect", "inspect 42", "inspect workers", "doctor --quick", "doctor", "repair", "cancel 42 --yes"):
        ran = system.run(*line.split())
        codes[line] = ran.returncode
        shown = ran.stdout + ran.stderr
        assert re.search(rf"Redis does not let the user clerk execute {command}\b", shown), (line, shown)
        assert re.search(rf"ACL SETUSER clerk .*{re.escape(grant)}", shown), (line, shown)
        assert not re.search(r"hangs|login|password", shown), (line, shown)
    assert {codes[line] for line in codes if not line.startswith("doctor")} == {3}
    assert codes["doctor --quick"] in (3, 5)
    assert codes["doctor"] in (3, 5)


def test_following_the_hints_grants_what_is_missing(system: World, clerk: Callable[..., None]) -> None:
    """Each hint must bring the user further, until everything works."""
    system.publish(1)
    clerk("reset", "on", ">pw", "resetkeys", "resetchannels", "-@all")
    given: set[str] = set()
    for _ in range(60):
        try:
            system.ask(lambda queue: queue.read())
            system.survey()
            system.ask(lambda queue: queue.require_writable())
            system.ask(lambda queue: queue.finished({"no-such-task"}))
            break
        except SourceError as exc:
            message, hint = exc.message, hint_text(exc.hint, None) or ""
        _, found, rules = hint.partition("ACL SETUSER clerk ")
        assert found, (message, hint)
        assert rules.isprintable()  # it is typed as it is shown
        assert rules not in given, f"granted in vain: {rules}"
        given.add(rules)
        clerk(*shlex.split(rules))
    else:
        pytest.fail(f"not enough: {given}")
    assert not any("allkeys" in rules or "@all" in rules for rules in given)


async def _listen(session: Session) -> None:
    async with session.events.listen():
        pass


@pytest.mark.parametrize("user", ["sitegenctl_reader", "sitegenctl"])
def test_documented_users_need_no_other_rule(
    system: World, backend: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.order(42)
    system.start_gated_worker()
    task = system.run_one(1)
    system.publish(2)
    url, database = system.redis_url, system.redis_url.rpartition("/")[2]
    with Redis.from_url(url, decode_responses=True) as admin:
        script = (USERS / f"{backend}.txt").read_text().replace("&/0.", f"&/{database}.")
        if admin.info("server")["redis_version"] < "7":
            script = script.replace("%R~", "~")
        for line in script.splitlines():
            if line.startswith("ACL"):
                admin.execute_command(*line.split())
        admin.acl_setuser(user, enabled=True, passwords=["+pw"])
        admin.acl_log_reset()
        system.redis_url = f"redis://{user}:pw@{url.rpartition('@')[2].removeprefix('redis://')}"
        system.configure(monkeypatch)
        changes = CHANGES if user == "sitegenctl" else ()
        for command in (*READS, *changes):
            ran = system.run(*command.format(task=task).split(), *([] if changes else ["--read-only"]))
            assert ran.returncode in (0, 1, 4, 5), (command, ran)
            assert "does not let" not in ran.stdout + ran.stderr, (command, ran)
        system.with_session(_listen)
        denied: list[dict[str, Any]] = [entry for entry in admin.acl_log() if entry["username"] == user]
        assert [(entry["reason"], entry["object"]) for entry in denied] == []
        if not changes:
            assert "does not let" in system.run("enqueue", "42", "--yes").stdout
        admin.execute_command("ACL", "DELUSER", "sitegenctl", "sitegenctl_reader")
