"""sitegenctl: the console of a site-generation queue.

It reads the orders database, the broker, the workers and the files as one snapshot, says where each order
really is and why, and moves orders so that none is lost, generated twice or destroyed.
"""

__version__ = "0.1.0"
