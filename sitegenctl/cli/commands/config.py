"""``config show|path|contexts|use|init``: which settings hold, where they come from, and the file that they are in."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated, Any

import typer

from sitegenctl.cli import complete
from sitegenctl.cli.commands.config_init import init
from sitegenctl.cli.options import Invocation, command


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Show and prepare the settings.", no_args_is_help=True)
    command(group, "show")(show)
    command(group, "path")(path)
    command(group, "contexts")(contexts)
    command(group, "use")(use)
    command(group, "init")(init)
    app.add_typer(group, name="config")


def show(call: Invocation) -> int:
    """Show every setting, and where its value comes from."""
    from sitegenctl.render.output import Report, write

    settings = call.settings()
    rows = [
        {"setting": name, "value": _shown(name, getattr(settings, name)), "origin": origin}
        for name, origin in settings.origins.items()
    ]
    width = max(len(row["setting"]) for row in rows)
    value_width = max(len(str(row["value"])) for row in rows)

    def text() -> str:
        return "".join(
            f"{row['setting']:<{width}}  {row['value'] if row['value'] is not None else '-'!s:<{value_width}}"
            f"  {row['origin']}\n"
            for row in rows
        )

    data = {"context": settings.context, "settings": rows}
    return write(Report(command=call.command, data=data, rows=rows, text=text), call.output)


def path(call: Invocation) -> int:
    """Show where the settings file lies, or would lie."""
    from sitegenctl.config.file import config_path
    from sitegenctl.render.output import Report, write

    where = config_path(os.environ)
    data: dict[str, Any] = {"path": str(where), "exists": where.exists()}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: f"{where}\n"), call.output)


def contexts(call: Invocation) -> int:
    """Show the contexts there are; the one that is chosen is marked."""
    from sitegenctl.cli.terminal import screen
    from sitegenctl.config.file import DEMO_CONTEXT, contexts_of, demo_context_path, read_config, read_toml
    from sitegenctl.config.urls import mask_url
    from sitegenctl.render.output import Report, write
    from sitegenctl.render.table import Column, Line, table

    file = read_config(os.environ)
    known = dict(contexts_of(file, os.environ))
    if DEMO_CONTEXT not in known and (demo := read_toml(demo_context_path(os.environ))):
        known[DEMO_CONTEXT] = demo
    chosen = call.options.get("context") or os.environ.get("SITEGENCTL_CONTEXT") or file.get("context")
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
            return "there is no context; sitegenctl config init makes one\n"
        headings = ("", "context", "database", "redis", "sites")
        columns = [Column(heading=heading, may_shrink=heading in headings[2:]) for heading in headings]
        lines = [
            Line(
                cells=[
                    "*" if row["chosen"] else "",
                    *(str(row[key] or "-") for key in ("context", "database_url", "redis_url", "sites_dir")),
                ]
            )
            for row in rows
        ]
        return table(columns, lines, screen())

    columns = ("context", "chosen", "database_url", "redis_url", "sites_dir")
    data = {"chosen": chosen, "contexts": rows}
    return write(Report(command=call.command, data=data, rows=rows, columns=columns, text=text), call.output)


def use(
    call: Invocation,
    name: Annotated[
        str, typer.Argument(metavar="CONTEXT", help="Context to use by default.", autocompletion=complete.contexts)
    ],
) -> int:
    """Choose the context that holds where none is named."""
    from sitegenctl.config.atomic_write import write_private
    from sitegenctl.config.editor import read_text, with_chosen
    from sitegenctl.config.file import DEMO_CONTEXT, config_path, contexts_of, read_config
    from sitegenctl.errors import Refused
    from sitegenctl.render.output import Report, write

    call.require_writable()
    known = contexts_of(read_config(os.environ), os.environ)
    if name not in known and name != DEMO_CONTEXT:
        raise Refused(f"there is no context {name!r}", hint=f"there are: {', '.join([*known, DEMO_CONTEXT])}")
    where = config_path(os.environ)
    write_private(where, with_chosen(read_text(where), name))
    if (other := os.environ.get("SITEGENCTL_CONTEXT")) and other != name:
        print(f"note: SITEGENCTL_CONTEXT is {other} and comes first", file=sys.stderr)
    data = {"context": name, "path": str(where)}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: f"using {name}\n"), call.output)


def _shown(name: str, value: Any) -> Any:
    from sitegenctl.config.urls import mask_url
    from sitegenctl.domain.diagnosis.describe import describe_age

    if value is None or isinstance(value, bool | int):
        return value
    if name.endswith("_url"):
        return mask_url(value)
    if hasattr(value, "total_seconds"):
        return describe_age(value)
    if isinstance(value, tuple):
        return shlex.join(value) if name.endswith("_command") else ",".join(map(str, value))
    # The separator's default is two control characters.
    return str(value) if str(value).isprintable() else ascii(value)
