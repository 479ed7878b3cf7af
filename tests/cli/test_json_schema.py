"""What ``-o json`` writes is as the published JSON Schema says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.support.world import World

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/sitegenctl-1.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

LINES = (
    *("status", "inspect 28", "inspect 99", "inspect orders", "inspect queue", "inspect workers", "logs 28 29 30"),
    *("doctor --quick", "doctor", "stats", "metrics", "maintain --dry-run", "config show", "config contexts"),
    *("enqueue 28 29", "enqueue 30 99 --dry-run", "start-stuck --dry-run", "retry-failed --dry-run", "reset 29 --yes"),
    *("reset-empty --dry-run", "cancel 28 --yes", "repair --dry-run", "queue pause", "queue resume"),
    *("trash list", "trash restore 30 --yes", "trash prune --dry-run", "undo --yes", "undo 0000000-000"),
    *("queue purge --yes", "inspect foo", "enqueue abc", "start 36", "demo status"),
)


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("line", LINES)
def test_json_matches_the_schema(line: str, world: World) -> None:
    world.order(28)
    world.order(29, "GENERATING", steps=["START", "ERROR"])
    world.order(30, "REVIEW", steps=["START", "SUCCESS"])
    world.order(31, "CANCELLED")
    (world.sites_dir / ".trash" / "project_30.1").mkdir(parents=True)
    written = json.loads(world.run(*line.split(), "-o", "json").stdout)
    assert [(list(error.absolute_path), error.message) for error in VALIDATOR.iter_errors(written)] == []


def test_schema_rejects_what_is_not_an_envelope(world: World) -> None:
    world.order(28)
    written = json.loads(world.run("inspect", "28", "-o", "json").stdout)
    del written["data"]["condition"]
    assert not VALIDATOR.is_valid({**written, "data": {**written["data"], "order_id": "28"}})
    assert not VALIDATOR.is_valid({**written, "more": 1})
