"""Settings: their names and defaults, and the files and variables they come from."""
