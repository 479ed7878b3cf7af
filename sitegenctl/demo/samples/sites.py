"""Site folders of the sample orders: whole ones as the system's templates make them, and cut ones.

What the reference worker generates is another matter (``worker/``): these are what lay there before.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from sitegenctl.demo.samples.businesses import Business
from sitegenctl.demo.samples.plan import SampleOrder

_FOLDER = re.compile(r"project_\d+")

# In the order in which they are written: a run that was cut short has the first ones.
_PAGES = ("index.html", "about.html", "services.html", "contact.html")
_SMALL = ("index.html", "css/style.css", "js/main.js", *_PAGES[1:], "robots.txt", "sitemap.xml")
_LARGE = (
    *_SMALL,
    "404.html",
    "gallery.html",
    "testimonials.html",
    "faq.html",
    "privacy.html",
    "terms.html",
    "css/print.css",
    "images/logo.svg",
    "images/hero.svg",
    "favicon.svg",
    "site.webmanifest",
    "humans.txt",
)


def remove_sites(sites_dir: Path) -> None:
    """Remove every site folder, and nothing else; the directory itself is made where it is missing."""
    sites_dir.mkdir(parents=True, exist_ok=True)
    for folder in sites_dir.iterdir():
        if _FOLDER.fullmatch(folder.name) and not folder.is_symlink():
            shutil.rmtree(folder)


def write_sites(sites_dir: Path, orders: Iterable[SampleOrder]) -> None:
    """Write the folder of each order that has files."""
    for order in orders:
        if order.files:
            _write_site(f"{sites_dir}/project_{order.order_id}", order)


def site_files(business: Business, count: int) -> Iterator[tuple[str, str]]:
    """The first ``count`` files of the business's site, as relative paths with their text."""
    for path in _LARGE[:count]:
        yield path, _content(path, business)


def _write_site(folder: str, order: SampleOrder) -> None:
    made: set[str] = set()
    for path, text in site_files(order.business, order.files):
        target = f"{folder}/{path}"
        parent = target.rpartition("/")[0]
        if parent not in made:
            Path(parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        # Not pathlib: there may be a hundred thousand sites to write.
        with open(target, "wb") as file:
            file.write(text.encode())


def _content(path: str, business: Business) -> str:
    name = escape(business.name)
    onboarding = business.onboarding
    kind = path.rpartition(".")[2]
    if kind == "html":
        return _page(path, name, business)
    if kind == "css":
        return (
            f":root {{ --primary: {onboarding['primary_color']}; --accent: {onboarding['accent_color']}; }}\n"
            "body { margin: 0; font-family: system-ui, sans-serif; }\nheader { background: var(--primary); }\n"
        )
    if kind == "svg":
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
            f"<title>{name}</title>"
            f'<circle cx="32" cy="32" r="30" fill="{onboarding["primary_color"]}"/></svg>\n'
        )
    return _PLAIN[path].format(slug=business.slug)


def _page(path: str, name: str, business: Business) -> str:
    title = path.removesuffix(".html").replace("index", "home").title()
    links = "".join(f'<a href="/{page}">{page.removesuffix(".html")}</a> ' for page in _PAGES)
    services = "".join(f"<li>{escape(service)}</li>" for service in business.onboarding["services"])
    return (
        f'<!doctype html>\n<html lang="{"pt-BR" if business.order["currency"] == "BRL" else "en"}">\n'
        f'<head><meta charset="utf-8"><title>{title} | {name}</title>'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="/css/style.css"></head>\n'
        f"<body><header><h1>{name}</h1><nav>{links}</nav></header>\n"
        f"<main><p>{escape(business.onboarding['site_description'])}</p><ul>{services}</ul></main>\n"
        '<script src="/js/main.js"></script></body></html>\n'
    )


_PLAIN = {
    "js/main.js": "document.querySelectorAll('a[href=\"' + location.pathname + '\"]')"
    ".forEach((link) => link.setAttribute('aria-current', 'page')); // {slug}\n",
    "robots.txt": "User-agent: *\nAllow: /\nSitemap: https://{slug}.sites.example.com/sitemap.xml\n",
    "sitemap.xml": '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    "<url><loc>https://{slug}.sites.example.com/</loc></url></urlset>\n",
    "site.webmanifest": '{{"name": "{slug}", "start_url": "/"}}\n',
    "humans.txt": "Site of {slug}.\n",
}
