"""Help pages, and the command that a near miss means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sitegenctl.cli.app import COMMANDS, make_program
from sitegenctl.cli.help import examples_of
from tests.support.world import World

PROGRAM = make_program()


def _below(command: Any) -> Iterator[Any]:
    """The command, and those below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from _below(each)


def test_commands_are_in_their_groups_and_global_options_below(world: World) -> None:
    lines = world.run().stdout.splitlines()
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Look:", "Fix:", "Automate:", "Set up:", "Global options:", "Examples:"]
    listed = [
        line.split()[0] for line in lines[lines.index("Look:") : lines.index("Global options:")] if line[:2] == "  "
    ]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples(name: str, world: World) -> None:
    command = PROGRAM.commands[name]  # type: ignore[attr-defined]
    assert any(map(examples_of, _below(command))), f"{name} has no @examples"
    page = world.run(name, "--help").stdout
    assert all(f"  sitegenctl {line}\n" in page for line, _ in examples_of(command))


# These run until they are stopped, or start servers; the tests of documents check their options.
_LASTING = {"live", "worker", "demo", "events"}

_EXAMPLES = [line for command in _below(PROGRAM) for line, _ in examples_of(command)]


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in _EXAMPLES
        if line.split()[0] not in _LASTING and not {"--watch", "-f", "--listen", "--wait"} & set(line.split())
    ],
)
def test_examples_are_understood(line: str, world: World) -> None:
    for number in (28, *range(30, 36)):
        world.order(number)
    process = world.run("--yes", *line.split())
    if line == "config init":
        assert "is needed" in process.stderr or process.returncode in (0, 2)
    else:
        assert process.returncode in (0, 4, 5), process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("start 36", "enqueue 36"),
        ("retry 36", "enqueue 36"),
        ("retry", "retry-failed"),
        ("get orders", "inspect orders"),
        ("get 28", "inspect 28"),
        ("show order 28", "inspect 28"),
        ("describe queue", "inspect queue"),
        ("ls", "inspect orders"),
        ("ps", "inspect workers"),
        ("stop 4", "cancel 4"),
        ("fix 4", "repair 4"),
        ("top", "live"),
        ("tail -f 28", "logs"),
        ("check", "doctor"),
        ("inspect order 28", "inspect 28"),
        ("inspect worker", "inspect workers"),
        ("inspect tasks", "inspect queue"),
        ("--context shop start 36", "--context shop enqueue 36"),
    ],
)
def test_near_miss_is_answered_by_the_right_command(line: str, meant: str, world: World) -> None:
    process = world.run(*line.split())
    assert process.returncode == 2
    assert process.stdout == ""
    first, second = process.stderr.splitlines()
    assert first.startswith("error: no such command")
    assert second == f"hint: sitegenctl {meant}"


def test_status_is_the_overview(world: World) -> None:
    world.order(42, "GENERATING")
    shown, overview = (world.run(name, "-o", "ndjson") for name in ("status", "inspect"))
    assert (shown.returncode, shown.stdout) == (0, overview.stdout)


@pytest.mark.parametrize(
    ("arguments", "variables", "selected"),
    [
        ((), {}, ""),
        (("--context", "shop"), {}, ""),
        (("--context", "other"), {}, "--context other "),
        ((), {"SITEGENCTL_CONTEXT": "other"}, "--context other "),
        (("--context", "shop"), {"SITEGENCTL_CONTEXT": "other"}, "--context shop "),
        (("--context", "shop"), {"DATABASE_URL": "postgresql://u@127.0.0.1:1/none"}, "--context shop "),
    ],
)
def test_commands_name_the_context_unless_it_is_the_default(
    arguments: tuple[str, ...], variables: dict[str, str], selected: str, world: World, tmp_path: Any
) -> None:
    world.order(42)
    config = tmp_path / "config.toml"
    table = f'database_url = "{world.database_url}"\nredis_url = "{world.redis_url}"\nsites_dir = "{world.sites_dir}"\n'
    config.write_text(f'context = "shop"\n[contexts.shop]\n{table}[contexts.other]\n{table}')
    cleared = {"DATABASE_URL": "", "REDIS_URL": "", "SITES_BASE_DIR": "", **variables}
    process = world.run(*arguments, "inspect", "42", SITEGENCTL_CONFIG=str(config), **cleared)
    assert f"→ sitegenctl {selected}start-stuck" in process.stdout, process.stderr
