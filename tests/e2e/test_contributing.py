"""The worked examples of CONTRIBUTING.md, applied to a copy of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "sitegenctl"

CONDITION = "domain/diagnosis/condition.py"
#: What each example changes: the file, the text before which (None: at the end) it goes, and how its code begins.
CHANGES: dict[str, list[tuple[str, str | None, str]]] = {
    "A condition": [
        (CONDITION, "    WAITING = _Entry(", "    STALLED"),
        (CONDITION, "def _settled(", "def _stalled"),
        (CONDITION, "    _settled,\n", "    _stalled,"),
        ("demo/samples/recipes.py", "    _building(Condition.WAITING", "    _building(Condition.STALLED"),
    ],
    "A doctor check": [("domain/health/files.py", None, "@check")],
    "A command": [("cli/commands/count.py", None, '"""'), ("cli/app.py", '    "live": (', '    "count"')],
    "A view": [("tui/views/customers.py", None, '"""')],
    "A log step": [
        ("worker/service.py", '        await self._log("WRITE_FILES"', "        await self._log"),
        ("domain/orders/stage.py", '    "PARSE_RESULT"', '    "OPTIMIZED_IMAGES"'),
    ],
    "A backend": [("adapters/hurry/backend.py", None, '"""'), ("config/backends.py", '    "rq": ', '    "hurry"')],
}

SHOWN = """
from importlib import import_module
from sitegenctl.cli.app import make_program
from sitegenctl.cli.help import examples_of
from sitegenctl.config.backends import BACKENDS
from sitegenctl.demo.samples.recipes import RECIPES
from sitegenctl.domain.diagnosis.condition import Condition, _RULES
from sitegenctl.domain.health.registry import CHECKS
from sitegenctl.domain.orders.stage import stage_of
from sitegenctl.tui.views import VIEWS

assert any(each.condition is Condition.STALLED for each in RECIPES), "condition"
assert "_stalled" in [rule.__name__ for rule in _RULES], "rule"
assert "file system" in [check.name for check in CHECKS], "check"
assert examples_of(make_program().commands["count"]), "command"
assert VIEWS[-1].NAME == "customers", "view"
assert stage_of("OPTIMIZED_IMAGES").name == "building", "stage"
module, name = BACKENDS["hurry"].provider.split(":")
assert getattr(import_module(module), name).worker, "backend"
"""


def _code(section: str, begins: str) -> str:
    """The code in a section of CONTRIBUTING.md from the line that begins so, to the end of its block or an ellipsis."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n### {section}\n")[2].partition("\n### ")[0]
    blocks = re.findall(r"^```(?:python)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += [f"    {code}\n" for code in re.findall(r'`("[a-z]+": \(.*?\),)`', text)]
    found = re.search(rf"^{re.escape(begins)}.*?(?=\Z|^    \.\.\.$)", "\0\n".join(blocks), re.MULTILINE | re.DOTALL)
    assert found is not None, f"no code in the section {section!r} begins with {begins!r}"
    return found[0].partition("\0")[0]


def test_worked_examples_work_as_they_stand(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGE, tmp_path / "sitegenctl", ignore=shutil.ignore_patterns("__pycache__"))
    for section, changes in CHANGES.items():
        for file, before, begins in changes:
            path, code = copy / file, _code(section, begins)
            path.parent.mkdir(exist_ok=True)
            text = path.read_text() if path.exists() else ""
            at = len(text) if before is None else text.index(before)
            path.write_text(text[:at] + code + text[at:])
    views = copy / "tui/views/__init__.py"
    views.write_text(
        f"{views.read_text()}from sitegenctl.tui.views.customers import CustomersView\nVIEWS += (CustomersView,)\n"
    )
    done = subprocess.run([sys.executable, "-c", SHOWN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
