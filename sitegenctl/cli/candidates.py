"""What a completion script asks for while somebody holds TAB: contexts, and the orders that could be meant.

``sitegenctl _complete orders PREFIX WORD…`` writes ``number<TAB>customer`` lines; the words are those before it on the
line, for the sake of their ``--context``. It is over in a moment or says nothing, and never says anything on stderr,
whatever is wrong: an error message would land in the middle of somebody's command line. Imports neither Typer nor a
session; what it needs is the settings and one query.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from collections.abc import Iterator, Sequence

#: Seconds for the database, from the first packet to the last.
PATIENCE = 0.2

#: Seconds for everything, where a disk or a machine is slow.
_LONGEST = 2.0

#: Columns of a name.
_WIDTH = 40


def complete(arguments: Sequence[str]) -> None:
    """Write what could come next, and end the process."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
        _end_after(_LONGEST)
        try:
            kind, prefix, *words = arguments
            lines = list(_orders(prefix, words) if kind == "orders" else _contexts(prefix))
            faulthandler.cancel_dump_traceback_later()
            sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"))
            sys.stdout.flush()
        except Exception:  # noqa: BLE001, S110 - here the process ends, and there is nobody to tell
            pass
        finally:
            # A thread may still be asking for the address of a server.
            os._exit(0)


def _end_after(seconds: float) -> None:
    """End the process then, whatever it does: by a thread of C, which no driver can hold up."""
    # It tells the traceback to stderr, which leads nowhere.
    faulthandler.dump_traceback_later(seconds, exit=True)


def _contexts(prefix: str) -> Iterator[str]:
    from sitegenctl.config.file import DEMO_CONTEXT, contexts_of, demo_context_path, read_config
    from sitegenctl.render.text import neutralise

    names = [*contexts_of(read_config(os.environ), os.environ)]
    if demo_context_path(os.environ).exists() and DEMO_CONTEXT not in names:
        names.append(DEMO_CONTEXT)
    # A script takes lines apart at a tab.
    return (name for name in names if name.startswith(prefix) and neutralise(name) == name)


def _orders(prefix: str, words: Sequence[str]) -> Iterator[str]:
    from sitegenctl.adapters.postgres.completion import suggest_orders
    from sitegenctl.config.settings import load_settings
    from sitegenctl.config.urls import has_password
    from sitegenctl.render.text import shorten

    settings = load_settings({name: _given(f"--{name.replace('_', '-')}", words) for name in ("context", "env_file")})
    url = settings.database_url or ""
    # TAB is not the moment at which somebody wants to be asked for the passphrase of a key.
    if not url or (settings.database_password_command and not has_password(url)):
        return
    url = settings.require_database_url()
    # What was imported for it is none of the database's time.
    _end_after(PATIENCE)
    for number, name in asyncio.run(suggest_orders(url, prefix, timeout=PATIENCE)):
        yield f"{number}\t{shorten(name, _WIDTH)}"


def _given(option: str, words: Sequence[str]) -> str | None:
    """The value that the line has for an option so far: of several the last, as everywhere."""
    found = None
    for place, word in enumerate(words):
        if word == option:
            found = next(iter(words[place + 1 :]), None)
        elif word.startswith(f"{option}="):
            found = word.removeprefix(f"{option}=")
    return found
