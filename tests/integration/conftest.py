"""A Redis behind TLS, which the bundled one is built without; and kombu's keys under other names."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.support.commands import run  # noqa: F401
from tests.support.doctor_stage import _shown, on_stage, stage  # noqa: F401
from tests.support.servers import Certificates, RedisProxy
from tests.support.world import World


@pytest.fixture
def tls(world: World, certificates: Certificates) -> Iterator[str]:
    """The beginning of a URL of the test's Redis behind TLS; the certificates are to be added."""
    address, number = world.redis_url.rsplit("/", 1)
    userinfo, redis_port = address.rsplit(":", 1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates.certificate))
    context.load_cert_chain(certificates.certificate, certificates.key)
    context.verify_mode = ssl.CERT_REQUIRED
    with RedisProxy(int(redis_port), context) as proxy:
        yield f"{userinfo.replace('redis://', 'rediss://')}:{proxy.port}/{number}?"


@pytest.fixture
def _other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GLOBAL_KEYPREFIX": "crm:",
        "SEP": "::",
        "PRIORITY_STEPS": "0,5",
        "UNACKED_KEY": "in-work",
        "UNACKED_INDEX_KEY": "in-work-since",
    }.items():
        monkeypatch.setenv(f"SITEGENCTL_{name}", value)
