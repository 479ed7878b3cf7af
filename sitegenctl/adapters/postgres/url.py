"""DATABASE_URL as hosting companies, libpq, psycopg2 and SQLAlchemy write it, for asyncpg."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from sitegenctl.errors import UsageProblem

# The parameters of libpq that asyncpg understands, from 0.29 on.
_UNDERSTOOD = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "target_session_attrs",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
    ]
)
# asyncpg sends every other parameter to the server as a setting, and the server refuses a connection with a setting
# that it does not have. So only these are sent.
_SETTINGS = frozenset(
    [
        "options",
        "search_path",
        "role",
        "timezone",
        "work_mem",
        "jit",
        "synchronous_commit",
        "statement_timeout",
        "lock_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "default_transaction_read_only",
    ]
)
# Parameters without effect here, and no loss: what they configure is fixed or has an option of our own.
_FIXED = frozenset({"application_name", "client_encoding", "connect_timeout"})

# Other names and values of `sslmode`: `ssl` is SQLAlchemy's and JDBC's, `no-verify` is node-postgres's.
_SSL_MODES = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}
_SSL_MODES["no-verify"] = "require"


def asyncpg_dsn(url: str) -> str:
    """The URL for asyncpg; it may name several hosts. Raises ``UsageProblem``."""
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise UsageProblem(
            "DATABASE_URL is not a PostgreSQL URL", hint="use the form postgresql://user:password@host:5432/name"
        )
    kept: dict[str, str] = {}
    for name, value in parse_qsl(parts.query):
        if name in ("host", "port") and name in kept:
            # SQLAlchemy repeats the parameter for each host.
            kept[name] += f",{value}"
        elif name in ("ssl", "sslmode"):
            kept["sslmode"] = _SSL_MODES.get(value.lower(), value)
        elif name in _UNDERSTOOD or _is_setting(name):
            kept[name] = value
    dsn = parts._replace(scheme="postgresql", query=urlencode(kept, safe="/:,", quote_via=quote), fragment="").geturl()
    # geturl drops the // of a URL without a host.
    return dsn if "://" in dsn else dsn.replace(":", "://", 1)


def ignored_parameters(url: str) -> list[str]:
    """The parameters of the URL that have no effect."""
    known = _UNDERSTOOD | _FIXED | {"ssl"}
    names = dict(parse_qsl(urlsplit(url).query))
    return [name for name in names if name not in known and not _is_setting(name)]


def one_per_host(dsn: str) -> list[str]:
    """A URL for asyncpg with one host for each host of this one, in their order. Raises ``UsageProblem``."""
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    login, at, place = parts.netloc.rpartition("@")
    hosts = (place or options.pop("host", "")).split(",")
    if len(hosts) == 1:
        return [dsn]
    ports = [""] if place else options.pop("port", "").split(",")
    if len(ports) not in (1, len(hosts)):
        raise UsageProblem(f"DATABASE_URL has {len(hosts)} hosts and {len(ports)} ports")
    urls = []
    for number, host in enumerate(hosts):
        port = ports[number % len(ports)]
        if host.startswith("/"):
            netloc, query = login + at, {**options, "host": host, **({"port": port} if port else {})}
        else:
            netloc, query = f"{login}{at}{host}" + (f":{port}" if port else ""), options
        urls.append(
            f"postgresql://{netloc}{parts.path}"
            + (f"?{urlencode(query, safe='/:,', quote_via=quote)}" if query else "")
        )
    return urls


def _is_setting(name: str) -> bool:
    # Names with a dot are an extension's.
    return name.lower() in _SETTINGS or "." in name
