"""The manifest of a dataset: its parts, and where every landed record went."""

from __future__ import annotations

from typing import Final

import msgspec

from ltr_pipeline.dataset.features.snapshot import Snapshot
from ltr_pipeline.dataset.labels import Account
from ltr_pipeline.dataset.windows import Span, Windows

__all__ = ["UNJOINED", "DatasetManifest", "Part", "TableUse"]

UNJOINED: Final = ("no_impression", "before_impression", "too_late")
"""Reasons why feedback belongs to no impression: no such item was shown, not yet, or its time was over."""


class Part(Span, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of the split.

    Attributes
    ----------
    rows, rankings, eligible
        Candidates, rankings, and rankings of which two candidates differ in relevance.
    labels
        Rows by relevance.
    positions
        Rows by the position they were shown at; 0 = not logged.
    feature_missing
        Share of rows without a value, by feature; 0 in a part without rows.
    """

    rows: int
    rankings: int
    eligible: int
    labels: dict[str, int]
    positions: dict[str, int]
    feature_missing: dict[str, float]


class TableUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values that a feature table gave to the labelled rows, counted.

    Attributes
    ----------
    features, tolerance_days
        As the mapping declared them.
    snapshot
        The rows of the table that the labelled rows were joined with.
    without
        Rows of the three parts for which the table has nothing: of another entity, not known before the list was
        shown, or too old by then.
    """

    features: list[str]
    tolerance_days: float
    snapshot: Snapshot
    without: int


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parts of a dataset, its tables, and where every landed record went.

    Attributes
    ----------
    windows
        As asked for; `train`, `valid` and `test` are what came of them.
    features
        Names, in model order.
    buckets
        Labelled tables.
    impressions, feedback
        ``landed = used + duplicates + dropped`` of both inputs. The used impressions are the rows of the three parts.
    vanished
        Features without a single value in the test part, while it has rows.
    appeared
        Features without a single value in the training part, but with some later.
    tables
        SHA-256 of each labelled table, by file name.
    repeated_positions, several_users
        Rankings of all parts in which two items have one position, and that more than one user was shown: they may be
        several lists.
    differ_in_case
        Interactions that belong to no impression while one has the same query and item id but for case and white space.
        0 where so few belong to none that nobody looked.
    skewed
        Interactions that are stamped before the impression they belong to, by no more than `Windows.skew_seconds`.
    feature_tables
        Tables whose features were joined as of the moment each list was shown, by name.
    """

    windows: Windows
    features: list[str]
    buckets: int
    impressions: Account
    feedback: Account
    train: Part
    valid: Part
    test: Part
    vanished: list[str]
    appeared: list[str]
    tables: dict[str, str]
    repeated_positions: int = 0
    several_users: int = 0
    differ_in_case: int = 0
    skewed: int = 0
    feature_tables: dict[str, TableUse] = {}

    @property
    def rankings(self) -> int:
        """Return the number of rankings of all parts."""
        return sum(part.rankings for part in (self.train, self.valid, self.test))

    @property
    def unjoined(self) -> dict[str, int]:
        """How many interactions belong to no impression, by reason."""
        return {reason: self.feedback.dropped[reason] for reason in UNJOINED if reason in self.feedback.dropped}

    @property
    def joinable(self) -> int:
        """Return how many interactions of the window could belong to an impression.

        Duplicates, later ones and those whose action means nothing, ratings among them, are left out.
        """
        feedback = self.feedback
        others = sum(feedback.dropped.get(reason, 0) for reason in ("after_cutoff", "unknown_action", "rated"))
        return feedback.landed - feedback.duplicates - others

    @property
    def joined_share(self) -> float | None:
        """Share of the `joinable` interactions that belong to an impression; None without any."""
        return 1 - sum(self.unjoined.values()) / self.joinable if self.joinable else None
