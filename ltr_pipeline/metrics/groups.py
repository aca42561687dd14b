"""Who belongs to which protected group."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

__all__ = ["OTHER", "ProtectedGroups"]

OTHER: Final = "other"
"""The group that small groups are pooled into."""


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
    pooled
        Names that became `OTHER`, sorted.
    """

    of_row: pl.Series
    item: pl.Series | None = None
    expected: Collection[str] = ()
    pooled: Sequence[str] = ()

    @classmethod
    def pool(
        cls, of_row: pl.Series, trained_on: pl.Series, item: pl.Series | None, share_min: float
    ) -> ProtectedGroups:
        """Trim the names, and pool the groups that are rare in training and in the test days alike.

        Parameters
        ----------
        of_row, trained_on
            Names of the test and of the training rows, null = unknown.
        share_min
            Share of the labelled rows below which a group is pooled, in [0, 1].

        Examples
        --------
        >>> learned = pl.Series(["a"] * 50 + ["b"] * 50)
        >>> groups = ProtectedGroups.pool(pl.Series(["a ", "b", "a", "typo"]), learned, None, 0.01)
        >>> groups.of_row.to_list(), groups.names, groups.pooled
        (['a', 'b', 'a', 'other'], ['a', 'b', 'other'], ['typo'])
        """
        shown, learned = _trimmed(of_row), _trimmed(trained_on)
        rows = pl.concat([shown, learned]).drop_nulls().rename("name").value_counts()
        rare = rows.filter(pl.col("count") < share_min * pl.col("count").sum())["name"].sort()
        of_row = pl.select(pl.when(shown.is_in(rare.implode())).then(pl.lit(OTHER)).otherwise(shown)).to_series()
        expected = set(learned.drop_nulls().unique()) - set(rare)
        return cls(of_row, item=item, expected=expected, pooled=rare.to_list())

    @cached_property
    def names(self) -> list[str]:
        """Groups that are there or expected, sorted."""
        return sorted({*self.expected, *self.of_row.drop_nulls().unique()})


def _trimmed(names: pl.Series) -> pl.Series:
    """Return names without white space around them; an empty one is unknown."""
    stripped = names.cast(pl.String).str.strip_chars()
    return stripped.set(stripped == "", None)
