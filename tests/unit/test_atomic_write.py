from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sitegenctl.config.atomic_write import output_file, write_private, write_whole
from sitegenctl.errors import UsageProblem

Write = Callable[[Path, str], None]
writers = pytest.mark.parametrize("write", [write_whole, write_private])


@contextmanager
def reading(pipe: Path) -> Iterator[list[str]]:
    """Read a named pipe to its end while the block runs."""
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(pipe.read_text()), daemon=True)
    reader.start()
    yield texts
    reader.join(30)


@writers
def test_regular_file_is_replaced_atomically(tmp_path: Path, write: Write) -> None:
    file = tmp_path / "page"
    file.write_text("old")
    with file.open() as before:
        write(file, "new")
        assert before.read() == "old"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["page"]


@writers
@pytest.mark.parametrize("exists", [True, False], ids=["existing target", "dangling link"])
def test_link_is_kept_and_its_target_replaced(tmp_path: Path, write: Write, exists: bool) -> None:
    target = tmp_path / "elsewhere" / "page"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    inner, link = tmp_path / "inner", tmp_path / "link"
    inner.symlink_to(target)
    link.symlink_to(inner.name)
    write(link, "new")
    assert (link.is_symlink(), inner.is_symlink(), target.read_text()) == (True, True, "new")
    assert os.listdir(target.parent) == ["page"]


@writers
@pytest.mark.parametrize("by", ["itself", "link"])
def test_pipe_is_written_through(tmp_path: Path, write: Write, by: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if by == "link":
        path = tmp_path / "link"
        path.symlink_to(pipe)
    with reading(pipe) as texts:
        write(path, "x" * 100_000)
    assert texts == ["x" * 100_000]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert path.is_symlink() == (by == "link")


@writers
def test_terminal_is_written_through(write: Write) -> None:
    """A terminal is a device that a test may have of its own."""
    ours, theirs = os.openpty()
    try:
        name = Path(os.ttyname(theirs))
        write(name, "page")
        assert os.read(ours, 100) == b"page"
        assert stat.S_ISCHR(name.lstat().st_mode)
    finally:
        os.close(ours)
        os.close(theirs)


@writers
def test_open_descriptor_is_written_through(tmp_path: Path, write: Write) -> None:
    """As a shell's process substitution names it, and a file that has no name any more."""
    read, end = os.pipe()
    with open(read) as pipe:
        write(Path(f"/dev/fd/{end}"), "page")
        os.close(end)
        assert pipe.read() == "page"
    with (tmp_path / "deleted").open("w+") as file:
        os.unlink(file.name)
        write(Path(f"/dev/fd/{file.fileno()}"), "page")
        assert file.read() == "page"
    assert os.listdir(tmp_path) == []


def _directory(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.open(path.parent, os.O_RDONLY)
        # The name of a socket is limited to 108 bytes.
        unix.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def _link_to_directory(path: Path) -> None:
    path.symlink_to(path.parent)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _link_into_nowhere(path: Path) -> None:
    path.symlink_to("nowhere/page")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_directory, "it is a directory"),
        (_socket, "it is a socket"),
        (_link_to_directory, "it is a directory"),
        (_loop, "Too many levels of symbolic links"),
    ],
)
def test_unwritable_file_is_refused_and_kept(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "page"
    make(path)
    before = path.lstat()
    for attempt in (
        lambda: output_file("--html", str(path)),
        lambda: write_whole(path, "new"),
        lambda: write_private(path, "new"),
    ):
        with pytest.raises(UsageProblem, match=reason) as caught:
            attempt()
        assert "\n" not in caught.value.message
    assert os.path.samestat(path.lstat(), before)
    assert os.listdir(tmp_path) == ["page"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "--html: the file name is empty"),
        (".", "it is a directory"),
        ("..", "it is a directory"),
        ("/", "it is a directory"),
        ("page/", "it is a directory"),
        ("nowhere/page", "its directory does not exist"),
        ("link", "its directory does not exist"),
        ("file/page", "Not a directory"),
    ],
)
def test_bad_name_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    _link_into_nowhere(tmp_path / "link")
    with pytest.raises(UsageProblem, match=reason):
        output_file("--html", text)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "page"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\udc80")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["page"]
