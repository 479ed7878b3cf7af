"""What a site says: the brief read once, cleaned and put in the order the pages need it in.

Owns which facts are shown and what stands in for those that are missing (nothing invented: a neutral sentence,
or silence). How they look belongs to the templates, which files there are to ``generator``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from sitegenctl.domain.orders.generation_input import Brief
from sitegenctl.worker.generator.hours import opening_hours
from sitegenctl.worker.generator.palette import Palette, make_palette
from sitegenctl.worker.generator.sanitize import (
    MAX_PHONE,
    excerpt,
    line,
    mail_link,
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
"""How many testimonials, areas, colleagues, days and networks a page shows at most."""

_SUMMARY = 150
_LEAD = 260
_DESCRIPTION = 160
_SUBTITLE_CITY = 60

_ICONS = {
    "RESTAURANT": "fork",
    "LAWYER": "scale",
    "DENTIST": "tooth",
    "REAL_ESTATE": "house",
    "PLUMBER": "drop",
    "ELECTRICIAN": "bolt",
    "LANDSCAPING": "leaf",
    "CLEANING": "sparkle",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service; ``page`` is None beyond ``MAX_SERVICE_PAGES``, texts are empty where nobody wrote any."""

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
class Hours:
    """One line of the opening hours as it is shown, and as ``(days, spans)`` where it was understood."""

    day: str
    hours: str
    days: tuple[int, ...]
    spans: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A testimonial that has something to say."""

    name: str
    role: str
    text: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contact:
    """The ways to reach the business; each link is None when what was typed can't be one."""

    phone: str
    phone_link: str | None
    whatsapp_link: str | None
    email: str
    email_link: str | None
    address: str
    map_link: str | None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Everything the pages show. All texts are clean and none is escaped."""

    say: Voice
    palette: Palette
    base: str
    name: str
    initial: str
    niche: str
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
    hours: tuple[Hours, ...]
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


def read_brief(brief: Brief) -> Site:
    """The site that a brief asks for."""
    say = voice_for(brief)
    name = line(brief.business_name) or line(brief.primary_service) or say("niche.general")
    niche = brief.niche.strip().upper()
    niche_label = _niche_label(brief, niche, say)
    city, state = line(brief.primary_city, _SUBTITLE_CITY), line(brief.state, _SUBTITLE_CITY)
    place = say("place", city=city, state=state) if city and state else city or state
    services = _services(brief)
    primary = line(brief.primary_service) or (services[0].name if services else niche_label)
    contact = _contact(brief, say.language, place)
    description = paragraphs(brief.site_description)
    lead = _lead(say, name, place, description, services, primary)
    in_place = say("in_place", service=primary, city=city) if city else primary
    return Site(
        say=say,
        palette=make_palette(brief.primary_color, brief.secondary_color, brief.accent_color),
        base=site_address(brief.site_url),
        name=name,
        initial=next((character.upper()[0] for character in name if character.isalnum()), "•"),
        niche=niche,
        niche_label=niche_label,
        icon=_ICONS.get(niche, "store"),
        logo=web_address(brief.logo_url),
        city=city,
        state=state,
        place=place,
        primary_service=primary,
        services=services,
        areas=_lines(brief.service_areas),
        contact=contact,
        cta=_action(brief, say, contact),
        hours=_hours(brief, say),
        social=_social(brief),
        lead=lead,
        description=description,
        owner=paragraphs(brief.about_owner),
        years=brief.years_in_business if 0 < (brief.years_in_business or 0) < 1000 else None,
        team=_team(brief),
        quotes=_quotes(brief),
        reviews=web_address(brief.google_reviews_link),
        title=line(brief.meta_title) or f"{name} | {in_place}",
        meta_description=excerpt(line(brief.meta_description, 2000) or lead, _DESCRIPTION),
        keywords=_lines(brief.target_keywords),
    )


def _niche_label(brief: Brief, niche: str, say: Voice) -> str:
    try:
        return line(brief.custom_niche) or say(f"niche.{niche.lower()}")
    except KeyError:
        return say("niche.general")


def _services(brief: Brief) -> tuple[Service, ...]:
    """The services with the primary one first; the primary one alone when none is listed."""
    names = [name for name in map(line, brief.services) if name][:MAX_SERVICES]
    primary = line(brief.primary_service)
    names = names or [primary] * bool(primary)
    names.sort(key=lambda name: name.casefold() != primary.casefold())
    texts = {line(name).casefold(): paragraphs(text) for name, text in brief.service_descriptions.items()}
    services = []
    for position, (name, slug) in enumerate(zip(names, slugs(names, "service"), strict=True)):
        text = texts.get(name.casefold(), ())
        page = f"services/{slug}.html" if position < MAX_SERVICE_PAGES else None
        summary = excerpt(text[0], _SUMMARY) if text else ""
        services.append(Service(name=name, page=page, summary=summary, text=text))
    return tuple(services)


def _lead(
    say: Voice,
    name: str,
    place: str,
    description: tuple[str, ...],
    services: tuple[Service, ...],
    primary: str,
) -> str:
    """What the business wrote about itself, or what it does and where, or just its name."""
    if description:
        return excerpt(description[0], _LEAD)
    if not place:
        return name
    offered = list(dict.fromkeys(service.name for service in services[:3])) or [primary]
    return say("lead", name=name, services=say.listing(offered), place=place)


def _contact(brief: Brief, language: Language, place: str) -> Contact:
    digits = phone_digits(brief.business_phone)
    address = line(brief.business_address, 240)
    where = ", ".join(part for part in (address, place) if part)
    wants_whatsapp = brief.has_whatsapp or brief.primary_cta.strip().upper() == "WHATSAPP"
    abroad = _international(digits, language) if digits and wants_whatsapp else None
    return Contact(
        phone=line(brief.business_phone, MAX_PHONE),
        phone_link=f"tel:{digits}" if digits else None,
        whatsapp_link=f"https://wa.me/{abroad}" if abroad else None,
        email=line(brief.business_email, 254),
        email_link=mail_link(brief.business_email),
        address=address,
        map_link=f"https://www.google.com/maps/search/?api=1&query={quote(where)}" if address else None,
    )


def _international(digits: str, language: Language) -> str | None:
    """The number with its country code, as wa.me wants it; None when the code can't be told."""
    if digits.startswith("+"):
        return digits[1:]
    number = digits.removeprefix("00")
    if number != digits:
        return number
    number = number.lstrip("0")
    if language is Language.PORTUGUESE and len(number) in {10, 11}:
        return f"55{number}"
    if language is Language.ENGLISH and len(number) == 10:
        return f"1{number}"
    return number if len(number) > 10 else None


