"""Parsing CLIENT LIST of every version of Redis."""

from __future__ import annotations

import pytest

from sitegenctl.adapters.redis.info import read_clients

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
