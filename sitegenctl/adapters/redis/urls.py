"""Redis URLs as deployments have them: as redis-py wants them, and as kombu and Celery do.

The two agree on ``redis://`` alone. Kombu writes ``redis+socket://`` for what redis-py calls ``unix://``, and
names several sentinels in one URL; of ``rediss://`` redis-py knows one spelling of ``ssl_cert_reqs``, while
Celery wants one to be there. Sources: kombu/utils/url.py and kombu/transport/redis.py 5.3 and 5.7,
celery/backends/redis.py, redis/asyncio/connection.py 4.6 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from sitegenctl.errors import UsageProblem

_SENTINEL_PORT = 26379
_SERVERS = ("redis", "rediss")
_SOCKETS = ("redis+socket", "unix")
_SENTINEL = "sentinel"
_PLACE: Mapping[str, Callable[[str], object]] = {"db": int, "virtual_host": str, "username": str, "password": str}
# What redis-py's client can be told in a URL, and nobody needs to tell sitegenctl: it has its own limits, and knows
# how it reads. Kombu takes none of it.
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
_TLS = "ssl_"
_CERT_REQS = {"cert_required": "required", "cert_optional": "optional", "cert_none": "none"}


def is_sentinel(url: str) -> bool:
    """Whether the URL names sentinels rather than a Redis."""
    return url.startswith(f"{_SENTINEL}://")


def require_redis(url: str) -> None:
    """Raise ``UsageProblem`` for no URL of a Redis, an option that none of its clients knows, or a value that is none.

    Which options of TLS there are differs from client to client: the one that is used says so.
    """
    parts = _split(url)
    if parts.scheme == _SENTINEL:
        return
    if parts.scheme not in (*_SOCKETS, *_SERVERS):
        raise _not_redis()
    if "@" in parts.query:
        # Then it is no query, and not to be quoted.
        raise UsageProblem("REDIS_URL is not a valid URL: in a password, / ? # and @ must be percent-encoded")
    options = _query(parts)
    if parts.scheme == "rediss":
        _cert_reqs(options)
    for name, value in options.items():
        if name.startswith(_TLS):
            if parts.scheme != "rediss":
                raise UsageProblem(f"REDIS_URL: {name} is an option of TLS", hint="with TLS it begins with rediss://")
            continue
        parse = _PLACE.get(name) or _CLIENT.get(name)
        if parse is None:
            raise UsageProblem(
                f"REDIS_URL: {name!r} is no option of a Redis URL", hint=f"these are: {', '.join((*_PLACE, *_CLIENT))}"
            )
        try:
            parse(value)
        except ValueError:
            raise UsageProblem(f"REDIS_URL: {name} must be a number, and is {value!r}") from None


def client_url(url: str) -> str:
    """The URL as redis-py wants it, without what is for its client. Raises ``UsageProblem`` for no URL of a Redis."""
    parts = _split(url)
    query = _query(parts, without=_CLIENT)
    if parts.scheme in _SOCKETS:
        if "virtual_host" in query:
            query["db"] = query.pop("virtual_host")
        return _joined("unix", parts, query)
    if parts.scheme not in _SERVERS:
        raise _not_redis()
    if parts.scheme == "rediss":
        # Other than kombu, whose default is to verify nothing, and not to say so where anybody looks.
        query["ssl_cert_reqs"] = _cert_reqs(query)
    return _joined(parts.scheme, parts, query)


def kombu_url(url: str) -> str:
    """The URL as kombu and Celery's result backend want it. Raises ``UsageProblem`` like ``client_url``."""
    if is_sentinel(url):
        return url
    parts = _split(url)
    query = _query(parts, without=_CLIENT)
    if parts.scheme in _SOCKETS:
        if "db" in query:
            query["virtual_host"] = query.pop("db")
        return _joined("redis+socket", parts, query)
    if parts.scheme not in _SERVERS:
        raise _not_redis()
    if parts.scheme == "rediss":
        query["ssl_cert_reqs"] = f"CERT_{_cert_reqs(query).upper()}"
    return _joined(parts.scheme, parts, query)


def database_number(url: str) -> int:
    """The number of the Redis database that the URL names; 0 when it names none."""
    parts = _split(url.split(";")[0])
    query = _query(parts)
    named = query.get("virtual_host") or query.get("db")
    if named is None and parts.scheme not in _SOCKETS:
        named = parts.path
    number = (named or "").strip("/")
    return int(number) if number.isdecimal() else 0


def query_of(url: str) -> dict[str, str]:
    """The URL's options, such as those of TLS."""
    return _query(_split(url.split(";")[0]))


def sentinels(url: str) -> list[tuple[str, int]]:
    """Host and port of each sentinel that the URL names."""
    found = []
    for each in url.split(";"):
        parts = _split(each)
        if parts.scheme != _SENTINEL or not parts.hostname:
            raise _not_redis()
        found.append((parts.hostname, parts.port or _SENTINEL_PORT))
    return found


def credentials(url: str) -> dict[str, str]:
    """The user name and password of the (first) URL, as far as there are any."""
    parts = _split(url.split(";")[0])
    given = {"username": parts.username, "password": parts.password}
    return {name: unquote(value) for name, value in given.items() if value}


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked when it is read
    except ValueError as exc:
        raise _not_redis() from exc
    return parts


def _query(parts: SplitResult, *, without: Container[str] = ()) -> dict[str, str]:
    return {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in without}


def _joined(scheme: str, parts: SplitResult, query: dict[str, str]) -> str:
    # Not urlunsplit, which drops the // of a URL without a host.
    encoded = urlencode(query, safe="/", quote_via=quote)
    return f"{scheme}://{parts.netloc}{parts.path}" + (f"?{encoded}" if encoded else "")


def _cert_reqs(query: Mapping[str, str]) -> str:
    word = query.get("ssl_cert_reqs", "required").lower()
    word = _CERT_REQS.get(word, word)
    if word not in _CERT_REQS.values():
        raise UsageProblem(f"REDIS_URL: ssl_cert_reqs can't be {word!r}", hint="it is required, optional or none")
    return word


def _not_redis() -> UsageProblem:
    return UsageProblem("REDIS_URL is not a Redis URL", hint="it looks like redis://host:6379/0")
