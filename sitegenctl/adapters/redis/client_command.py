"""The redis-cli command that reaches the Redis of a URL, for remedies that are pasted into a shell.

No password is ever in it: it comes from the variable that holds the URL, or redis-cli asks for it.
"""

from __future__ import annotations

import shlex
from urllib.parse import unquote, urlsplit

from sitegenctl.adapters.redis.urls import client_url, credentials, database_number, is_sentinel, query_of

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
