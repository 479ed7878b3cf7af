"""The doctor's check-up, as the live view asks for it."""

from __future__ import annotations

from datetime import timedelta

from sitegenctl.domain.health.check import CheckUp
from sitegenctl.operations.doctor import check_up
from sitegenctl.session import Session, doctor_options, open_health

#: How long idle workers may leave a message lying.
_PATIENCE = timedelta(seconds=3)


async def check_up_of(session: Session) -> CheckUp:
    """Check everything. Raises ``SitegenError`` where something is not configured."""
    options = doctor_options(session.settings, patience=_PATIENCE)
    async with open_health(session.settings) as probes:
        return await check_up(session.orders, session.queue, session.sites, probes, options)
