"""``python -m sitegenctl``, and the console script."""

import sys


def main() -> None:
    """Run the command line; even a Ctrl-C while everything is still being imported ends in one word."""
    try:
        from sitegenctl.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
