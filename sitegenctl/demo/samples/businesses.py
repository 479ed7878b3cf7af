"""Believable small businesses of Brazil and the United States, drawn from a ``random.Random``.

Owns what customers typed: the columns of ``site_orders`` and ``site_onboardings`` that describe the customer
and the business. Which order has which status, and when, is ``sample_plan.py``'s.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sitegenctl.demo.samples.business_catalogue import COUNTRIES, City, Country, Trade

#: Steps of the onboarding form.
ONBOARDING_STEPS = 7

# What the last steps of the form ask for: a customer who stopped half-way has none of it.
_LATE_COLUMNS = frozenset(
    {
        "tone",
        "primary_cta",
        "cta_text",
        "primary_color",
        "secondary_color",
        "accent_color",
        "business_hours",
        "social_facebook",
        "social_instagram",
        "social_linkedin",
        "social_youtube",
        "social_tiktok",
        "testimonials",
        "google_reviews_link",
        "about_owner",
        "years_in_business",
        "team_members",
        "meta_title",
        "meta_description",
        "target_keywords",
        "selected_pages",
        "total_pages",
        "design_notes",
        "reference_sites",
    }
)


@dataclass(frozen=True, kw_only=True)
class Business:
    """One invented business: its columns of ``site_orders`` and, for a complete form, ``site_onboardings``.

    Columns that are not there are NULL; values of JSON columns are plain lists and dicts.
    """

    name: str
    slug: str
    order: Mapping[str, Any]
    onboarding: Mapping[str, Any]


def make_business(rng: random.Random) -> Business:
    """Invent a business."""
    country = rng.choice(COUNTRIES)
    trade = rng.choice(country.trades)
    city = rng.choice(country.cities)
    surname = rng.choice(country.surnames)
    owner = f"{rng.choice(country.given_names)} {surname}"
    name = rng.choice(trade.names).format(surname=surname, city=city.name)
    slug = slugify(name)
    price = rng.choice(country.prices)
    phone = _phone(rng, country, city)
    email = f"{country.mail_box}@{slug}.example" + (".com" if country.code == "US" else "")
    return Business(
        name=name,
        slug=slug,
        order={
            "customer_name": owner,
            "customer_email": f"{slugify(owner)}@{slug}.example",
            "customer_phone": phone,
            "base_price": price,
            "total_price": price + rng.choice((0.0, 0.0, 99.0, 200.0)),
            "currency": country.currency,
            "delivery_days": rng.choice((5, 7, 10)),
            "revisions_included": rng.choice((2, 3)),
            "revisions_used": 0,
        },
        onboarding={
            "business_name": name,
            "business_email": email,
            "business_phone": phone,
            **_where(rng, country, city),
            **_offer(rng, country, trade, city, owner),
            **_look(rng, trade, slug),
            **_people(rng, country, trade, owner),
            "meta_title": f"{name} | {city.name}",
            "meta_description": trade.description.format(city=city.name),
            "target_keywords": [f"{service.lower()} {city.name}" for service, _ in trade.services],
            "completed_steps": ONBOARDING_STEPS,
            "is_complete": True,
        },
    )


def half_filled(onboarding: Mapping[str, Any], *, steps: int = 3) -> dict[str, Any]:
    """The same onboarding, of a customer who stopped after so many steps of the form."""
    early = {column: value for column, value in onboarding.items() if column not in _LATE_COLUMNS}
    return {**early, "completed_steps": steps, "is_complete": False}


def awkward(business: Business) -> Business:
    """The same business with a name that markup, shells and tables could trip over; its slug stays."""
    name = f'"{business.name}" [est. 1998] <&> Co.'
    return replace(business, name=name, onboarding={**business.onboarding, "business_name": name})


def slugify(text: str) -> str:
    """ASCII letters and digits with single hyphens, fit for a host name."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("'", "")).encode("ascii", "ignore").decode()
    return "-".join("".join(c if c.isalnum() else " " for c in plain).split())


def _phone(rng: random.Random, country: Country, city: City) -> str:
    if country.code == "US":
        return f"+1 {city.area_code}-555-01{rng.randrange(100):02d}"
    return f"+55 {city.area_code} 90000-{rng.randrange(10_000):04d}"


def _where(rng: random.Random, country: Country, city: City) -> dict[str, Any]:
    street, number = rng.choice(country.streets), rng.randrange(10, 1900)
    american = country.code == "US"
    address = f"{number} {street}" if american else f"{street}, {number}"
    return {
        "business_address": f"{address}, {city.name}{', ' if american else ' - '}{city.state}",
        "primary_city": city.name,
        "state": city.state,
        "service_areas": [city.name, *rng.sample(city.areas, k=2)],
    }


def _offer(rng: random.Random, country: Country, trade: Trade, city: City, owner: str) -> dict[str, Any]:
    services = trade.services[: rng.randrange(2, len(trade.services) + 1)]
    return {
        "niche": trade.niche,
        "custom_niche": trade.custom_niche,
        "services": [service for service, _ in services],
        "primary_service": services[0][0],
        "service_descriptions": {service: text.format(city=city.name) for service, text in services},
        "site_objective": country.objective,
        "site_description": trade.description.format(city=city.name),
        "has_whatsapp": country.code == "BR" or rng.random() < 0.3,
        "primary_cta": trade.cta,
        "cta_text": country.calls_to_action[trade.cta],
        "business_hours": rng.choice(country.hours),
        "about_owner": trade.about.format(owner=owner),
        "years_in_business": rng.randrange(1, 40),
    }


