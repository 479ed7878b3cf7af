"""The redis-cli command for a Redis, to be pasted into a shell. It never contains a password."""

from __future__ import annotations

from urllib.parse import urlsplit

from sitegenctl.adapters.redis.urls import parse_url
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
    address = parse_url(url)
    if address.sentinels:
        # The primary may change between now and the moment when the command is run.
        return ShellCommand(("redis-cli", "-h", "HOST_OF_THE_PRIMARY"))
    parts = urlsplit(url)
    if variable and parts.scheme in ("redis", "rediss") and not parts.query:
        return ShellCommand(("redis-cli", "-u", Variable(variable)))
    words = ["-s", address.path] if address.path else ["-h", address.host, "-p", str(address.port)]
    words += ["-n", str(address.database)]
    if address.username and address.password:
        words += ["--user", address.username]
    if address.username or address.password:
        # A user alone may be a password in the wrong place.
        words.append("--askpass")
    if address.tls is not None:
        words.append("--tls")
        words += [word for name, flag in _TLS.items() if name in address.tls for word in (flag, address.tls[name])]
        if address.tls["ssl_cert_reqs"] == "none":
            words.append("--insecure")
    return ShellCommand(("redis-cli", *words))
