"""Accounts without a usable home directory, and data directories that cannot be used."""

from __future__ import annotations

import contextlib
import os
import pwd
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sitegenctl.config.file import config_path, data_dir, state_dir
from sitegenctl.demo.stack import Stack
from sitegenctl.errors import UsageProblem
from tests.support.world import World

_VARIABLES = ("SITEGENCTL_CONFIG", "SITEGENCTL_DATA_DIR", "SITEGENCTL_STATE_DIR")


def no_entry(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Let the permissions of files apply, also if the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture(params=["no entry", "device", "endless link"])
def home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, world: World, tmp_path: Path) -> str:
    """The value of HOME of an account without a usable home."""
    world.configure(monkeypatch)
    for name in [name for name in os.environ if name.startswith("XDG_") or name in _VARIABLES]:
        monkeypatch.delenv(name)
    if request.param == "no entry":
        monkeypatch.setattr(pwd, "getpwuid", no_entry)
        return ""
    # Root may enter a directory with any permissions, but not follow an endless link.
    (tmp_path / "home").symlink_to("home")
    return os.devnull if request.param == "device" else str(tmp_path / "home")


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("config show", 0, "DATABASE_URL"),
        ("config contexts", 0, "no contexts"),
        ("inspect", 0, "no worker is alive"),
        ("maintain", 0, ""),
        ("--context demo inspect", 2, "error: the demo is not up"),
        ("config path", 2, "hint: set SITEGENCTL_CONFIG"),
        ("config use demo", 2, "hint: set SITEGENCTL_CONFIG"),
        ("config init -y", 2, "hint: set SITEGENCTL_CONFIG"),
        ("demo up", 2, "hint: set SITEGENCTL_DATA_DIR"),
    ],
)
def test_default_places_need_no_home(world: World, home: str, command: str, code: int, output: str) -> None:
    process = world.run(*command.split(), HOME=home)
    assert process.returncode == code, process.stderr
    assert output in process.stdout + process.stderr
    assert len(process.stderr.splitlines()) == (2 if code else 0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for each in Path(name).rglob("."):
            each.chmod(0o755)


def test_unreadable_home_has_no_settings_file(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert config_path({}) == folder / "home" / ".config" / "sitegenctl" / "config.toml"
    (folder / "home").chmod(0)
    with unprivileged():
        assert (config_path({}), data_dir({}), state_dir({})) == (None, None, None)


@pytest.mark.parametrize("variable", _VARIABLES[:2])
def test_unknown_home_in_a_variable_is_named(world: World, variable: str) -> None:
    process = world.run("config", "contexts", **{variable: "~unknown.user/x"})
    assert process.returncode == 2
    assert process.stderr == f"error: {variable}: the home directory in ~unknown.user/x is unknown\n"


def test_file_with_byte_order_mark_is_read_and_edited(world: World) -> None:
    file = Path(os.environ["SITEGENCTL_CONFIG"])
    file.write_bytes(b'\xef\xbb\xbf# mine\r\n[contexts.shop]\r\ndatabase_url = "postgresql://u@h/d"\r\n')
    assert "shop" in world.run("config", "contexts").stdout
    process = world.run("config", "use", "shop")
    assert (process.returncode, process.stderr) == (0, "")
    assert world.run("config", "show").stdout.startswith("database_url")
    assert "# mine" in file.read_text()


@pytest.mark.parametrize("command", ["up", "tour"])
@pytest.mark.parametrize("below", ["", "below"])
def test_unusable_data_directory_is_one_line(world: World, tmp_path: Path, below: str, command: str) -> None:
    (tmp_path / "file").touch()
    place = {"SITEGENCTL_DATA_DIR": str(tmp_path / "file" / below)}
    process = world.run("demo", command, "--orders", "47", **place)
    assert (process.returncode, process.stdout) == (2, "")
    error, hint = process.stderr.splitlines()
    assert error.startswith(f"error: {tmp_path / 'file'}")
    assert "can't be written" in error
    assert hint == "hint: set SITEGENCTL_DATA_DIR to another folder"
    assert "the demo is not up" in world.run("demo", "status", **place).stderr


@pytest.mark.parametrize(("mode", "complaint"), [(0o555, "can't be written"), (0, "can't be read")])
def test_permissions_of_the_data_directory_are_reported(folder: Path, mode: int, complaint: str) -> None:
    stack = Stack(root=folder / "demo")
    stack.root.mkdir()
    (stack.root / "state.json").write_text("{}")
    for each in (stack.root, folder):
        each.chmod(mode)
    up = partial(stack.up, progress=print, seed=lambda _: None, worker_env={})
    with unprivileged():
        for act in (up, stack.down, *([stack.status] if mode == 0 else [])):
            with pytest.raises(UsageProblem, match=complaint):
                act()
