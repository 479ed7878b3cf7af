"""`python -m tests.support.living_table`: run every situation once and print its figures as a Markdown table.

Arguments are handed to pytest (`-k warm_shutdown`, `-n 2`). A run is a generation that began; overlaps that the
situation itself brings about (a task redelivered or pushed twice) are counted, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

_TESTS = sorted(str(path) for path in (Path(__file__).parents[1] / "e2e").glob("test_living_*.py"))
_HEAD = ("situation", "runs", "overlaps", "time to recovery (s)", "result")


def main() -> int:
    """Run the living tests; returns pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="sitegenctl-tests-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *_TESTS, f"--junitxml={report}", *sys.argv[1:]]
        code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        for row in (_HEAD, ("---",) * len(_HEAD), *_rows(report)):
            print(f"| {' | '.join(row)} |")
    return code


def _rows(report: Path) -> Iterator[tuple[str, ...]]:
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        figures = {each.get("name"): each.get("value", "") for each in case.iter("property")}
        if "runs" not in figures:
            continue
        situation = case.get("name", "").removeprefix("test_").replace("_", " ")
        failed = case.find("failure") is not None or case.find("error") is not None
        result = "failed" if failed else "passed"
        yield situation, figures["runs"], figures["overlaps"], figures["recovery"] or "-", result


if __name__ == "__main__":
    sys.exit(main())
