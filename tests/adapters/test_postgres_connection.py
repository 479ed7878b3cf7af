"""What a connection to PostgreSQL bears: locks that others hold, and a pooler between."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from sitegenctl.adapters.postgres_orders import PostgresOrders
from sitegenctl.errors import SourceError
from tests.world import World


def test_a_locked_table_is_called_locked_and_not_away(world: World) -> None:
    async def scenario() -> None:
        migration = await asyncpg.connect(world.database_url)
        store = PostgresOrders(world.database_url, timeout=1)
        try:
            await migration.execute("BEGIN; LOCK TABLE site_orders")
            with pytest.raises(SourceError, match="locked by somebody else"):
                await store.read_orders([42])
            await migration.execute("ROLLBACK")
            assert await store.read_orders([42]) == {}
        finally:
            await store.close()
            await migration.close()

    asyncio.run(scenario())


def test_a_pooler_that_takes_no_settings_does_not_keep_us_out(world: World) -> None:
    """As PgBouncer refuses what it doesn't track, in its words and with its code."""
    world.order(42)
    server = urlsplit(world.database_url)
    refusal = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: lock_timeout\0\0"
    refused = []

    async def pool(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = await reader.readexactly(4)
        startup = length + await reader.readexactly(int.from_bytes(length, "big") - 4)
        if b"lock_timeout" in startup:
            refused.append(startup)
            writer.write(b"E" + (len(refusal) + 4).to_bytes(4, "big") + refusal)
            writer.close()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(server.hostname, server.port)
        upstream_writer.write(startup)
        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(pool, "127.0.0.1", 0) as pooler:
            port = pooler.sockets[0].getsockname()[1]
            netloc = server.netloc.replace(f":{server.port}", f":{port}")
            store = PostgresOrders(server._replace(netloc=netloc, query="sslmode=disable").geturl(), timeout=5)
            assert 42 in await store.read_orders([42])
            await store.close()

    asyncio.run(scenario())
    assert len(refused) == 1
