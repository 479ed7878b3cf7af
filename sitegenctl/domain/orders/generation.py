"""The ports of the reference worker, implemented in ``adapters/``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sitegenctl.domain.orders.order import OrderStatus


@dataclass(frozen=True, kw_only=True)
class Testimonial:
    """A testimonial of a customer of the business."""

    name: str
    text: str
    role: str | None = None


@dataclass(frozen=True, kw_only=True)
class TeamMember:
    """A member of the team."""

    name: str
    role: str | None = None


@dataclass(frozen=True, kw_only=True)
class Brief:
    """Everything in the customer's onboarding, as typed: nothing is escaped or validated."""

    order_id: int
    business_name: str
    business_email: str
    business_phone: str
    niche: str
    primary_city: str
    state: str
    primary_service: str
    services: Sequence[str]
    tone: str = "PROFESSIONAL"  # this and other enum columns: their upper-case labels
    primary_cta: str = "CALL"
    cta_text: str | None = None
    has_whatsapp: bool = False
    business_address: str | None = None
    custom_niche: str | None = None
    service_areas: Sequence[str] = ()
    service_descriptions: Mapping[str, str] = field(default_factory=dict)
    site_objective: str | None = None
    site_description: str | None = None
    selected_pages: Sequence[str] = ()
    primary_color: str | None = None
    secondary_color: str | None = None
    accent_color: str | None = None
    logo_url: str | None = None
    business_hours: Mapping[str, str] = field(default_factory=dict)  # the hours of each day
    social: Mapping[str, str] = field(default_factory=dict)  # the address in each network
    testimonials: Sequence[Testimonial] = ()
    google_reviews_link: str | None = None
    about_owner: str | None = None
    years_in_business: int | None = None
    team_members: Sequence[TeamMember] = ()
    meta_title: str | None = None
    meta_description: str | None = None
    target_keywords: Sequence[str] = ()
    site_url: str = ""


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """One file of a site: its path relative to the site's folder, with slashes, and its content."""

    path: str
    content: bytes


#: A generator makes a whole site from a brief. It may raise any exception; the worker logs it and retries.
Generator = Callable[[Brief], Collection[SiteFile]]


class GenerationRecords(Protocol):
    """The records of one order that the reference worker reads and writes while it generates it.

    Writing raises ``SourceError`` once the order's lock is lost.
    """

    async def status(self, order_id: int) -> OrderStatus | None:
        """Read the order's status. Raises ``GenerationError`` when there is no such order."""

    async def brief(self, order_id: int, site_url: str) -> Brief:
        """Read the generator's input; ``site_url`` is the address of the site.

        Raises ``GenerationError`` without an onboarding; an incomplete one is enough, as for the system's generator.
        """

    async def log(self, order_id: int, step: str, message: str, status: str = "info", **details: Any) -> None:
        """Write one generation log row, visible at once."""

    async def has_briefing(self, order_id: int) -> bool:
        """Whether the BRIEFING deliverable exists."""

    async def save_briefing(self, order_id: int, title: str, content: str) -> None:
        """Write or replace the BRIEFING deliverable."""

    async def finish(self, order_id: int, site_url: str, message: str, **details: Any) -> bool:
        """Set REVIEW and log SUCCESS in one transaction; False, and neither, when the order is not GENERATING."""


class GenerationStore(Protocol):
    """The database of the reference worker."""

    def lock(self, order_id: int) -> AbstractAsyncContextManager[GenerationRecords | None]:
        """Hold the order's run lock; None when another generation holds it."""

    async def record_failure(self, order_id: int, message: str, note: str, **details: Any) -> None:
        """Log an ERROR and set ``admin_notes`` as the system does, in one transaction.

        Neither while another run holds the order's lock: the row would look like the end of that run.
        """
