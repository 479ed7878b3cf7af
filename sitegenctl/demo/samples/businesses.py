"""Invented small businesses of Brazil and the United States: the customers' columns of the sample orders.

Nothing can reach a real person: the telephone numbers are not assigned, and every address on the internet is below a
name reserved for examples.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

# Asked for by the last steps of the form: a half-filled form has none of them.
_LATE_COLUMNS = re.compile(
    r"tone|primary_cta|cta_text|.*_color|business_hours|social_.*|testimonials|google_reviews_link|about_owner"
    r"|years_in_business|team_members|meta_.*|target_keywords|selected_pages|total_pages|design_notes|reference_sites"
)


@dataclass(frozen=True, kw_only=True)
class Business:
    """One invented business: its columns of ``site_orders`` and, for a complete form, ``site_onboardings``.

    Missing columns are NULL; values of JSON columns are plain lists and dicts.
    """

    name: str
    slug: str
    order: Mapping[str, Any]
    onboarding: Mapping[str, Any]


@cache
def _catalogue() -> dict[str, Any]:
    return tomllib.loads(_data("businesses.toml"))


def _data(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def make_business(rng: random.Random) -> Business:
    """Invent a business; equal states of ``rng`` give equal businesses."""
    catalogue = _catalogue()
    country = rng.choice(catalogue["countries"])
    trade, city = rng.choice(country["trades"]), rng.choice(country["cities"])
    surname, *surnames = rng.choices(country["surnames"], k=4)
    owner, customer, employee = (
        f"{given} {family}"
        for given, family in zip(rng.sample(country["given_names"], k=3), (surname, *surnames[:2]), strict=True)
    )
    name = rng.choice(trade["names"]).format(surname=surname)
    slug = slugify(name)
    price, number = rng.choice(country["prices"]), rng.randrange(country["phone_numbers"])
    services = trade["services"][: rng.randrange(2, len(trade["services"]) + 1)]
    weekdays, saturday, sunday = rng.choice(country["hours"])
    texts = {
        "name": name,
        "slug": slug,
        "owner": owner,
        "mailbox": slugify(owner),
        "number": number,
        "services": ", ".join(services),
        "city": city,
        "street": surnames[2],
        "building": rng.randrange(10, 1900),
    }
    pages = ["home", "about", "services", "contact", *["gallery"] * (rng.random() < 0.4)]
    roles = country["roles"]

    def columns(table: str) -> dict[str, Any]:
        merged = catalogue[table] | country[table]
        return {name: text.format(**texts) if isinstance(text, str) else text for name, text in merged.items()}

    order = {
        **columns("order"),
        "base_price": price,
        "total_price": price + rng.choice((0.0, 0.0, 99.0, 200.0)),
        "delivery_days": rng.choice((5, 7, 10)),
        "revisions_included": rng.choice((2, 3)),
    }
    onboarding = {
        "custom_niche": None,
        **columns("onboarding"),
        **trade["columns"],
        "service_areas": [city["name"], *rng.sample(city["districts"], k=2)],
        "services": services,
        "primary_service": services[0],
        "service_descriptions": {
            service: country["service"].format(service=service, city=city) for service in services
        },
        "has_whatsapp": rng.random() < country["has_whatsapp"],
        "cta_text": country["calls"][trade["columns"]["primary_cta"]],
        "business_hours": dict(zip(country["days"], [weekdays] * 5 + [saturday, sunday], strict=True)),
        "years_in_business": rng.randrange(1, 40),
        "selected_pages": pages,
        "total_pages": len(pages),
        "social_facebook": f"https://facebook.example.com/{slug}" if rng.random() < 0.6 else None,
        "social_instagram": f"https://instagram.example.com/{slug}" if rng.random() < 0.8 else None,
        "testimonials": [{"name": customer, "text": text, "role": roles["customer"]} for text in country["praise"]],
        "team_members": [{"name": owner, "role": roles["owner"]}, {"name": employee, "role": roles["employee"]}],
        "target_keywords": [f"{service.lower()} {city['name']}" for service in services],
    }
    return Business(name=name, slug=slug, order=order, onboarding=onboarding)


def half_filled(onboarding: Mapping[str, Any]) -> dict[str, Any]:
    """Return the onboarding of a customer who stopped after three steps of the form."""
    early = {column: value for column, value in onboarding.items() if not _LATE_COLUMNS.fullmatch(column)}
    return {**early, "completed_steps": 3, "is_complete": False}


def awkward(business: Business) -> Business:
    """Return the business with a name that markup, shells and tables could trip over; its slug stays."""
    name = f'"{business.name}" [est. 1998] <&> Co.'
    return replace(business, name=name, onboarding={**business.onboarding, "business_name": name})


def slugify(text: str) -> str:
    """Return ASCII letters and digits with single hyphens, fit for a host name."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("'", "")).encode("ascii", "ignore").decode()
    return "-".join("".join(c if c.isalnum() else " " for c in plain).split())


def showcase() -> Business:
    """Return the business of the tour's order: every field of the form is filled in."""
    return Business(**json.loads(_data("showcase.json")))
