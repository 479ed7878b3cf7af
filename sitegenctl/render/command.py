"""Command lines to copy, written from remedies."""

from __future__ import annotations

from collections.abc import Iterator

from sitegenctl.domain.diagnosis.remedy import Hint, Remedy


def command_line(remedy: Remedy, selector: str | None = None) -> str:
    """The remedy's command; ``selector`` is the option that selects the system, which a copied command must name."""
    return " ".join(("sitegenctl", *_words(remedy, selector)))


def hint_text(hint: Hint | None, selector: str | None = None) -> str | None:
    """The hint or remedy in one line: the advice, the command, and the note in brackets."""
    if not isinstance(hint, Remedy):
        return hint
    command = command_line(hint, selector) if hint.command is not None else None
    text = ": ".join(part for part in (hint.advice, command) if part is not None)
    return f"{text}   ({hint.note})" if hint.note is not None else text


def _words(remedy: Remedy, selector: str | None) -> Iterator[str]:
    if remedy.command is None:
        return
    if selector is not None and not remedy.command.is_for_demo:
        yield selector
    yield remedy.command.value
    yield from map(str, remedy.orders)
    if remedy.any_order:
        yield "ORDER"
    for name, value in remedy.options:
        yield f"--{name.replace('_', '-')}"
        if not isinstance(value, bool):
            yield value
