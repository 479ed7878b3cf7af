"""The machine-readable parts of a site: structured data, the web app manifest and the contact card."""

from __future__ import annotations

import json
from typing import Any

from sitegenctl.worker.generator.site import MAX_SERVICE_PAGES, Site

_VCARD_LINE = 75


def business_data(site: Site) -> dict[str, Any]:
    """Return the business as schema.org describes one, without what is not known."""
    contact = site.contact
    catalogue = {
        "@type": "OfferCatalog",
        "name": site.say("services"),
        "itemListElement": [
            {"@type": "Offer", "itemOffered": {"@type": "Service", "name": service.name}}
            for service in site.services[:MAX_SERVICE_PAGES]
        ],
    }
    address = {
        "@type": "PostalAddress",
        "streetAddress": contact.address,
        "addressLocality": site.city,
        "addressRegion": site.state,
    }
    return _known(
        {
            "@context": "https://schema.org",
            "@type": site.business_type,
            "@id": site.address("#business"),
            "name": site.name,
            "description": site.meta_description,
            "url": site.address(""),
            "logo": site.logo or site.address("assets/logo.svg"),
            "telephone": contact.phone,
            "email": contact.email if contact.email_link else None,
            "address": _known(address),
            "areaServed": list(site.areas),
            "keywords": ", ".join(site.keywords),
            "sameAs": [address for _, address in site.social],
            "hasOfferCatalog": catalogue if site.services else None,
        }
    )


def manifest(site: Site) -> str:
    """Return the web app manifest, for bookmarks on phones."""
    data = {
        "name": site.name,
        "short_name": site.name[:30],
        "lang": site.say.language.value,
        "start_url": "index.html",
        "display": "browser",
        "background_color": site.palette.paper.background,
        "theme_color": site.palette.brand.background,
        "icons": [{"src": "assets/favicon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def contact_card(site: Site) -> str:
    """Return the business as a vCard 3.0 (RFC 2426)."""
    contact = site.contact
    address = ";".join(["", "", *map(_vcard, (contact.address, site.city, site.state)), "", ""])
    entries = {
        "FN": _vcard(site.name),
        "N": f"{_vcard(site.name)};;;;",
        "ORG": _vcard(site.name),
        "TEL;TYPE=WORK,VOICE": (contact.phone_link or "").removeprefix("tel:"),
        "EMAIL;TYPE=INTERNET": _vcard(contact.email) if contact.email_link else "",
        "ADR;TYPE=WORK": address if contact.address or site.place else "",
        "URL": site.address(""),
    }
    lines = ["BEGIN:VCARD", "VERSION:3.0", *(f"{key}:{text}" for key, text in entries.items() if text)]
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VCARD"])


def _known(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value}


def _vcard(text: str) -> str:
    return text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")


def _folded(line: str) -> str:
    """Return the line in pieces of at most 75 bytes, never split inside a character."""
    pieces, size = [""], 0
    for character in line:
        width = len(character.encode())
        if size + width > _VCARD_LINE:
            pieces.append(" ")
            size = 1
        pieces[-1] += character
        size += width
    return "\r\n".join(pieces)
