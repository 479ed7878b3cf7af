"""The content of a site: the brief, sanitized and in the order in which the pages show it.

Missing facts are never invented: a neutral sentence takes their place, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from sitegenctl.domain.orders.generation import Brief
from sitegenctl.worker.generator.palette import Palette, make_palette
from sitegenctl.worker.generator.sanitize import (
    MAX_PHONE,
    OpeningHours,
    excerpt,
    line,
    mail_link,
    opening_hours,
    paragraphs,
    phone_digits,
    profile_address,
    site_address,
    slugs,
    web_address,
)
from sitegenctl.worker.generator.voice import Language, Voice, voice_for

MAX_SERVICE_PAGES = 50
MAX_SERVICES = 500
MAX_ENTRIES = 100
"""Maximum number of testimonials, areas, team members, days and networks on a page."""

_MAX_SUMMARY = 150
_MAX_LEAD = 260
_MAX_DESCRIPTION = 160
_MAX_CITY = 60

# Icon, and type of business: the closest subtype in https://schema.org/LocalBusiness.
_NICHES = {
    "RESTAURANT": ("fork", "Restaurant"),
    "LAWYER": ("scale", "LegalService"),
    "DENTIST": ("tooth", "Dentist"),
    "REAL_ESTATE": ("house", "RealEstateAgent"),
    "PLUMBER": ("drop", "Plumber"),
    "ELECTRICIAN": ("bolt", "Electrician"),
    "LANDSCAPING": ("leaf", "HomeAndConstructionBusiness"),
    "CLEANING": ("sparkle", "HomeAndConstructionBusiness"),
}
_OTHER_NICHE = ("store", "LocalBusiness")
_NETWORKS = {"linkedin": "LinkedIn", "youtube": "YouTube", "tiktok": "TikTok"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service; ``page`` is None beyond ``MAX_SERVICE_PAGES``, texts are empty if it has no description."""

    name: str
    page: str | None
    summary: str
    text: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Action:
    """The call to action: an absolute ``url``, or a ``page`` of the site with its anchor."""

    label: str
    icon: str
    url: str | None = None
    page: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A testimonial with a text."""

    name: str
    role: str
    text: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contact:
    """The ways to reach the business; a link is None if the typed value is not valid for it."""

    phone: str
    phone_link: str | None
    whatsapp_link: str | None
    email: str
    email_link: str | None
    address: str
    map_link: str | None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything the pages show. All texts are sanitized and none is escaped."""

    say: Voice
    palette: Palette
    base: str
    name: str
    initial: str
    business_type: str
    niche_label: str
    icon: str
    logo: str | None
    city: str
    state: str
    place: str
    primary_service: str
    services: tuple[Service, ...]
    areas: tuple[str, ...]
    contact: Contact
    cta: Action
    hours: Sequence[OpeningHours]
    social: tuple[tuple[str, str], ...]
    lead: str
    description: tuple[str, ...]
    owner: tuple[str, ...]
    years: int | None
    team: tuple[tuple[str, str], ...]
    quotes: tuple[Quote, ...]
    reviews: str | None
    title: str
    meta_description: str
    keywords: tuple[str, ...]

    def address(self, path: str) -> str | None:
        """The absolute address of a page; None where the base is not known."""
        return f"{self.base}/{path}" if self.base else None


def read_brief(brief: Brief) -> Site:
    """Return the content of the site for a brief."""
    say = voice_for(brief)
    name = line(brief.business_name) or line(brief.primary_service) or say("niche.general")
    niche = brief.niche.strip().upper()
    known_niche = niche if niche in _NICHES else "GENERAL"
    niche_label = line(brief.custom_niche) or say(f"niche.{known_niche.lower()}")
    icon, business_type = _NICHES.get(niche, _OTHER_NICHE)
    city, state = line(brief.primary_city, _MAX_CITY), line(brief.state, _MAX_CITY)
    place = say("place", city=city, state=state) if city and state else city or state
    services = _services(brief)
    primary = line(brief.primary_service) or (services[0].name if services else niche_label)
    contact = _contact(brief, say.language, place)
    description = paragraphs(brief.site_description)
    # The description of the business, else its services and place, else its name.
    lead = name
    if description:
        lead = excerpt(description[0], _MAX_LEAD)
    elif place:
        offered = list(dict.fromkeys(service.name for service in services[:3])) or [primary]
        lead = say("lead", name=name, services=say.enumeration(offered), place=place)
    in_place = say("in_place", service=primary, city=city) if city else primary
    people = ((line(member.name), line(member.role)) for member in brief.team_members)
    quotes = (Quote(name=line(t.name), role=line(t.role), text=paragraphs(t.text)) for t in brief.testimonials)
    return Site(
        say=say,
        palette=make_palette(brief.primary_color, brief.secondary_color, brief.accent_color),
        base=site_address(brief.site_url),
        name=name,
        initial=next((character.upper()[0] for character in name if character.isalnum()), "•"),
        business_type=business_type,
        niche_label=niche_label,
        icon=icon,
        logo=web_address(brief.logo_url),
        city=city,
        state=state,
        place=place,
        primary_service=primary,
        services=services,
        areas=_lines(brief.service_areas),
        contact=contact,
        cta=_action(brief, say, contact),
        hours=opening_hours(brief.business_hours)[:MAX_ENTRIES],
        social=_social(brief),
        lead=lead,
        description=description,
        owner=paragraphs(brief.about_owner),
        years=brief.years_in_business if 0 < (brief.years_in_business or 0) < 1000 else None,
        team=tuple([person for person in people if person[0]][:MAX_ENTRIES]),
        quotes=tuple([quote for quote in quotes if quote.text][:MAX_ENTRIES]),
        reviews=web_address(brief.google_reviews_link),
        title=line(brief.meta_title) or f"{name} | {in_place}",
        meta_description=excerpt(line(brief.meta_description, 2000) or lead, _MAX_DESCRIPTION),
        keywords=_lines(brief.target_keywords),
    )


