"""The reference worker: Celery app, generation service, generator plug-in point and the built-in generator."""
