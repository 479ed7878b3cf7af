"""Write the manual page, docs/man/sitegenctl.1: what ``--help`` tells of each command, and what holds for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sitegenctl import __version__
from sitegenctl.cli.command_tree import Argument, Command, Option, grammar

PAGE = Path(__file__).parent / "man" / "sitegenctl.1"

_DESCRIPTION = """\
Reads the orders database, the broker, the workers and the files of a site-generation system as one snapshot, says where
each order really is and why, and moves orders so that none is lost and none is generated twice. It attaches to the
system from outside and changes none of its tables."""

_MOVING = """\
Commands that move orders plan first, show the plan, ask, and then apply it. --dry-run shows the plan and does nothing;
--yes agrees to it beforehand; without a terminal and without --yes nothing is done."""

#: Characters of choices that still fit beside the option's name.
_LONG = 30

_EXITS = {
    "0": "done, skipped, or nothing to do",
    "1": "some orders failed",
    "2": "usage",
    "3": "a source (database, broker, workers, sites directory) can't be reached",
    "4": "not found or refused",
    "5": "unhealthy (doctor)",
    "6": "another maintenance run holds the lock",
    "130": "interrupted",
    "141": "the reader of the output left",
}

_ENVIRONMENT = {
    "DATABASE_URL, REDIS_URL, SITES_BASE_DIR": "The system, as its own processes know it.",
    "SITEGENCTL_…": "Each setting under its name in capitals; stronger than those above. config show names them all.",
    "SITEGENCTL_CONTEXT": "The context that holds where none is named.",
    "SITEGENCTL_CONFIG": "Another settings file.",
    "SITEGENCTL_DATA_DIR": "Where the demo keeps its data.",
    "NO_COLOR": "No colours.",
}

_FILES = {
    "~/.config/sitegenctl/config.toml": "Contexts and settings; readable by its owner alone.",
    "~/.local/share/sitegenctl/demo/": "The demo's servers, samples and sites, while it is up.",
}

_EXAMPLES = {
    "sitegenctl inspect 42": "Where order 42 really is, and why.",
    "sitegenctl enqueue 42 --wait": "Generate it, and follow the log to its end.",
    "sitegenctl retry-failed --dry-run": "What would be retried.",
    "sitegenctl --env-file /srv/crm/.env maintain --jitter 30s": "For cron.",
    "sitegenctl doctor": "Why does nothing move?",
}


def page() -> str:
    """The whole page, in the macros of man(7)."""
    return "".join(f"{line}\n" for line in _lines(grammar()))


def _lines(root: Command) -> Iterator[str]:
    yield '.\\" Made by `make man`; not to be edited.'
    yield f'.TH SITEGENCTL 1 "" "sitegenctl {__version__}" "User Commands"'
    yield from (".nh", ".ad l")
    yield ".SH NAME"
    yield "sitegenctl \\- the console of a site\\-generation queue on Celery or RQ"
    yield ".SH SYNOPSIS"
    yield from (".B sitegenctl", "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]")
    yield ".SH DESCRIPTION"
    yield _text(" ".join(_DESCRIPTION.split()))
    yield ".PP"
    yield _text(" ".join(_MOVING.split()))
    yield ".SH COMMANDS"
    for command in root.everything():
        if command.path:
            yield from _command(command)
    yield ".SH GLOBAL OPTIONS"
    yield "Before the command or after it."
    for option in root.options:
        yield from _option(option)
    yield from _definitions("EXIT STATUS", _EXITS)
    yield from _definitions("ENVIRONMENT", _ENVIRONMENT)
    yield from _definitions("FILES", _FILES)
    yield from _definitions("EXAMPLES", _EXAMPLES)
    yield ".SH SEE ALSO"
    yield ".BR celery (1),"
    yield ".BR crontab (5)"


def _command(command: Command) -> Iterator[str]:
    own = [option for option in command.options if not option.is_global]
    # `inspect ORDER` is typed without that word: it is what stands in its place.
    words = [word for word in command.path if word != "ORDER"]
    arguments = "".join(f" {_argument(each)}" for each in command.arguments)
    below = " \\fIcommand\\fR" if command.commands else ""
    options = " [\\fIoptions\\fR]" if own else ""
    yield f".SS {_text(' '.join(words))}{arguments}{options}{below}"
    for number, paragraph in enumerate(command.help.split("\n\n")):
        if number:
            yield ".PP"
        yield _text(paragraph)
    for option in own:
        yield from _option(option)


def _argument(argument: Argument) -> str:
    name = f"\\fI{_text(argument.value.name)}\\fR" + (" ..." if argument.repeated else "")
    return name if argument.required else f"[{name}]"


def _option(option: Option) -> Iterator[str]:
    yield ".TP"
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
    name, help_ = option.value.name if option.value else "", option.help or _unsaid(option)
    if len(name) > _LONG:
        name = option.names[0].removeprefix("--").upper()
        help_ += f" One of: {', '.join(option.value.among)}." if option.value else ""
    yield names + (f" \\fI{_text(name)}\\fR" if name else "")
    yield _text(help_)


def _unsaid(option: Option) -> str:
    """What an option says by its name alone."""
    return option.names[0].removeprefix("--").replace("-", " ").capitalize() + "."


def _definitions(title: str, terms: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for term, meaning in terms.items():
        yield from (".TP", f".B {_text(term)}", _text(meaning))


def _text(text: str) -> str:
    """The text as roff takes it: nothing in it is a request, and a hyphen can be copied."""
    escaped = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("'", "\\(aq").replace('"', "\\(dq")
    )
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
