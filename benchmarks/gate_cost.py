"""What the proofs of the gate add to a night, in processor time.

    python benchmarks/gate_cost.py --impressions 900000

Makes the labelled rankings of 28 days of the simulated lawyers-for-cases world, the last three of which are the test
days, and times what the gate measures there beside the metrics of the challenger and its rivals: the library's own
functions, on columns as a night loads them. Fairness is timed whole, both weightings of a fallback are, and latency
without its first turn, which any measurement takes. Prints the lowest of the repeats, in seconds of processor time of
all threads.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import lightgbm as lgb
import numpy as np
import polars as pl

from common import PARAMETERS, simulated
from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.gate.audit import inspect
from ltr_pipeline.gate.measure import CHAMPION_PERMUTATIONS, requests
from ltr_pipeline.metrics import coins, fairness, quality, slices, unbiased
from ltr_pipeline.metrics.audit import Gains
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.resampling import cluster_codes
from ltr_pipeline.ranker.distil import distilled
from ltr_pipeline.scoring import latency
from ltr_pipeline.scoring.requests import Request
from ltr_pipeline.scoring.scorer import Scorer, rank
from ltr_pipeline.simulate.draw import sample
from ltr_pipeline.simulate.world import FEATURES, GROUPS, ShownLists

DAYS = {"train": 23, "valid": 2, "test": 3}
FIRST = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
TREES = 200
REQUESTS = 1000


def dataset(lists: ShownLists, first: int, days: int) -> Dataset:
    """Lists as a night loads them, spread evenly over some days."""
    rankings = len(lists.group)
    minute = first * 1440 + np.arange(rankings) * (days * 1440) // rankings
    time_of = pl.Series(minute).cast(pl.Int64) * 60_000_000 + int(FIRST.timestamp()) * 1_000_000
    row = pl.Series(lists.ranking)
    names = pl.Series([*GROUPS, None], dtype=pl.String)
    ids = pl.DataFrame(
        {
            "query_id": pl.Series(lists.case).cast(pl.String).gather(row),
            "ranking_id": row.cast(pl.String),
            "item_id": pl.Series(lists.item).cast(pl.String),
            "user_id": pl.Series(lists.user).cast(pl.String).gather(row),
            "time": time_of.cast(pl.Datetime("us", "UTC")).gather(row),
            "protected_group": names.gather(pl.Series(lists.protected_group.astype(np.int64) % len(names))),
        }
    )
    return Dataset(
        features=lists.features,
        feature_names=FEATURES,
        relevance=lists.relevance(),
        group=lists.group,
        position=lists.position,
        ids=ids,
        propensity=lists.propensity,
    )


def parts(impressions: int, explored: float) -> dict[str, Dataset]:
    world, rng = simulated(7, explored_share=explored), np.random.default_rng(7)
    a_list = len(sample(world, 2000, rng).item) / 2000
    found, first = {}, 0
    for name, days in DAYS.items():
        rankings = round(impressions / a_list * days / sum(DAYS.values()))
        found[name] = dataset(sample(world, rankings, rng), first, days)
        first += days
    return found


def model(data: Dataset, seed: int) -> lgb.Booster:
    rows = int(data.group[:6000].sum())
    table = lgb.Dataset(data.features[:rows], data.relevance[:rows], group=data.group[:6000], feature_name=[*FEATURES])
    return lgb.train(PARAMETERS | {"seed": seed, "bagging_freq": 1, "bagging_fraction": 0.5}, table, TREES)


def measurements(data: dict[str, Dataset]) -> Iterator[tuple[str, Callable[[], object]]]:
    test, train = data["test"], data["train"]
    boosters = [model(train, seed) for seed in range(3)]
    scorers = [Scorer.from_model(booster.model_to_string(), FEATURES) for booster in boosters]
    scores = [scorer.score(test.features) for scorer in scorers]
    first = starts(test.group)
    users, times = cluster_codes(test.ids["user_id"].gather(first)), test.ids["time"].gather(first)
    used = dict.fromkeys(FEATURES, 1 / len(FEATURES))
    yield "feature audit and changes", partial(inspect, train, data["valid"], test, Gains(now=used, before=used))

    def coin_check() -> coins.CoinPairs:
        pairs = coins.coin_pairs(test.group, test.position, test.propensity)
        coins.check(pairs, scores[0], test.group, users, seed=1)
        return pairs

    yield "coin check", coin_check
    pairs = coin_check()
    print(
        f"{sum(len(part.relevance) for part in data.values()):,} impressions, of them {len(test.relevance):,} in "
        f"{len(test.group):,} test rankings; {len(pairs):,} coin pairs\n"
    )

    def by_coins() -> None:
        unbiased.curve(pairs, test.relevance, users)
        for other in scores[1:]:
            unbiased.difference(pairs, test.relevance, scores[0], other, users)

    yield "unbiased difference from two rivals, and the curve", by_coins
    groups = ProtectedGroups.pool(test.ids["protected_group"], train.ids["protected_group"], test.ids["item_id"], 0.01)
    order = Rankings(test.relevance, scores[0], test.group)
    yield "fairness, all of it", lambda: fairness.measure(order, groups, users, 1)
    few = CHAMPION_PERMUTATIONS
    yield "the champion's fairness", lambda: fairness.measure(order, groups, users, 1, permutations=few)
    yield "slices by day", lambda: slices.measure(order, slices.by_day(order, times), users)
    yield "linear weights, signed and not", lambda: distilled(boosters[0], train)
    linear, _ = distilled(boosters[0], train)

    def fallback() -> None:
        score = Scorer.from_standardised(linear, FEATURES).score(test.features)
        by_linear = Rankings(test.relevance, score, test.group)
        quality.measure(by_linear, users)
        quality.paired(quality.ndcg(by_linear), quality.ndcg(order), users)

    yield "the fallback measured", fallback
    asked = requests(test, REQUESTS)
    yield TURN, lambda: turn(asked, scorers[0])
    yield "latency, further turns", lambda: latency.measure_latency(scorers[0], asked)


TURN = "latency, first turn"


def turn(asked: list[Request], scorer: Scorer) -> None:
    for request in asked:
        rank(request, scorer)


def cost(work: Callable[[], object], repeats: int) -> float:
    def once() -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    return min(once() for _ in range(repeats))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impressions", type=int, default=900_000, help="in the window of 28 days")
    parser.add_argument("--explored", type=float, default=0.05, help="share of explored rankings")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, float] = {}
    for name, work in measurements(parts(options.impressions, options.explored)):
        found[name] = cost(work, options.repeats)
    found["latency, further turns"] -= found.pop(TURN)
    print("| measurement | seconds |\n|---|---|")
    for name, seconds in (*found.items(), ("all", sum(found.values()))):
        print(f"| {name} | {seconds:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