def _action(brief: Brief, say: Voice, contact: Contact) -> Action:
    """What the customer chose; the contact page where what it needs is missing."""
    wish = brief.primary_cta.strip().upper()
    typed = line(brief.cta_text, 48)
    if wish == "CALL" and contact.phone_link:
        return Action(label=typed or say("cta.call"), icon="phone", url=contact.phone_link)
    if wish == "WHATSAPP" and contact.whatsapp_link:
        return Action(label=typed or say("cta.whatsapp"), icon="chat", url=contact.whatsapp_link)
    if wish == "BOOK_ONLINE":
        return Action(label=typed or say("cta.book_online"), icon="calendar", page="contact.html#book")
    return Action(label=typed or say("cta.form"), icon="mail", page="contact.html#form")


def _hours(brief: Brief, say: Voice) -> tuple[Hours, ...]:
    shown = []
    for entry in opening_hours(brief.business_hours)[:MAX_ENTRIES]:
        names = [say(f"{'short_day' if len(entry.days) > 1 else 'day'}.{day}") for day in entry.days]
        day = say("day_range", first=names[0], last=names[-1]) if len(names) > 1 else "".join(names)
        shown.append(Hours(day=day or entry.typed_day, hours=entry.typed_hours, days=entry.days, spans=entry.spans))
    return tuple(shown)


def _social(brief: Brief) -> tuple[tuple[str, str], ...]:
    names = {"linkedin": "LinkedIn", "youtube": "YouTube", "tiktok": "TikTok"}
    links = []
    for network, typed in brief.social.items():
        key = re.sub(r"^social_", "", line(network, 40).lower())
        address = profile_address(key, typed)
        if key and address:
            links.append((names.get(key, key.capitalize()), address))
    return tuple(links[:MAX_ENTRIES])


def _team(brief: Brief) -> tuple[tuple[str, str], ...]:
    people = ((line(member.name), line(member.role)) for member in brief.team_members)
    return tuple([person for person in people if person[0]][:MAX_ENTRIES])


def _quotes(brief: Brief) -> tuple[Quote, ...]:
    quotes = (
        Quote(name=line(said.name), role=line(said.role), text=paragraphs(said.text)) for said in brief.testimonials
    )
    return tuple([quote for quote in quotes if quote.text][:MAX_ENTRIES])


def _lines(typed: Sequence[str]) -> tuple[str, ...]:
    """The non-empty ones, each once."""
    return tuple(list(dict.fromkeys(text for text in map(line, typed) if text))[:MAX_ENTRIES])
