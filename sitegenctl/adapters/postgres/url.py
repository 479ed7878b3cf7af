"""DATABASE_URL as hosting companies, libpq, psycopg2 and SQLAlchemy write it, for asyncpg."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from sitegenctl.config.url_options import DATABASE_OPTIONS, Use, problem_of
from sitegenctl.errors import UsageProblem

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
        if (problem := problem_of(name, value, DATABASE_OPTIONS)) is not None:
            raise UsageProblem(f"DATABASE_URL: {problem}")
        if name in ("host", "port") and name in kept:
            # SQLAlchemy repeats the parameter for each host.
            kept[name] += f",{value}"
        elif name in ("ssl", "sslmode"):
            kept["sslmode"] = _SSL_MODES.get(value.lower(), value.lower())
        elif _use(name) in (Use.DRIVER, Use.SETTING):
            kept[name] = value
    dsn = parts._replace(scheme="postgresql", query=urlencode(kept, safe="/:,", quote_via=quote), fragment="").geturl()
    # geturl drops the // of a URL without a host.
    return dsn if "://" in dsn else dsn.replace(":", "://", 1)


def ignored_parameters(url: str) -> list[str]:
    """The parameters of the URL that have no effect."""
    return [name for name in dict(parse_qsl(urlsplit(url).query)) if _use(name) is None]


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


def _use(name: str) -> Use | None:
    # Names with a dot are settings of an extension. Only the case of settings does not matter.
    use = Use.SETTING if "." in name else DATABASE_OPTIONS.get(name.lower(), (None,))[0]
    return use if use is Use.SETTING or name == name.lower() else None
