"""Running a server that refuses to be root: under which account, and where that account can work.

A container's user is often root, and PostgreSQL does not run as root. It then runs as ``postgres`` or as
``nobody``, in a folder that this account can reach, from binaries that it can execute. No folder that isn't
ours is opened up for it: what can't be reached is put into a folder of our own below ``/var/tmp``.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Final

from sitegenctl.demo.servers.processes import Account, run_to_end
from sitegenctl.errors import SourceError

_ACCOUNTS: Final = ("postgres", "nobody")
_TIMEOUT: Final = 30.0


def unprivileged_account() -> Account | None:
    """The account to run under instead of root; None when we aren't root.

    Raises:
        SourceError: we are root and there is no such account.
    """
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise SourceError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as",
        hint="run sitegenctl as another user",
        source="database",
    )


def existing_home(folder: Path, account: Account | None) -> Path:
    """Where a server wanted in ``folder`` keeps its files, if it has any: there, or in our folder outside."""
    outside = _outside(folder)
    return outside if account is not None and _is_ours(outside) else folder


def make_home(folder: Path, account: Account | None) -> Path:
    """Make the folder for a server wanted in ``folder``, where ``account`` can reach what it is given in it.

    Raises:
        SourceError: somebody else has taken the name of the folder outside.
    """
    home = existing_home(folder, account)
    if account is None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home
    if home == folder:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if _can_enter(folder, account):
            return folder
        home = _outside(folder)
        try:
            home.mkdir(mode=0o711)
        except FileExistsError as exc:
            raise SourceError(
                f"{home} is not ours; PostgreSQL needs that folder as {account.name}", source="database"
            ) from exc
        # Whatever the umask took away: the account has to get through.
        home.chmod(0o711)
    return home


def _outside(folder: Path) -> Path:
    base = Path("/var/tmp")  # noqa: S108 - the name there is made by mkdir, and its owner is checked
    if not base.is_dir():
        base = Path("/tmp")  # noqa: S108
    # The whole path, so that two stacks don't meet, and whatever links lead to it.
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:12]
    return base / f"sitegenctl-{name}"


def _is_ours(folder: Path) -> bool:
    try:
        seen = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o022


def _can_enter(folder: Path, account: Account) -> bool:
    # Asked, not computed: access lists and mounts have their say, too.
    script = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
    return run_to_end(script, env={"PATH": os.defpath}, account=account, timeout=_TIMEOUT).returncode == 0


def can_execute(binary: Path, account: Account | None, env: dict[str, str]) -> bool:
    """Whether the account can execute it, with the libraries that it needs."""
    try:
        done = run_to_end([str(binary), "--version"], env=env, account=account, timeout=_TIMEOUT)
    except SourceError:
        return False
    return done.returncode == 0


def give(path: Path, account: Account | None) -> None:
    """Make ``path``, which we have just made ourselves, the account's own."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of programs so that every account can run them."""
    shutil.copytree(source, target, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
