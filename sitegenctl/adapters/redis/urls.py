"""Redis URLs in the spelling of redis-py and in the one of kombu and Celery.

Kombu writes ``redis+socket://`` for redis-py's ``unix://`` and joins the URLs of several sentinels. redis-py accepts
one spelling of ``ssl_cert_reqs`` in ``rediss://``, Celery requires the option. Sources: kombu/utils/url.py and
kombu/transport/redis.py 5.3 and 5.7, celery/backends/redis.py, redis/asyncio/connection.py 4.6 and 8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from sitegenctl.config.url_options import REDIS_OPTIONS, Use, problem_of
from sitegenctl.errors import UsageProblem

_SENTINEL_PORT = 26379
_SERVERS = ("redis", "rediss")
_SOCKETS = ("redis+socket", "unix")
_SENTINEL = "sentinel"
_VALKEY = {"valkey": "redis", "valkeys": "rediss"}  # the schemes of its own client
_CERT_REQS = {"cert_required": "required", "cert_optional": "optional", "cert_none": "none"}

#: TLS options that name a file or directory.
TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

# Characters of an unknown option in its error.
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Address:
    """A Redis: the ``path`` of a unix socket or host and port, database and login; or the ``sentinels`` that know it.

    ``tls`` has the options of TLS that are set, and always ``ssl_cert_reqs``; None without TLS.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    tls: Mapping[str, str] | None = field(default=None, repr=False)
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinels: tuple[Address, ...] = ()

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_url(url: str) -> Address:
    """Parse the URL of a Redis, or the URLs of sentinels. Raises ``UsageProblem``."""
    urls = url.split(";") if url.startswith(f"{_SENTINEL}://") else [url]
    parts, options = _split(urls[0])
    sentinels = []
    if parts.scheme == _SENTINEL:
        for watcher, _ in map(_split, urls):
            if watcher.scheme != _SENTINEL or not watcher.hostname:
                raise _not_redis()
            sentinels.append(Address(host=watcher.hostname, port=watcher.port or _SENTINEL_PORT))
    is_socket = parts.scheme in _SOCKETS
    number = options.get("virtual_host") or options.get("db") or ("" if is_socket else parts.path)
    number = number.strip("/")
    tls = None
    if parts.scheme == "rediss":
        tls = {name: value for name, value in options.items() if value} | {"ssl_cert_reqs": _cert_reqs(options)}
    return Address(
        host=unquote(parts.hostname or Address.host),
        port=parts.port or Address.port,
        path=unquote(parts.path) if is_socket else None,
        tls=tls,
        database=int(number) if number.isdecimal() else 0,
        username=unquote(parts.username or "") or options.get("username") or None,
        password=unquote(parts.password or "") or options.get("password") or None,
        sentinels=tuple(sentinels),
    )


def require_redis(url: str) -> None:
    """Raise ``UsageProblem`` for an invalid URL, an unknown option or an invalid value of an option."""
    is_sentinel = bool(parse_url(url).sentinels)
    parts, options = _split(url.partition(";")[0] if is_sentinel else url)
    if parts.scheme not in _SOCKETS and not re.fullmatch("/{0,2}[0-9]*/?", parts.path):
        raise UsageProblem("REDIS_URL: what follows the host must be the number of a database")
    if is_sentinel:
        return
    for name, value in options.items():
        use, _ = REDIS_OPTIONS.get(name, (None, None))
        if use is None:
            known = [each for each, (use, _) in REDIS_OPTIONS.items() if name[:4] != "ssl_" or use is Use.TLS]
            raise UsageProblem(
                f"REDIS_URL: unknown option {name[:_SHOWN]!r}", hint=f"known options: {', '.join(known)}"
            )
        if use is Use.TLS and parts.scheme != "rediss":
            raise UsageProblem(f"REDIS_URL: {name} requires TLS", hint="use rediss:// instead of redis://")
        if (problem := problem_of(name, value, REDIS_OPTIONS)) is not None:
            raise UsageProblem(f"REDIS_URL: {problem}")


def client_url(url: str) -> str:
    """The URL in redis-py's spelling, without options of its client. Raises ``UsageProblem``."""
    return _respelled(url, "unix", "db", str)


def kombu_url(url: str) -> str:
    """The URL in the spelling of kombu and of Celery's result backend. Raises ``UsageProblem``."""
    if url.startswith(f"{_SENTINEL}://"):
        return url
    return _respelled(url, "redis+socket", "virtual_host", lambda word: f"CERT_{word.upper()}")


def _respelled(url: str, socket_scheme: str, database_option: str, cert_reqs: Callable[[str], str]) -> str:
    parts, options = _split(url)
    query = {name: value for name, value in options.items() if REDIS_OPTIONS.get(name, (None,))[0] is not Use.NONE}
    scheme = parts.scheme
    if scheme in _SOCKETS:
        scheme = socket_scheme
        for option in ("db", "virtual_host"):
            if option in query:
                query[database_option] = query.pop(option)
    if scheme == "rediss":
        # Explicit, because kombu's default is to verify nothing.
        query["ssl_cert_reqs"] = cert_reqs(_cert_reqs(query))
    encoded = urlencode(query, safe="/", quote_via=quote)
    # Not urlunsplit, which drops the // of a URL without a host.
    return f"{scheme}://{parts.netloc}{parts.path}" + (f"?{encoded}" if encoded else "")


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of a URL and its options."""
    try:
        parts = urlsplit(url)
        parts = parts._replace(scheme=_VALKEY.get(parts.scheme, parts.scheme))
        _ = parts.port  # raises for an invalid port
    except ValueError as exc:
        raise _not_redis() from exc
    if parts.scheme not in (_SENTINEL, *_SERVERS, *_SOCKETS):
        raise _not_redis()
    if "@" in parts.query + parts.fragment or ("@" in parts.path and parts.scheme not in _SOCKETS):
        # Part of a password. What a parser takes for the host must not be shown.
        raise UsageProblem("REDIS_URL is not a valid URL: in a password, / ? # and @ must be percent-encoded")
    return parts, dict(parse_qsl(parts.query, keep_blank_values=True))


def _cert_reqs(query: Mapping[str, str]) -> str:
    word = query.get("ssl_cert_reqs", "required").lower()
    word = _CERT_REQS.get(word, word)
    if word not in _CERT_REQS.values():
        raise UsageProblem("REDIS_URL: ssl_cert_reqs must be one of required, optional, none")
    return word


def _not_redis() -> UsageProblem:
    return UsageProblem("REDIS_URL is not a Redis URL", hint="use the form redis://host:6379/0")
