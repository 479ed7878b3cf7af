"""What machines read of a site: structured data, robots.txt, the manifest and the contact card.

Each is a format with escapes of its own, so none of them is a template.
"""

from __future__ import annotations

import json
from typing import Any

from sitegenctl.worker.generator.site import MAX_SERVICE_PAGES, Service, Site

# https://schema.org/LocalBusiness: the closest subtype that exists.
_TYPES = {
    "RESTAURANT": "Restaurant",
    "LAWYER": "LegalService",
    "DENTIST": "Dentist",
    "REAL_ESTATE": "RealEstateAgent",
    "PLUMBER": "Plumber",
    "ELECTRICIAN": "Electrician",
    "LANDSCAPING": "HomeAndConstructionBusiness",
    "CLEANING": "HomeAndConstructionBusiness",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_VCARD_LINE = 75


def business_data(site: Site) -> dict[str, Any]:
    """The business as schema.org describes one; what is not known is left out."""
    contact = site.contact
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": _TYPES.get(site.niche, "LocalBusiness"),
        "@id": f"{site.base}/#business" if site.base else None,
        "name": site.name,
        "description": site.meta_description,
        "url": f"{site.base}/" if site.base else None,
        "logo": site.logo or (f"{site.base}/assets/logo.svg" if site.base else None),
        "telephone": contact.phone,
        "email": contact.email if contact.email_link else None,
        "address": _known(
            {
                "@type": "PostalAddress",
                "streetAddress": contact.address,
                "addressLocality": site.city,
                "addressRegion": site.state,
            }
        ),
        "areaServed": list(site.areas),
        "keywords": ", ".join(site.keywords),
        "openingHoursSpecification": _opening_hours(site),
        "sameAs": [address for _, address in site.social],
        "hasOfferCatalog": _catalogue(site),
    }
    return _known(data)


def service_data(site: Site, service: Service) -> dict[str, Any]:
    """One service and who provides it."""
    return _known(
        {
            "@context": "https://schema.org",
            "@type": "Service",
            "name": service.name,
            "description": service.summary,
            "url": f"{site.base}/{service.page}" if site.base and service.page else None,
            "areaServed": list(site.areas) or site.place,
            "provider": _known(
                {
                    "@type": _TYPES.get(site.niche, "LocalBusiness"),
                    "@id": f"{site.base}/#business" if site.base else None,
                    "name": site.name,
                    "telephone": site.contact.phone,
                }
            ),
        }
    )


def breadcrumb_data(site: Site, trail: list[tuple[str, str]]) -> dict[str, Any] | None:
    """The way to a page as (name, path) from the home page on; None without absolute addresses."""
    if not site.base or len(trail) < 2:
        return None
    return {
        "@context": "https://schema.org",
        "@type": "BreadcrumbList",
        "itemListElement": [
            {"@type": "ListItem", "position": position, "name": name, "item": f"{site.base}/{path}"}
            for position, (name, path) in enumerate(trail, start=1)
        ],
    }


def robots(site: Site) -> str:
    """robots.txt: everything may be read. The sitemap is named when its absolute address is known."""
    lines = ["User-agent: *", "Allow: /"]
    if site.base:
        lines += ["", f"Sitemap: {site.base}/sitemap.xml"]
    return "\n".join(lines) + "\n"


def manifest(site: Site) -> str:
    """The web app manifest, so that a bookmark on a phone has the site's name, icon and colour."""
    icon = {"src": "assets/favicon.svg", "sizes": "any", "type": "image/svg+xml"}
    data = {
        "name": site.name,
        "short_name": site.name[:30],
        "lang": site.say.language.value,
        "start_url": "index.html",
        "display": "browser",
        "background_color": site.palette.paper.background,
        "theme_color": site.palette.brand.background,
        "icons": [icon],
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def contact_card(site: Site) -> str:
    """The business as a vCard 3.0 (RFC 2426), to be saved to a phone's contacts."""
    contact = site.contact
    address = ";".join(["", "", *map(_vcard, (contact.address, site.city, site.state)), "", ""])
    entries = {
        "FN": _vcard(site.name),
        "N": f"{_vcard(site.name)};;;;",
        "ORG": _vcard(site.name),
        "TEL;TYPE=WORK,VOICE": (contact.phone_link or "").removeprefix("tel:"),
        "EMAIL;TYPE=INTERNET": _vcard(contact.email) if contact.email_link else "",
        "ADR;TYPE=WORK": address if contact.address or site.place else "",
        "URL": f"{site.base}/" if site.base else "",
    }
    lines = ["BEGIN:VCARD", "VERSION:3.0", *(f"{key}:{text}" for key, text in entries.items() if text)]
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VCARD"])


def _opening_hours(site: Site) -> list[dict[str, Any]]:
    return [
        {
            "@type": "OpeningHoursSpecification",
            "dayOfWeek": [_DAYS[day] for day in entry.days],
            "opens": opens,
            "closes": closes,
        }
        for entry in site.hours
        for opens, closes in (entry.spans or ())
        if entry.days
    ]


def _catalogue(site: Site) -> dict[str, Any] | None:
    if not site.services:
        return None
    return {
        "@type": "OfferCatalog",
        "name": site.say("services"),
        "itemListElement": [
            {"@type": "Offer", "itemOffered": {"@type": "Service", "name": service.name}}
            for service in site.services[:MAX_SERVICE_PAGES]
        ],
    }


def _known(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value}


def _vcard(text: str) -> str:
    return text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")


def _folded(line: str) -> str:
    """The line in pieces of at most 75 bytes, none of which ends inside a character."""
    pieces, size = [""], 0
    for character in line:
        width = len(character.encode())
        if size + width > _VCARD_LINE:
            pieces.append(" ")
            size = 1
        pieces[-1] += character
        size += width
    return "\r\n".join(pieces)
