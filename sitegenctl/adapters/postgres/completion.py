"""Order numbers for shell completion: one connection, one query."""

from __future__ import annotations

import asyncio

from sitegenctl.adapters.postgres.connection import Database
from sitegenctl.adapters.postgres.errors import translating
from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.domain.queue.defaults import MAX_ORDER_ID

_MAX_SUGGESTIONS = 50

# Open orders first, then the newest. Both parts use an index, so the number of orders does not matter.
_LIKELY = """
SELECT id, customer_name
  FROM ((SELECT id, customer_name, 0 AS rank FROM site_orders WHERE status IN ('BUILDING', 'GENERATING')
          ORDER BY id DESC LIMIT $1)
        UNION ALL
        (SELECT id, customer_name, 1 FROM site_orders
          WHERE (status NOT IN ('BUILDING', 'GENERATING')) IS NOT FALSE ORDER BY id DESC LIMIT $1)) AS suggestion
 ORDER BY rank, id DESC LIMIT $1
"""

_BETWEEN = """
SELECT suggestion.id, suggestion.customer_name
  FROM unnest($2::bigint[], $3::bigint[]) AS span(low, high)
 CROSS JOIN LATERAL (SELECT id, customer_name FROM site_orders WHERE id BETWEEN span.low AND span.high
                      ORDER BY id DESC LIMIT $1) AS suggestion
 ORDER BY suggestion.id LIMIT $1
"""


async def suggest_orders(url: str, prefix: str, *, timeout: float) -> list[tuple[int, str]]:
    """Id and customer of up to 50 orders whose id begins with ``prefix``, read within ``timeout`` seconds.

    Raises ``SourceError``. The customer's name is untrusted text.
    """
    is_number = prefix.isascii() and prefix.isdecimal() and prefix[0] != "0"
    if prefix and not (is_number and int(prefix[:20]) <= MAX_ORDER_ID):
        return []
    database = Database(asyncpg_dsn(url), timeout=timeout, read_only=True)
    try:
        with translating():
            async with asyncio.timeout(timeout):
                if prefix:
                    rows = await database.fetch(_BETWEEN, _MAX_SUGGESTIONS, *zip(*_spans(prefix), strict=True))
                else:
                    rows = await database.fetch(_LIKELY, _MAX_SUGGESTIONS)
    finally:
        await database.close()
    return [(row["id"], row["customer_name"]) for row in rows]


def _spans(prefix: str) -> list[tuple[int, int]]:
    """Ranges of the ids that begin with ``prefix``: 42, 420 to 429, 4200 to 4299 and so on."""
    low = high = int(prefix)
    spans = []
    while low <= MAX_ORDER_ID:
        spans.append((low, min(high, MAX_ORDER_ID)))
        low, high = low * 10, high * 10 + 9
    return spans
