"""A table of users in a database, as a team has one: features of each, and a column for the score that is empty."""

from __future__ import annotations

from typing import Final

import numpy as np
from sqlalchemy import Column, DateTime, Double, Integer, MetaData, String, Table, insert, inspect

from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError
from ltr_pipeline.simulate.draw import sample
from ltr_pipeline.simulate.world import FEATURES, World

__all__ = ["USERS", "make_users"]

ROWS_A_STATEMENT: Final = 1000

USERS: Final = Table(
    "users",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    *(Column(name.lower(), Double) for name in FEATURES),
    Column("lead_score", Double),
    Column("lead_label", String),
    Column("model_version", String),
    Column("scored_at", DateTime(timezone=True)),
)
"""The table that the default scoring job fills."""


def make_users(database: Database, world: World, count: int) -> None:
    """Make the table `USERS` with rows that have no score yet; equal worlds give equal rows.

    Raises
    ------
    DatabaseError
        There is a table of that name already, or the database cannot be had.
    """
    lists = sample(world, max(1, count // 2), world.rng(0x75736572))
    values = lists.features[:count].astype(np.float64).round(3)
    rows = [
        {"id": number, "name": f"User {number}"}
        | {name.lower(): None if np.isnan(value) else value for name, value in zip(FEATURES, row, strict=True)}
        for number, row in enumerate(values.tolist(), 1)
    ]
    with database.begin() as connection:
        if inspect(connection).has_table(USERS.name):
            raise DatabaseError(f"{database.address} has a table {USERS.name} already, which is not overwritten")
        USERS.create(connection)
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            connection.execute(insert(USERS), rows[begin : begin + ROWS_A_STATEMENT])
