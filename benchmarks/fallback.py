"""How well the linear weights rank that stand in for a model, where less of a feature is better and where it is not.

    python benchmarks/fallback.py --seeds 5

A model is trained as a night does, on 2,000 lists, and distilled into signed weights of standardised features and into
the non-negative ones that sum to 1. All are judged by nDCG@5 on 5,000 other lists. Prices are drawn alone: the cheaper
an item, the more likely it is taken. In the lawyers-for-cases world the features are good as they are; turned round,
nearness becomes distance, free time work load, and the fit of field and of cases their lack. Prints means and 95 %
intervals over seeds (t).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from scipy import stats

from common import simulated
from ltr_pipeline.metrics import quality
from ltr_pipeline.metrics.rankings import Rankings
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.train import train
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.simulate.draw import sample
from ltr_pipeline.simulate.world import FEATURES

TRAINED, VALID, JUDGED = 2000, 250, 5000  # lists
ITEMS = 10
TURNED = ("A", "S", "G", "U")


def prices(lists: int, rng: np.random.Generator) -> Rows:
    price = rng.lognormal(size=lists * ITEMS)
    liked = -np.log(price) + rng.normal(size=len(price))
    relevance = np.searchsorted((0.5, 1.5, 2.5), liked).astype(np.int8)
    position = np.tile(np.arange(ITEMS, dtype=np.int32) + 1, lists)
    group = np.full(lists, ITEMS, np.int32)
    return Rows(price[:, None].astype(np.float32), ("price",), relevance, group, position)


def lawyers(lists: int, rng: np.random.Generator) -> Rows:
    drawn = sample(simulated(7), lists, rng)
    return Rows(drawn.features, FEATURES, drawn.relevance(), drawn.group, drawn.position)


def turned(lists: int, rng: np.random.Generator) -> Rows:
    found, places = lawyers(lists, rng), [FEATURES.index(name) for name in TURNED]
    found.features[:, places] = 1 - found.features[:, places]
    return found


WORLDS: dict[str, Callable[[int, np.random.Generator], Rows]] = {
    "one feature, a price": prices,
    "lawyers, four of eight features turned round": turned,
    "lawyers": lawyers,
}


def reached(world: Callable[[int, np.random.Generator], Rows], seed: int) -> list[float]:
    """nDCG@5 of the model, random order, the non-negative and the signed weights."""
    learned, valid, judged = (
        world(lists, np.random.default_rng([seed, part])) for part, lists in enumerate((TRAINED, VALID, JUDGED))
    )
    text, found = train(learned, valid, max_relevance=3, seed=seed)
    names = judged.feature_names
    scorers = [
        Scorer.from_model(text, names),
        Scorer.from_linear(found.linear_weights, names),
        Scorer.from_standardised(found.linear, names),
    ]
    scores = [scorer.score(judged.features) for scorer in scorers]
    scores.insert(1, np.zeros(len(judged.relevance)))  # all tied: the expectation of random order
    return [float(np.nanmean(quality.ndcg(Rankings(judged.relevance, score, judged.group)))) for score in scores]


def mean(values: np.ndarray) -> str:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} ± {half:.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| world | model | random order | non-negative weights | signed weights |\n|---|---|---|---|---|")
    for name, world in WORLDS.items():
        found = np.array([reached(world, seed) for seed in range(options.seeds)])
        print(f"| {name} | {' | '.join(mean(column) for column in found.T)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
