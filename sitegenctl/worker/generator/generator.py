"""The built-in generator: a brief in, a static site for a small business out.

Owns which files a site has and the rendering of its templates. Pure: the same brief always gives the same
bytes, and nothing is read but the package's own templates. What the site says is read by ``site``, its colours
are made by ``palette``, its words come from ``wording``. The pages that the customer selected are advisory: a
page is made where there is something to put on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sitegenctl.domain.orders.generation_input import Brief, SiteFile
from sitegenctl.worker.generator import seo_files as machine_files
from sitegenctl.worker.generator.site import Service, Site, read_brief

_HOME = "index.html"
_MISSING = "404.html"


@dataclass(frozen=True, kw_only=True)
class _Page:
    """One page; ``name`` is what its links are called, ``heading`` what it is titled."""

    path: str
    template: str
    name: str
    heading: str
    description: str = ""
    in_navigation: bool = True
    service: Service | None = None


def generate(brief: Brief) -> Collection[SiteFile]:
    """The whole site of an order; always a dozen files or more."""
    site = read_brief(brief)
    pages = list(_pages(site))
    navigation = [page for page in pages if page.in_navigation]
    files = [_file(page.path, _render_page(site, page, navigation)) for page in pages]
    indexed = [page for page in pages if page.path != _MISSING]
    files += [
        _file("sitemap.xml", _render("sitemap.xml", addresses=[_address(site, page) for page in indexed])),
        _file("robots.txt", machine_files.robots(site)),
        _file("site.webmanifest", machine_files.manifest(site)),
        _file("contact.vcf", machine_files.contact_card(site)),
        _file("assets/site.css", _render("site.css", **_style(site))),
        _file("assets/favicon.svg", _render("favicon.svg", site=site)),
        _file("assets/logo.svg", _render("logo.svg", site=site)),
    ]
    return files


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
    yield _Page(
        path=_MISSING,
        template=_MISSING,
        name=say("missing_title"),
        heading=say("missing_title"),
        description=say("missing_text"),
        in_navigation=False,
    )


def _render_page(site: Site, page: _Page, navigation: list[_Page]) -> str:
    return _render(
        page.template,
        site=site,
        say=site.say,
        page=page,
        navigation=navigation,
        root=_root(site, page),
        title=site.title if page.path == _HOME else f"{page.heading} | {site.name}",
        description=page.description or site.meta_description,
        address=_address(site, page) if site.base and page.path != _MISSING else None,
        services_lead=_services_lead(site),
        structured=list(_structured_data(site, page)),
        # The missing page is shown under addresses of any depth, where a link to the style sheet may fail.
        inline_style=page.path == _MISSING,
        **_style(site),
    )


def _root(site: Site, page: _Page) -> str:
    """What links to other pages begin with: relative, so that the site works in any folder and from disk."""
    if page.path == _MISSING:
        return f"{site.base}/"
    return "../" * page.path.count("/")


def _address(site: Site, page: _Page) -> str:
    return f"{site.base}/{'' if page.path == _HOME else page.path}"


def _services_lead(site: Site) -> str:
    if not site.services:
        return site.say("services_none")
    names = list(dict.fromkeys(service.name for service in site.services))
    if len(names) > 4 or not site.place:
        return site.lead
    return site.say("services_lead", services=site.say.listing(names), place=site.place)


def _structured_data(site: Site, page: _Page) -> Iterator[dict[str, Any]]:
    if page.path in {_HOME, "contact.html", "about.html"}:
        yield machine_files.business_data(site)
    trail = [(site.say("home"), "")]
    if page.service is not None:
        yield machine_files.service_data(site, page.service)
        trail.append((site.say("services"), "services.html"))
    if page.path not in {_HOME, _MISSING}:
        trail.append((page.name, page.path))
    breadcrumbs = machine_files.breadcrumb_data(site, trail)
    if breadcrumbs is not None:
        yield breadcrumbs


def _style(site: Site) -> dict[str, Any]:
    return {"palette": site.palette, "tone": site.say.tone.value}


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


def _file(path: str, text: str) -> SiteFile:
    return SiteFile(path=path, content=text.encode())
