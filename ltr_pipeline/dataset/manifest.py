"""The manifest of a dataset: its parts, and where every landed record went."""

from __future__ import annotations

import msgspec

from ltr_pipeline.dataset.labels import Account
from ltr_pipeline.dataset.windows import Span, Windows

__all__ = ["DatasetManifest", "Part"]


class Part(Span, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of the split.

    Attributes
    ----------
    rows, rankings, eligible
        Candidates, rankings, and rankings with a relevance above 0.
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
