"""Redis: URLs, error replies, and CLIENT LIST of every version."""

from __future__ import annotations

import uuid

import pytest

from sitegenctl.adapters.redis.errors import Refusal, error_of, without_errors
from sitegenctl.adapters.redis.replies import read_clients
from sitegenctl.adapters.redis.urls import Address, client_url, kombu_url, parse_url, require_redis
from sitegenctl.errors import UsageProblem


@pytest.mark.parametrize(
    ("url", "for_redis", "for_kombu", "number"),
    [
        ("redis://h:1", "redis://h:1", "redis://h:1", 0),
        ("valkey://h:1/2", "redis://h:1/2", "redis://h:1/2", 2),
        ("redis://u:p%40@h:1/3", "redis://u:p%40@h:1/3", "redis://u:p%40@h:1/3", 3),
        ("unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2", "redis+socket:///run/r.sock?virtual_host=2", 2),
        ("unix://:pw@/run/r.sock", "unix://:pw@/run/r.sock", "redis+socket://:pw@/run/r.sock", 0),
        (
            "redis+socket:///run/7/r.sock?virtual_host=4",
            "unix:///run/7/r.sock?db=4",
            "redis+socket:///run/7/r.sock?virtual_host=4",
            4,
        ),
        (
            "rediss://h/1",
            "rediss://h/1?ssl_cert_reqs=required",
            "rediss://h/1?ssl_cert_reqs=CERT_REQUIRED",
            1,
        ),
        (
            "rediss://h/1?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=%2Fetc%2Fca.pem",
            "rediss://h/1?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca.pem",
            "rediss://h/1?ssl_cert_reqs=CERT_NONE&ssl_ca_certs=/etc/ca.pem",
            1,
        ),
    ],
)
def test_urls_are_respelled_for_redis_and_kombu(url: str, for_redis: str, for_kombu: str, number: int) -> None:
    assert (client_url(url), kombu_url(url), parse_url(url).database) == (for_redis, for_kombu, number)
    assert (client_url(for_kombu), kombu_url(for_redis)) == (for_redis, for_kombu)


@pytest.mark.parametrize(("path", "number"), [("/5", 5), ("", 0)])
def test_urls_of_several_sentinels(path: str, number: int) -> None:
    url = f"sentinel://:pw@a:1{path};sentinel://:pw@b"
    address = parse_url(url)
    assert address.sentinels == (Address(host="a", port=1), Address(host="b", port=26379))
    assert (address.database, address.password, kombu_url(url)) == (number, "pw", url)
    require_redis(url)


