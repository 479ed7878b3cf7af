"""`make wheel-test` and `make release`: build the wheel from the sdist and try it as an installed package.

In clean environments of the oldest Python that is supported and of the newest that uv finds, with none of the sources
on the path. Not a test of the suite: it installs dozens of packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = "3.11"
EXTRAS = "demo,metrics,rq,web"

#: Where shells look for them, below the environment's own folder.
SHARED = {
    "share/bash-completion/completions/sitegenctl",
    "share/fish/vendor_completions.d/sitegenctl.fish",
    "share/zsh/site-functions/_sitegenctl",
}

# Each imports or renders something that is data in the wheel.
_USES_ITS_DATA = """
import importlib.resources, sys
import sitegenctl
assert sitegenctl.__file__.startswith(sys.prefix), sitegenctl.__file__
root = importlib.resources.files("sitegenctl")
for name in ("py.typed", "tui/style.tcss", "web/page/index.html", "worker/generator/templates/index.html"):
    assert (root / name).is_file(), name
import sitegenctl.tui.app, sitegenctl.worker.generator
from importlib.metadata import entry_points
(found,) = entry_points(group="sitegenctl.generators", name="builtin")
assert callable(found.load())
"""


def main() -> None:
    """Build the wheel, check its files, and try it on both Pythons; exits 1 at the first failure.

    The distributions are kept in the folder that the command line names.
    """
    with tempfile.TemporaryDirectory(prefix="sitegenctl-wheel-") as name:
        folder = Path(name)
        # From the sdist, so that a file that the sdist lacks is missed.
        _uv("build", "--quiet", "--out-dir", str(folder), str(ROOT))
        (wheel,) = folder.glob("*.whl")
        _check_files(wheel)
        pythons = json.loads(_uv("python", "list", "--only-installed", "--output-format", "json"))
        numbers = {(each["version_parts"]["major"], each["version_parts"]["minor"]) for each in pythons}
        newest = ".".join(map(str, max(numbers)))
        for python in dict.fromkeys((OLDEST, newest)):
            _try_out(wheel, python, folder / python)
            print(f"{wheel.name} on Python {python}: ok", flush=True)
        for target in sys.argv[1:]:
            Path(target).mkdir(exist_ok=True)
            for distribution in (wheel, *folder.glob("*.tar.gz")):
                shutil.copy(distribution, target)


def _check_files(wheel: Path) -> None:
    """Fail unless the wheel has exactly the package's files under version control, and the completions."""
    listed = subprocess.run(
        ["git", "ls-files", "sitegenctl"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    names = zipfile.ZipFile(wheel).namelist()
    package = {name for name in names if name.startswith("sitegenctl/")}
    expected = set(listed) or package  # an unpacked sdist is no repository
    if missing := (expected | SHARED) - package - {name.partition(".data/data/")[2] for name in names}:
        sys.exit(f"wheel-test: missing in the wheel: {sorted(missing)}")
    if unknown := package - expected:
        sys.exit(f"wheel-test: not in the repository: {sorted(unknown)}")


def _try_out(wheel: Path, python: str, folder: Path) -> None:
    home = folder / "home"
    home.mkdir(parents=True)
    _uv("venv", "--quiet", "--no-python-downloads", "--python", python, str(folder / "venv"))
    inside = str(folder / "venv" / "bin" / "python")
    _uv("pip", "install", "--quiet", "--python", inside, str(wheel))
    # Checks that the extras can be resolved on this Python, without the time to install them.
    _uv("pip", "install", "--quiet", "--dry-run", "--python", inside, f"{wheel}[{EXTRAS}]")
    command = str(folder / "venv" / "bin" / "sitegenctl")
    version = f"sitegenctl {wheel.name.split('-')[1]}\n"
    _expect([command, "--version"], home, 0, stdout=version)
    _expect([inside, "-m", "sitegenctl", "--version"], home, 0, stdout=version)
    _expect([command, "--help"], home, 0, stdout="maintain")
    _expect([command, "completion", "bash"], home, 0, stdout="complete ")
    _expect([command, "enqueue", "abc"], home, 2, stderr="error: abc is not an order number\n")
    _expect([command, "inspect"], home, 2, stderr="sitegenctl demo up")
    _expect([command, "metrics"], home, 2, stderr="sitegenctl[metrics]")
    _expect([inside, "-c", _USES_ITS_DATA], home, 0)


def _expect(command: list[str], home: Path, code: int, *, stdout: str = "", stderr: str = "") -> None:
    # An empty home, and nothing of this environment: PYTHONPATH would lead to the sources.
    environ = {"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"}
    process = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False)
    unexpected = process.returncode != code or stdout not in process.stdout or stderr not in process.stderr
    if unexpected or "Traceback" in process.stderr:
        output = f"{process.stdout}{process.stderr}"
        sys.exit(f"wheel-test: {' '.join(command)}: exit {process.returncode}, not {code}\n{output}")


def _uv(*arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    beside = Path(sys.executable).with_name("uv")
    uv = beside if beside.exists() else shutil.which("uv")
    if uv is None:
        sys.exit("wheel-test: uv is missing; run make to install it")
    process = subprocess.run([uv, *arguments], env=environ, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"wheel-test: uv {' '.join(arguments)}: {process.stderr}")
    return process.stdout


if __name__ == "__main__":
    main()
