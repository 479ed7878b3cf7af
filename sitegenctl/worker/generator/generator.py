"""The built-in generator: a brief in, a static site for a small business out.

Pure: the same brief always gives the same bytes. The pages that the customer selected are advisory: a page is created
if there is content for it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sitegenctl.domain.orders.generation import Brief, SiteFile
from sitegenctl.worker.generator.site import MAX_SERVICE_PAGES, Service, Site, read_brief

_HOME = "index.html"
_MISSING = "404.html"
_VCARD_LINE = 75  # bytes
# These describe the business as structured data.
_BUSINESS_PAGES = frozenset({_HOME, "contact.html", "about.html"})


@dataclass(frozen=True, kw_only=True)
class _Page:
    """One page; ``name`` is the text of links to it."""

    path: str
    template: str
    name: str
    heading: str
    description: str = ""
    in_navigation: bool = True
    service: Service | None = None

    @property
    def root(self) -> str:
        """The beginning of links to other pages: relative, so that the site works in any folder and from disk."""
        return "../" * self.path.count("/")


def generate(brief: Brief) -> Collection[SiteFile]:
    """Return the whole site of an order, always at least a dozen files."""
    site = read_brief(brief)
    pages = list(_pages(site))
    navigation = [page for page in pages if page.in_navigation]
    style = {"palette": site.palette, "tone": site.say.tone.value}
    addresses = [_address(site, page) for page in pages if page.path != _MISSING]
    texts = {page.path: _render_page(site, page, navigation, style) for page in pages} | {
        "sitemap.xml": _render("sitemap.xml", addresses=addresses),
        "robots.txt": _render("robots.txt", base=site.base),
        "site.webmanifest": _manifest(site),
        "contact.vcf": _contact_card(site),
        "assets/site.css": _render("site.css", **style),
        "assets/favicon.svg": _render("favicon.svg", site=site),
        "assets/logo.svg": _render("logo.svg", site=site),
    }
    return [SiteFile(path=path, content=text.encode()) for path, text in texts.items()]


def _pages(site: Site) -> Iterator[_Page]:
    say = site.say

    def page(key: str, **facts: Any) -> _Page:
        path, heading = f"{key}.html", say(f"{key}_title", name=site.name)
        return _Page(path=path, template=path, name=say(key), heading=heading, **facts)

    yield _Page(path=_HOME, template=_HOME, name=say("home"), heading=site.name)
    yield page("services", description=_services_lead(site))
    for service in site.services:
        if service.page is not None:
            yield _Page(
                path=service.page,
                template="service.html",
                name=service.name,
                heading=service.name,
                description=service.summary or say("service_neutral", service=service.name, name=site.name),
                in_navigation=False,
                service=service,
            )
    yield page("about", description=site.lead)
    if site.quotes:
        yield page("testimonials")
    if site.areas:
        yield page("areas", description=say("areas_lead", name=site.name))
    yield page("contact", description=say("contact_lead", name=site.name))
    yield page("privacy", description=say("privacy_lead"), in_navigation=False)
    title, text = say("missing_title"), say("missing_text")
    yield _Page(path=_MISSING, template=_MISSING, name=title, heading=title, description=text, in_navigation=False)


def _render_page(site: Site, page: _Page, navigation: list[_Page], style: dict[str, Any]) -> str:
    is_missing = page.path == _MISSING
    return _render(
        page.template,
        site=site,
        say=site.say,
        page=page,
        navigation=navigation,
        # The page for missing addresses is shown at any depth, where relative links may fail.
        root=f"{site.base}/" if is_missing else page.root,
        inline_style=is_missing,
        title=site.title if page.path == _HOME else f"{page.heading} | {site.name}",
        description=page.description or site.meta_description,
        address=_address(site, page) if site.base and not is_missing else None,
        services_lead=_services_lead(site),
        structured=_business_data(site) if page.path in _BUSINESS_PAGES else None,
        **style,
    )


def _address(site: Site, page: _Page) -> str:
    return f"{site.base}/{'' if page.path == _HOME else page.path}"


def _services_lead(site: Site) -> str:
    if not site.services:
        return site.say("services_none")
    names = list(dict.fromkeys(service.name for service in site.services))
    if len(names) > 4 or not site.place:
        return site.lead
    return site.say("services_lead", services=site.say.enumeration(names), place=site.place)


def _business_data(site: Site) -> dict[str, Any]:
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


def _manifest(site: Site) -> str:
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


def _contact_card(site: Site) -> str:
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


def _render(template: str, **context: Any) -> str:
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sitegenctl.worker.generator", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
