"""One module per view of the live screen."""
