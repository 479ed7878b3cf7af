"""Plans: what to do with each order, one module per action."""
