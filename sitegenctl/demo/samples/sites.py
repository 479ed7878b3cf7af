"""Site folders of the sample orders, with the files of the deployed system's templates: whole or interrupted ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

from sitegenctl.demo.samples.businesses import Business
from sitegenctl.demo.samples.plan import SampleOrder

_FOLDER = re.compile(r"project_\d+")

# In the order of writing: an interrupted run has the first ones.
_FILES = (
    *("index.html", "css/style.css", "js/main.js", "about.html", "services.html", "contact.html", "robots.txt"),
    *("sitemap.xml", "404.html", "gallery.html", "testimonials.html", "faq.html", "privacy.html", "terms.html"),
    *("css/print.css", "images/logo.svg", "images/hero.svg", "favicon.svg", "site.webmanifest", "humans.txt"),
)


def remove_sites(sites_dir: Path) -> None:
    """Remove every site folder, and nothing else; create the directory if it is missing."""
    sites_dir.mkdir(parents=True, exist_ok=True)
    for folder in sites_dir.iterdir():
        if _FOLDER.fullmatch(folder.name) and not folder.is_symlink():
            shutil.rmtree(folder)


def write_sites(sites_dir: Path, orders: Iterable[SampleOrder]) -> None:
    """Write the folder of each order that has files."""
    for order in orders:
        for path, text in site_files(order.business, order.files):
            file = sites_dir / f"project_{order.order_id}" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def site_files(business: Business, count: int) -> Iterator[tuple[str, str]]:
    """Yield the first ``count`` files of the business's site, as relative paths with their text."""
    form = business.onboarding
    address = f"https://{business.slug}.sites.example.com"
    colour = form["primary_color"]
    contents = {
        "css": f"body {{ margin: 0; font-family: system-ui, sans-serif; }}\nheader {{ background: {colour}; }}\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path fill="{colour}" d="M0 0h9z"/></svg>\n',
        "js": "document.documentElement.classList.add('js');\n",
        "txt": f"User-agent: *\nAllow: /\nSitemap: {address}/sitemap.xml\n",
        "xml": '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
        f"<url><loc>{address}/</loc></url></urlset>\n",
        "webmanifest": f'{{"name": "{business.slug}", "start_url": "/"}}\n',
    }
    for path in _FILES[:count]:
        kind = path.rpartition(".")[2]
        yield path, _page(path, business) if kind == "html" else contents[kind]


def _page(path: str, business: Business) -> str:
    name = escape(business.name)
    title = path.removesuffix(".html").replace("index", "home").title()
    services = "".join(f"<li>{escape(service)}</li>" for service in business.onboarding["services"])
    language = "pt-BR" if business.order["currency"] == "BRL" else "en"
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head><meta charset="utf-8"><title>{title} | {name}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/css/style.css"></head>\n'
        f'<body><header><h1>{name}</h1><a href="/contact.html">contact</a></header>\n'
        f"<main><p>{escape(business.onboarding['site_description'])}</p><ul>{services}</ul></main></body></html>\n"
    )
