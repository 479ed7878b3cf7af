"""The reference site generator."""
