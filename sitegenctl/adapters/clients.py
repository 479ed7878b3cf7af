"""The servers' own clients, redis-cli and psql: the beginnings of commands that reach what a URL names.

For remedies, which are pasted into a shell. No password is ever in them: it comes from the variable that holds the
URL or, where the URL is from elsewhere, the client asks for it.
"""

from __future__ import annotations

import shlex
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sitegenctl.adapters.postgres_connection import asyncpg_dsn
from sitegenctl.adapters.redis_urls import client_url, credentials, database_number, is_sentinel, query_of

_TLS = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
}


def redis_cli(url: str, variable: str | None = None) -> str:
    """``redis-cli`` for the Redis of this URL; ``variable`` is the one of the environment that holds it, if any."""
    if is_sentinel(url):
        # The sentinels know which one it is now, and an answer of a minute ago may be wrong.
        return "redis-cli -h HOST_OF_THE_PRIMARY"
    parts = urlsplit(client_url(url))
    if variable and urlsplit(url).scheme in ("redis", "rediss") and not query_of(url):
        return f'redis-cli -u "${variable}"'
    if parts.scheme == "unix":
        words = ["-s", unquote(parts.path)]
    else:
        words = ["-h", unquote(parts.hostname or "localhost"), "-p", str(parts.port or 6379)]
    words += ["-n", str(database_number(url))]
    known = credentials(url)
    if name := known.get("username"):
        words += ["--user", name]
    if "password" in known:
        words.append("--askpass")
    if parts.scheme == "rediss":
        words.append("--tls")
        options = query_of(client_url(url))
        words += [word for option, flag in _TLS.items() if option in options for word in (flag, options[option])]
        if options.get("ssl_cert_reqs") == "none":
            words.append("--insecure")
    return shlex.join(["redis-cli", *words])


def psql(url: str, variable: str | None = None) -> str:
    """``psql`` for the database of this URL; ``variable`` as for ``redis_cli``.

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
