"""Workflows, hooks and issue forms: they name what exists, and run what a developer runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]


def test_workflow_runs_targets_that_exist() -> None:
    steps = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    used = {target for step in steps for target in re.findall(r"make (\S+)", step)}
    assert {target for target in used if f"\n{target}:" not in MAKEFILE} == set()
    assert used >= {"lint", "test", "test-lowest", "test-rq", "docs", "wheel-test", "demo"}


def test_workflow_tests_every_supported_python() -> None:
    supported = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text()))
    assert supported <= set(JOBS["test"]["strategy"]["matrix"]["python"])


def test_actionlint_takes_the_workflow() -> None:
    program = shutil.which("actionlint") or pytest.skip("there is no actionlint")
    process = subprocess.run([program, str(WORKFLOW)], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


def test_hooks_run_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [re.sub(r"\.venv/bin/| --force-exclude", "", hook["entry"]) for hook in repository["hooks"]]
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert hooks == re.sub(r"\t\$\(BIN\)/| --check| \.$", "", recipe, flags=re.MULTILINE).splitlines()


def test_issue_forms_ask_for_something() -> None:
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        fields = yaml.safe_load(form.read_text())["body"]
        assert any(field.get("validations", {}).get("required") for field in fields), form
