"""``config show|path|init``: which settings hold, where they come from, and a file to begin with."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from sitegenctl.cli.options import Invocation, command


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Show and prepare the settings.", no_args_is_help=True)
    command(group, "show")(show)
    command(group, "path")(path)
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
    from sitegenctl.render.output import Report, write
    from sitegenctl.settings import config_path

    where = config_path(os.environ)
    data: dict[str, Any] = {"path": str(where), "exists": where.exists()}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: f"{where}\n"), call.output)


def init(
    call: Invocation,
    name: Annotated[str, typer.Option("--name", help="What to call the context.")] = "production",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> int:
    """Write a settings file, readable by you alone, with what is in the environment now."""
    from sitegenctl.errors import Refused
    from sitegenctl.render.output import Report, write
    from sitegenctl.settings import config_path, initial_config, load_settings, write_private

    call.require_writable()
    where = config_path(os.environ)
    if where.exists() and not force:
        raise Refused(f"{where} is there already", hint="edit it, or use --force to write over it")
    write_private(where, initial_config(name, load_settings({}, {**os.environ, "SITEGENCTL_CONFIG": os.devnull})))
    data = {"path": str(where), "context": name}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: f"wrote {where}\n"), call.output)


def _shown(name: str, value: Any) -> Any:
    from sitegenctl.domain.condition import describe_age
    from sitegenctl.settings import mask_url

    if value is None or isinstance(value, bool | int):
        return value
    if name.endswith("_url"):
        return mask_url(value)
    if hasattr(value, "total_seconds"):
        return describe_age(value)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    # The separator's default is two control characters.
    return str(value) if str(value).isprintable() else ascii(value)
