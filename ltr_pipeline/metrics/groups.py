"""Who belongs to which protected group."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
            Share of the labelled rows, of each of the two, below which a group is pooled; in [0, 1].

        Examples
        --------
        >>> shown, learned = pl.Series(["a", "b ", "b", "typo"]), pl.Series(["a", "a", "c"])
        >>> groups = ProtectedGroups.pool(shown, learned, None, share_min=0.3)
        >>> groups.of_row.to_list(), groups.names, groups.pooled
        (['a', 'b', 'b', 'other'], ['a', 'b', 'c', 'other'], ['typo'])
        """
        shown, learned = _trimmed(of_row), _trimmed(trained_on)
        frequent = _frequent(shown, share_min) | _frequent(learned, share_min)
        names = {*shown.drop_nulls().unique(), *learned.drop_nulls().unique()}
        kept = shown.is_in(sorted(frequent)) | shown.is_null()
        of_row = shown.zip_with(kept, pl.repeat(OTHER, len(shown), eager=True))
        expected = frequent.intersection(learned.drop_nulls().unique())
        return cls(of_row, item=item, expected=expected, pooled=sorted(names - frequent))

    def only(self, rows: NDArray[np.bool_]) -> ProtectedGroups:
        """Keep the chosen rows, bool (n,); what is expected and what was pooled stay.

        >>> ProtectedGroups(pl.Series(["a", "b"])).only(np.array([False, True])).of_row.to_list()
        ['b']
        """
        chosen = pl.Series(rows)
        item = None if self.item is None else self.item.filter(chosen)
        return dataclasses.replace(self, of_row=self.of_row.filter(chosen), item=item)

    @cached_property
    def names(self) -> list[str]:
        """Groups that are there or expected, sorted."""
        return sorted({*self.expected, *self.of_row.drop_nulls().unique()})


def _trimmed(names: pl.Series) -> pl.Series:
    """Return names without white space around them; an empty one is unknown."""
    stripped = names.cast(pl.String).str.strip_chars()
    return stripped.set(stripped == "", None)


def _frequent(names: pl.Series, share_min: float) -> set[str]:
    """Return the names that have at least this share of the labelled rows."""
    rows = names.drop_nulls().rename("name").value_counts()
    return set(rows.filter(pl.col("count") >= share_min * pl.col("count").sum())["name"])
