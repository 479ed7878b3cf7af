"""The orders database: reading orders and their log, transitions, locks, health."""
