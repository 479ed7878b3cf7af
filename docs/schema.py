"""Write the contract's tables as SQL, for a PostgreSQL that has none yet: docs/deploy/postgres/contract.sql.

make schema
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_mock_engine

from sitegenctl.adapters.postgres.schema import metadata

TARGET = Path(__file__).parent / "deploy" / "postgres" / "contract.sql"


def contract() -> str:
    """Every statement that makes the tables."""
    dialect = create_mock_engine("postgresql://", lambda *_: None).dialect
    made: list[str] = []

    def collect(statement: object, *_: object, **__: object) -> None:
        made.append(str(statement.compile(dialect=dialect)).strip() + ";")  # type: ignore[attr-defined]

    metadata.create_all(create_mock_engine("postgresql://", collect), checkfirst=False)
    # SQLAlchemy keeps a table's indexes in a set.
    indexes = sorted(statement for statement in made if " INDEX " in statement)
    others = [statement for statement in made if statement not in indexes]
    heading = "-- The CRM's tables, as sitegenctl knows them. Written by docs/schema.py: don't edit."
    return "\n\n".join(each.replace("\t", "    ").replace(" \n", "\n") for each in [heading, *others, *indexes]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(contract())
