"""Engagement that falls into segments, and parameters to find them by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from ltr_pipeline.segments.engagement import ENTITY, FEATURES, PERIOD
from ltr_pipeline.segments.parameters import WORDING, LevelParameters, Parameters, default_levels
from ltr_pipeline.segments.periods import whole_periods

NOW = dt.datetime(2025, 7, 21, 6, 15, tzinfo=dt.UTC)
PERIODS = whole_periods("week", 1, NOW.date())
(USERS, ITEMS) = default_levels()


def parameters(*levels: LevelParameters, **fields: object) -> Parameters:
    """Parameters as `ltr segments init` writes them, but for some."""
    return Parameters(**{"levels": levels or (USERS,), "wording": WORDING} | fields)


def engagement(count: int, seed: int = 0, means: Sequence[float] = (0.0, 1.5, 6.0, 25.0, 100.0)) -> pl.DataFrame:
    """Counts of entities that are, in equal parts, as active as each of the means."""
    rng = np.random.default_rng(seed)
    rates = np.resize(np.array(means), count)
    columns = {name: rng.poisson(rates) for name in FEATURES}
    frame = {ENTITY: [f"u{index}" for index in range(count)], PERIOD: [PERIODS[0].start] * count, **columns}
    return pl.DataFrame(frame, schema={ENTITY: pl.String, PERIOD: pl.Date, **dict.fromkeys(FEATURES, pl.Int64)})
