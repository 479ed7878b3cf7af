"""The demo stack's PostgreSQL, Redis and worker processes."""
