"""Errors of PostgreSQL, of poolers and of the driver as ``SourceError``: by SQLSTATE, else by class."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import asyncpg

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy
from sitegenctl.errors import NotListening, SourceError, TimedOut, Unreachable

#: What asyncpg raises if a server is unreachable, refuses or responds too late. 0.29 raises the internal error for a
#: connection that was cut between two calls.
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

# Errors of a server that is starting, stopping or out of connections.
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)


class _Meaning(NamedTuple):
    message: str  # `{}` stands for the first line of the server's message
    hint: Hint | None
    error: type[SourceError] = SourceError


_LIST = "SELECT pid, usename, application_name, state, query FROM pg_stat_activity ORDER BY xact_start"
_LOST = _Meaning(
    "the connection to the database was lost",
    "run it again; if it happens again, check the log of PostgreSQL or of the pooler",
    Unreachable,
)
_BAD_OPTION = _Meaning("the database refuses an option: {}", "check the options in DATABASE_URL")
_NO_TABLES = _Meaning(
    "the database is not an orders database: {}", "check DATABASE_URL: does it name the CRM's database?"
)
_TIME_LIMIT = _Meaning(
    "a time limit of the database ended the connection: {}",
    "run it again; if it happens again, raise that time limit for the role of DATABASE_URL",
    Unreachable,
)

# By SQLSTATE, then by its class, which is the first two characters.
_MEANINGS = {
    "08": _LOST,
    "08P01": _Meaning(
        "the pooler refused: {}",
        "check the log and settings of the pooler, and the options in DATABASE_URL",
    ),
    "22023": _BAD_OPTION,
    "25006": _Meaning(
        "the database refuses writes: it is read-only",
        "point DATABASE_URL at the primary; check --read-only and default_transaction_read_only",
    ),
    "25P03": _TIME_LIMIT,
    "25P04": _TIME_LIMIT,
    "28": _Meaning(
        "the database refuses the login: {}",
        "check user, database and sslmode in DATABASE_URL, and pg_hba.conf on the server",
    ),
    "28P01": _Meaning("the database refuses the login: {}", "check user and password in DATABASE_URL"),
    "3D000": _Meaning(
        "the server does not have this database: {}", "check the name at the end of DATABASE_URL", Unreachable
    ),
    "40": _Meaning(
        "the database canceled the transaction: {}", "run it again; on a standby, point DATABASE_URL at the primary"
    ),
    "42501": _Meaning("the database refused: {}", Remedy.run(Command.DOCTOR, advice="to see the missing GRANT")),
    "42704": _BAD_OPTION,
    "42703": _NO_TABLES,
    "42P01": _NO_TABLES,
    "53": _Meaning("the database is out of resources: {}", "check disk space and memory of its server", Unreachable),
    "53300": _Meaning(
        "the database has too many connections: {}",
        f"close connections that are not needed, or raise the limit; to list them: {_LIST}",
        Unreachable,
    ),
    "55P03": _Meaning("a table is locked by another transaction", f"a migration? list transactions: {_LIST}"),
    "57": _Meaning("the database ended the connection: {}", _LOST.hint, Unreachable),
    # The server's message does not always name the cause.
    "57014": _Meaning(
        "the database canceled the query: its statement_timeout is too short, or an administrator canceled it",
        "run it again; if it happens again, raise statement_timeout for the role of DATABASE_URL",
    ),
    "57P01": _Meaning(
        "an administrator ended the connection to the database",
        "run it again; the server may be restarting",
        Unreachable,
    ),
    "57P03": _Meaning("the database does not accept connections yet: {}", "wait a moment, then try again", Unreachable),
    "57P05": _TIME_LIMIT,
    "58": _Meaning("the database failed: {}", "check the log and the disks of PostgreSQL"),
    "F0": _Meaning("the database failed: {}", "check the configuration files of PostgreSQL"),
    "XX": _Meaning("the database failed: {}", "check the log of PostgreSQL"),
}

_UNREACHABLE = "the database can't be reached: "

# Codes of OpenSSL: the certificate is valid, but for another host or address.
_OTHER_HOST = (62, 64)


@contextmanager
def translating() -> Iterator[None]:
    """Raise ``SourceError`` for the driver's errors."""
    try:
        yield
    except DRIVER_ERRORS as exc:
        raise translate(exc) from exc


