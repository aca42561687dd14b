"""Columns that mean the same in PostgreSQL and SQLite."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["Utc", "serial"]


class Utc(TypeDecorator[dt.datetime]):
    """A moment in UTC, with its time zone; SQLite, which has none, keeps the UTC time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        """Take any moment that has a time zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value and value.astimezone(dt.UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:  # noqa: ANN401, ARG002
        """Return a moment in UTC."""
        if value is None:
            return None
        found: dt.datetime = value
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)


def serial() -> TypeEngine[int]:
    """Return the type of a primary key that counts by itself."""
    return BigInteger().with_variant(Integer, "sqlite")
