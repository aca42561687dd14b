"""The true gain of an hourly refresh after a change, and whether one is ever truly worse, in simulated worlds.

    python benchmarks/hourly.py --worlds 10 --kind changed --records hours.jsonl
    python benchmarks/hourly.py --worlds 8 --kind steady --hours 80 --lists 10 --records hours.jsonl

Each world shows lists hour by hour, in the order of the version that is in use, and clients answer hours later. Four
weeks in, a nightly model is trained at 02:00 of each night, debiased, on what is mature by then; it is put to use
without a gate, as it is not what is asked about. At each full hour a refresh is made of it by the library's own
functions: the lists that were answered in the 24 hours before and were shown after the night's test days, with the
labels known so far; the refit, and what stands beside it; the gate with its default policy, on the night's test days
and by cross-fitting. What it publishes shows the lists of the next hour. The truth of a version is its nDCG@5 on other
lists if relevance were what a client would answer to an item's true utility of that hour, seen or not.

Kinds of worlds: in a ``steady`` one nothing changes; in a ``changed`` one clients care from noon of the first day on
for nearness and reviews in place of similar cases and a track record; in a ``passing`` one they do so from noon to
midnight only; in one with ``noise`` what they answer has nothing to do with utility for these hours. Printed are the
true gain on the parent of what is in use an hour before noon, 8 and 24 hours after, as the mean over worlds with its
95 % interval (t); how many hours published, and how many of these refreshes are truly worse than their parent by more
than 0.01 when they are published, or in any hour in which they are in use.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy import stats

from common import assumed_latency, by_legacy_weights, rate, simulated
from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.events.manifest import Landed
from ltr_pipeline.gate import refresh
from ltr_pipeline.gate.decision import Decision, decide
from ltr_pipeline.gate.evidence import Comparison, Evidence
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.mapping import POSITIVE
from ltr_pipeline.metrics import fairness, quality
from ltr_pipeline.metrics.fairness import Fairness
from ltr_pipeline.metrics.groups import ProtectedGroups
from ltr_pipeline.metrics.quality import Metrics
from ltr_pipeline.metrics.rankings import Rankings, starts
from ltr_pipeline.metrics.resampling import cluster_codes
from ltr_pipeline.ranker.refresh import DECAY, refit, refreshed
from ltr_pipeline.ranker.train import train
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.simulate.draw import ANSWER_THRESHOLDS, Visits, answers, visits
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, GROUPS

Floats = NDArray[np.float64]

FIRST_DAY = dt.date(2025, 6, 1)
WARM_UP, LEARNED = 28, 14  # days until the first night that counts, and until models show the lists
ATTRIBUTION, TEST, VALID, WINDOW = 3, 3, 2, 28  # days, as the defaults are
NIGHTLY, CHANGE = 2, 12  # hours of the day
DAY = 24
NOON = WARM_UP * DAY + CHANGE
KINDS = ("steady", "changed", "passing", "noise")
JUDGED = 3000  # lists that the truth is taken over
WORSE = 0.01
POLICY = Policy().unasked()
QUICKER = {"learning_rate": 0.1}  # half of the trees, and of the time


@dataclass(frozen=True)
class Lists:
    """Shown lists, and when what came of them is known; times in hours since the first day."""

    group: NDArray[np.int32]
    shown: Floats
    user: NDArray[np.int32]
    query: NDArray[np.int64]
    item: NDArray[np.int32]
    protected: NDArray[np.int8]
    features: NDArray[np.float32]
    position: NDArray[np.int32]
    acts: NDArray[np.int8]
    known: Floats

    def relevance(self, now: float) -> NDArray[np.int8]:
        """Return the best act inside the attribution window that is known by now; acts and when are (n, 2)."""
        counts = (self.known <= now) & (self.known - np.repeat(self.shown, self.group)[:, None] < ATTRIBUTION * DAY)
        return np.where(counts, self.acts, 0).max(axis=1).clip(min=0).astype(np.int8)

    def answered(self, since: float, now: float) -> NDArray[np.bool_]:
        """Tell which lists an act became known for."""
        late = (self.acts >= 0) & (self.known > since) & (self.known <= now)
        late &= self.known - np.repeat(self.shown, self.group)[:, None] < ATTRIBUTION * DAY
        return np.maximum.reduceat(late.any(axis=1), starts(self.group))

    def only(self, chosen: NDArray[np.bool_]) -> Lists:
        rows = np.repeat(chosen, self.group)
        of_lists = ("group", "shown", "user", "query")
        columns = {f.name: getattr(self, f.name)[chosen if f.name in of_lists else rows] for f in fields(self)}
        return Lists(**columns)

    def dataset(self, now: float) -> Dataset:
        of = np.repeat(np.arange(len(self.group)), self.group)
        ids = {"query_id": [f"q{n}" for n in self.query[of]], "user_id": [f"u{n}" for n in self.user[of]]}
        return Dataset(self.features, FEATURES, self.relevance(now), self.group, self.position, pl.DataFrame(ids))


def joined(parts: list[Lists]) -> Lists:
    return Lists(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Lists)})


class Version(NamedTuple):
    """A model, the night that made it or its parent, and how it scores."""

    text: str
    scorer: Scorer


@dataclass(frozen=True, eq=False)
class Truth:
    """Lists that the truth is taken over, before and after the change."""

    lists: Visits
    worth: tuple[Floats, Floats]

    def of(self, version: Version, *, changed: bool) -> Floats:
        """Return the true nDCG@5 of each list."""
        answer = np.searchsorted(ANSWER_THRESHOLDS, self.worth[changed]).astype(np.int8)
        return quality.ndcg(Rankings(answer, version.scorer.score(self.lists.features), self.lists.group))


def turned(lists: Visits) -> Floats:
    """Return the utility of clients who turned: nearness and reviews take the place of similar cases and a record."""
    columns = np.nan_to_num(lists.features.astype(np.float64), nan=0.55).T
    s, t, g, r = (columns[FEATURES.index(name)] for name in "STGR")
    return lists.utility - 0.75 * s * t + 0.75 * g * r * np.sqrt(s.mean() * t.mean() / (g.mean() * r.mean()))


class Simulated:
    """A world hour by hour: what was shown, by which version, and what came of it."""

    def __init__(self, seed: int, kind: str, an_hour: float, decay: float = DECAY) -> None:
        self.seed, self.kind, self.an_hour, self.decay = seed, kind, an_hour, decay
        self.world, self.rng = simulated(seed), np.random.default_rng([seed, 16])
        self.parts: list[Lists] = []
        self.drawn = 0
        lists = visits(self.world, JUDGED, np.random.default_rng([seed, 17]), day=FIRST_DAY + dt.timedelta(WARM_UP))
        self.truth = Truth(lists, (lists.utility, turned(lists)))

    def changed(self, hour: float) -> bool:
        """Tell whether clients have turned by then."""
        return (self.kind == "changed" and hour >= NOON) or (
            self.kind == "passing" and NOON <= hour < NOON + DAY - CHANGE
        )

    def show(self, hour: int, hours: int, version: Version | None) -> None:
        """Show the lists of some hours, in the order of a version or, before there is one, of the legacy weights."""
        count = int(self.rng.poisson(self.an_hour * hours))
        seen = visits(self.world, count, self.rng, day=FIRST_DAY + dt.timedelta(hour // DAY))
        if self.changed(hour):
            moved = turned(seen) - seen.utility
            seen = Visits(**{f.name: getattr(seen, f.name) for f in fields(Visits)} | {"appeal": seen.appeal + moved})
        elif self.kind == "noise" and NOON <= hour < NOON + DAY - CHANGE:
            moved = self.rng.permutation(seen.utility) - seen.utility
            seen = Visits(**{f.name: getattr(seen, f.name) for f in fields(Visits)} | {"appeal": seen.appeal + moved})
        of, score = np.repeat(np.arange(count), seen.group), by_legacy_weights(seen.features)
        if version:
            own = version.scorer.score(seen.features)
            score = own * (score.std() / own.std())
        order = np.lexsort((-(score + self.world.exploration * self.rng.normal(size=len(of))), of))
        position = np.empty(len(of), np.int32)
        position[order] = np.arange(len(of)) - np.repeat(starts(seen.group), seen.group) + 1
        said = answers(self.world, seen, position, self.rng)
        shown = hour + hours * np.sort(self.rng.random(count))
        acts = np.column_stack([said.answer, said.outcome])
        known = shown[of, None] + np.column_stack([said.answer_hours, said.outcome_hours])
        query = self.drawn + np.arange(count)
        self.drawn += count
        self.parts.append(
            Lists(
                seen.group,
                shown,
                seen.user,
                query,
                seen.item,
                seen.protected_group,
                seen.features,
                position,
                acts,
                known,
            )
        )

    def between(self, first: float, end: float) -> Lists:
        """Return the lists that were shown in a stretch of time."""
        near = [part for part in self.parts if len(part.shown) and part.shown[-1] >= first and part.shown[0] < end]
        lists = joined(near)
        return lists.only((lists.shown >= first) & (lists.shown < end))


class Night:
    """A nightly model, and the days that judge it and its refreshes."""

    def __init__(self, world: Simulated, hour: int) -> None:
        self.cutoff = hour // DAY * DAY
        self.test_end = self.cutoff - ATTRIBUTION * DAY
        test, valid = self.test_end - TEST * DAY, self.test_end - (TEST + VALID) * DAY
        days = world.between(max(0, self.cutoff - WINDOW * DAY), self.test_end)
        at = days.shown
        learned, self.valid, self.test = (
            days.only(part) for part in (at < valid, (at >= valid) & (at < test), at >= test)
        )
        text, self.trained = train(
            learned.dataset(self.cutoff),
            self.valid.dataset(self.cutoff),
            parameters=QUICKER,
            max_relevance=len(ACTIONS) - 1,
            seed=world.seed,
        )
        self.version = Version(text, Scorer.from_model(text, FEATURES))
        self.relevance = self.test.relevance(self.cutoff)
        self.clusters = cluster_codes(self.test.user)
        names = pl.Series([*GROUPS, None]).gather(self.test.protected.astype(np.int64) % 3)
        self.groups = ProtectedGroups(names, item=pl.Series(self.test.item))
        self.order = self.rankings(self.version.scorer)
        self.random = quality.ndcg(Rankings(self.relevance, np.zeros(len(self.relevance)), self.test.group))

    @cache  # noqa: B019 - there are few nights
    def truth(self, truth: Truth, *, changed: bool) -> Floats:
        return truth.of(self.version, changed=changed)

    def rankings(self, scorer: Scorer) -> Rankings:
        return Rankings(self.relevance, scorer.score(self.test.features), self.test.group)

    def metrics(self, ndcg: Floats) -> Metrics:
        found = quality.estimate(ndcg, self.clusters)
        return Metrics(ndcg_at_5=found, linear_ndcg_at_5=found, mrr=found, hit_at_3=found)


def judge(night: Night, new: Version, beside: refresh.Refreshed, trees: int, rows: int) -> Decision:
    """Judge a refresh on the test days; the null of fairness, which takes long, only where it is not kept anyway."""
    order = night.rankings(new.scorer)
    ndcg, before = quality.ndcg(order), quality.ndcg(night.order)
    evidence = Evidence(
        trees=trees,
        train_impressions=rows,
        test_queries=int((~np.isnan(ndcg)).sum()),
        metrics=night.metrics(ndcg),
        against_random=quality.paired(ndcg, night.random, night.clusters),
        champion=Comparison(
            version=beside.parent,
            kind="champion",
            delta=quality.paired(ndcg, before, night.clusters),
            metrics=night.metrics(before),
        ),
        fairness=Fairness(configured=False, evaluable=False, reason="not looked at here"),
        latency=assumed_latency(),
        landed=Landed(records_read=10_000, records_quarantined=10, impressions=8_000, feedback=2_000),
        refreshed=beside,
    )
    decision = decide(evidence, POLICY)
    if decision.verdict == "keep":
        return decision
    found = fairness.measure(order, night.groups, night.clusters, seed=7)
    return decide(replace(evidence, fairness=found), POLICY)


class Hour(msgspec.Struct):
    """The refresh of an hour, and what is true of it."""

    kind: str
    lists: float
    world: int
    hour: int  # since midnight of the day of the change
    positives: int
    verdict: str
    blocked: list[str]
    delta: tuple[float, float, float] | None  # by fresh rankings
    on_test: tuple[float, float, float] | None
    gain: float  # true, of this refresh on its parent
    gain_se: float
    in_use: float  # true, of what is in use after this hour
    parent: float  # true nDCG@5
    seconds: float


def hours(world: Simulated, count: int) -> Iterator[Hour]:
    """Live through the hours of a world from midnight of the day that counts."""
    for day in range(WARM_UP):
        if day == LEARNED:
            night = Night(world, day * DAY)
        world.show(day * DAY, DAY, night.version if day >= LEARNED else None)
    first = WARM_UP * DAY
    night, in_use = None, night.version
    for hour in range(first, first + count + NIGHTLY):
        if hour % DAY == NIGHTLY:
            night = Night(world, hour)
            in_use = night.version
        elif night:
            found, in_use = live(world, night, in_use, hour)
            yield found
        world.show(hour, 1, in_use)


def live(world: Simulated, night: Night, in_use: Version, now: int) -> tuple[Hour, Version]:
    """Refresh at a full hour, before its lists are shown."""
    begun, parent = time.perf_counter(), night.version
    lists = world.between(night.test_end, now)
    fresh = lists.only(lists.answered(now - DAY, now)).dataset(now)
    text, trained = refreshed(
        parent.text,
        fresh,
        night.valid.dataset(night.cutoff),
        parameters=night.trained.parameters,
        positive=POSITIVE,
        decay=world.decay,
    )
    new = Version(text, Scorer.from_model(text, FEATURES))
    beside = refresh.refreshed(
        "20250629_0215",
        parent.scorer,
        fresh,
        partial(refit, parent.text, decay=world.decay),
        mode="refit",
        positive=POSITIVE,
        debiased=False,
    )
    decision = judge(night, new, beside, trained.trees, len(fresh.relevance))
    seconds = time.perf_counter() - begun
    in_use = new if decision.verdict == "publish" else in_use
    changed = world.changed(now)
    true = night.truth(world.truth, changed=changed)
    gain = world.truth.of(new, changed=changed) - true
    gain = gain[~np.isnan(gain)]
    used = gain.mean() if in_use is new else np.nanmean(world.truth.of(in_use, changed=changed) - true)
    champion = next(check for check in decision.checks if check.name == "champion")
    return Hour(
        kind=world.kind,
        lists=world.an_hour,
        world=world.seed,
        hour=now - WARM_UP * DAY,
        positives=beside.positives,
        verdict=decision.verdict,
        blocked=[check.name for check in decision.checks if check.status not in ("pass", "skipped")],
        delta=beside.delta and (beside.delta.value, beside.delta.low, beside.delta.high),
        on_test=(champion.observed, champion.low, champion.high),
        gain=float(gain.mean()),
        gain_se=float(gain.std() / np.sqrt(len(gain))),
        in_use=float(used),
        parent=float(np.nanmean(true)),
        seconds=seconds,
    ), in_use


def mean(values: Sequence[float]) -> str:
    """Write a mean over worlds with its 95 % interval (t)."""
    found = np.asarray(values)
    if len(found) < 2:
        return signed(found.mean(), 4)
    half = stats.t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return f"{signed(found.mean(), 4)} ({signed(found.mean() - half, 4)} to {signed(found.mean() + half, 4)})"


def print_table(lived: Sequence[Hour]) -> None:
    print(
        "| world | lists an hour | worlds, hours | published | true gain in use: before noon | 8 h after | 24 h after |"
    )
    print("|---|---|---|---|---|---|---|")
    for kind, lists in dict.fromkeys((hour.kind, hour.lists) for hour in lived):
        found = [hour for hour in lived if (hour.kind, hour.lists) == (kind, lists)]
        after = [[hour.in_use for hour in found if hour.hour == CHANGE + later] for later in (-1, 8, 24)]
        cells = [
            kind,
            f"{lists:g}",
            f"{len({hour.world for hour in found})}, {len(found):,}",
            rate(sum(hour.verdict == "publish" for hour in found), len(found)),
            *(mean(gains) if gains else "–" for gains in after),
        ]
        print(f"| {' | '.join(cells)} |")
    print(
        "\n| world | lists an hour | published: mean true gain | worst | worse by over 0.01 | hours in use that are |"
    )
    print("|---|---|---|---|---|---|")
    for kind, lists in dict.fromkeys((hour.kind, hour.lists) for hour in lived):
        found = [hour for hour in lived if (hour.kind, hour.lists) == (kind, lists)]
        published = [hour.gain for hour in found if hour.verdict == "publish"]
        cells = [
            kind,
            f"{lists:g}",
            signed(np.mean(published), 4),
            signed(min(published), 4),
            rate(sum(gain < -WORSE for gain in published), len(published)),
            rate(sum(hour.in_use < -WORSE for hour in found), len(found)),
        ]
        print(f"| {' | '.join(cells)} |")
    print(f"\n{len(lived):,} hours; {statistics.median(hour.seconds for hour in lived):.1f} s an hour (median).")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="changed")
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    parser.add_argument("--hours", type=int, default=36, help="of each world, from midnight of the day of the change")
    parser.add_argument("--lists", type=float, default=20, help="shown an hour")
    parser.add_argument("--decay", type=float, default=DECAY, help="share of its former value that a leaf keeps")
    parser.add_argument("--records", help="file that hours are added to; the tables are of all that it holds")
    options = parser.parse_args()
    lived: list[Hour] = []
    for seed in range(options.first, options.first + options.worlds):
        for hour in hours(Simulated(seed, options.kind, options.lists, options.decay), options.hours):
            lived.append(hour)
            if options.records:
                with Path(options.records).open("ab") as file:
                    file.write(msgspec.json.encode(hour) + b"\n")
            print(f"world {seed}, hour {hour.hour}: {hour.verdict}, {hour.gain:+.4f}", file=sys.stderr, flush=True)
    if options.records:
        lived = [msgspec.json.decode(line, type=Hour) for line in Path(options.records).read_bytes().splitlines()]
    print_table(lived)
    return 0


if __name__ == "__main__":
    sys.exit(main())
