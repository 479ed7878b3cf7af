"""``config init``: a context for the settings file, asked for on a terminal, tried before it is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, warn

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings

_PANEL = "What to write"

_WHAT = {"database_url": "PostgreSQL", "redis_url": "Redis", "sites_dir": "sites directory"}


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What is to be written under a name; ``kept`` says where each password is, as the settings file says it."""

    name: str
    database_url: str | None = None
    redis_url: str | None = None
    sites_dir: str | None = None
    backend: str | None = None
    production: bool | None = None
    kept: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """The settings that are known, in the order in which they are written."""
        known = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "sites_dir": self.sites_dir,
            "backend": self.backend,
            "production": self.production,
            **self.kept,
        }
        return {name: value for name, value in known.items() if value is not None}


def _option(metavar: str | None, text: str, *names: str) -> Any:
    """One of the options that say what to write."""
    suggest = complete.files if metavar in ("FILE", "DIR") else None
    return typer.Option(
        *names, metavar=metavar, help=text, autocompletion=suggest, rich_help_panel=_PANEL, show_default=False
    )


def init(
    call: Invocation,
    name: Annotated[str | None, typer.Option("--name", help="What to call the context (production).")] = None,
    database_url: Annotated[str | None, _option("URL", "PostgreSQL of the CRM.")] = None,
    database_password_file: Annotated[Path | None, _option("FILE", "Whose first line is its password.")] = None,
    database_password_command: Annotated[str | None, _option("COMMAND", "Which writes its password.")] = None,
    redis_url: Annotated[str | None, _option("URL", "The broker.")] = None,
    redis_password_file: Annotated[Path | None, _option("FILE", "Whose first line is its password.")] = None,
    redis_password_command: Annotated[str | None, _option("COMMAND", "Which writes its password.")] = None,
    sites_dir: Annotated[Path | None, _option("DIR", "Where the workers write the sites.")] = None,
    backend: Annotated[str | None, _option("NAME", "What the workers are: celery, unless it is rq.")] = None,
    production: Annotated[
        bool | None, _option(None, "Whether a mistake there would be a customer's.", "--production/--no-production")
    ] = None,
    untested: Annotated[bool, typer.Option("--untested", help="Write it without connecting to anything.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a context of that name.")] = False,
) -> int:
    """Add a context to the settings file, readable by you alone, after trying its connections.

    What isn't given is taken from the environment (or --env-file), and asked for on a terminal.
    """
    from sitegenctl.config.atomic_write import write_private
    from sitegenctl.config.editor import read_text, with_context
    from sitegenctl.config.file import config_path
    from sitegenctl.render.output import Report, write

    call.require_writable()
    where = config_path(os.environ)
    before = read_text(where)
    given = {
        "database_url": database_url,
        "database_password_file": _absolute(database_password_file),
        "database_password_command": database_password_command,
        "redis_url": redis_url,
        "redis_password_file": _absolute(redis_password_file),
        "redis_password_command": redis_password_command,
        "sites_dir": _absolute(sites_dir),
        "backend": backend,
        "production": production,
    }

    def text_with(wanted: _Context, values: dict[str, Any]) -> str:
        return with_context(before, wanted.name, values, replace=force)

    wanted = _settled(call, name, given, lambda wanted: text_with(wanted, {}), untested=untested)
    write_private(where, text_with(wanted, wanted.values()))
    data = {"path": str(where), "context": wanted.name}
    return write(Report(command=call.command, data=data, rows=[data], text=lambda: f"wrote {where}\n"), call.output)


def _settled(
    call: Invocation, name: str | None, given: dict[str, Any], check: Callable[[_Context], object], *, untested: bool
) -> _Context:
    """What is to be written: on a terminal as somebody says, else as it was given; each source was tried.

    ``check`` raises where it can't be written, which is before anything is asked for or tried.
    """
    from sitegenctl.cli.terminal import is_interactive

    wanted = _known(call, name, given)
    if is_interactive() and not call.agreed:
        if name is None:
            wanted = replace(wanted, name=_prompt("What to call the context", wanted.name))
        check(wanted)
        return _asked(call, wanted, untested=untested)
    _require(wanted)
    check(wanted)
    if not untested:
        _try_all(call, wanted)
    return wanted


def _absolute(path: Path | None) -> str | None:
    # The file is read from wherever somebody stands.
    return None if path is None else str(path.expanduser().absolute())


