"""The orders database: queries, transitions, journal, locks, health."""
