"""Shell completion: what Typer's completion scripts ask for on every TAB.

The database has 200 ms to answer and everything together two seconds; after that the shell gets nothing. Nothing is
printed on errors, because the text would land in the command line that is being typed.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import typer

#: The variable by which Typer's scripts ask for completions instead of a command.
VARIABLE = "_SITEGENCTL_COMPLETE"

_DATABASE_LIMIT = 0.2
_TOTAL_LIMIT = 2.0
_LABEL_WIDTH = 40


def complete(make_program: Callable[[Sequence[str]], Any]) -> NoReturn:
    """Write the completions of the line that is in Typer's environment variables, and end the process."""
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    # Ends the process from a thread that no driver or name server can hold up.
    faulthandler.dump_traceback_later(_TOTAL_LIMIT, exit=True)
    exit_code = 0
    try:
        from typer.completion import get_completion_inspect_parameters as register_shells

        register_shells()
        # Typer would import rich, which takes as long as everything else, to take markup out of texts that have none.
        sys.modules["rich"] = None  # type: ignore[assignment]
        line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
        make_program(line.split()[1:])(args=[], prog_name="sitegenctl", standalone_mode=False)
    except SystemExit as exc:
        exit_code = exc.code if isinstance(exc.code, int) else 0
    except Exception:  # noqa: BLE001 - see above: nothing is printed
        exit_code = 1
    sys.stdout.flush()
    # Without waiting for threads: one may still be resolving the name of a server.
    os._exit(exit_code)


def script(shell: str) -> str:
    """Typer's completion script for a shell."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    text = get_completion_script(prog_name="sitegenctl", complete_var=VARIABLE, shell=shell)
    if shell == "zsh":
        # Loaded from fpath, the file is the body of the function that zsh calls for the first TAB.
        text += '\n\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then _sitegenctl_completion "$@"; fi'
    return text + "\n"


def one_of(*values: str) -> Callable[[str], list[str]]:
    """Complete one of these values."""

    def suggest(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return suggest


def files(incomplete: str) -> list[str]:
    """Complete nothing, so that the shell completes file names."""
    return []


def statuses(incomplete: str) -> list[str]:
    """Complete the status of an order."""
    from sitegenctl.domain.orders.order import OrderStatus

    return [status.lower() for status in OrderStatus]


def backends(incomplete: str) -> list[str]:
    """Complete the name of a backend."""
    from sitegenctl.config.backends import BACKENDS

    return list(BACKENDS)


def contexts(incomplete: str) -> list[str]:
    """Complete the name of a context."""
    from sitegenctl.config.file import DEMO_CONTEXT, config_path, contexts_of, demo_context_path, read_toml

    names = [*contexts_of(read_toml(config_path(os.environ)), os.environ)]
    demo = demo_context_path(os.environ)
    if demo and demo.exists() and DEMO_CONTEXT not in names:
        names.append(DEMO_CONTEXT)
    return [name for name in names if _label(name) == name]


def orders(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the number of an order, with its customer beside it."""
    from sitegenctl.adapters.postgres.completion import suggest_orders
    from sitegenctl.config.secrets import has_password
    from sitegenctl.config.settings import load_settings

    settings = load_settings({name: innermost(ctx, name) for name in ("context", "env_file")})
    url = settings.database_url or ""
    # A password command may ask for a passphrase: never run it on TAB.
    if not url or (settings.database_password_command and not has_password(url)):
        return []
    url = settings.require_url("database")
    faulthandler.dump_traceback_later(_DATABASE_LIMIT, exit=True)
    try:
        suggestions = asyncio.run(suggest_orders(url, incomplete, timeout=_DATABASE_LIMIT))
    finally:
        faulthandler.dump_traceback_later(_TOTAL_LIMIT, exit=True)
    return [(str(number), _label(name)) for number, name in suggestions]


def innermost(ctx: typer.Context, name: str) -> Any:
    """Return an option as it was given to a command or, if not there, to the nearest group above it."""
    at: Any = ctx
    while at is not None:
        if (value := at.params.get(name)) is not None:
            return value
        at = at.parent
    return None


def _label(text: str) -> str:
    """A customer's own text for zsh, which evaluates what stands beside a completion: no syntax of any shell."""
    return re.sub(r"[^\w .,&@+-]", " ", text)[:_LABEL_WIDTH].strip()
