"""``trash list|restore|prune``: the sites that commands and workers moved to the trash."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from sitegenctl.cli import complete, signals
from sitegenctl.cli.execute import RunOptions, progress, read_answer, require_terminal, require_writable, run_mutation
from sitegenctl.cli.options import (
    MAX_ROWS,
    DryRun,
    FromFile,
    Invocation,
    OrderArguments,
    examples,
    group,
    number,
    option,
    span,
    trash_age,
)
from sitegenctl.cli.terminal import screen
from sitegenctl.cli.watch import show
from sitegenctl.errors import Declined
from sitegenctl.render.output import Report

if TYPE_CHECKING:
    from sitegenctl.session import Session


@examples(("trash list --order 28", "Earlier sites of order 28"))
def list_(
    call: Invocation,
    orders: Annotated[
        list[str] | None,
        option(
            "--order", metavar="ORDER", help="Only sites of these orders; repeatable.", autocompletion=complete.orders
        ),
    ] = None,
    older_than: Annotated[
        str | None, option("--older-than", metavar="TIME", help="Only sites in the trash for at least TIME.")
    ] = None,
    limit: Annotated[int, number("--limit", min=1, max=MAX_ROWS, help="Show at most N sites.", show_default=True)] = 50,
) -> int:
    """List sites in the trash by order, the newest first."""
    from sitegenctl.cli.order_selection import read_order_ids

    order_ids = frozenset(read_order_ids(orders, None)) if orders else frozenset[int]()
    age = span("--older-than", older_than) if older_than is not None else None

    async def read(session: Session) -> Report:
        from datetime import UTC, datetime

        from sitegenctl.operations.trash import list_trash
        from sitegenctl.render.trash import TRASH_COLUMNS, trash_rows, trash_text

        now = datetime.now(UTC)
        contents = await list_trash(session.sites, order_ids=order_ids, older_than=age, limit=limit, now=now)
        rows = trash_rows(contents, now)
        return Report(
            command=call.command,
            data={"entries": rows, "beyond_limit": contents.beyond, "foreign": contents.foreign},
            rows=rows,
            columns=TRASH_COLUMNS,
            text=lambda: trash_text(contents, now, screen()),
        )

    return show(call, read)


@examples(("trash restore 28 --dry-run", "What would come back"))
def restore(
    call: Invocation,
    orders: OrderArguments = None,
    source: FromFile = None,
    entry: Annotated[
        str | None,
        option("--entry", metavar="ENTRY", help="Operation or name of the entry (default: the newest)."),
    ] = None,
    force: Annotated[bool, option("--force", help="Move a newer site to the trash first.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Bring sites of orders back from the trash."""
    from sitegenctl.cli.order_selection import read_order_ids
    from sitegenctl.operations.restore_planner import RestorePlanner

    planner = RestorePlanner(entry=entry, force=force)
    options = RunOptions(done="restored", dry_run=dry_run)
    return signals.run(run_mutation(call, planner, read_order_ids(orders, source), options))


async def prune(
    call: Invocation,
    older_than: Annotated[
        str,
        option("--older-than", metavar="TIME", help="Delete sites in the trash for at least TIME.", show_default=True),
    ] = "7d",
    dry_run: DryRun = False,
) -> int:
    """Delete old sites from the trash, as maintain does."""
    from sitegenctl.operations.trash import prune_trash
    from sitegenctl.render.trash import prune_text
    from sitegenctl.session import open_session

    age = trash_age("--older-than", older_than)
    settings = require_writable(call, dry_run=dry_run)
    async with open_session(settings, call.command) as session:
        if not dry_run and not call.agreed:
            with progress():
                expected = await prune_trash(session, age, dry_run=True)
            if expected.count:
                require_terminal(call)
                print(prune_text(expected, dry_run=True), end="", file=sys.stderr)
                if read_answer("They cannot be restored afterwards. Continue? [y/N] ") not in ("y", "yes"):
                    raise Declined
        with progress("deleting…"):
            result = await prune_trash(session, age, dry_run=dry_run)
    data = {"dry_run": dry_run, "pruned": result.count, "not_pruned": dict(result.failed)}
    return call.write(data, lambda: prune_text(result, dry_run=dry_run), exit_code=1 if result.failed else 0)


trash = group("List sites in the trash, restore or delete them.", {"list": list_, "restore": restore, "prune": prune})
