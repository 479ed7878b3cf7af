from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.commands import Console
from tests.support.world import World

FINISHED = range(1, 7)

#: Possible contents of a wrong directory, besides none.
STRAYS = {
    "bare": (),
    "trash": (".trash/project_3.1700000000000000000",),
    "of other orders": ("project_999",),
    "a finished order's": ("project_6",),
    "an unfinished order's": ("project_42",),
    "notes": ("README", "lost+found"),
}


@pytest.fixture(params=STRAYS)
def wrong(request: pytest.FixtureRequest, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy system, with another sites directory configured."""
    for order_id in FINISHED:
        world.order(order_id, "DELIVERED", files=8)
    for order_id in (41, 42):
        world.order(order_id, "GENERATING", steps=["START"], files=8)
    folder = tmp_path / "wrong"
    folder.mkdir()
    for stray in STRAYS[request.param]:
        (folder / stray).mkdir(parents=True)
        for number in range(8):
            (folder / stray / f"page{number}.html").write_text("x")
    monkeypatch.setenv("SITES_BASE_DIR", str(folder))
    return folder


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(
    "command",
    [[], ["41"], ["1"], ["orders"], ["orders", "--condition", "hollow"]],
    ids=["overview", "41", "1", "all", "hollow"],
)
def test_no_site_is_called_empty_in_a_wrong_directory(console: Console, command: Sequence[str]) -> None:
    result = console.envelope("inspect", *command)
    assert result["exit_code"] == 3
    (error,) = result["errors"]
    assert error["source"] == "files"
    assert "of the 6 newest finished orders has a file in the sites directory" in error["message"]
    data = result["data"]
    conditions = {
        data.get("condition"),
        *(data.get("by_condition") or {}),
        *(order["condition"] for order in data.get("orders", ())),
    }
    assert not conditions & {"empty", "hollow", "interrupted"}


@pytest.mark.usefixtures("wrong")
def test_finished_orders_alone_are_not_called_hollow_in_it(world: World, console: Console) -> None:
    world.sql("UPDATE site_orders SET status = 'PAID' WHERE status = 'GENERATING'")
    result = console.envelope("inspect", "orders", "--condition", "hollow")
    assert (result["exit_code"], result["errors"][0]["source"], result["data"]["orders"]) == (3, "files", [])


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("command", [["reset-empty"], ["reset", "41"]], ids=" ".join)
def test_nothing_is_reset_in_a_wrong_directory(world: World, console: Console, command: Sequence[str]) -> None:
    code, _, stderr = console(*command, "--yes")
    assert code == 3
    assert "of the 6 newest finished orders has a file" in stderr
    assert ({world.status(41), world.status(42)}, world.queued()) == ({"GENERATING"}, [])


def test_a_hollow_order_among_others_is_no_wrong_directory(world: World, console: Console) -> None:
    world.order(1, "DELIVERED", files=8)
    world.order(2, "DELIVERED")
    world.order(3, "GENERATING", steps=["START"])
    assert console.data("inspect", "2")["condition"] == "hollow"
    assert console.data("inspect", "3")["condition"] == "empty"
    hollow = console.data("inspect", "orders", "--condition", "hollow")["orders"]
    assert [order["order_id"] for order in hollow] == [2]


def test_one_finished_order_without_files_decides_nothing(world: World, console: Console) -> None:
    """Its site may be lost, or the directory be another one; the evidence is shown."""
    world.order(7, "REVIEW")
    world.order(8, "GENERATING", steps=["START"])
    for order_id in ("7", "8"):
        result = console.envelope("inspect", order_id)
        assert (result["exit_code"], result["data"]["condition"]) == (3, "unknown")
        assert "the only finished order, 7, has no file in the sites directory" in result["errors"][0]["message"]


def test_an_empty_directory_is_fine_before_any_finished_order(world: World, console: Console) -> None:
    world.order(8, "GENERATING", steps=["START"])
    assert console.data("inspect", "8")["condition"] == "empty"


def test_without_empty_sites_no_sample_is_read(world: World, console: Console) -> None:
    world.order(1, "DELIVERED")
    world.order(2, "GENERATING", steps=["START"], files=8)
    assert console.data("inspect", "2")["condition"] == "interrupted"
