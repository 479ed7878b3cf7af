"""Databases with the contract's tables, all empty: one for each test, used again when it was left as it was made.

Making and dropping one takes a hundred times as long as deleting the few rows that a test writes.
"""

from __future__ import annotations

import asyncio
import itertools
from urllib.parse import urlsplit

import asyncpg

from sitegenctl.adapters.postgres.schema import metadata
from tests.support.sql import forget, sql
from tests.support.world import create_schema

_TEMPLATE = "contract"

# All that a test may have done to a database besides filling its tables: every row of the catalogs that a statement
# has written since bears the number of its transaction. TRUNCATE writes to some of pg_class and leaves what is asked
# of it here.
_CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_cast", "pg_collation", "pg_constraint", "pg_default_acl", "pg_enum"),
    *("pg_event_trigger", "pg_extension", "pg_index", "pg_inherits", "pg_language", "pg_namespace", "pg_operator"),
    *("pg_policy", "pg_proc", "pg_publication", "pg_rewrite", "pg_sequence", "pg_trigger", "pg_type"),
)
_STATE = f"""
SELECT concat_ws(
    ' ',
    {", ".join(f"(SELECT (count(*), sum(xmin::text::bigint)) FROM {catalog})" for catalog in _CATALOGS)},
    (SELECT md5(string_agg((relname, relnamespace, reltype, relowner, relkind, relpersistence, relnatts, relchecks,
                            relhasindex, relhasrules, relhastriggers, relrowsecurity, relacl, reloptions)::text,
                           ' ' ORDER BY oid)) FROM pg_class),
    (SELECT (datacl, datconnlimit, datallowconn, datdba) FROM pg_database WHERE datname = current_database()),
    (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = oid WHERE datname = current_database())
)"""  # noqa: S608 - of nothing but the names above
_LEAVE = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_SIZE = "SELECT sum(pg_table_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
# So many bytes of dead rows would begin to tell.
_LARGE = 2_000_000
_TRUNCATE = f"TRUNCATE {', '.join(metadata.tables)} CASCADE"
# Those that refer to others first. TRUNCATE makes new files for all, which takes ten times as long.
_DELETE = [(f"DELETE FROM {table.name}",) for table in reversed(metadata.sorted_tables)]  # noqa: S608 - as above
_RESTART = "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence"


class Databases:
    """Those of one server."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._states: dict[str, str] = {}
        self._free: list[str] = []
        asyncio.run(_execute(server, f"CREATE DATABASE {_TEMPLATE}"))
        asyncio.run(create_schema(_in_database(server, _TEMPLATE)))

    def take(self) -> str:
        """The URL of one that nobody else has."""
        if self._free:
            return self._free.pop()
        url = asyncio.run(self._make())
        self._states[url] = sql(url)((_STATE,))[0][0]
        return url

    def give_back(self, url: str) -> None:
        """To be used again, or dropped where that can't be."""
        if self._empty(url):
            self._free.append(url)
            return
        forget(url)
        name = urlsplit(url).path[1:]
        asyncio.run(_execute(self._server, f"DROP DATABASE {name} WITH (FORCE)"))

    async def _make(self) -> str:
        name = f"test_{next(self._numbers)}"
        await _execute(self._server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return _in_database(self._server, name)

    def _empty(self, url: str) -> bool:
        """Empty the tables; False where more than their rows has changed."""
        try:
            # Whoever still works on it is not to write to what the next test gets.
            (state,) = sql(url)((_LEAVE,), (_STATE,))
            if state[0] != self._states[url]:
                return False
            ((size,),) = sql(url)((_SIZE,))
            empty = [(_TRUNCATE,)] if size > _LARGE else _DELETE
            sql(url)(*empty, (_RESTART,))
        except asyncpg.PostgresError:  # it takes no connections, or no writes
            return False
        return True


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _in_database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
