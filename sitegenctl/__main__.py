"""``python -m sitegenctl``, and the console script."""

import gc
import os
import sys

from sitegenctl import streams

# Most commands import, do one thing and end: nothing that a collection would find is worth its time. With the
# default of 700 objects, imports alone run hundreds of them.
gc.set_threshold(50_000, 20, 20)


def main() -> None:
    """Run the command line; even a Ctrl-C while everything is still being imported ends in one word."""
    streams.prepare()
    if "_SITEGENCTL_COMPLETE" in os.environ:
        from sitegenctl.cli.app import make_program
        from sitegenctl.cli.complete import complete

        complete(make_program)
    try:
        from sitegenctl.cli import signals

        signals.enable()
        from sitegenctl.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        from sitegenctl.cli.terminal import print_interrupted

        print_interrupted()
        code = 130
    # Skip the final garbage collection: it would traverse every object once more.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
