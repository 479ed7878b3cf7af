"""The options of DATABASE_URL and REDIS_URL that sitegenctl knows, and the form of their values.

Only these values are shown: that of an unknown option, or one of another form, may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_plus


class Use(Enum):
    """What becomes of an option."""

    DRIVER = "configures the driver"
    SETTING = "is sent to the server as a setting"
    ADDRESS = "names the server or the login"
    TLS = "configures TLS"
    NONE = "has no effect: what it configures is fixed, or has a setting of our own"


@dataclass(frozen=True, kw_only=True)
class Form:
    """The values of an option; ``must_be`` describes them, None where values of another form are also valid."""

    pattern: str
    must_be: str | None = None

    def matches(self, value: str) -> bool:
        """Whether a decoded value has this form."""
        return re.fullmatch(self.pattern, value) is not None


#: By name in lower case.
UrlOptions = Mapping[str, tuple[Use, Form]]


def _choice(*values: str) -> Form:
    return Form(pattern=f"(?i:{'|'.join(map(re.escape, values))})", must_be=f"one of {', '.join(values)}")


_SECRET = Form(pattern="(?!)")
_TEXT = Form(pattern=r"[\w .:@/+$\",\[\]-]*")
_PATH = Form(pattern=r"[^\0-\x1f]+")
_PORTS = Form(pattern="[0-9]{1,5}(,[0-9]{1,5})*", must_be="a number")
_WHOLE = Form(pattern="-?[0-9]{1,9}", must_be="a whole number")
_NUMBER = Form(pattern=r"[0-9]{1,9}(\.[0-9]+)?", must_be="a number")
_BOOLEAN = _choice("on", "off", "true", "false", "yes", "no", "1", "0")
_TRUTH = Form(pattern=_BOOLEAN.pattern)  # redis-py accepts every text
_LIMIT = Form(pattern=r"[0-9]{1,10}(\.[0-9]+)?\s*(us|ms|s|min|h|d)?", must_be="a time such as 30s")
_SIZE = Form(pattern=r"[0-9]{1,10}(\.[0-9]+)?\s*(B|kB|MB|GB|TB)?", must_be="a size such as 64MB")
_TLS_VERSION = _choice("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

#: The time limits of PostgreSQL that can end what sitegenctl does.
TIME_LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)

# asyncpg sends what it does not understand to the server as a setting, and the server refuses a connection with a
# setting that it does not have. So only these are sent, and those of extensions.
_SETTINGS: Mapping[str, Form] = {
    **dict.fromkeys(("search_path", "role", "timezone", "synchronous_commit"), _TEXT),
    **dict.fromkeys(TIME_LIMITS, _LIMIT),
    "work_mem": _SIZE,
    **dict.fromkeys(("jit", "default_transaction_read_only"), _BOOLEAN),
}
# As in `-c search_path=crm`.
_ASSIGNMENT = "|".join(rf"{name}=({form.pattern.replace(' ', '')})" for name, form in _SETTINGS.items())

DATABASE_OPTIONS: UrlOptions = {
    **{
        name: (Use.DRIVER, form)  # libpq's that asyncpg understands, from 0.29 on
        for name, form in {
            **dict.fromkeys(("host", "dbname", "database", "user"), _TEXT),
            "port": _PORTS,
            **dict.fromkeys(("password", "sslpassword"), _SECRET),
            **dict.fromkeys(("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"), _PATH),
            "target_session_attrs": _choice("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
            "sslmode": _choice(*_SSL_MODES, "no-verify"),
            "ssl": _choice(*_SSL_MODES, "no-verify", "true", "false", "1", "0", "on", "off"),
            **dict.fromkeys(("ssl_min_protocol_version", "ssl_max_protocol_version"), _TLS_VERSION),
        }.items()
    },
    "options": (Use.SETTING, Form(pattern=rf"\s*(?>(-c\s*|--)({_ASSIGNMENT})\s*)*")),
    **{name: (Use.SETTING, form) for name, form in _SETTINGS.items()},
    "connect_timeout": (Use.NONE, Form(pattern=_WHOLE.pattern, must_be="a number of seconds")),
    **dict.fromkeys(("application_name", "client_encoding"), (Use.NONE, _TEXT)),
}

#: Options of redis-py and kombu.
REDIS_OPTIONS: UrlOptions = {
    "db": (Use.ADDRESS, Form(pattern="[0-9]{1,9}", must_be="a number")),
    "virtual_host": (Use.ADDRESS, Form(pattern="/?[0-9]{0,9}/?", must_be="a number")),
    "username": (Use.ADDRESS, _TEXT),
    "password": (Use.ADDRESS, _SECRET),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), (Use.TLS, _PATH)),
    "ssl_ca_data": (Use.TLS, _SECRET),
    "ssl_password": (Use.TLS, _SECRET),
    "ssl_cert_reqs": (
        Use.TLS,
        Form(pattern="(?i:(cert_)?(required|optional|none))", must_be="one of required, optional, none"),
    ),
    "ssl_check_hostname": (Use.TLS, _TRUTH),
    # Of redis-py's client, which sets its own. Kombu refuses them.
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), (Use.NONE, _NUMBER)),
    **dict.fromkeys(("socket_keepalive", "retry_on_timeout", "decode_responses"), (Use.NONE, _TRUTH)),
    **dict.fromkeys(("max_connections", "health_check_interval", "protocol"), (Use.NONE, _WHOLE)),
    **dict.fromkeys(("retry_on_error", "client_name", "encoding", "encoding_errors"), (Use.NONE, _TEXT)),
}


def problem_of(name: str, value: str, options: UrlOptions) -> str | None:
    """What is wrong with the value of an option, without the value: it may be a secret."""
    _, form = options.get(name.lower(), (None, _TEXT))
    return f"{name} must be {form.must_be}" if form.must_be is not None and not form.matches(value) else None


def may_show(name: str, value: str, options: UrlOptions) -> bool:
    """Whether the value, which may be percent-encoded, is a valid one of a known option that is no secret."""
    _, form = options.get(unquote_plus(name).lower(), (None, _SECRET))
    return form.matches(unquote_plus(value))
