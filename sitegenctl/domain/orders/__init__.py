"""Orders, their generation log, runs and site files."""
