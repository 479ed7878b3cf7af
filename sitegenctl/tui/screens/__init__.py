"""Modal screens: a plan with its outcomes, and help."""
