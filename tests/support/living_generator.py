"""A generator for the reference worker that records its runs and waits for the test, as the deployed one does here."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from sitegenctl.domain.orders.generation import Brief, SiteFile
from tests.support.living_runs import recorded


def recording(brief: Brief) -> Collection[SiteFile]:
    """A whole site, as soon as the file `finish-ORDER` is there."""
    folder = Path(os.environ["LIVING_FOLDER"])
    with recorded(folder, brief.order_id, "the reference worker's"):
        while not (folder / f"finish-{brief.order_id}").exists():
            time.sleep(0.02)
        return [SiteFile(path=f"page{number}.html", content=b"<p>page</p>") for number in range(8)]
