"""The embedded stack: a private Redis, a private PostgreSQL, sample orders and a worker."""
