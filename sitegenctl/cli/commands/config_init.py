"""``config init``: add a context to the settings file, after trying its connections."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sitegenctl.cli import complete, signals
from sitegenctl.cli.options import Invocation, option
from sitegenctl.cli.terminal import is_interactive
from sitegenctl.domain.diagnosis.remedy import Command, Remedy
from sitegenctl.errors import SitegenError, SourceError, UsageProblem
from sitegenctl.render.command import command_line
from sitegenctl.render.text import neutralise

if TYPE_CHECKING:
    from sitegenctl.config.settings import Settings

_SOURCES = {"database_url": "PostgreSQL", "redis_url": "Redis", "sites_dir": "sites directory"}

_EXAMPLES = {"database_url": "postgresql://crm_user@host:5432/innexarcrm", "redis_url": "redis://host:6379/0"}

#: The settings that are written, in this order.
_WRITTEN = (
    *_SOURCES,
    "backend",
    "production",
    "database_password_file",
    "redis_password_file",
    "database_password_command",
    "redis_password_command",
)


# No URL that was pasted one question too early.
_NAME = re.compile(r"[\w.-]{1,60}")
_NAME_HINT = "use letters, digits and . _ -"


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
    from sitegenctl.config.file import read_text, require_config_path, with_context
    from sitegenctl.config.settings import Settings

    call.require_writable()
    path = require_config_path(os.environ)
    before = read_text(path)
    values = _known_values(call, options.flags())
    asks = is_interactive() and not call.agreed
    if name is None:
        name = _ask_name() if asks else "production"
    elif not _NAME.fullmatch(name):
        raise UsageProblem("--name: not a name for a context", hint=_NAME_HINT)
    if not asks:
        _require_urls(values)
    # Raises if the context exists, before anything is asked or tried.
    with_context(before, name, {}, replace=force)
    responded = not untested
    if asks:
        given = {setting for setting, value in options.flags().items() if value is not None}
        responded = _ask(call, values, given=given, untested=untested)
        # The name may say it already: see Settings.is_production.
        if values["production"] is None and not Settings(context=name).is_production:
            values["production"] = typer.confirm("Is this a production system?", err=True) or None
    elif not untested:
        _try_all(call, values)
    known = {setting: values[setting] for setting in _WRITTEN if values.get(setting) is not None}
    write_private(path, with_context(before, name, known, replace=force))
    code = call.write({"path": str(path), "context": name}, lambda: f"wrote {neutralise(str(path))}\n")
    next_step = Remedy.run(Command.INSPECT if responded else Command.DOCTOR)
    print(f"next: {command_line(next_step, Settings(context=name).selector)}", file=sys.stderr)
    return code


def _ask_name() -> str:
    while not _NAME.fullmatch(name := _prompt("Name of the context", "production")):
        # Without the text: it may be a URL with a password.
        print(f"✗ not a name for a context: {_NAME_HINT}", file=sys.stderr)
    return name


def _known_values(call: Invocation, flags: dict[str, Any]) -> dict[str, Any]:
    """The settings from the options, and for the rest from the environment or ``--env-file``."""
    from sitegenctl.config.settings import load_settings

    # Without the settings file: it is what is being written.
    environ = {**os.environ, "SITEGENCTL_CONFIG": os.devnull, "SITEGENCTL_CONTEXT": ""}
    settings = load_settings({**flags, "env_file": call.options["env_file"]}, environ)
    for warning in settings.warnings:
        print(f"warning: {neutralise(warning)}", file=sys.stderr)
    values: dict[str, Any] = {}
    for setting in _WRITTEN:
        value = getattr(settings, setting)
        values[setting] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    if settings.origins["backend"] == "default":
        # A default is not written.
        values["backend"] = None
    return values


def _require_urls(values: dict[str, Any]) -> None:
    for setting, example in _EXAMPLES.items():
        url, flag = values[setting], f"--{setting.replace('_', '-')}"
        if url is None:
            raise UsageProblem(
                f"no URL of {_SOURCES[setting]}",
                hint=f"give {flag}, {setting.upper()} or --env-file, or run config init on a terminal",
            )
        if not _is_url(url):
            raise UsageProblem(f"the URL of {_SOURCES[setting]} is not a URL", hint=f"use the form {example}")


def _is_url(text: str) -> bool:
    return "://" in text


def _ask(call: Invocation, values: dict[str, Any], *, given: Collection[str], untested: bool) -> bool:
    """Ask for each value that no option gives, and try it; ask again if that fails.

    The known value is the default. Returns whether every source responded.
    """
    kept_anyway = untested
    for setting in _SOURCES:
        is_retry = False
        while True:
            before = values[setting]
            is_given = setting in given and not is_retry
            if setting != "sites_dir":
                _ask_url(values, setting, is_given=is_given, is_retry=is_retry)
            elif not is_given:
                values[setting] = _prompt("Directory of the sites", before or "/app/generated_sites")
            if untested:
                break
            try:
                print(f"✓ {_SOURCES[setting]}: {_try(call, values, setting)}", file=sys.stderr)
                break
            except UsageProblem as exc:
                # Not worth keeping, and no default either.
                _print_failure(exc)
                values[setting] = before
            except SourceError as exc:
                _print_failure(exc)
                if typer.confirm("Keep it anyway?", default=False, err=True):
                    kept_anyway = True
                    break
            is_retry = True
    return not kept_anyway


def _print_failure(exc: SitegenError) -> None:
    print(f"✗ {neutralise(exc.message)}", file=sys.stderr)


def _ask_url(values: dict[str, Any], setting: str, *, is_given: bool, is_retry: bool) -> None:
    """Ask for a URL, unless it is given, and its password; in a retry, also for a known one, which may be wrong."""
    from sitegenctl.config.secrets import has_password, mask_url, with_password, without_password

    known: str | None = values[setting]
    default = mask_url(known) if known is not None and _is_url(known) else None
    question = f"URL of {_SOURCES[setting]}" + ("" if default else f" ({_EXAMPLES[setting]})")
    answer = default if is_given and default else _prompt(question, default)
    while not _is_url(answer):
        print(f"✗ not a URL such as {_EXAMPLES[setting]}", file=sys.stderr)
        answer = _prompt(question, default)
    # The default has its password masked: unchanged, it is the known URL; edited, it has no password.
    values[setting] = url = known if known is not None and answer == default else re.sub(":?[*]{3}@", "@", answer)
    sources = [f"{setting.removesuffix('_url')}_password_{kind}" for kind in ("file", "command")]
    is_known = has_password(url) or any(values[source] for source in sources)
    if is_known and (answer != default or not is_retry):
        return
    question = f"Password (hidden, empty {'to keep it' if is_known else 'for none'})"
    password = typer.prompt(question, default="", hide_input=True, show_default=False, err=True)
    if password:
        values[setting] = with_password(without_password(url), password)
        values.update(dict.fromkeys(sources))


def _prompt(text: str, default: str | None) -> str:
    return str(typer.prompt(text, default=default, err=True)).strip()


def _try_all(call: Invocation, values: dict[str, Any]) -> None:
    """Try every source. Raises ``SourceError`` for the first that fails: then nothing is written."""
    for setting, name in _SOURCES.items():
        if values[setting] is None:
            continue
        try:
            result = _try(call, values, setting)
        except SourceError as exc:
            exc.hint = "nothing was written; --untested writes it anyway"
            raise
        if call.verbose:
            print(f"✓ {name}: {result}", file=sys.stderr)


def _try(call: Invocation, values: dict[str, Any], setting: str) -> str:
    """Connect to one source; returns a description of it. Raises ``SourceError`` or ``UsageProblem``."""
    from sitegenctl.config.settings import load_settings

    flags = {**values, "timeout": call.options["timeout"], "read_only": True}
    return signals.run(_connect(load_settings(flags, {"SITEGENCTL_CONFIG": os.devnull}), setting))


async def _connect(settings: Settings, setting: str) -> str:
    from sitegenctl.operations.inspect import try_broker, try_database, try_sites
    from sitegenctl.session import open_session

    async with open_session(settings, "config init") as session:
        if setting == "database_url":
            return await try_database(session.orders)
        if setting == "redis_url":
            return await try_broker(session.workers)
        return await try_sites(session.sites, session.orders if settings.database_url else None)
