"""Tasks, workers, events and the limits of the queue."""