def translate(exc: BaseException) -> SourceError:
    """The most specific error for an error of the driver over an open connection, in one line."""
    exc = reported(exc)
    if isinstance(exc, TimeoutError):
        return TimedOut(
            "the database did not respond in time",
            hint="it is slow or busy; --timeout gives it more time",
            source="database",
        )
    # The internal errors of asyncpg mean nothing to an operator.
    message, hint, error = _LOST
    if isinstance(exc, asyncpg.PostgresError):
        code = exc.sqlstate or ""
        message, hint, error = (
            _MEANINGS.get(code) or _MEANINGS.get(code[:2]) or _Meaning("the database refused: {}", None)
        )
        message = message.format(_first_line(exc))
    return error(message, hint=hint, source="database")


def reported(exc: BaseException) -> BaseException:
    """What the server sent before it closed the connection, or the error itself. asyncpg 0.29 does not keep that."""
    is_lost = isinstance(exc, asyncpg.PostgresConnectionError)
    return exc.__cause__ if is_lost and isinstance(exc.__cause__, asyncpg.PostgresError) else exc


def connection_error(exc: BaseException, dsn: str) -> SourceError:
    """The most specific error for an error of the driver while it connects."""
    parts = urlsplit(dsn)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    address = parts.netloc.rpartition("@")[2] or options.get("host", "the socket directory of PostgreSQL")
    check = Remedy.run(Command.CONFIG_SHOW, advice="check host and port in DATABASE_URL")
    hint: Hint = check
    error = Unreachable
    match exc:
        case asyncpg.PostgresError():
            return translate(exc)
        case asyncpg.TargetServerAttributeNotMatched():
            reason = f"{address}: no server is in the state of target_session_attrs={options['target_session_attrs']}"
            hint = "check target_session_attrs in DATABASE_URL"
        case asyncpg.InterfaceError():
            reason, hint = _first_line(exc), "check the options in DATABASE_URL"
        case TimeoutError():
            reason = f"{address} did not respond in time"
        case socket.gaierror():
            reason = f"the name of the host in {address} can't be resolved"
        case ssl.SSLCertVerificationError() if exc.verify_code in _OTHER_HOST:
            reason = f"its certificate is for another host: {exc.verify_message}"
            hint = "use the name in the certificate as host of DATABASE_URL, or sslmode=verify-ca"
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted: {exc.verify_message}"
            hint = "set sslrootcert in DATABASE_URL to the certificate of the authority that signed it"
        case _ if (problem := _bad_file(options)) is not None:
            reason, hint = problem, "correct the path in DATABASE_URL, or provide the file"
        case ssl.SSLError():
            reason = f"no TLS with {address}: {exc.reason or _first_line(exc)}"
            hint = "check sslmode in DATABASE_URL, and TLS on the server"
        case ConnectionRefusedError() | FileNotFoundError():
            reason, error = f"{address} refuses connections", NotListening
            hint = Remedy.run(
                Command.CONFIG_SHOW, advice="check that PostgreSQL is running and that DATABASE_URL is right"
            )
        case ConnectionError(errno=None):
            # What asyncpg raises where the server declines TLS or closes the connection.
            reason = f"{address} does not respond as a PostgreSQL server with TLS"
            hint = "check host and port in DATABASE_URL; where the server has no TLS, use sslmode=prefer"
        case OSError():
            reason = f"{address}: {os.strerror(exc.errno) if exc.errno else _first_line(exc)}"
        case _:
            reason = f"{address} does not respond as a PostgreSQL server"
    return error(f"{_UNREACHABLE}{reason}", hint=hint, source="database")


def no_host(problems: Sequence[SourceError]) -> SourceError:
    """The error for several hosts if each refused or failed to connect."""
    first, *others = problems
    reasons = [first.message, *(each.message.removeprefix(_UNREACHABLE) for each in others)]
    # The servers may be stopped only if nothing listens at any address.
    kind = type(next((each for each in problems if not isinstance(each, NotListening)), first))
    return kind("; ".join(reasons), hint=first.hint, source="database")


def is_refusal(exc: BaseException | None) -> bool:
    """Whether the server is available and refused only this statement."""
    return isinstance(exc, asyncpg.PostgresError) and not isinstance(exc, _UNAVAILABLE)


def _first_line(exc: BaseException) -> str:
    return (str(exc) or "no reason was given").splitlines()[0]


def _bad_file(options: dict[str, str]) -> str | None:
    """Why a file of the TLS options can't be used: the driver's errors do not name it."""
    for name in ("sslrootcert", "sslcrl", "sslcert", "sslkey"):
        path = options.get(name) or os.environ.get(f"PG{name.upper()}")
        if not path or path == "system":
            continue
        try:
            with open(path, "rb"):
                if name in ("sslrootcert", "sslcrl"):
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
        except ssl.SSLError:
            return f"{path} holds no certificate ({name})"
        except OSError as exc:
            return f"{path}: {exc.strerror} ({name})"
    return None
