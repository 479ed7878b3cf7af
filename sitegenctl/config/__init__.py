"""Settings: names, defaults, sources and files."""
