"""``python -m tests.support.words``: fails where a word of docs/words.toml is used. ``make lint`` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHECKED = ("sitegenctl", "docs", "tests", "benchmarks", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")
SUFFIXES = {".py", ".md", ".toml", ".html", ".txt", ""}
LISTS = {"docs/words.toml", "tests/support/words.py", "CONTRIBUTING.md"}


def main() -> int:
    """Print each use with its replacement; returns 1 if there is any."""
    config = tomllib.loads((ROOT / "docs" / "words.toml").read_text())
    words = {
        re.compile(rf"(?<![A-Za-z])(?:{key.replace(' ', '[ _]')})(?![A-Za-z])", re.IGNORECASE): instead
        for key, instead in config["words"].items()
    }
    files = subprocess.run(
        ["git", "ls-files", *CHECKED], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    count = 0
    for name in files:
        path = ROOT / name
        if name in LISTS or path.suffix not in SUFFIXES or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for pattern, instead in words.items():
                if found := pattern.search(line):
                    print(f"{name}:{number}: {found[0]!r}; instead: {instead}")
                    count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
