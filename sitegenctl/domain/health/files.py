"""The sites directory: its state as this process sees it, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitegenctl.domain.diagnosis.condition import Source
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.health.check import (
    Finding,
    Missing,
    check,
    counted,
    failed,
    listed,
    ok,
    size,
    unchecked,
    warning,
)
from sitegenctl.domain.health.system import System
from sitegenctl.domain.orders.site import SiteFiles

#: Bytes and inodes left: below the first the next sites fail, below the second it is time to make room.
_DISK_FAILURE = 100 * 1024**2
_DISK_WARNING = 1024**3
_INODES_FAILURE = 1000
_INODES_WARNING = 20_000


@dataclass(frozen=True, kw_only=True)
class DirectoryFacts:
    """The sites directory; sizes in bytes, None where the file system does not report them."""

    path: str
    exists: bool
    readable: bool = False
    writable: bool = False
    free: int | None = None
    size: int | None = None
    free_inodes: int | None = None
    inodes: int | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedSites:
    """The newest finished orders, and the files of those that could be counted."""

    orders: Sequence[int]
    files: Mapping[int, SiteFiles]


@check("sites directory", Source.FILES)
def directory(facts: DirectoryFacts | Missing, system: System) -> Finding:
    """Fails if the directory does not exist, or can't be read or (except with `--read-only`) written."""
    if isinstance(facts, Missing):
        if not facts.unreachable:
            return facts.finding
        remedy = "check its mount: a network file system may hang"
        return failed(f"the sites directory: {facts.message}", remedy=remedy, unreachable=True)
    if not facts.exists:
        mount = Remedy.run(Command.CONFIG_SHOW, advice=f"mount its volume, or correct {system.commands.sites_dir}")
        return failed(f"{facts.path} does not exist", remedy=mount, unreachable=True)
    if system.read_only and facts.readable:
        return ok(f"{facts.path}: readable")
    denied = [word for word, allowed in (("read", facts.readable), ("written", facts.writable)) if not allowed]
    if denied:
        return failed(
            f"{facts.path} can't be {' or '.join(denied)} by this user",
            remedy=f"run sitegenctl as the workers' user, or mount {facts.path} for writing",
        )
    return ok(f"{facts.path}: readable and writable")


@check("finished sites", Source.FILES)
def finished_sites(sites: FinishedSites, directory: DirectoryFacts, system: System) -> Finding:
    """Fails if the 20 newest finished orders have no files here.

    Then it is not the directory that the workers write.
    """
    orders, files = sites.orders, sites.files
    if not orders:
        return unchecked("no order is finished yet: there is nothing to compare with")
    newest = f"the newest {counted(len(orders), 'finished order')}"
    hollow = [order_id for order_id in orders if order_id in files and files[order_id].is_empty]
    if len(hollow) == len(orders):
        remedy = Remedy(
            advice=f"set {system.commands.sites_dir} to the workers' own",
            command=system.commands.in_worker.followed_by("printenv", "SITES_BASE_DIR"),
        )
        reason = "it is not the directory that the workers write, or their volume is not mounted"
        return failed(f"no files in {directory.path} for {newest}", reason, remedy=remedy)
    if hollow:
        missing = f"{counted(len(hollow), 'has', 'have')} no whole site"
        return failed(f"of {newest}, {missing}: {listed(hollow)}", remedy=Remedy.run(Command.INSPECT, hollow[0]))
    uncounted = [order_id for order_id in orders if order_id not in files]
    if uncounted:
        return unchecked(f"the files of {listed(uncounted)} could not be counted")
    return ok(f"files for {newest}")


@check("disk space", Source.FILES)
def disk(facts: DirectoryFacts) -> Finding:
    """Fails below 100 MB of free space; warns below 1 GB."""
    if not facts.exists:
        return unchecked("the sites directory does not exist")
    if facts.free is None or facts.size is None:
        return unchecked(f"the file system of {facts.path} does not report its free space")
    evidence = f"{size(facts.free)} of {size(facts.size)} free"
    # Some file systems create inodes on demand and count none.
    inodes = facts.free_inodes if facts.inodes and facts.free_inodes is not None else _INODES_WARNING
    if inodes < _INODES_WARNING:
        evidence += f", but only {counted(inodes, 'file')} can be created"
    note = "deletes what has been in the trash for longer"
    remedy = Remedy.run(Command.TRASH_PRUNE, advice="make room", older_than="1d", note=note)
    if facts.free < _DISK_FAILURE or inodes < _INODES_FAILURE:
        return failed(evidence, remedy=remedy)
    if facts.free < _DISK_WARNING or inodes < _INODES_WARNING:
        return warning(evidence, remedy=remedy)
    return ok(evidence)
