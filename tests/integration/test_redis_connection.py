"""The Redis client on real servers: replies, errors, reconnecting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from sitegenctl.adapters.celery.options import QueueOptions
from sitegenctl.adapters.redis.connection import Connection, ConnectionPool, open_connection
from sitegenctl.adapters.redis.errors import Refusal
from sitegenctl.adapters.redis.info import WorkerConnections, read_facts
from sitegenctl.errors import SourceError
from sitegenctl.render.command import hint_text
from tests.support.servers import Certificates, free_port, server
from tests.support.world import eventually


def linked(url: str, timeout: float = 10) -> AbstractAsyncContextManager[Connection]:
    return open_connection(url, QueueOptions(), timeout=timeout)


async def failure(url: str, *, timeout: float = 2) -> SourceError:
    """Return the message of the only failure, which must be one line."""
    async with linked(url, timeout) as connection:
        with pytest.raises(SourceError) as caught:
            await connection.execute(("PING",))
    assert "\n" not in caught.value.message
    assert caught.value.source == "broker"
    return caught.value


async def test_reply_types(redis_url: str) -> None:
    async with linked(redis_url) as connection:
        replies = await connection.execute(
            ("SET", "text", "São Paulo \x06\x16"),
            ("GET", "text"),
            ("GET", "nothing"),
            ("RPUSH", "list", b"\xff\x00\r\n", 1, 0.5),
            ("LRANGE", "list", 0, -1),
            ("HSET", "hash", "field", "value"),
            ("HSCAN", "hash", 0),
            ("SCAN", 0, "MATCH", "ha*", "TYPE", "hash", "COUNT", 1000),
            ("CONFIG", "GET", "maxmemory-policy"),
            ("BRPOP", "nothing", 0.01),
        )
        assert replies == [
            b"OK",
            "São Paulo \x06\x16".encode(),
            None,
            3,
            [b"\xff\x00\r\n", b"1", b"0.5"],
            1,
            [b"0", [b"field", b"value"]],
            [b"0", [b"hash"]],
            [b"maxmemory-policy", b"noeviction"],
            None,
        ]
        info, clients, clock = await connection.execute(("INFO", "server"), ("CLIENT", "LIST"), ("TIME",))
        assert await connection.execute() == []
    assert b"\r\nredis_version:" in info
    assert b" cmd=client" in clients
    assert abs(int(clock[0]) - time.time()) < 30


async def test_reconnects_after_an_idle_connection_was_closed(redis_url: str) -> None:
    async with linked(redis_url) as connection, linked(redis_url) as other:
        (own,) = await connection.execute(("CLIENT", "ID"))
        assert await other.execute(("CLIENT", "KILL", "ID", own)) == [1]
        # The loop notices a closed connection in its next iterations, not in the one that uses it again.
        await asyncio.sleep(0.05)
        (now,) = await connection.execute(("CLIENT", "ID"))
    assert now != own


async def test_large_replies_are_complete(redis_url: str) -> None:
    """Ten times the read-ahead limit, in both directions at once."""
    value = os.urandom(500_000)
    async with linked(redis_url, 30) as connection:
        echoed = await connection.execute(*(("ECHO", value) for _ in range(20)))
        assert echoed == [value] * 20
        await connection.execute(("RPUSH", "long", *map(str, range(100_000))))
        (items,) = await connection.execute(("LRANGE", "long", 0, -1))
    assert (len(items), items[-1]) == (100_000, b"99999")


async def test_refused_command_does_not_affect_others(redis_url: str) -> None:
    async with linked(redis_url) as connection:
        await connection.execute(("SET", "text", "1"))
        kept = await connection.execute(("LPOP", "text"), ("GET", "text"), keep_refusals=True)
        assert isinstance(kept[0], Refusal)
        assert "wrong kind of value" in kept[0].message
        assert kept[1] == b"1"
        with pytest.raises(Refusal, match=r"^Redis refused: .*wrong kind of value"):
            await connection.execute(("LPOP", "text"), ("GET", "text"))
        assert await connection.execute(("GET", "text")) == [b"1"]


async def test_missing_permission_is_reported(redis_url: str) -> None:
    with Redis.from_url(redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", "clerk", "on", ">p@ss", "~*", "&*", "+@all", "-info")
        try:
            async with linked(f"redis://clerk:p%40ss@{redis_url.split('@')[1]}") as connection:
                refusal, pong = await connection.execute(("INFO",), ("PING",), keep_refusals=True)
        finally:
            admin.execute_command("ACL", "DELUSER", "clerk")
    assert isinstance(refusal, Refusal)
    assert refusal.message.startswith("Redis does not let the user clerk execute INFO: ")
    assert pong == b"PONG"


@pytest.mark.parametrize("password", [":wr0ng@", "nobody:wr0ng@", ""], ids=["wrong", "wrong user", "none"])
async def test_wrong_password_is_reported_without_quoting_it(redis_url: str, password: str) -> None:
    error = await failure(f"redis://{password}{redis_url.split('@')[1]}")
    assert error.message.startswith("Redis refuses the login: ")
    assert error.hint == "check the password in REDIS_URL"
    assert "wr0ng" not in error.message


async def test_password_for_a_server_without_one_is_refused() -> None:
    port = free_port()
    with server("--port", str(port), "--save", "", url=f"redis://127.0.0.1:{port}"):
        error = await failure(f"redis://:wr0ng@127.0.0.1:{port}")
        assert error.message.startswith("Redis refuses the login: ")
        async with linked(f"redis://127.0.0.1:{port}/15") as connection:
            assert await connection.execute(("PING",)) == [b"PONG"]
        refused = await failure(f"redis://127.0.0.1:{port}/99")
        assert refused.message.startswith("Redis has no database 99: ")
        assert "database number" in str(refused.hint)


async def test_user_without_a_password_is_recognised(redis_url: str) -> None:
    error = await failure(f"redis://s3cret@{redis_url.split('@')[1]}")
    assert error.message.startswith("Redis refuses the login: ")
    assert "redis://:PASSWORD@host" in str(error.hint)
    assert "s3cret" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize("path", ["", "/0", "/3"])
@pytest.mark.parametrize("login", ["", ":pw@"])
async def test_sentinel_is_not_taken_for_a_server(tmp_path: Path, login: str, path: str) -> None:
    port = free_port()
    settings = tmp_path / "sentinel.conf"
    settings.write_text(f"port {port}\ndir {tmp_path}\nsentinel monitor sites 127.0.0.1 1 1\n")
    with server(str(settings), "--sentinel", url=f"redis://127.0.0.1:{port}"):
        async with linked(f"redis://{login}127.0.0.1:{port}{path}") as connection:
            with pytest.raises(SourceError) as caught:
                await connection.execute(("LLEN", "site_generation"))
    assert caught.value.message == f"127.0.0.1:{port} is a Redis Sentinel, not a Redis server"
    hint = f"use sentinel://127.0.0.1:{port}/0, and set SITEGENCTL_SENTINEL_MASTER to sites"
    assert caught.value.hint == hint


async def test_urls_of_valkey_work(redis_url: str) -> None:
    async with linked(redis_url.replace("redis://", "valkey://")) as connection:
        assert await connection.execute(("PING",)) == [b"PONG"]


async def test_valkey_has_its_own_version() -> None:
    class Answers:
        async def execute(self, *commands: tuple[str, ...], keep_refusals: bool = False) -> list[object]:
            info = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n"
            replies: dict[str, object] = {"TIME": [b"1", b"0"], "INFO": info, "CONFIG": [], "CLIENT": b""}
            return [replies.get(command[0]) for command in commands]

    async def none(connection: object) -> None:
        return None

    facts = await read_facts(
        Answers(),  # type: ignore[arg-type]
        database=0,
        count_workers=none,
        delivered=[],
        worker=WorkerConnections(subscriptions="sub", commands=()),
        now=time.time,
    )
    assert facts.version == "8.1.1 of Valkey"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://127.0.0.1:1/0", "127.0.0.1:1: Connection refused"),
        ("unix:///nowhere/r.sock", "/nowhere/r.sock: No such file or directory"),
        ("redis://no.such.host.invalid", "no.such.host.invalid:6379: "),
    ],
)
async def test_unreachable_server_is_reported_with_its_address(url: str, reason: str) -> None:
    error = await failure(url)
    assert error.message.startswith(f"Redis can't be reached: {reason}")
    assert "config show" in (hint_text(error.hint) or "")


async def test_server_that_never_responds_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        error = await failure(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout=0.5)
        assert 0.4 < time.monotonic() - began < 2
    assert error.message == "Redis can't be reached: it did not respond in time"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$100\r\ntoo short"])
async def test_invalid_or_truncated_reply_is_reported(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        error = await failure(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0")
    assert error.message.startswith("Redis ")


async def test_late_reply_is_not_taken_for_the_next_one() -> None:
    """The late answer must not be taken for that to the next call."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}"
    with server("--port", str(port), "--save", "", url=url) as process:
        async with linked(url, 0.5) as connection:
            assert await connection.execute(("SET", "number", 1)) == [b"OK"]
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(SourceError, match="did not respond in time"):
                await connection.execute(("INCR", "number"))
            process.send_signal(signal.SIGCONT)
            assert await connection.execute(("ECHO", "hello"), ("GET", "number")) == [b"hello", b"2"]


