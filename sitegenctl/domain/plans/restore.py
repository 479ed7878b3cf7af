"""Plan to bring sites of orders back from the trash; the status of an order stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sitegenctl.domain.diagnosis.describe import describe_age, describe_files
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.domain.diagnosis.snapshot import Snapshot
from sitegenctl.domain.orders.order import Order
from sitegenctl.domain.orders.site import SiteFiles, TrashEntry
from sitegenctl.domain.plans.guards import (
    announced_recently,
    changed_recently,
    possibly_live,
    without_status,
)
from sitegenctl.domain.plans.plan import Action, Obstacle, Outcome, OutcomeKind, Plan, Step, refuse
from sitegenctl.domain.plans.reset import uncounted


@dataclass(frozen=True, kw_only=True)
class RestoreFacts:
    """The entry to restore for each order, and the files of those entries that could be counted, by order."""

    entries: Mapping[int, TrashEntry]
    files: Mapping[int, SiteFiles] = field(default_factory=dict)


def choose_entries(
    entries: Sequence[TrashEntry], order_ids: Sequence[int], name: str | None = None
) -> dict[int, TrashEntry]:
    """The newest entry of each order; with ``name``, an operation or the name of an entry, only those that match."""
    wanted = frozenset(order_ids)
    newest: dict[int, TrashEntry] = {}
    for entry in entries:
        if entry.order_id in wanted and name in (None, entry.operation, entry.name):
            other = newest.get(entry.order_id)
            newest[entry.order_id] = entry if other is None or entry.time_ns > other.time_ns else other
    return newest


def plan_restore(snapshot: Snapshot, order_ids: Sequence[int], facts: RestoreFacts, *, force: bool = False) -> Plan:
    """Decide for each order whether its site may be restored; all sources must have responded.

    A site in place goes to the trash with ``force`` only. The snapshot has the files that are in place.
    """
    # Without the grace period: what the order counts as in the end, not only because it has just changed.
    after = replace(snapshot, files={**snapshot.files, **facts.files}, check_hollow=True, grace=timedelta(0))
    decisions: list[Step | Outcome] = []
    for order_id in order_ids:
        order = snapshot.orders.get(order_id)
        if order is None:
            decisions.append(refuse(order_id, "no such order"))
        else:
            refusal = _refusal(order, snapshot, facts, force=force)
            decisions.append(refusal or _restore(order, snapshot, facts, after))
    return Plan.of("trash restore", decisions)


def _refusal(order: Order, snapshot: Snapshot, facts: RestoreFacts, *, force: bool) -> Outcome | None:
    order_id = order.order_id
    if order_id not in facts.entries:
        hint = Remedy.run(Command.TRASH_LIST, advice="for what is there")
        return refuse(order, "there is no such site of it in the trash", hint=hint)
    if order_id not in facts.files:
        name = facts.entries[order_id].name
        return refuse(order, f"{name} in the trash is a link or can't be read", obstacle=Obstacle.FILES)
    if refusal := without_status(order):
        return refusal
    if live := possibly_live(order, snapshot):
        # Its run would discard the files, or write among them.
        return replace(live, outcome=OutcomeKind.REFUSED)
    if recent := announced_recently(order, snapshot) or changed_recently(order, snapshot):
        return replace(recent, outcome=OutcomeKind.REFUSED, hint=f"re-check after {describe_age(snapshot.grace)}")
    files = snapshot.files.get(order_id)
    if files is None:
        return uncounted(order)
    if files.count and not force:
        return refuse(
            order,
            f"it has a newer site ({describe_files(files)})",
            hint="--force moves that one to the trash first",
            obstacle=Obstacle.FILES,
        )
    return None


def _restore(order: Order, snapshot: Snapshot, facts: RestoreFacts, after: Snapshot) -> Step:
    entry = facts.entries[order.order_id]
    in_place = snapshot.files[order.order_id]
    age = describe_age(snapshot.taken_at - entry.at)
    by = f" by operation {entry.operation}" if entry.operation is not None else ""
    details = [f"{describe_files(facts.files[order.order_id])}, moved to the trash {age} ago{by}"]
    if in_place.count:
        details.append(f"{describe_files(in_place)} in place go to the trash")
    details.append(f"{order.status}, counts as {after.diagnose(order.order_id).condition}")
    return Step(
        order_id=order.order_id,
        action=Action.RESTORE,
        before=order.status,
        last_log_id=order.last_log_id,
        trash=in_place.count > 0,
        untrash=entry.name,
        verb="restored",
        details=tuple(details),
    )
