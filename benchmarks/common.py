"""What several of these programs share: a model's parameters, the world, and how a rate is written.

It measures nothing itself; run the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics.audit import FeatureAudit
from ltr_pipeline.metrics.outcomes import Defaults
from ltr_pipeline.scoring.latency import Latency
from ltr_pipeline.simulate.world import FEATURES, World

PARAMETERS = {
    "objective": "lambdarank",
    "label_gain": [0, 1, 3, 7],
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "verbose": -1,
}
"""Of LightGBM, in simulated worlds."""


def simulated(seed: int, **changes: Any) -> World:
    """Make the lawyers-for-cases world, whose lists the legacy weights order."""
    return World(legacy_weights=load_mapping().legacy_weights, seed=seed, **changes)


def by_legacy_weights(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score rows of `FEATURES` by the weights that a first model has to beat."""
    weights = load_mapping().legacy_weights
    return np.nan_to_num(features) @ np.array([weights.get(name, 0.0) for name in FEATURES])


def assumed_latency(p95: float = 2.0) -> Latency:
    return Latency(
        p50_ms=p95, p95_ms=p95, p99_ms=p95, requests=1000, candidates_p50=9, candidates_max=20, trees=70, cpu="assumed"
    )


def clean_audit(name: str, gain: float, was: float) -> FeatureAudit:
    """What the audit says of a feature that has no mark but maybe its share of the gain, now and in the champion."""
    never = Defaults(value=None, relevant=None, other=None, by_age=[0.0, 0.0, 0.0], fading=0.0)
    return FeatureAudit(
        name=name, gain=gain, was=was, vouched=False, alone=0.6, falling=False, defaults=never, told=None, changes=[]
    )


def rate(count: int, trials: int) -> str:
    """Write a rate with its 95 % interval (Clopper and Pearson 1934)."""
    bounds = binomtest(count, trials).proportion_ci(method="exact")
    return f"{100 * count / trials:.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"
