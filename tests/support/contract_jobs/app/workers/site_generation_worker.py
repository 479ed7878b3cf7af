"""A simple job of the contract: it waits for a file ``gate`` in the working directory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

MISSING = 99


def generate_site_job(order_id: int, resume: bool = True) -> dict[str, Any]:
    """Record the begin in a file ``begun``; fails for a missing order."""
    if order_id == MISSING:
        raise LookupError(f"order {order_id} not found")
    with open("begun", "a", encoding="utf-8") as file:
        file.write(f"{order_id} {resume}\n")
    while not Path("gate").exists():
        time.sleep(0.05)
    return {"success": True, "order_id": order_id}
