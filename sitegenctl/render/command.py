"""Command lines to copy, written from remedies."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from sitegenctl.domain.diagnosis.remedy import Command, Hint, Remedy, ShellCommand, Variable
from sitegenctl.render.text import neutralise


def command_line(remedy: Remedy, selector: str | None = None) -> str:
    """The remedy's command; ``selector`` is the option that selects the system, which a copied command must name."""
    if isinstance(remedy.command, ShellCommand):
        return shell_line(remedy.command)
    return " ".join(("sitegenctl", *_words(remedy, selector)))


def shell_line(command: ShellCommand) -> str:
    """The command as a shell takes it; variables are expanded."""
    return " ".join(map(_quoted, command.words))


def _quoted(word: str) -> str:
    if isinstance(word, Variable):
        return f'"${word}"'
    # Easier to read than what shlex makes of SQL with a string in it.
    if "'" in word and set(word).isdisjoint('"$`\\!'):
        return f'"{word}"'
    return shlex.quote(word)


def hint_text(hint: Hint | None, selector: str | None = None) -> str | None:
    """The hint or remedy in one line: the advice, the command, and the note in brackets."""
    if not isinstance(hint, Remedy):
        return hint
    command = command_line(hint, selector) if hint.command is not None else None
    text = ": ".join(part for part in (hint.advice, command) if part is not None)
    return f"{text}   ({hint.note})" if hint.note is not None else text


def remedy_data(remedy: Remedy | None) -> dict[str, Any] | None:
    """The parts of a remedy for the envelope, for programs that act on it."""
    if remedy is None:
        return None
    return {
        "advice": remedy.advice,
        "command": remedy.command,
        "orders": list(remedy.orders),
        "options": dict(remedy.options),
    }


def _words(remedy: Remedy, selector: str | None) -> Iterator[str]:
    if not isinstance(remedy.command, Command):
        return
    if selector is not None and not remedy.command.is_for_demo:
        yield neutralise(selector)
    yield remedy.command.value
    if remedy.operation is not None:
        yield remedy.operation
    yield from map(str, remedy.orders)
    if remedy.any_order:
        yield "ORDER"
    for name, value in remedy.options:
        yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            yield value
