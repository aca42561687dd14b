"""The feature audit of a night: a sample of its rankings, and what every feature looks like there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.metrics import audit
from ltr_pipeline.metrics.audit import FeatureAudit, Gains
from ltr_pipeline.metrics.rankings import starts
from ltr_pipeline.metrics.resampling import cluster_codes
from ltr_pipeline.metrics.window import Window
from ltr_pipeline.ranker.data import rankings
from ltr_pipeline.schema import AS_SERVED, TIME, USER_ID

__all__ = ["AUDITED", "inspect"]

AUDITED: Final = (TIME, AS_SERVED)
"""Columns that `inspect` needs of the training and validation rankings; of the test rankings `USER_ID`, too."""

_MOST_ROWS: Final = 200_000
"""More say nothing that these do not; they are spread evenly over the days."""


_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


def inspect(
    train: Dataset, valid: Dataset, test: Dataset, gains: Gains, joined: Collection[str] = ()
) -> list[FeatureAudit]:
    """Look at every feature of the training, validation and test rankings.

    Parameters
    ----------
    gains
        What the model and the champion make of the features.
    joined
        Features that were joined from tables: what the service logged of them was not learned from.
    """
    return audit.measure(_window(train, valid, test), test.feature_names, gains, joined)


def _window(*parts: Dataset) -> Window:
    step = -(-sum(len(part.relevance) for part in parts) // _MOST_ROWS) or 1
    chosen = [_every(len(part.group), step) for part in parts]
    thinned = [rankings(part, some) for part, some in zip(parts, chosen, strict=True)]
    first = [starts(part.group)[some] for part, some in zip(parts, chosen, strict=True)]
    time = pl.concat([part.ids[TIME].gather(rows) for part, rows in zip(parts, first, strict=True)])
    return Window(
        features=np.concatenate([part.features for part in thinned]),
        relevance=np.concatenate([part.relevance for part in thinned]),
        group=np.concatenate([part.group for part in thinned]).astype(np.int64),
        day=time.dt.date().cast(pl.Int32).to_numpy().astype(np.int64) + _EPOCH,
        part=np.repeat(np.arange(len(parts)), [len(part.group) for part in thinned]),
        user=cluster_codes(parts[-1].ids[USER_ID].gather(first[-1])),
        as_served=np.concatenate([_as_served(part)[some] for part, some in zip(parts, chosen, strict=True)]),
    )


def _as_served(part: Dataset) -> NDArray[np.bool_]:
    """Tell of which rankings the service logged every row when it answered, bool (rankings,)."""
    rows = part.ids[AS_SERVED].fill_null(value=False).to_numpy()
    return np.logical_and.reduceat(rows, starts(part.group)) if len(rows) else np.zeros(0, dtype=bool)


def _every(rankings: int, step: int) -> NDArray[np.bool_]:
    chosen = np.zeros(rankings, dtype=bool)
    chosen[::step] = True
    return chosen
