"""The privileges of our role in the orders database, read from the catalogs in one query."""

from __future__ import annotations

import json
from collections import defaultdict

import asyncpg

from sitegenctl.domain.health.access import NEEDED_COLUMNS, ColumnAccess, DatabaseAccess

#: The tables that sitegenctl reads.
TABLES = tuple(NEEDED_COLUMNS)

# to_regclass, so that the search_path selects the table as in every other query. A sequence is listed if the default of
# the column uses it and our role may not; the sequence of an identity column needs no grant.
_ACCESS = """
SELECT current_user::text AS role, pg_is_in_recovery() AS in_recovery,
       current_setting('default_transaction_read_only')::boolean AS is_read_only,
       array(SELECT t FROM unnest($1::text[]) t WHERE row_security_active(to_regclass(t))) AS hidden,
       (SELECT json_agg(json_build_object(
               'table', t.name, 'column', a.attname,
               'type', CASE WHEN y.typtype = 'e' THEN y.typname::text ELSE format_type(y.oid, NULL) END,
               'labels', CASE WHEN y.typtype = 'e' THEN
                         array(SELECT enumlabel FROM pg_enum WHERE enumtypid = y.oid ORDER BY enumsortorder) END,
               'privileges', array(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) p
                                    WHERE has_column_privilege(a.attrelid, a.attnum, p)),
               'sequence', (
                   SELECT min(s.oid::regclass::text)
                     FROM pg_attrdef f
                     JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                                     AND d.refclassid = 'pg_class'::regclass
                     JOIN pg_class s ON s.oid = d.refobjid
                    WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
                      AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') END)))
          FROM unnest($1::text[]) AS t(name)
          JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_type c ON c.oid = a.atttypid
          JOIN pg_type y ON y.oid = coalesce(nullif(c.typbasetype, 0), c.oid)) AS columns
"""


async def read_access(connection: asyncpg.Connection) -> DatabaseAccess:
    """Read the privileges inside a transaction; raises the driver's errors."""
    row = await connection.fetchrow(_ACCESS, list(TABLES))
    columns: dict[str, dict[str, ColumnAccess]] = defaultdict(dict)
    for column in json.loads(row["columns"] or "[]"):
        columns[column["table"]][column["column"]] = ColumnAccess(
            type=column["type"],
            labels=None if column["labels"] is None else tuple(column["labels"]),
            privileges=frozenset(column["privileges"]),
            sequence=column["sequence"],
        )
    return DatabaseAccess(
        role=row["role"],
        in_recovery=row["in_recovery"],
        is_read_only=row["is_read_only"],
        hidden=tuple(row["hidden"]),
        columns=dict(columns),
    )
