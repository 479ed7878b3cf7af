"""``config show|path|contexts|use|init``: the settings, their origins and the settings file."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import complete
from sitegenctl.cli.commands.config_init import init
from sitegenctl.cli.options import Invocation, examples, group
from sitegenctl.cli.terminal import screen
from sitegenctl.errors import Refused, UsageProblem
from sitegenctl.render.text import neutralise

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings

# Characters of an ignored parameter in its warning.
_MAX_NAME = 40


def show(call: Invocation) -> int:
    """Show each setting, its value and its origin."""
    settings = call.settings()
    for warning in _url_warnings(settings):
        print(f"warning: {neutralise(warning)}", file=sys.stderr)
    rows = [
        {"setting": name, "value": _shown(name, getattr(settings, name)), "origin": origin}
        for name, origin in settings.origins.items()
    ]
    lines = [
        (row["setting"], neutralise("-" if row["value"] is None else str(row["value"])), neutralise(row["origin"]))
        for row in rows
    ]
    width, value_width = (max(len(line[column]) for line in lines) for column in (0, 1))

    def text() -> str:
        return "".join(f"{name:<{width}}  {value:<{value_width}}  {origin}\n" for name, value, origin in lines)

    return call.write({"context": settings.context, "settings": rows}, text, rows=rows)


def path(call: Invocation) -> int:
    """Show the path of the settings file."""
    from sitegenctl.config.file import require_config_path

    path = require_config_path(os.environ)
    return call.write({"path": str(path), "exists": path.exists()}, lambda: f"{neutralise(str(path))}\n")


def contexts(call: Invocation) -> int:
    """List the contexts; * marks the current one."""
    from sitegenctl.config.file import DEMO_CONTEXT, config_path, contexts_of, demo_context_path, read_toml
    from sitegenctl.config.secrets import mask_url
    from sitegenctl.render.table import Column, Line, table

    file = read_toml(config_path(os.environ))
    known = dict(contexts_of(file, os.environ))
    if DEMO_CONTEXT not in known and (demo := read_toml(demo_context_path(os.environ))):
        known[DEMO_CONTEXT] = demo
    chosen = call.options["context"] or os.environ.get("SITEGENCTL_CONTEXT") or file.get("context")
    columns = ("context", "chosen", "database_url", "redis_url", "sites_dir")
    rows: list[dict[str, Any]] = []
    for name, values in known.items():
        values = values if isinstance(values, dict) else {}
        urls = {key: values.get(key) for key in ("database_url", "redis_url")}
        rows.append(
            {
                "context": name,
                "chosen": name == chosen,
                **{key: mask_url(url) if isinstance(url, str) else None for key, url in urls.items()},
                "sites_dir": values.get("sites_dir"),
            }
        )

    def text() -> str:
        if not rows:
            return "no contexts; sitegenctl config init creates one\n"
        headings = [Column(heading=""), Column(heading="context")]
        headings += [Column(heading=heading, may_shrink=True) for heading in ("database", "redis", "sites")]
        lines = []
        for row in rows:
            values = [str(row[key] or "-") for key in ("context", "database_url", "redis_url", "sites_dir")]
            lines.append(Line(cells=["*" if row["chosen"] else "", *values]))
        return table(headings, lines, screen())

    return call.write({"chosen": chosen, "contexts": rows}, text, rows=rows, columns=columns)


@examples(("config use demo", "Commands without --context act on the demo"))
def use(
    call: Invocation,
    name: Annotated[
        str, typer.Argument(metavar="CONTEXT", help="Name of the context.", autocompletion=complete.contexts)
    ],
) -> int:
    """Set the default context."""
    from sitegenctl.config.atomic_write import write_private
    from sitegenctl.config.file import DEMO_CONTEXT, contexts_of, read_text, read_toml, require_config_path, with_chosen

    call.require_writable()
    path = require_config_path(os.environ)
    known = contexts_of(read_toml(path), os.environ)
    if name not in known and name != DEMO_CONTEXT:
        from sitegenctl.config.secrets import shown_name

        raise Refused(f"no context {shown_name(name)!r}", hint=f"known contexts: {', '.join([*known, DEMO_CONTEXT])}")
    write_private(path, with_chosen(read_text(path), name))
    if (other := os.environ.get("SITEGENCTL_CONTEXT")) and other != name:
        print(f"note: SITEGENCTL_CONTEXT={neutralise(other)} takes precedence", file=sys.stderr)
    return call.write({"context": name, "path": str(path)}, lambda: f"using {neutralise(name)}\n")


def _url_warnings(settings: Settings) -> Iterator[str]:
    """What other commands would refuse, and what they ignore."""
    from sitegenctl.adapters.postgres.url import asyncpg_dsn, ignored_parameters
    from sitegenctl.adapters.redis.urls import require_redis

    for url, check in ((settings.database_url, asyncpg_dsn), (settings.redis_url, require_redis)):
        try:
            if url is not None:
                check(url)
        except UsageProblem as exc:
            yield exc.message
    if settings.database_url is not None and (ignored := ignored_parameters(settings.database_url)):
        yield f"ignored in database_url: {', '.join(name[:_MAX_NAME] for name in ignored)}"


def _shown(name: str, value: Any) -> Any:
    from sitegenctl.config.secrets import mask_url
    from sitegenctl.domain.diagnosis.describe import describe_age

    if value is None or isinstance(value, bool | int):
        return value
    if name.endswith("_url"):
        return mask_url(value)
    if hasattr(value, "total_seconds"):
        return describe_age(value)
    if isinstance(value, tuple):
        return shlex.join(value) if name.endswith("_command") else ",".join(map(str, value))
    # The default of `sep` is two control characters.
    return str(value) if str(value).isprintable() else ascii(value)


config = group(
    help="Show settings and manage contexts.",
    commands={"show": show, "path": path, "contexts": contexts, "use": use, "init": init},
    shown=(("config init", "Answer a few questions, get a context"), ("config show", "Settings and their origins")),
)
