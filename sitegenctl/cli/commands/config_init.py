"""``config init``: add a context to the settings file, after trying its connections."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, option, warn

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings

_SOURCES = {"database_url": "PostgreSQL", "redis_url": "Redis", "sites_dir": "sites directory"}


@dataclass(frozen=True, kw_only=True)
class _Context:
    """A context to write; ``passwords`` are the settings that say where its passwords are kept."""

    name: str
    database_url: str | None = None
    redis_url: str | None = None
    sites_dir: str | None = None
    backend: str | None = None
    production: bool | None = None
    passwords: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """The known settings, in the order in which they are written."""
        known = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "sites_dir": self.sites_dir,
            "backend": self.backend,
            "production": self.production,
            **self.passwords,
        }
        return {name: value for name, value in known.items() if value is not None}


def _setting(*names: str, help: str, metavar: str | None = None) -> Any:
    suggest = complete.files if metavar in ("FILE", "DIR") else complete.backends if metavar == "BACKEND" else None
    return option(*names, help=help, metavar=metavar, autocompletion=suggest, rich_help_panel="Context")


@dataclass(frozen=True, kw_only=True)
class ContextOptions:
    """The options that are settings of the new context."""

    database_url: Annotated[str | None, _setting("--database-url", metavar="URL", help="URL of PostgreSQL.")] = None
    database_password_file: Annotated[
        Path | None, _setting("--database-password-file", metavar="FILE", help="Read its password from this file.")
    ] = None
    database_password_command: Annotated[
        str | None,
        _setting("--database-password-command", metavar="COMMAND", help="Read its password from this command."),
    ] = None
    redis_url: Annotated[str | None, _setting("--redis-url", metavar="URL", help="URL of Redis.")] = None
    redis_password_file: Annotated[
        Path | None, _setting("--redis-password-file", metavar="FILE", help="Read its password from this file.")
    ] = None
    redis_password_command: Annotated[
        str | None, _setting("--redis-password-command", metavar="COMMAND", help="Read its password from this command.")
    ] = None
    sites_dir: Annotated[
        Path | None, _setting("--sites-dir", metavar="DIR", help="Directory of the generated sites.")
    ] = None
    backend: Annotated[str | None, _setting("--backend", metavar="BACKEND", help="celery or rq (default celery).")] = (
        None
    )
    production: Annotated[
        bool | None, _setting("--production/--no-production", help="Mark this context as production.")
    ] = None

    def flags(self) -> dict[str, Any]:
        """The options as settings; paths are absolute, because the file is read from any directory."""
        return {
            name: str(value.expanduser().absolute()) if isinstance(value, Path) else value
            for name, value in vars(self).items()
        }


def init(
    call: Invocation,
    options: ContextOptions,
    name: Annotated[
        str | None, option("--name", metavar="NAME", help="Name of the context (default production).")
    ] = None,
    untested: Annotated[bool, option("--untested", help="Do not try the connections.")] = False,
    force: Annotated[bool, option("--force", help="Overwrite a context of the same name.")] = False,
) -> int:
    """Add a context to the settings file.

    Missing values come from the environment or --env-file; on a terminal, it asks for them. The connections are tried
    before the file is written, which only you can read.
    """
    from sitegenctl.config.atomic_write import write_private
    from sitegenctl.config.editor import read_text, with_context
    from sitegenctl.config.file import config_path

    call.require_writable()
    path = config_path(os.environ)
    before = read_text(path)

    def text_with(wanted: _Context, values: dict[str, Any]) -> str:
        return with_context(before, wanted.name, values, replace=force)

    wanted = _known(call, name, options.flags())
    wanted = _complete(call, wanted, lambda it: text_with(it, {}), ask_name=name is None, untested=untested)
    write_private(path, text_with(wanted, wanted.values()))
    return call.write({"path": str(path), "context": wanted.name}, lambda: f"wrote {path}\n")


def _complete(
    call: Invocation, wanted: _Context, check: Callable[[_Context], object], *, ask_name: bool, untested: bool
) -> _Context:
    """The context with every value that it needs, asked for on a terminal; each source was tried.

    ``check`` raises if the context cannot be written, before anything is asked or tried.
    """
    from sitegenctl.cli.terminal import is_interactive

    if is_interactive() and not call.agreed:
        if ask_name:
            wanted = replace(wanted, name=_prompt("Name of the context", wanted.name))
        check(wanted)
        return _asked(call, wanted, untested=untested)
    _require(wanted)
    check(wanted)
    if not untested:
        _try_all(call, wanted)
    return wanted


def _known(call: Invocation, name: str | None, given: dict[str, Any]) -> _Context:
    """The context from the options, and for the rest from the environment or ``--env-file``."""
    from sitegenctl.config.settings import load_settings

    # Without the settings file: it is what is being written.
    environ = {**os.environ, "SITEGENCTL_CONFIG": os.devnull, "SITEGENCTL_CONTEXT": ""}
    settings = load_settings({**given, "env_file": call.options.get("env_file")}, environ)
    warn(settings)
    passwords: dict[str, Any] = {}
    for setting in ("database_password_file", "redis_password_file"):
        if (path := getattr(settings, setting)) is not None:
            passwords[setting] = str(path)
    for setting in ("database_password_command", "redis_password_command"):
        if (words := getattr(settings, setting)) is not None:
            passwords[setting] = list(words)
    return _Context(
        name=name or "production",
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        sites_dir=None if settings.sites_dir is None else str(settings.sites_dir),
        # A default is not written.
        backend=settings.backend if settings.origins["backend"] != "default" else None,
        production=settings.production,
        passwords=passwords,
    )


def _require(wanted: _Context) -> None:
    from sitegenctl.errors import UsageProblem

    for setting, variable in (("database_url", "DATABASE_URL"), ("redis_url", "REDIS_URL")):
        if getattr(wanted, setting) is None:
            option = f"--{setting.replace('_', '-')}"
            raise UsageProblem(
                f"no URL of {_SOURCES[setting]}",
                hint=f"give {option}, {variable} or --env-file, or run config init on a terminal",
            )


def _asked(call: Invocation, wanted: _Context, *, untested: bool) -> _Context:
    """Ask for each value, with the known one as default, and try it; ask again if that fails."""
    wanted = _asked_url(call, wanted, "database_url", "postgresql://crm_user@host:5432/innexarcrm", untested)
    wanted = _asked_url(call, wanted, "redis_url", "redis://host:6379/0", untested)
    while True:
        wanted = replace(
            wanted, sites_dir=_prompt("Directory of the sites", wanted.sites_dir or "/app/generated_sites")
        )
        if untested or _answers(call, wanted, "sites_dir"):
            break
    if wanted.production is None:
        is_production = typer.confirm("Is this a production system?", err=True)
        wanted = replace(wanted, production=is_production or None)
    return wanted


def _asked_url(call: Invocation, wanted: _Context, setting: str, example: str, untested: bool) -> _Context:
    from sitegenctl.config.urls import has_password, mask_url, with_password

    kind = setting.removesuffix("_url")
    while True:
        known: str | None = getattr(wanted, setting)
        shown = mask_url(known) if known else example
        given = _prompt(f"URL of {_SOURCES[setting]}", shown)
        # The default was shown with its password masked: unchanged, it is the known URL; edited, it has no password.
        url = known if known and given == shown else given.replace(":***@", "@")
        if not has_password(url) and not any(each.startswith(kind) for each in wanted.passwords):
            password = typer.prompt(
                "Password (hidden, empty for none)",
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
    """Whether the source responds, or is to be kept anyway."""
    from sitegenctl.errors import SourceError, UsageProblem
    from sitegenctl.render.text import neutralise

    try:
        result = _try(call, wanted, setting)
    except (SourceError, UsageProblem) as exc:
        print(f"✗ {neutralise(exc.message)}", file=sys.stderr)
        return typer.confirm("Keep it anyway?", default=False, err=True)
    print(f"✓ {_SOURCES[setting]}: {result}", file=sys.stderr)
    return True


def _try_all(call: Invocation, wanted: _Context) -> None:
    """Try every source. Raises ``SourceError`` for the first that fails: then nothing is written."""
    from sitegenctl.errors import SourceError

    for setting in _SOURCES:
        if getattr(wanted, setting) is None:
            continue
        try:
            result = _try(call, wanted, setting)
        except SourceError as exc:
            exc.hint = "nothing was written; --untested writes it anyway"
            raise
        if call.verbose:
            print(f"✓ {_SOURCES[setting]}: {result}", file=sys.stderr)


def _try(call: Invocation, wanted: _Context, setting: str) -> str:
    """Connect to one source; returns a description of it. Raises ``SourceError`` or ``UsageProblem``."""
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
