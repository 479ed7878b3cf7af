"""The live view: a full-screen application that shows orders, queue and workers, and fixes faults."""
