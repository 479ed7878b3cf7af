"""The live view: one screen over the queue and the orders, for whoever keeps it open all day."""
