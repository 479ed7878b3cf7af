from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sitegenctl.domain.diagnosis.condition import Condition, Severity
from sitegenctl.render.metrics import families
from tests.support.values import counted, measured

DOCS = Path(__file__).parents[2] / "docs" / "monitoring"
PROMTOOL = shutil.which("promtool")

#: What the parser of prometheus-client calls a family, and what its samples are called: the latter are asked for.
_NAME = re.compile(r"\bsitegenctl_\w+")


def exported() -> set[str]:
    """Every name that a sample of it may have; names that depend on the data are listed by family."""
    found = set()
    for family in families(measured(totals=counted([])), context="any", version="0"):
        found |= {sample.name for sample in family.samples} or {family.name}
    return (
        found
        | {"sitegenctl_workers", "sitegenctl_workers_silent"}
        | {"sitegenctl_worker_processes", "sitegenctl_worker_processes_busy"}
    )


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "dashboard.json").read_text())
    return found


def expressions() -> list[str]:
    """The whole dashboard, with its variables replaced by possible values."""
    asked = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [expression.replace("$context", ".*") for expression in asked]


def test_the_dashboard_queries_only_exported_metrics() -> None:
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert len(asked) > 12
    assert asked <= exported()


def test_the_alerts_query_only_exported_metrics() -> None:
    rules = "".join(line for line in (DOCS / "alerts.yml").read_text().splitlines(True) if "sitegenctl_" in line)
    assert set(_NAME.findall(rules)) <= exported()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def test_alerts_link_to_sections_of_the_runbook() -> None:
    headings = re.findall(r"^## (.*)$", (DOCS.parent / "runbook.md").read_text(), re.MULTILINE)
    sections = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        page, fragment = rule["annotations"]["runbook_url"].split("#")
        assert page.startswith("https://")
        assert page.endswith("/runbook.md")
        # A template chooses between sections.
        assert set(re.sub(r"{{.*?}}", " ", fragment).split()) <= sections, rule["alert"]


def test_no_alert_for_faults_that_only_a_customer_can_end() -> None:
    (rule,) = (rule for rule in rules() if rule["alert"] == "SitegenctlOrdersInFault")
    ended_by_a_command = {each for each in Condition if each.severity is Severity.FAULT and each.command is not None}
    faults = {each for each in Condition if each.severity is Severity.FAULT}
    assert set(re.findall(r'condition!="(\w+)"', rule["expr"])) == faults - ended_by_a_command


def test_dashboard_panels_have_unique_places_and_ids() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool (Debian has it in the package prometheus)")
def test_promtool_accepts_rules_and_alerts_fire(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    rules = {
        "groups": [
            {
                "name": "dashboard",
                "rules": [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(expressions())],
            }
        ]
    }
    # JSON is YAML, too.
    (tmp_path / "dashboard.yml").write_text(json.dumps(rules))
    for arguments in (
        ["check", "rules", str(tmp_path / "dashboard.yml")],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        process = subprocess.run([PROMTOOL, *arguments], cwd=DOCS, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
