"""The contract's tables in SQLAlchemy: the demo and the tests create them, doctor compares with them.

Source: the system's contract. The labels of the enums in the database are the upper-case names.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Double,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
)
from sqlalchemy.types import TypeEngine

from sitegenctl.domain.orders.order import OrderStatus

metadata = MetaData()

NICHES = (
    *("RESTAURANT", "LAWYER", "DENTIST", "REAL_ESTATE", "GENERAL"),
    *("PLUMBER", "ELECTRICIAN", "LANDSCAPING", "CLEANING", "OTHER"),
)
TONES = ("PROFESSIONAL", "FRIENDLY", "PREMIUM")
CTAS = ("CALL", "WHATSAPP", "FORM", "BOOK_ONLINE")
DELIVERABLE_TYPES = ("BRIEFING", "SITEMAP", "CONTENT_PLAN", "WIREFRAME", "CODE")
DELIVERABLE_STATUSES = ("PENDING", "GENERATING", "READY", "APPROVED", "REJECTED")


def _columns(kind: type[TypeEngine[Any]], *names: str, nullable: bool = True) -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable) for name in names]


def _enum(name: str, labels: tuple[str, ...]) -> Enum:
    return Enum(*labels, name=name, metadata=metadata)


site_orders = Table(
    "site_orders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("stripe_session_id", String, unique=True, index=True),
    Column("stripe_customer_id", String, index=True),
    Column("stripe_payment_intent_id", String),
    Column("customer_name", String, nullable=False),
    Column("customer_email", String, nullable=False, index=True),
    Column("customer_phone", String),
    Column("status", _enum("siteorderstatus", tuple(status.value for status in OrderStatus)), index=True),
    Column("base_price", Double),
    Column("total_price", Double, nullable=False),
    Column("currency", String),
    Column("delivery_days", Integer),
    *_columns(DateTime, "expected_delivery_date", "actual_delivery_date"),
    *_columns(Integer, "revisions_included", "revisions_used"),
    *_columns(String, "site_url", "repository_url"),
    Column("admin_notes", Text),
    *_columns(DateTime, "created_at", "updated_at", "paid_at", "onboarding_completed_at", "delivered_at"),
)

site_onboardings = Table(
    "site_onboardings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, ForeignKey("site_orders.id"), nullable=False, unique=True),
    *_columns(String, "business_name", "business_email", "business_phone", nullable=False),
    Column("has_whatsapp", Boolean),
    Column("business_address", String),
    Column("niche", _enum("siteniche", NICHES), nullable=False),
    Column("custom_niche", String),
    *_columns(String, "primary_city", "state", nullable=False),
    Column("service_areas", JSON),
    Column("services", JSON, nullable=False),
    Column("primary_service", String, nullable=False),
    Column("service_descriptions", JSON),
    Column("site_objective", String),
    Column("site_description", Text),
    Column("selected_pages", JSON),
    Column("total_pages", Integer),
    Column("tone", _enum("sitetone", TONES)),
    Column("primary_cta", _enum("sitecta", CTAS)),
    *_columns(String, "cta_text", "primary_color", "secondary_color", "accent_color", "logo_url"),
    Column("has_existing_logo", Boolean),
    Column("brand_fonts", String),
    Column("reference_sites", JSON),
    Column("design_notes", Text),
    Column("business_hours", JSON),
    *_columns(String, "social_facebook", "social_instagram", "social_linkedin", "social_youtube", "social_tiktok"),
    Column("testimonials", JSON),
    Column("google_reviews_link", String),
    Column("about_owner", Text),
    Column("years_in_business", Integer),
    Column("team_members", JSON),
    Column("meta_title", String),
    Column("meta_description", Text),
    Column("target_keywords", JSON),
    *_columns(DateTime, "created_at", "updated_at"),
    Column("completed_steps", Integer),
    Column("is_complete", Boolean),
)

site_generation_logs = Table(
    "site_generation_logs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, ForeignKey("site_orders.id"), nullable=False, index=True),
    Column("step", String(100), nullable=False),
    Column("message", Text, nullable=False),
    Column("status", String(20), server_default="info"),
    Column("details", JSON),
    Column("created_at", DateTime, server_default=func.now()),
)

site_deliverables = Table(
    "site_deliverables",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, ForeignKey("site_orders.id")),
    Column("type", _enum("deliverabletype", DELIVERABLE_TYPES), nullable=False),
    Column("title", String, nullable=False),
    Column("content", Text),
    Column("metadata_json", JSON),
    Column("status", _enum("deliverablestatus", DELIVERABLE_STATUSES)),
    Column("is_visible_to_client", Boolean),
    *_columns(DateTime, "created_at", "updated_at"),
)
