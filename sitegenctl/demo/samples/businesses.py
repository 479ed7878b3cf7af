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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faker import Faker

#: Steps of the onboarding form.
ONBOARDING_STEPS = 7

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
def _countries() -> list[dict[str, Any]]:
    countries: list[dict[str, Any]] = tomllib.loads(_data("businesses.toml"))["countries"]
    return countries


def _data(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


@cache
def _faker(locale: str) -> Faker:
    # Slow to import, and only needed where orders are planned.
    from faker import Faker

    return Faker(locale)


def make_business(rng: random.Random) -> Business:
    """Invent a business; equal states of ``rng`` give equal businesses."""
    country = rng.choice(_countries())
    fake = _faker(country["locale"])
    fake.seed_instance(rng.getrandbits(64))
    trade, city = rng.choice(country["trades"]), rng.choice(country["cities"])
    surname = fake.last_name()
    owner, customer, employee = (
        f"{fake.first_name()} {name}" for name in (surname, fake.last_name(), fake.last_name())
    )
    name = rng.choice(trade["names"]).format(surname=surname)
    slug = slugify(name)
    price = rng.choice(country["prices"])
    number = rng.randrange(country["phone_numbers"])
    phone = country["phone"].format(area_code=city["area_code"], number=number)
    services = trade["services"][: rng.randrange(2, len(trade["services"]) + 1)]
    description = country["description"].format(services=", ".join(services), city=city["name"])
    weekdays, saturday, sunday = rng.choice(country["hours"])
    address = country["address"].format(
        street=fake.last_name(), building=rng.randrange(10, 1900), city=city["name"], state=city["state"]
    )
    pages = ["home", "about", "services", "contact", *["gallery"] * (rng.random() < 0.4)]
    roles = country["roles"]
    return Business(
        name=name,
        slug=slug,
        order={
            "customer_name": owner,
            "customer_email": f"{slugify(owner)}@{slug}.example",
            "customer_phone": phone,
            "base_price": price,
            "total_price": price + rng.choice((0.0, 0.0, 99.0, 200.0)),
            "currency": country["currency"],
            "delivery_days": rng.choice((5, 7, 10)),
            "revisions_included": rng.choice((2, 3)),
            "revisions_used": 0,
        },
        onboarding={
            "business_name": name,
            "business_email": country["email"].format(slug=slug),
            "business_phone": phone,
            "business_address": address,
            "primary_city": city["name"],
            "state": city["state"],
            "service_areas": [city["name"], *rng.sample(city["districts"], k=2)],
            "niche": trade["niche"],
            "custom_niche": trade.get("custom_niche"),
            "services": services,
            "primary_service": services[0],
            "service_descriptions": {
                service: country["service"].format(service=service, city=city["name"]) for service in services
            },
            "site_objective": country["objective"],
            "site_description": description,
            "has_whatsapp": rng.random() < country["has_whatsapp"],
            "primary_cta": trade["cta"],
            "cta_text": country["calls"][trade["cta"]],
            "business_hours": dict(zip(country["days"], [weekdays] * 5 + [saturday, sunday], strict=True)),
            "about_owner": country["about"].format(owner=owner),
            "years_in_business": rng.randrange(1, 40),
            "selected_pages": pages,
            "total_pages": len(pages),
            "tone": trade["tone"],
            **dict(zip(("primary_color", "secondary_color", "accent_color"), trade["palette"], strict=True)),
            "has_existing_logo": False,
            "social_facebook": f"https://facebook.example.com/{slug}" if rng.random() < 0.6 else None,
            "social_instagram": f"https://instagram.example.com/{slug}" if rng.random() < 0.8 else None,
            "testimonials": [{"name": customer, "text": text, "role": roles["customer"]} for text in country["praise"]],
            "team_members": [
                {"name": owner, "role": roles["owner"]},
                {"name": employee, "role": roles["employee"]},
            ],
            "meta_title": f"{name} | {city['name']}",
            "meta_description": description,
            "target_keywords": [f"{service.lower()} {city['name']}" for service in services],
            "completed_steps": ONBOARDING_STEPS,
            "is_complete": True,
        },
    )


def half_filled(onboarding: Mapping[str, Any], *, steps: int = 3) -> dict[str, Any]:
    """Return the onboarding of a customer who stopped after ``steps`` steps of the form."""
    early = {column: value for column, value in onboarding.items() if not _LATE_COLUMNS.fullmatch(column)}
    return {**early, "completed_steps": steps, "is_complete": False}


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
    return Business(
        name="Juniper & Rye Bakery",
        slug="juniper-and-rye",
        order={
            "customer_name": "Renée O'Connell",
            "customer_email": "renee@juniper-and-rye.example.com",
            "customer_phone": "+1 207-555-0142",
            "base_price": 599.0,
            "total_price": 698.0,
            "currency": "USD",
            "delivery_days": 5,
            "revisions_included": 3,
            "revisions_used": 0,
        },
        onboarding=json.loads(_data("showcase.json")),
    )