def _known(call: Invocation, name: str | None, given: dict[str, Any]) -> _Context:
    """What the flags say, and for the rest what is in the environment or the file that was named."""
    from sitegenctl.config.settings import load_settings

    # The settings file is what is to be written: it says nothing yet.
    environ = {**os.environ, "SITEGENCTL_CONFIG": os.devnull, "SITEGENCTL_CONTEXT": ""}
    found = load_settings({**given, "env_file": call.options.get("env_file")}, environ)
    warn(found)
    kept: dict[str, Any] = {}
    for setting in ("database_password_file", "redis_password_file"):
        if (path := getattr(found, setting)) is not None:
            kept[setting] = str(path)
    for setting in ("database_password_command", "redis_password_command"):
        if (words := getattr(found, setting)) is not None:
            kept[setting] = list(words)
    return _Context(
        name=name or "production",
        database_url=found.database_url,
        redis_url=found.redis_url,
        sites_dir=None if found.sites_dir is None else str(found.sites_dir),
        # What nobody has said goes without saying.
        backend=found.backend if found.origins["backend"] != "default" else None,
        production=found.production,
        kept=kept,
    )


def _require(wanted: _Context) -> None:
    from sitegenctl.errors import UsageProblem

    for setting, variable in (("database_url", "DATABASE_URL"), ("redis_url", "REDIS_URL")):
        if getattr(wanted, setting) is None:
            option = f"--{setting.replace('_', '-')}"
            raise UsageProblem(
                f"no {_WHAT[setting]} is given",
                hint=f"{option}, {variable} or --env-file; on a terminal config init asks",
            )


def _asked(call: Invocation, wanted: _Context, *, untested: bool) -> _Context:
    """Ask for each, show what is known, and try it; one that doesn't answer is asked for again."""
    wanted = _asked_url(call, wanted, "database_url", "postgresql://crm_user@host:5432/innexarcrm", untested)
    wanted = _asked_url(call, wanted, "redis_url", "redis://host:6379/0", untested)
    while True:
        wanted = replace(
            wanted, sites_dir=_prompt("Directory of the sites", wanted.sites_dir or "/app/generated_sites")
        )
        if untested or _answers(call, wanted, "sites_dir"):
            break
    if wanted.production is None:
        is_production = typer.confirm("Is it production, where a mistake would be a customer's?", err=True)
        wanted = replace(wanted, production=is_production or None)
    return wanted


def _asked_url(call: Invocation, wanted: _Context, setting: str, example: str, untested: bool) -> _Context:
    from sitegenctl.config.urls import has_password, mask_url, with_password

    kind = setting.removesuffix("_url")
    while True:
        known: str | None = getattr(wanted, setting)
        shown = mask_url(known) if known else example
        given = _prompt(f"URL of {_WHAT[setting]}", shown)
        # What was shown without its password is what is known with it; what was made of that has none.
        url = known if known and given == shown else given.replace(":***@", "@")
        if not has_password(url) and not any(each.startswith(kind) for each in wanted.kept):
            password = typer.prompt(
                "Its password, which is not shown (empty for none)",
                default="",
                hide_input=True,
                show_default=False,
                err=True,
            )
            url = with_password(url, password) if password else url
        wanted = replace(wanted, database_url=url) if kind == "database" else replace(wanted, redis_url=url)
        if untested or _answers(call, wanted, setting):
            return wanted


def _prompt(what: str, known: str) -> str:
    return str(typer.prompt(what, default=known, err=True)).strip()


def _answers(call: Invocation, wanted: _Context, setting: str) -> bool:
    """Whether it answers, or is to be kept although it doesn't."""
    from sitegenctl.errors import SourceError, UsageProblem
    from sitegenctl.render.text import neutralise

    try:
        seen = _try(call, wanted, setting)
    except (SourceError, UsageProblem) as exc:
        print(f"✗ {neutralise(exc.message)}", file=sys.stderr)
        return typer.confirm("Keep it all the same?", default=False, err=True)
    print(f"✓ {_WHAT[setting]}: {seen}", file=sys.stderr)
    return True


def _try_all(call: Invocation, wanted: _Context) -> None:
    """Try every source. Raises the first's ``SourceError``: then nothing is written."""
    from sitegenctl.errors import SourceError

    for setting in _WHAT:
        if getattr(wanted, setting) is None:
            continue
        try:
            seen = _try(call, wanted, setting)
        except SourceError as exc:
            exc.hint = "nothing was written; --untested writes it all the same"
            raise
        if call.verbose:
            print(f"✓ {_WHAT[setting]}: {seen}", file=sys.stderr)


def _try(call: Invocation, wanted: _Context, setting: str) -> str:
    """Connect to one source as it would be written; returns what was seen. Raises ``SourceError``, ``UsageProblem``."""
    from sitegenctl.config.settings import load_settings

    flags = {**wanted.values(), "timeout": call.options.get("timeout"), "read_only": True}
    return signals.run(_tried(load_settings(flags, {"SITEGENCTL_CONFIG": os.devnull}), setting))


async def _tried(settings: Settings, setting: str) -> str:
    from sitegenctl.operations.connectivity import try_broker, try_database, try_sites
    from sitegenctl.session import open_session

    async with open_session(settings, "config init") as session:
        if setting == "database_url":
            return await try_database(session.orders)
        if setting == "redis_url":
            return await try_broker(session.workers)
        return await try_sites(session.sites, session.orders if settings.database_url else None)
