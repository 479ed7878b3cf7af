"""Connections to Redis: URLs, errors, the small client, server facts."""
