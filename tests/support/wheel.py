"""`make wheel-test`: builds the wheel out of the sdist and tries it as somebody who installs it would.

In clean environments of the oldest Python that is promised and of the newest that this machine has, with nothing of the
sources in reach. Not a test of the suite: it installs some dozens of packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)
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

Version = tuple[int, int]


def main() -> None:
    """Build, look into the wheel, and try it on both Pythons; exits 1 at the first thing that is wrong."""
    with tempfile.TemporaryDirectory(prefix="sitegenctl-wheel-") as name:
        folder = Path(name)
        wheel = _build(folder)
        version = wheel.name.split("-")[1]
        _require_whole(wheel)
        pythons = _pythons()
        if OLDEST not in pythons:
            _fail(f"there is no Python {_dotted(OLDEST)} on this machine")
        for number in dict.fromkeys((OLDEST, max(pythons))):
            _try_out(wheel, version, pythons[number], folder / _dotted(number))
            print(f"{wheel.name} on Python {_dotted(number)} ({pythons[number]}): ok", flush=True)
        if max(pythons) == OLDEST:
            print(f"note: no Python newer than {_dotted(OLDEST)} was found")


def _build(folder: Path) -> Path:
    # The wheel is made of the sdist: what the sdist lacks is missed here.
    _run([*_uv(), "build", "--quiet", "--out-dir", str(folder), str(ROOT)])
    (wheel,) = folder.glob("*.whl")
    return wheel


def _require_whole(wheel: Path) -> None:
    """Every file of the package that is under version control is in the wheel, and no other."""
    listed = subprocess.run(
        ["git", "ls-files", "sitegenctl"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    found = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("sitegenctl/")}
    there = set(listed) or found  # an unpacked sdist is no repository
    shared = {name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist() if ".data/data/" in name}
    if lacking := SHARED - shared:
        _fail(f"missing in the wheel: {lacking}")
    if found != there:
        _fail(f"missing in the wheel: {sorted(there - found)}; not in the repository: {sorted(found - there)}")


def _pythons() -> dict[Version, str]:
    """The interpreters on PATH, of pyenv and of uv, by their version; of several of one version the first."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], 30)]
    candidates = [sys.executable, *filter(None, map(shutil.which, ["python3", *names]))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += map(str, sorted(pyenv.glob("versions/*/bin/python3")))
    managed = subprocess.run([*_uv(), "python", "dir"], capture_output=True, text=True, check=False).stdout.strip()
    if managed:
        candidates += map(str, sorted(Path(managed).glob("*/bin/python3")))
    found: dict[Version, str] = {}
    for each in candidates:
        # One of pyenv's on PATH may be a script which says that it is not chosen.
        said = _output([each, "-c", "import ssl, sqlite3, sys; print(*sys.version_info[:2], sys.version_info[3])"])
        if match := re.fullmatch(r"(\d+) (\d+) final", said):
            found.setdefault((int(match[1]), int(match[2])), each)
    return {version: path for version, path in found.items() if version >= OLDEST}


def _try_out(wheel: Path, version: str, python: str, folder: Path) -> None:
    home = folder / "home"
    home.mkdir(parents=True)
    _run([*_uv(), "venv", "--quiet", "--python", python, str(folder / "venv")])
    inside = str(folder / "venv" / "bin" / "python")
    _run([*_uv(), "pip", "install", "--quiet", "--python", inside, str(wheel)])
    # The extras can be had on this Python, beside what the package needs; without spending their time.
    _run([*_uv(), "pip", "install", "--quiet", "--dry-run", "--python", inside, f"{wheel}[{EXTRAS}]"])
    command = str(folder / "venv" / "bin" / "sitegenctl")
    told = f"sitegenctl {version}\n"
    _expect([command, "--version"], home, 0, stdout=told)
    _expect([inside, "-m", "sitegenctl", "--version"], home, 0, stdout=told)
    _expect([command, "--help"], home, 0, stdout="maintain")
    _expect([command, "enqueue", "abc"], home, 2, stderr="error: abc is not an order number\n")
    _expect([command, "inspect"], home, 2, stderr="sitegenctl demo up")
    _expect([command, "metrics"], home, 2, stderr="sitegenctl[metrics]")
    _expect([inside, "-c", _USES_ITS_DATA], home, 0)


def _expect(command: list[str], home: Path, code: int, *, stdout: str = "", stderr: str = "") -> None:
    # An empty home, and nothing of this environment: PYTHONPATH would lead to the sources.
    environ = {"HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"}
    found = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False)
    if found.returncode != code or stdout not in found.stdout or stderr not in found.stderr:
        _fail(f"{' '.join(command)}: exit {found.returncode}, not {code}\n{found.stdout}{found.stderr}")
    if "Traceback" in found.stderr:
        _fail(f"{' '.join(command)}: {found.stderr}")


def _uv() -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    return [str(beside) if beside.exists() else shutil.which("uv") or _fail("there is no uv: make installs it")]


def _run(command: list[str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        _fail(f"{' '.join(command)}: {done.stderr}")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _fail(what: str) -> str:
    sys.exit(f"wheel-test: {what}")


if __name__ == "__main__":
    main()
