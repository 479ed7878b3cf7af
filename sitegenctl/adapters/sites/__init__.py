"""The directory of generated sites: counting, replacing, trash, health."""
