"""Generators for tests, as plug-ins: ``tests.support.generators:broken`` and so on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from pathlib import Path

from sitegenctl.domain.orders.generation import Brief, SiteFile
from tests.support.deployed_worker import recorded


def small(brief: Brief) -> Collection[SiteFile]:
    """A whole site of six files."""
    return [SiteFile(path=f"page{number}.html", content=brief.business_name.encode()) for number in range(6)]


def broken(brief: Brief) -> Collection[SiteFile]:
    """Always fails."""
    raise RuntimeError("the oven is cold")


def hanging(brief: Brief) -> Collection[SiteFile]:
    """Never returns by itself."""
    while True:
        time.sleep(0.05)


def escaping(brief: Brief) -> Collection[SiteFile]:
    """Tries to write outside its folder."""
    return [SiteFile(path="../outside.html", content=b"")]


def gated(brief: Brief) -> Collection[SiteFile]:
    """Waits for a file ``gate`` in the working directory before it returns a whole site."""
    Path("started").touch()
    while not Path("gate").exists():
        time.sleep(0.05)
    return small(brief)


def stubborn(brief: Brief) -> Collection[SiteFile]:
    """Waits for a file ``gate`` like ``gated``, and ignores requests to stop."""
    Path("started").touch()
    while not Path("gate").exists():
        with contextlib.suppress(BaseException):
            time.sleep(0.05)
    return small(brief)


def recording(brief: Brief) -> Collection[SiteFile]:
    """Records its run and waits for a file ``finish-ORDER``, as ``tests.support.deployed_worker`` does."""
    folder = Path(os.environ["LIVING_FOLDER"])
    with recorded(folder, brief.order_id, "the reference worker's"):
        while not (folder / f"finish-{brief.order_id}").exists():
            time.sleep(0.02)
        return small(brief)
