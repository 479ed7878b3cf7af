"""What an operator does: each module observes, plans and applies one thing, through the ports alone."""