@pytest.mark.parametrize("url", ["amqp://guest@h//", "redis://h:port", "", "rediss://h?ssl_cert_reqs=maybe"])
def test_invalid_url_is_reported_in_one_line(url: str) -> None:
    for read in (client_url, kombu_url, require_redis):
        with pytest.raises(UsageProblem) as caught:
            read(url)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h/s3cret", "what follows the host must be the number of a database"),
        ("sentinel://h/s3cret;sentinel://i", "what follows the host must be the number of a database"),
        ("unix:///run/r.sock?db=s3cret", "db must be a number"),
        ("redis+socket:///run/r.sock?virtual_host=s3cret", "virtual_host must be a number"),
        ("redis://h?socket_timeout=s3cret", "socket_timeout must be a number"),
        ("redis://h?max_connections=s3cret", "max_connections must be a whole number"),
        ("rediss://h?ssl_cert_reqs=s3cret", "ssl_cert_reqs must be one of required, optional, none"),
        (f"redis://h?{'x' * 5000}=s3cret", f"unknown option '{'x' * 40}'"),
    ],
)
def test_value_of_another_kind_is_refused(url: str, problem: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        require_redis(url)
    assert caught.value.message == f"REDIS_URL: {problem}"


def test_unknown_tls_option_is_refused() -> None:
    with pytest.raises(UsageProblem, match="unknown option 'ssl_min_version'"):
        require_redis("rediss://h:1/0?ssl_min_version=771")


@pytest.mark.parametrize(
    ("reply", "message", "only_this_command"),
    [
        ("WRONGPASS invalid username-password pair", "Redis refuses the login: invalid username-password pair", False),
        ("NOAUTH Authentication required.", "Redis refuses the login: Authentication required.", False),
        ("ERR unknown command", "Redis refused: unknown command", True),
        ("NOPERM you may not", "Redis does not let the user default execute that: you may not", True),
        ("LOADING Redis is loading", "Redis can't be reached: Redis is loading", False),
        ("ERR max number of clients reached", "Redis can't be reached: max number of clients reached", False),
        ("OOM command not allowed", "Redis is out of memory: command not allowed", True),
        ("ODD", "Redis refused: ODD", True),
    ],
)
def test_error_replies_are_classified_by_code(reply: str, message: str, only_this_command: bool) -> None:
    error = error_of(reply)
    assert error.message.startswith(message)
    assert error.source == "broker"
    assert isinstance(error, Refusal) is only_this_command


@pytest.mark.parametrize(
    ("command", "message", "rules"),
    [
        (
            ("PUBLISH", "/0.celery.pidbox", "m"),
            "PUBLISH on the channel /0.celery.pidbox",
            "+publish '&/0.celery.pidbox'",
        ),
        (("KEYS", "*"), "KEYS on the key *", r"+keys '~\*'"),
        (("LLEN", b"q"), "LLEN on the key q", "+llen '~q'"),
        (("DEL", "a", "b"), "DEL on the keys a, b", "+del '~a' '~b'"),
        (("EVAL", "return 1", 2, "a", "b", "tag"), "EVAL on the keys a, b", "+eval '~a' '~b'"),
        (("CLIENT", "LIST"), "CLIENT LIST", "+client|list"),
        (("GET", f"meta-{uuid.UUID(int=1)}"), f"GET on the key meta-{uuid.UUID(int=1)}", "+get '~meta-*'"),
        (("PSUBSCRIBE", "/0.celeryev/*"), "PSUBSCRIBE on the channel /0.celeryev/*", "+psubscribe '&/0.celeryev/*'"),
        (("INFO",), "INFO", "+info"),
    ],
)
@pytest.mark.parametrize("user", ["clerk", None])
def test_missing_permission_names_the_acl_rule(
    command: tuple[object, ...], message: str, rules: str, user: str | None
) -> None:
    reply = error_of("NOPERM in any words")
    (error,) = without_errors([reply], commands=[command], user=user, keep_refusals=True)
    assert error.message == f"Redis does not let the user {user or 'default'} execute {message}: in any words"
    assert error.hint.endswith(f"ACL SETUSER {user or 'default'} {rules}")


OLD = b"id=3 addr=127.0.0.1:4000 fd=8 name= age=1 idle=0 flags=b db=5 sub=0 psub=0 multi=-1 qbuf=0 events=r cmd=brpop\n"
NEW = (
    b"id=4 addr=[::1]:4001 laddr=[::1]:6379 fd=9 name=worker@box=1 age=2 idle=0 flags=N db=0 sub=0 psub=1 ssub=0"
    b" events=r cmd=client|list user=default redir=-1 resp=2 lib-name=redis-py(hi=redis) lib-ver=5.0\r\n"
)
REORDERED = b"cmd=BRPOP db=15 flags=xb id=5\n"
REPLICA = b"id=6 addr=10.0.0.2:6379 flags=S db=0 cmd=psync\n"


def test_client_list_of_every_version() -> None:
    clients = read_clients(OLD + NEW + b"\n" + REORDERED + REPLICA)
    assert clients is not None
    assert [(each.id, each.address, each.database, each.command) for each in clients] == [
        (3, "127.0.0.1:4000", 5, "brpop"),
        (4, "[::1]:4001", 0, "client|list"),
        (5, "", 15, "brpop"),
        (6, "10.0.0.2:6379", 0, "psync"),
    ]
    assert [each.is_blocked for each in clients] == [True, False, True, False]
    assert [each.is_server for each in clients] == [False, False, False, True]
    assert clients[1].fields["name"] == "worker@box=1"


@pytest.mark.parametrize(
    "listing",
    [
        None,
        7,
        "id=1 db=0 flags=N cmd=get",
        b"not a list",
        b"id=1 flags=N cmd=get",
        b"id=1 db=x flags=N cmd=get",
        b"id=1 db=0 cmd=get",
        OLD + b"id=9 db=0 flags=N\n",
        b"id=\xff db=0 flags=N cmd=get",
    ],
)
def test_invalid_client_list_is_none(listing: object) -> None:
    assert read_clients(listing) is None


def test_an_empty_list_has_no_clients() -> None:
    assert read_clients(b"") == []
