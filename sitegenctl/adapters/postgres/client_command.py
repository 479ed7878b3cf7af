"""The psql command for a database, to be pasted into a shell. It never contains a password."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from sitegenctl.adapters.postgres.url import asyncpg_dsn
from sitegenctl.config.url_options import DATABASE_OPTIONS, may_show
from sitegenctl.domain.diagnosis.remedy import ShellCommand, Variable


def psql(url: str, variable: str | None = None) -> ShellCommand:
    """The psql command for the database of a URL; ``variable`` is the environment variable that holds it, if any.

    psql prompts for the password unless the variable provides it. Raises ``UsageProblem`` for an invalid URL.
    """
    dsn = asyncpg_dsn(url)
    # psql does not know SQLAlchemy's drivers and options.
    if variable and urlsplit(url).scheme in ("postgresql", "postgres") and dsn.endswith(url.partition(":")[2]):
        return ShellCommand(("psql", Variable(variable)))
    parts = urlsplit(dsn)
    login, at, place = parts.netloc.rpartition("@")
    options = [pair for pair in parse_qsl(parts.query) if may_show(*pair, DATABASE_OPTIONS)]
    query = urlencode(options, safe="/", quote_via=quote)
    # Not urlunsplit, which drops the // of a URL without a host.
    address = f"postgresql://{login.partition(':')[0]}{at}{place}{parts.path}" + (f"?{query}" if query else "")
    return ShellCommand(("psql", address))
