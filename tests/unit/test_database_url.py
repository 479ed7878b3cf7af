"""DATABASE_URL as hosting companies and other drivers write it."""

from __future__ import annotations

import pytest

from sitegenctl.adapters.postgres.url import asyncpg_dsn, ignored_parameters, one_per_host
from sitegenctl.errors import UsageProblem


@pytest.mark.parametrize(
    ("url", "dsn"),
    [
        ("postgresql+asyncpg://u:p@h:5/d", "postgresql://u:p@h:5/d"),
        ("postgresql+psycopg2://u:p@h/d?connect_timeout=3", "postgresql://u:p@h/d"),
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg"),
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?ssl=true", "postgresql://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?ssl=False", "postgresql://u:p@h/d?sslmode=disable"),
        ("postgres://u:p@h/d?sslmode=no-verify", "postgresql://u:p@h/d?sslmode=require"),
        ("postgres://h/d?options=-c%20search_path%3Dcrm", "postgresql://h/d?options=-c%20search_path%3Dcrm"),
        ("postgres://h/d?pool_size=5&search_path=crm", "postgresql://h/d?search_path=crm"),
        ("postgres://h/d?SSLMODE=require&Search_Path=crm&app.key=x", "postgresql://h/d?Search_Path=crm&app.key=x"),
        ("postgresql://u@/d?host=a:1&host=b:2", "postgresql://u@/d?host=a:1,b:2"),
    ],
)
def test_url_of_another_driver(url: str, dsn: str) -> None:
    assert asyncpg_dsn(url) == dsn


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresqlx://h/d", "h:5432/d"])
def test_url_of_another_database_is_refused(url: str) -> None:
    with pytest.raises(UsageProblem, match="DATABASE_URL is not a PostgreSQL URL"):
        asyncpg_dsn(url)


@pytest.mark.parametrize(
    ("dsn", "urls"),
    [
        ("postgresql://u:a,b@h:1/d", ["postgresql://u:a,b@h:1/d"]),
        (
            "postgresql://u:p@a:1,[::1]:2,c/d?sslmode=require",
            [f"postgresql://u:p@{host}/d?sslmode=require" for host in ("a:1", "[::1]:2", "c")],
        ),
        ("postgresql:///d?host=a,b&port=1,2", ["postgresql://a:1/d", "postgresql://b:2/d"]),
        ("postgresql://u@/d?host=/run/pg,b&port=7", ["postgresql://u@/d?host=/run/pg&port=7", "postgresql://u@b:7/d"]),
    ],
)
def test_several_hosts_are_tried_one_by_one(dsn: str, urls: list[str]) -> None:
    assert one_per_host(dsn) == urls


def test_as_many_ports_as_hosts() -> None:
    with pytest.raises(UsageProblem, match="3 hosts and 2 ports"):
        one_per_host("postgresql:///d?host=a,b,c&port=1,2")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("connect_timeout=s3cret", "connect_timeout must be a number of seconds"),
        ("port=s3cret", "port must be a number"),
        ("sslmode=s3cret", "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("ssl=s3cret", "ssl must be one of disable"),
        ("target_session_attrs=s3cret", "target_session_attrs must be one of any, primary, standby, read-write"),
        ("ssl_min_protocol_version=s3cret", "ssl_min_protocol_version must be one of TLSv1, TLSv1.1"),
        ("statement_timeout=s3cret", "statement_timeout must be a time such as 30s"),
        ("Lock_Timeout=s3cret", "Lock_Timeout must be a time such as 30s"),
        ("work_mem=s3cret", "work_mem must be a size such as 64MB"),
        ("jit=s3cret", "jit must be one of on, off"),
        ("connect_timeout=1&connect_timeout=s3cret", "connect_timeout must be"),
    ],
)
def test_value_of_another_kind_is_refused(query: str, problem: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        asyncpg_dsn(f"postgresql://h/d?{query}")
    assert caught.value.message.startswith(f"DATABASE_URL: {problem}")
    assert "s3cret" not in caught.value.message


def test_parameters_without_effect_are_known() -> None:
    url = "postgresql://h/d?ssl=true&pool_size=5&sslmode=require&pgbouncer=true&search_path=crm&connect_timeout=3"
    assert ignored_parameters(url) == ["pool_size", "pgbouncer"]
