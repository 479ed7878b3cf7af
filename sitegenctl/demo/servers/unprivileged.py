"""Running PostgreSQL when the user is root, as in most containers: PostgreSQL refuses to run as root.

It runs under the account ``postgres`` or ``nobody``, in a folder that this account can enter. Permissions of existing
folders are never changed: if the account cannot enter the demo's folder, a new one below ``/var/tmp`` is used.
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
    """Return the account to use instead of root; None if the user is not root. Raises ``SourceError`` for none."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise SourceError(
        'PostgreSQL does not run as root, and there is no user "postgres" or "nobody"',
        hint="run sitegenctl as another user",
        source="database",
    )


def existing_home(folder: Path, account: Account | None) -> Path:
    """Return where the server for ``folder`` keeps its files: there, or in the folder below ``/var/tmp``."""
    outside = _outside(folder)
    return outside if account is not None and _is_ours(outside) else folder


def make_home(folder: Path, account: Account | None) -> Path:
    """Create the home of the server for ``folder``. Raises ``SourceError`` if the name below ``/var/tmp`` is taken."""
    home = existing_home(folder, account)
    if account is None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif home == folder:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not can_run(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)], account, {"PATH": os.defpath}):
            home = _outside(folder)
            try:
                home.mkdir(mode=0o711)
            except FileExistsError as exc:
                raise SourceError(
                    f"{home} belongs to another user; PostgreSQL needs that folder as {account.name}",
                    source="database",
                ) from exc
            home.chmod(0o711)  # mkdir applies the umask
    return home


def can_run(argv: list[str], account: Account | None, env: dict[str, str]) -> bool:
    """Whether ``argv`` succeeds under the account; permissions, access lists and mounts all matter."""
    try:
        return run_to_end(argv, env=env, account=account, timeout=_TIMEOUT).returncode == 0
    except SourceError:
        return False


def copy_for_everyone(source: Path, target: Path) -> None:
    """Copy a folder of programs so that every account can run them."""
    shutil.copytree(source, target, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            is_executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if is_executable else 0o644)


def _outside(folder: Path) -> Path:
    base = Path("/var/tmp")  # noqa: S108 - mkdir creates the name below it, and its owner is checked
    if not base.is_dir():
        base = Path("/tmp")  # noqa: S108
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:12]
    return base / f"sitegenctl-{name}"


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
