"""The Redis client: URLs, connections, errors, server facts."""
