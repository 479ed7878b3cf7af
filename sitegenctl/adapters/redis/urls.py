"""Redis URLs in the spelling of redis-py and in the one of kombu and Celery.

Kombu writes ``redis+socket://`` for redis-py's ``unix://`` and joins the URLs of several sentinels. redis-py accepts
one spelling of ``ssl_cert_reqs`` in ``rediss://``, Celery requires the option. Sources: kombu/utils/url.py and
kombu/transport/redis.py 5.3 and 5.7, celery/backends/redis.py, redis/asyncio/connection.py 4.6 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from sitegenctl.errors import UsageProblem

_SENTINEL_PORT = 26379
_SERVERS = ("redis", "rediss")
_SOCKETS = ("redis+socket", "unix")
_SENTINEL = "sentinel"
_CERT_REQS = {"cert_required": "required", "cert_optional": "optional", "cert_none": "none"}

#: TLS options that name a file or directory.
TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS = (*TLS_FILES, "ssl_ca_data", "ssl_cert_reqs", "ssl_check_hostname", "ssl_password")

_ADDRESS: Mapping[str, Callable[[str], object]] = {"db": int, "virtual_host": str, "username": str, "password": str}
# Options of redis-py's client. sitegenctl accepts and ignores them: it sets its own. Kombu refuses them.
_CLIENT: Mapping[str, Callable[[str], object]] = {
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": str,
    "retry_on_timeout": str,
    "retry_on_error": str,
    "max_connections": int,
    "health_check_interval": int,
    "client_name": str,
    "protocol": int,
    "encoding": str,
    "encoding_errors": str,
    "decode_responses": str,
}


def is_sentinel(url: str) -> bool:
    """Whether the URL names sentinels rather than a Redis."""
    return url.startswith(f"{_SENTINEL}://")


def require_redis(url: str) -> None:
    """Raise ``UsageProblem`` for an invalid URL, an unknown option or an invalid value of an option."""
    parts = _split(url)
    if parts.scheme == _SENTINEL:
        return
    if parts.scheme not in (*_SOCKETS, *_SERVERS):
        raise _not_redis()
    if "@" in parts.query:
        # Part of a password, which must not be quoted.
        raise UsageProblem("REDIS_URL is not a valid URL: in a password, / ? # and @ must be percent-encoded")
    options = _query(parts)
    if parts.scheme == "rediss":
        _cert_reqs(options)
    for name, value in options.items():
        if name in _TLS:
            if parts.scheme != "rediss":
                raise UsageProblem(f"REDIS_URL: {name} requires TLS", hint="use rediss:// instead of redis://")
            continue
        parse = _ADDRESS.get(name) or _CLIENT.get(name)
        if parse is None:
            known = _TLS if name.startswith("ssl_") else (*_ADDRESS, *_CLIENT)
            raise UsageProblem(f"REDIS_URL: unknown option {name!r}", hint=f"known options: {', '.join(known)}")
        try:
            parse(value)
        except ValueError:
            raise UsageProblem(f"REDIS_URL: {name} must be a number, not {value!r}") from None


def client_url(url: str) -> str:
    """The URL in redis-py's spelling, without options of its client. Raises ``UsageProblem``."""
    return _respelled(url, "unix", "db", str)


def kombu_url(url: str) -> str:
    """The URL in the spelling of kombu and of Celery's result backend. Raises ``UsageProblem``."""
    if is_sentinel(url):
        return url
    return _respelled(url, "redis+socket", "virtual_host", lambda word: f"CERT_{word.upper()}")


def _respelled(url: str, socket_scheme: str, database_option: str, cert_reqs: Callable[[str], str]) -> str:
    parts = _split(url)
    query = _query(parts, without=_CLIENT)
    scheme = parts.scheme
    if scheme in _SOCKETS:
        scheme = socket_scheme
        for option in ("db", "virtual_host"):
            if option in query:
                query[database_option] = query.pop(option)
    elif scheme not in _SERVERS:
        raise _not_redis()
    if scheme == "rediss":
        # Explicit, because kombu's default is to verify nothing.
        query["ssl_cert_reqs"] = cert_reqs(_cert_reqs(query))
    encoded = urlencode(query, safe="/", quote_via=quote)
    # Not urlunsplit, which drops the // of a URL without a host.
    return f"{scheme}://{parts.netloc}{parts.path}" + (f"?{encoded}" if encoded else "")


def database_number(url: str) -> int:
    """The number of the Redis database, 0 by default."""
    parts = _split(url.split(";")[0])
    query = _query(parts)
    named = query.get("virtual_host") or query.get("db")
    if named is None and parts.scheme not in _SOCKETS:
        named = parts.path
    number = (named or "").strip("/")
    return int(number) if number.isdecimal() else 0


def query_of(url: str) -> dict[str, str]:
    """The options of the (first) URL."""
    return _query(_split(url.split(";")[0]))


def sentinels(url: str) -> list[tuple[str, int]]:
    """Host and port of each sentinel in the URL. Raises ``UsageProblem``."""
    addresses = []
    for each in url.split(";"):
        parts = _split(each)
        if parts.scheme != _SENTINEL or not parts.hostname:
            raise _not_redis()
        addresses.append((parts.hostname, parts.port or _SENTINEL_PORT))
    return addresses


def credentials(url: str) -> dict[str, str]:
    """``username`` and ``password`` of the (first) URL; absent if not set."""
    parts = _split(url.split(";")[0])
    query = _query(parts)
    given = {
        "username": unquote(parts.username or "") or query.get("username"),
        "password": unquote(parts.password or "") or query.get("password"),
    }
    return {name: value for name, value in given.items() if value}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for an invalid port
    except ValueError as exc:
        raise _not_redis() from exc
    return parts


def _query(parts: SplitResult, *, without: Container[str] = ()) -> dict[str, str]:
    return {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in without}


def _cert_reqs(query: Mapping[str, str]) -> str:
    word = query.get("ssl_cert_reqs", "required").lower()
    word = _CERT_REQS.get(word, word)
    if word not in _CERT_REQS.values():
        raise UsageProblem(f"REDIS_URL: ssl_cert_reqs can't be {word!r}", hint="use required, optional or none")
    return word


def _not_redis() -> UsageProblem:
    return UsageProblem("REDIS_URL is not a Redis URL", hint="use the form redis://host:6379/0")
