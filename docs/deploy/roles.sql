-- Roles with exactly the privileges that sitegenctl needs. Run it once, then set passwords; psql fills in the database:
--   psql innexarcrm -f roles.sql -c '\password sitegenctl' -c '\password sitegenctl_reader'
-- A test runs every command with these roles, and shows that each grant is needed.

-- For `--read-only`, metrics and the live view. It changes nothing.
CREATE ROLE sitegenctl_reader LOGIN;
-- PUBLIC has these two unless they were revoked.
GRANT CONNECT ON DATABASE :"DBNAME" TO sitegenctl_reader;
GRANT USAGE ON SCHEMA public TO sitegenctl_reader;
GRANT SELECT (id, customer_name, customer_email, status, site_url, admin_notes, created_at, updated_at, onboarding_completed_at) ON site_orders TO sitegenctl_reader;
-- For due dates. Without this, nothing about them is shown.
GRANT SELECT (expected_delivery_date, delivery_days, paid_at, delivered_at, actual_delivery_date) ON site_orders TO sitegenctl_reader;
GRANT SELECT (order_id, is_complete, business_name) ON site_onboardings TO sitegenctl_reader;
GRANT SELECT (id, order_id, step, message, status, details, created_at) ON site_generation_logs TO sitegenctl_reader;

-- For operators and `maintain`. It reads as the other, sets the status of orders, and journals what it did.
CREATE ROLE sitegenctl LOGIN IN ROLE sitegenctl_reader;
GRANT UPDATE (status, updated_at) ON site_orders TO sitegenctl;
GRANT INSERT (order_id, step, message, status, details) ON site_generation_logs TO sitegenctl;
GRANT USAGE ON SEQUENCE site_generation_logs_id_seq TO sitegenctl;