@contextlib.asynccontextmanager
async def waiting(connection: Connection, url: str) -> AsyncIterator[tuple[asyncio.Task[list[Any]], Redis]]:
    """A call that Redis does not answer, and another client."""
    call = asyncio.create_task(connection.execute(("BRPOP", "nothing", 8)))
    with Redis.from_url(url) as other:
        await asyncio.to_thread(eventually, lambda: blocked(other))
        yield call, other


def blocked(client: Redis) -> list[str]:
    """The ids of the connections that wait in the client's database."""
    number = str(client.get_connection_kwargs()["db"])
    return [each["id"] for each in client.client_list() if (each["cmd"], each["db"]) == ("brpop", number)]


async def test_connection_lost_during_a_call_is_reopened(redis_url: str) -> None:
    async with linked(redis_url) as connection:
        async with waiting(connection, redis_url) as (call, other):
            (waiter,) = blocked(other)
            other.client_kill_filter(_id=waiter)
            with pytest.raises(SourceError, match="can't be reached"):
                await call
        assert await connection.execute(("PING",)) == [b"PONG"]


async def test_next_reply_after_a_cancelled_call_is_correct(redis_url: str) -> None:
    async with linked(redis_url) as connection:
        async with waiting(connection, redis_url) as (call, other):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.to_thread(eventually, lambda: not blocked(other))
            other.lpush("nothing", "something")
        assert await connection.execute(("ECHO", "hello")) == [b"hello"]
        # The call that was given up is not there any more to take it.
        assert await connection.execute(("LRANGE", "nothing", 0, -1)) == [[b"something"]]