def _services(brief: Brief) -> tuple[Service, ...]:
    """Return the services, the primary one first; only the primary one if none is listed."""
    names = [name for name in map(line, brief.services) if name][:MAX_SERVICES]
    primary = line(brief.primary_service)
    names = names or [primary] * bool(primary)
    names.sort(key=lambda name: name.casefold() != primary.casefold())
    texts = {line(name).casefold(): paragraphs(text) for name, text in brief.service_descriptions.items()}
    services = []
    for position, (name, slug) in enumerate(zip(names, slugs(names, "service"), strict=True)):
        text = texts.get(name.casefold(), ())
        page = f"services/{slug}.html" if position < MAX_SERVICE_PAGES else None
        summary = excerpt(text[0], _MAX_SUMMARY) if text else ""
        services.append(Service(name=name, page=page, summary=summary, text=text))
    return tuple(services)


def _contact(brief: Brief, language: Language, place: str) -> Contact:
    digits = phone_digits(brief.business_phone)
    address = line(brief.business_address, 240)
    location = ", ".join(part for part in (address, place) if part)
    wants_whatsapp = brief.has_whatsapp or brief.primary_cta.strip().upper() == "WHATSAPP"
    whatsapp = _international(digits, language) if digits and wants_whatsapp else None
    return Contact(
        phone=line(brief.business_phone, MAX_PHONE),
        phone_link=f"tel:{digits}" if digits else None,
        whatsapp_link=f"https://wa.me/{whatsapp}" if whatsapp else None,
        email=line(brief.business_email, 254),
        email_link=mail_link(brief.business_email),
        address=address,
        map_link=f"https://www.google.com/maps/search/?api=1&query={quote(location)}" if address else None,
    )


def _international(digits: str, language: Language) -> str | None:
    """Return the number with its country code, as wa.me requires it; None if the code is uncertain."""
    if digits.startswith(("+", "00")):
        return digits.removeprefix("+").removeprefix("00")
    number = digits.lstrip("0")
    if language is Language.PORTUGUESE and len(number) in {10, 11}:
        return f"55{number}"
    if language is Language.ENGLISH and len(number) == 10:
        return f"1{number}"
    return number if len(number) > 10 else None


def _action(brief: Brief, say: Voice, contact: Contact) -> Action:
    """Return the call to action that was chosen; the contact form if it is not possible."""
    chosen = brief.primary_cta.strip().upper()
    label = line(brief.cta_text, 48)
    if chosen == "CALL" and contact.phone_link:
        return Action(label=label or say("cta.call"), icon="phone", url=contact.phone_link)
    if chosen == "WHATSAPP" and contact.whatsapp_link:
        return Action(label=label or say("cta.whatsapp"), icon="chat", url=contact.whatsapp_link)
    if chosen == "BOOK_ONLINE":
        return Action(label=label or say("cta.book_online"), icon="calendar", page="contact.html#book")
    return Action(label=label or say("cta.form"), icon="mail", page="contact.html#form")


def _social(brief: Brief) -> tuple[tuple[str, str], ...]:
    links = []
    for network, typed in brief.social.items():
        key = re.sub(r"^social_", "", line(network, 40).lower())
        address = profile_address(key, typed)
        if key and address:
            links.append((_NETWORKS.get(key, key.capitalize()), address))
    return tuple(links[:MAX_ENTRIES])


def _lines(typed: Sequence[str]) -> tuple[str, ...]:
    """Return the non-empty ones, each once."""
    return tuple(list(dict.fromkeys(text for text in map(line, typed) if text))[:MAX_ENTRIES])
