"""RQ on Redis: jobs, workers, events, health."""