async def test_client_reopens_after_close(redis_url: str) -> None:
    async with linked(redis_url) as connection:
        await connection.execute(("CLIENT", "SETNAME", "tested"))
        await connection.aclose()
        await connection.aclose()
        with Redis.from_url(redis_url) as other:
            await asyncio.to_thread(eventually, lambda: all(each["name"] != "tested" for each in other.client_list()))
        assert await connection.execute(("CLIENT", "GETNAME")) == [None]


@pytest.mark.parametrize("dialect", ["unix://:{}@{}?db=3", "redis+socket://:{}@{}?virtual_host=3"])
async def test_unix_socket(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "r.sock"
    with server(
        *("--port", "0", "--unixsocket", str(path), "--requirepass", "p/w", "--save", ""), url=f"unix://:p%2Fw@{path}"
    ):
        async with linked(dialect.format("p%2Fw", path)) as connection:
            await connection.execute(("SET", "key", "value"))
        with Redis.from_url(f"unix://:p%2Fw@{path}?db=3") as client:
            assert client.get("key") == b"value"


# --- TLS: the rest is in test_broker_urls.py --------------------------------------------------------------


async def test_tls_and_large_replies(tls: str, certificates: Certificates) -> None:
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    value = os.urandom(2_000_000)
    async with linked(f"{tls}{own}&ssl_ca_certs={certificates.certificate}") as connection:
        assert await connection.execute(("ECHO", value)) == [value]


async def test_certificate_for_another_host_is_refused(tls: str, certificates: Certificates) -> None:
    own = f"ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    url = f"{tls.replace('127.0.0.1', 'localhost')}{own}&ssl_ca_certs={certificates.certificate}"
    error = await failure(url)
    assert "Hostname mismatch" in error.message
    async with linked(f"{url}&ssl_check_hostname=no") as connection:
        assert await connection.execute(("PING",)) == [b"PONG"]


async def test_tls_to_a_plain_server_is_reported(redis_url: str) -> None:
    error = await failure(redis_url.replace("redis://", "rediss://"))
    assert error.message.startswith("Redis can't be reached: ")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
async def test_missing_certificate_file_is_named(option: str) -> None:
    error = await failure(f"rediss://127.0.0.1:1/0?{option}=/nowhere/c.pem")
    assert "/nowhere/c.pem does not exist" in error.message
    assert option in error.message


async def test_pool_closes_a_client_in_use_when_it_is_returned(redis_url: str) -> None:
    pool = ConnectionPool(redis_url, QueueOptions(), timeout=10)
    name = b"given-up"
    async with pool.connection() as connection:
        await connection.execute(("CLIENT", "SETNAME", name))
        async with pool.connection() as other:
            assert other is not connection
            await other.execute(("PING",))
        await pool.aclose()
        (clients,) = await connection.execute(("CLIENT", "LIST"))
        assert name in clients
    async with linked(redis_url) as asking:
        (clients,) = await asking.execute(("CLIENT", "LIST"))
    assert name not in clients
