"""The redis-cli command for a Redis, to be pasted into a shell. It never contains a password."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from sitegenctl.adapters.redis.urls import client_url, credentials, database_number, is_sentinel, query_of
from sitegenctl.domain.diagnosis.remedy import ShellCommand, Variable

_TLS = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
}


def redis_cli(url: str, variable: str | None = None) -> ShellCommand:
    """The redis-cli command for a URL; ``variable`` is the environment variable that holds the URL, if any.

    redis-cli prompts for the password unless the variable provides it.
    """
    if is_sentinel(url):
        # The primary may change between now and the moment when the command is run.
        return ShellCommand(("redis-cli", "-h", "HOST_OF_THE_PRIMARY"))
    parts = urlsplit(client_url(url))
    if variable and urlsplit(url).scheme in ("redis", "rediss") and not query_of(url):
        return ShellCommand(("redis-cli", "-u", Variable(variable)))
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
    return ShellCommand(("redis-cli", *words))
