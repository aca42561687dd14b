"""Who belongs to which protected group."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import polars as pl

__all__ = ["ProtectedGroups"]


@dataclass(frozen=True)
class ProtectedGroups:
    """The protected group of each of `n` rows, and the groups that there should be.

    Attributes
    ----------
    of_row
        Name of the group, str (n,), null = unknown.
    item
        Identity of each row's item (n,); without it every row is an item of its own.
    expected
        Groups that training had: one that is gone from the test days is listed all the same.
    """

    of_row: pl.Series
    item: pl.Series | None = None
    expected: Collection[str] = ()

    @cached_property
    def names(self) -> list[str]:
        """Groups that are there or expected, sorted."""
        return sorted({*self.expected, *self.of_row.drop_nulls().unique()})
