"""Find stuck orders of a site-generation queue and fix them safely.

sitegenctl reads the orders database, the broker, the workers and the files as one snapshot, shows the state of each
order with the evidence, and changes orders so that none is lost, generated twice or destroyed.
"""

__version__ = "0.2.0"
