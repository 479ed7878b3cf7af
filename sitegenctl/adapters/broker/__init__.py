"""What Celery and RQ share: task arguments, JSON that others wrote, revoking and restoring tasks."""
