"""``completion SHELL``: the script that makes a shell complete."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sitegenctl.cli.options import Invocation, command


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "completion")(completion)


def completion(call: Invocation, shell: Annotated[Shell, typer.Argument(help="Whose script.")]) -> int:
    """Print the script that makes a shell complete commands, options, contexts and orders."""
    from sitegenctl.cli.command_tree import grammar
    from sitegenctl.cli.completion_scripts import script

    print(script(shell, grammar()), end="")
    return 0
