"""Where an order is: evidence, conditions, liveness, overview, timeline, lists."""
