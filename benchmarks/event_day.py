"""What an event day costs a model that learns from it as from any other, and what a calendar saves.

    python benchmarks/event_day.py --seeds 8

In each simulated world a night trains on 20 days and is stopped early by two, as by default. One of these days is an
event day: two and a half times as busy, and people answer another way, from not caring what a lawyer is worth (effect
0.5) to liking least who is worth most (1). The truth is nDCG@5 on ordinary days, as if relevance were what a client
would answer to the item's true utility. Prints it for a model that learns from the day as from any other, and what a
model gains for which it counts 0.2 (``weight = 0.2``), 0 as a weight, or which leaves it out: the mean, with its 95 %
interval over seeds (t).
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from common import simulated
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.train import train
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.simulate.debiasing import worth
from ltr_pipeline.simulate.draw import rankings_on, sample
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, ShownLists, World

EVENT, ORDINARY, DAY = dt.date(2025, 7, 18), dt.date(2025, 8, 5), dt.timedelta(days=1)
TRAINING, VALIDATION, JUDGED = 20, 2, 10_000  # days, days, rankings
PLACES = {"training": 10, "validation": TRAINING + 1}
"""Which day of them is the event day."""

WAYS = {"as any other": 1.0, "weight 0.2": 0.2, "weight 0": 0.0, "left out": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rankings", type=int, default=480, help="of an average weekday")
    parser.add_argument("--effects", type=float, nargs="+", default=[0.5, 1.0])
    options = parser.parse_args()
    started = time.monotonic()
    print("| event day in | effect | as any other | weight 0.2 | weight 0 | left out |")
    print("|---|---|---|---|---|---|")
    for place, before in PLACES.items():
        for effect in options.effects:
            found = []
            for seed in range(options.seeds):
                world = simulated(seed, rankings_per_day=options.rankings, event_effect=effect)
                found.append(by_way(world, before))
                print(f"{time.monotonic() - started:.0f} s: {place}, {effect}, {found[-1]}", file=sys.stderr)
            table = np.array(found)
            gains = [mean(table[:, way] - table[:, 0]) for way in range(1, len(WAYS))]
            print(f"| {place} | {effect:g} | {table[:, 0].mean():.4f} | {' | '.join(gains)} |", flush=True)
    return 0


def by_way(world: World, before: int) -> list[float]:
    """Train a model on the same days in each way; the true nDCG@5 of each. The event day has `before` days before."""
    days = [EVENT + (number - before) * DAY for number in range(TRAINING + VALIDATION)]
    shown = [rankings_on(world, day).only_available() for day in days]
    lists = sample(world, JUDGED, np.random.default_rng([world.seed, 1]), day=ORDINARY)
    found = []
    for weight in WAYS.values():
        counts = [weight if world.is_event_day(day) else 1.0 for day in days]
        learned, valid = (rows(shown[part], counts[part]) for part in (slice(TRAINING), slice(TRAINING, None)))
        model, _ = train(learned, valid, max_relevance=len(ACTIONS) - 1, seed=world.seed)
        found.append(float(np.nanmean(worth(lists, Scorer.from_model(model, FEATURES).score(lists.features)))))
    return found


def rows(days: list[ShownLists], counts: list[float | None]) -> Rows:
    """Join the days, but those that count None."""
    kept = [(day, count) for day, count in zip(days, counts, strict=True) if count is not None]
    weight = np.concatenate([np.full(len(day.group), count, np.float32) for day, count in kept])
    return Rows(
        features=np.concatenate([day.features for day, _ in kept]),
        feature_names=FEATURES,
        relevance=np.concatenate([day.relevance() for day, _ in kept]),
        group=np.concatenate([day.group for day, _ in kept]),
        position=np.concatenate([day.position for day, _ in kept]),
        weight=None if (weight == 1).all() else weight,
    )


def mean(gain: NDArray[np.float64]) -> str:
    half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    return f"{signed(gain.mean(), 4)} ({signed(gain.mean() - half, 4)} to {signed(gain.mean() + half, 4)})"


if __name__ == "__main__":
    sys.exit(main())
