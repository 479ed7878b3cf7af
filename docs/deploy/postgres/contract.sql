-- The CRM's tables, as sitegenctl knows them. Written by docs/schema.py: don't edit.

CREATE TYPE siteorderstatus AS ENUM ('PENDING_PAYMENT', 'PAID', 'ONBOARDING_PENDING', 'BUILDING', 'GENERATING', 'REVIEW', 'DELIVERED', 'CANCELLED');

CREATE TYPE siteniche AS ENUM ('RESTAURANT', 'LAWYER', 'DENTIST', 'REAL_ESTATE', 'GENERAL', 'PLUMBER', 'ELECTRICIAN', 'LANDSCAPING', 'CLEANING', 'OTHER');

CREATE TYPE sitetone AS ENUM ('PROFESSIONAL', 'FRIENDLY', 'PREMIUM');

CREATE TYPE sitecta AS ENUM ('CALL', 'WHATSAPP', 'FORM', 'BOOK_ONLINE');

CREATE TYPE deliverabletype AS ENUM ('BRIEFING', 'SITEMAP', 'CONTENT_PLAN', 'WIREFRAME', 'CODE');

CREATE TYPE deliverablestatus AS ENUM ('PENDING', 'GENERATING', 'READY', 'APPROVED', 'REJECTED');

CREATE TABLE site_orders (
    id SERIAL NOT NULL,
    stripe_session_id VARCHAR,
    stripe_customer_id VARCHAR,
    stripe_payment_intent_id VARCHAR,
    customer_name VARCHAR NOT NULL,
    customer_email VARCHAR NOT NULL,
    customer_phone VARCHAR,
    status siteorderstatus,
    base_price DOUBLE PRECISION,
    total_price DOUBLE PRECISION NOT NULL,
    currency VARCHAR,
    delivery_days INTEGER,
    expected_delivery_date TIMESTAMP WITHOUT TIME ZONE,
    actual_delivery_date TIMESTAMP WITHOUT TIME ZONE,
    revisions_included INTEGER,
    revisions_used INTEGER,
    site_url VARCHAR,
    repository_url VARCHAR,
    admin_notes TEXT,
    created_at TIMESTAMP WITHOUT TIME ZONE,
    updated_at TIMESTAMP WITHOUT TIME ZONE,
    paid_at TIMESTAMP WITHOUT TIME ZONE,
    onboarding_completed_at TIMESTAMP WITHOUT TIME ZONE,
    delivered_at TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (id)
);

CREATE TABLE site_onboardings (
    id SERIAL NOT NULL,
    order_id INTEGER NOT NULL,
    business_name VARCHAR NOT NULL,
    business_email VARCHAR NOT NULL,
    business_phone VARCHAR NOT NULL,
    has_whatsapp BOOLEAN,
    business_address VARCHAR,
    niche siteniche NOT NULL,
    custom_niche VARCHAR,
    primary_city VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    service_areas JSON,
    services JSON NOT NULL,
    primary_service VARCHAR NOT NULL,
    service_descriptions JSON,
    site_objective VARCHAR,
    site_description TEXT,
    selected_pages JSON,
    total_pages INTEGER,
    tone sitetone,
    primary_cta sitecta,
    cta_text VARCHAR,
    primary_color VARCHAR,
    secondary_color VARCHAR,
    accent_color VARCHAR,
    logo_url VARCHAR,
    has_existing_logo BOOLEAN,
    brand_fonts VARCHAR,
    reference_sites JSON,
    design_notes TEXT,
    business_hours JSON,
    social_facebook VARCHAR,
    social_instagram VARCHAR,
    social_linkedin VARCHAR,
    social_youtube VARCHAR,
    social_tiktok VARCHAR,
    testimonials JSON,
    google_reviews_link VARCHAR,
    about_owner TEXT,
    years_in_business INTEGER,
    team_members JSON,
    meta_title VARCHAR,
    meta_description TEXT,
    target_keywords JSON,
    created_at TIMESTAMP WITHOUT TIME ZONE,
    updated_at TIMESTAMP WITHOUT TIME ZONE,
    completed_steps INTEGER,
    is_complete BOOLEAN,
    PRIMARY KEY (id),
    UNIQUE (order_id),
    FOREIGN KEY(order_id) REFERENCES site_orders (id)
);

CREATE TABLE site_generation_logs (
    id SERIAL NOT NULL,
    order_id INTEGER NOT NULL,
    step VARCHAR(100) NOT NULL,
    message TEXT NOT NULL,
    status VARCHAR(20) DEFAULT 'info',
    details JSON,
    created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT now(),
    PRIMARY KEY (id),
    FOREIGN KEY(order_id) REFERENCES site_orders (id)
);

CREATE TABLE site_deliverables (
    id SERIAL NOT NULL,
    order_id INTEGER,
    type deliverabletype NOT NULL,
    title VARCHAR NOT NULL,
    content TEXT,
    metadata_json JSON,
    status deliverablestatus,
    is_visible_to_client BOOLEAN,
    created_at TIMESTAMP WITHOUT TIME ZONE,
    updated_at TIMESTAMP WITHOUT TIME ZONE,
    PRIMARY KEY (id),
    FOREIGN KEY(order_id) REFERENCES site_orders (id)
);

CREATE INDEX ix_site_generation_logs_order_id ON site_generation_logs (order_id);

CREATE INDEX ix_site_orders_customer_email ON site_orders (customer_email);

CREATE INDEX ix_site_orders_status ON site_orders (status);

CREATE INDEX ix_site_orders_stripe_customer_id ON site_orders (stripe_customer_id);

CREATE UNIQUE INDEX ix_site_orders_stripe_session_id ON site_orders (stripe_session_id);
