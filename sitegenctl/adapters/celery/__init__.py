"""Celery on Redis: messages, workers, events, health."""
