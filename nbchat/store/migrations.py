"""The schema of a SQLite file, which later versions of nbchat bring up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

__all__ = ["migrate"]


def migrate(connection: sqlite3.Connection, steps: Sequence[str]) -> None:
    """Bring the schema up to date. All steps are one transaction, so no kernel sees half of them.

    Args:
        connection: the connection to the file, which notes the number of its steps as its ``user_version``.
        steps: the statements of each step, separated by ``;``. A step never changes after its release.
    """
    if _version(connection) >= len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for number in range(_version(connection), len(steps)):
            for statement in steps[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
