"""What the ACL of Redis does not permit is named, with the rule that grants it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from sitegenctl.errors import SourceError
from sitegenctl.render.command import hint_text
from tests.support.world import World


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
        assert rules not in given, f"granted in vain: {rules}"
        given.add(rules)
        clerk(*shlex.split(rules))
    else:
        pytest.fail(f"not enough: {given}")
    assert not any("allkeys" in rules or "@all" in rules for rules in given)
