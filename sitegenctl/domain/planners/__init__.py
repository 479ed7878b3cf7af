"""Pure planners: a snapshot and options in, a ``Plan`` out. One module for each way of moving orders."""
