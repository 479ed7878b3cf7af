"""Plans for many orders: one module per action, so that a command imports only its own."""
