"""The psql command that reaches the database of a URL, for remedies that are pasted into a shell.

No password is ever in it: it comes from the variable that holds the URL, or psql asks for it.
"""

from __future__ import annotations

import shlex
from urllib.parse import parse_qsl, urlencode, urlsplit

from sitegenctl.adapters.postgres.connection import asyncpg_dsn


def psql(url: str, variable: str | None = None) -> str:
    """``psql`` for the database of this URL; ``variable`` is the one of the environment that holds it, if any.

    Raises ``UsageProblem`` for what is no URL of PostgreSQL.
    """
    dsn = asyncpg_dsn(url)
    # psql knows no driver of SQLAlchemy's, and none of its options.
    if variable and urlsplit(url).scheme in ("postgresql", "postgres") and dsn.endswith(url.partition(":")[2]):
        return f'psql "${variable}"'
    parts = urlsplit(dsn)
    login, at, place = parts.netloc.rpartition("@")
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key != "password"], safe="/")
    # Not urlunsplit, which drops the // of a URL without a host.
    address = f"postgresql://{login.partition(':')[0]}{at}{place}{parts.path}" + (f"?{query}" if query else "")
    return shlex.join(["psql", address])
