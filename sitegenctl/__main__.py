"""``python -m sitegenctl``."""

from sitegenctl.cli.main import main

main()
