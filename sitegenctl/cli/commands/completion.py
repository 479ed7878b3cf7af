"""``completion SHELL``: print the completion script of a shell."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sitegenctl.cli.complete import script
from sitegenctl.cli.options import Invocation, examples


class Shell(StrEnum):
    """The shells that Typer has a completion script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


@examples(("completion bash", "Print the script; see the docs for where it goes"))
def completion(call: Invocation, shell: Annotated[Shell, typer.Argument(help="Shell to complete in.")]) -> int:
    """Print the completion script for a shell."""
    print(script(shell), end="")
    return 0