def _look(rng: random.Random, trade: Trade, slug: str) -> dict[str, Any]:
    primary, secondary, accent = trade.palette
    pages = ["home", "about", "services", "contact"]
    if rng.random() < 0.4:
        pages.append("gallery")
    return {
        "selected_pages": pages,
        "total_pages": len(pages),
        "tone": trade.tone,
        "primary_color": primary,
        "secondary_color": secondary,
        "accent_color": accent,
        "has_existing_logo": False,
        "social_facebook": f"https://facebook.example.com/{slug}" if rng.random() < 0.6 else None,
        "social_instagram": f"https://instagram.example.com/{slug}" if rng.random() < 0.8 else None,
    }


def _people(rng: random.Random, country: Country, trade: Trade, owner: str) -> dict[str, Any]:
    def somebody() -> str:
        return f"{rng.choice(country.given_names)} {rng.choice(country.surnames)}"

    return {
        "testimonials": [{"name": somebody(), "text": text, "role": country.customer} for text in trade.praise],
        "team_members": [
            {"name": owner, "role": country.roles[-1]},
            {"name": somebody(), "role": rng.choice(country.roles[:-1])},
        ],
    }


def showcase() -> Business:
    """The business whose site the tour generates: a form filled in with love, down to the last field."""
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
        onboarding=_SHOWCASE,
    )


_SHOWCASE: Mapping[str, Any] = {
    "business_name": "Juniper & Rye Bakery",
    "business_email": "hello@juniper-and-rye.example.com",
    "business_phone": "+1 207-555-0142",
    "has_whatsapp": True,
    "business_address": "42 Harbor Lane, Portland, ME",
    "niche": "RESTAURANT",
    "primary_city": "Portland",
    "state": "ME",
    "service_areas": ["Old Port", "Munjoy Hill", "South Portland", "Cape Elizabeth"],
    "services": ["Sourdough bread", "Celebration cakes", "Breakfast & pastry", "Baking classes"],
    "primary_service": "Sourdough bread",
    "service_descriptions": {
        "Sourdough bread": "Stone-milled Maine rye and wheat, thirty-six hours of patience, and a crust "
        "that you can hear from across the room.",
        "Celebration cakes": "Weddings, birthdays and the first day of spring: designed with you, baked the "
        "same morning and delivered within ten miles.",
        "Breakfast & pastry": "Croissants folded by hand, cardamom buns and crème brûlée Danish, warm from "
        "six o'clock until they are gone.",
        "Baking classes": "Saturday afternoons for eight people: you leave with two loaves, a jar of starter "
        "and flour in your hair.",
    },
    "site_objective": "Bring in morning regulars and orders for celebration cakes",
    "site_description": "A neighborhood bakery by the harbor, where the bread takes its time and the coffee "
    "doesn't. Everything is mixed, shaped and baked in the room you walk into.",
    "selected_pages": ["home", "about", "services", "gallery", "testimonials", "contact"],
    "total_pages": 6,
    "tone": "FRIENDLY",
    "primary_cta": "BOOK_ONLINE",
    "cta_text": "Order for tomorrow",
    "primary_color": "#2f4b3c",
    "secondary_color": "#f4e9d8",
    "accent_color": "#c8702a",
    "has_existing_logo": False,
    "brand_fonts": "Georgia, serif",
    "reference_sites": ["https://bakery.example.com"],
    "design_notes": "Warm, plain and legible. Please no stock photos of wheat fields.",
    "business_hours": {
        "Monday": "Closed",
        "Tuesday": "6:00 AM - 3:00 PM",
        "Wednesday": "6:00 AM - 3:00 PM",
        "Thursday": "6:00 AM - 3:00 PM",
        "Friday": "6:00 AM - 5:00 PM",
        "Saturday": "7:00 AM - 5:00 PM",
        "Sunday": "7:00 AM - 1:00 PM",
    },
    "social_facebook": "https://facebook.example.com/juniperandrye",
    "social_instagram": "https://instagram.example.com/juniperandrye",
    "social_youtube": "https://youtube.example.com/@juniperandrye",
    "testimonials": [
        {
            "name": "Zoë Lindqvist",
            "text": "I moved two streets over so that I could smell it in the morning.",
            "role": "Regular since 2016",
        },
        {
            "name": "Marcus D'Angelo",
            "text": 'They iced "Will you?" on a cake, kept the secret & saved me a slice.',
            "role": "Now married",
        },
        {
            "name": "Guadalupe Nuñez",
            "text": "The class was the best Saturday of the winter.",
            "role": "Baking student",
        },
    ],
    "google_reviews_link": "https://reviews.example.com/juniper-and-rye",
    "about_owner": "Renée O'Connell left a drawing office for a bread oven in 2012, and has kept the same "
    "starter, named Archibald, alive ever since.",
    "years_in_business": 14,
    "team_members": [
        {"name": "Renée O'Connell", "role": "Owner and head baker"},
        {"name": "Walter Abernathy", "role": "Pastry"},
        {"name": "Priya Tran", "role": "Coffee and everything else"},
    ],
    "meta_title": "Juniper & Rye Bakery | Sourdough and cakes in Portland, Maine",
    "meta_description": "Naturally leavened bread, celebration cakes and pastry, baked every morning by the "
    "harbor in Portland, Maine.",
    "target_keywords": ["bakery Portland Maine", "sourdough Portland", "wedding cakes Maine"],
    "completed_steps": ONBOARDING_STEPS,
    "is_complete": True,
}
