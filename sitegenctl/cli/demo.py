"""demo (placeholder until the stack lands)."""

import typer


def register(app: typer.Typer) -> None:
    """."""
