"""A refresh beside its parent: each fresh ranking is scored by one that was made without its query."""

from __future__ import annotations

import datetime as dt
import math
from functools import partial

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from ltr_pipeline.dataset.build import build_fresh
from ltr_pipeline.dataset.load import Dataset, load_part
from ltr_pipeline.dataset.windows import since_test
from ltr_pipeline.errors import NothingToLearnError
from ltr_pipeline.events.chain import arrived
from ltr_pipeline.events.manifest import Landed, account_of
from ltr_pipeline.gate import refresh
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.document import weights_document
from ltr_pipeline.gate.measure import TRAINED_ON, HeldOut
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.refresh import against_parent, audited
from ltr_pipeline.gate.rivals import Rivals, load_rival
from ltr_pipeline.jobs.nightly import publish_weights
from ltr_pipeline.ranker.data import Rows
from ltr_pipeline.ranker.refresh import refit, refreshed
from ltr_pipeline.ranker.train import train
from ltr_pipeline.report.artefacts import DATASET, EVIDENCE, TABLES
from ltr_pipeline.runs.extract import land
from ltr_pipeline.runs.run import Run
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions import weights
from ltr_pipeline.versions.golden import check_golden
from support.nights import audited as feature
from support.small import DAY, LENIENT, NIGHT, RUN, WHO, simulate, small_settings, up_to

LISTS = 60
WORSE = 1 / math.log2(3)  # nDCG of a pair in the wrong order
HOUR = dt.timedelta(hours=1)


def pairs(users: int = LISTS) -> Dataset:
    """Lists of a better item and a worse one, each of a query of its own: A tells them apart, S the other way round."""
    features = np.zeros((2 * LISTS, 3), np.float32)
    features[::2, 0] = 1
    features[1::2, 1] = 1
    features[:, 2] = np.repeat(np.arange(LISTS), 2)
    number = np.repeat(np.arange(LISTS), 2)
    return Dataset(
        features=features,
        feature_names=("A", "S", "number"),
        relevance=np.tile([1, 0], LISTS).astype(np.int8),
        group=np.full(LISTS, 2, np.int32),
        position=None,
        ids=pl.DataFrame({"query_id": [f"q-{n}" for n in number], "user_id": [f"u-{n % users}" for n in number]}),
    )


def ranker(name: str) -> str:
    """Return the text of a model that has learned to order by one of the features."""
    data = pairs()
    column = data.feature_names.index(name)
    few = {"num_iterations": 3, "min_data_in_leaf": 5, "feature_fraction": 1.0, "bagging_fraction": 1.0}
    learned = Rows(data.features, data.feature_names, data.features[:, column].astype(np.int8), data.group)
    return train(learned, learned, parameters=few, seed=1)[0]


@pytest.fixture(scope="module")
def by_a() -> str:
    return ranker("A")


@pytest.fixture(scope="module")
def by_s() -> str:
    return ranker("S")


def scorer(text: str) -> Scorer:
    return Scorer.from_model(text, pairs().feature_names)


def test_the_difference_is_refresh_minus_parent(by_a: str, by_s: str) -> None:
    better, worse, same = (
        against_parent(scorer(parent), pairs(), lambda _, text=text: text)
        for parent, text in ((by_s, by_a), (by_a, by_s), (by_a, by_a))
    )
    assert (better.value, better.n) == (pytest.approx(1 - WORSE), LISTS)
    assert worse.value == pytest.approx(WORSE - 1)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_no_ranking_is_scored_by_what_learned_from_its_query(by_a: str) -> None:
    seen: list[set[float]] = []

    def again(part: Rows) -> str:
        seen.append(set(part.features[:, 2].tolist()))
        return by_a

    against_parent(scorer(by_a), pairs(), again)
    held_out = [set(range(LISTS)) - part for part in seen]
    assert sum(len(part) for part in held_out) == LISTS == len(set().union(*held_out))
    assert all(3 < len(part) < 24 for part in held_out)


def test_two_folds_do_where_there_are_many_rankings(by_a: str) -> None:
    few, times = pairs(), 40
    many = Dataset(
        np.tile(few.features, (times, 1)),
        few.feature_names,
        np.tile(few.relevance, times),
        np.tile(few.group, times),
        None,
        pl.concat([few.ids.with_columns(pl.col("query_id") + f"-{number}") for number in range(times)]),
    )
    sizes: list[int] = []

    def again(part: Rows) -> str:
        sizes.append(len(part.group))
        return by_a

    against_parent(scorer(by_a), many, again)
    assert sum(sizes) == len(many.group) == LISTS * times
    assert sizes == pytest.approx([LISTS * times / 2] * 2, rel=0.1)


def test_folds_that_teach_nothing_are_left_out(by_a: str, by_s: str) -> None:
    parts: list[int] = []

    def again(part: Rows) -> str:
        parts.append(LISTS - len(part.group))
        if len(parts) == 1:
            raise NothingToLearnError("too few")
        return by_a

    found = against_parent(scorer(by_s), pairs(), again)
    assert (found.n, found.value) == (LISTS - parts[0], pytest.approx(1 - WORSE))


def test_too_few_users_make_no_interval(by_a: str) -> None:
    assert against_parent(scorer(by_a), pairs(users=9), lambda _: by_a) is None


def test_what_was_learned_by_heart_is_no_gain(by_a: str) -> None:
    """Answers at random: a refit without decay fits them, and cross-fitting shows that it learned nothing."""
    data = pairs()
    random = np.random.default_rng(1).integers(0, 2, LISTS)
    relevance = np.column_stack([random, 1 - random]).ravel().astype(np.int8)
    data = Dataset(data.features, data.feature_names, relevance, data.group, None, data.ids)
    again = partial(refit, by_a, decay=0.0)
    by_heart = against_parent(scorer(by_a), data, lambda _: again(data))
    crossed = against_parent(scorer(by_a), data, again)
    assert crossed.value < by_heart.value + 1e-9
    assert crossed.low <= 0


def test_the_nights_audit_is_told_with_the_shares_of_parent_and_refresh() -> None:
    found = audited(
        [feature("A", gain=0.5, was=0.1), feature("S", gain=0.5, was=None)], {"A": 1.0}, {"A": 0.7, "S": 0.3}
    )
    assert [(one.name, one.gain, one.was) for one in found] == [("A", 1.0, 0.7), ("S", 0.0, 0.3)]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A published night, and what landed in the ten hours after it."""
    folder = tmp_path_factory.mktemp("hourly")
    simulate(folder)
    settings = small_settings(folder)
    publish_weights(up_to("quality_gate", settings), WHO, settings)
    simulate(folder, NIGHT, 1)
    land(settings, MOMENT, dt.datetime.combine(NIGHT - 12 * DAY, dt.time(), dt.UTC), last_try=True)
    return settings


MOMENT = dt.datetime.combine(NIGHT, dt.time(23, 35), dt.UTC)


def test_a_refresh_of_a_night_is_measured_judged_and_written_down(settings: Settings) -> None:
    run, keys = Run(RUN, settings), settings.trusted_keys
    night, found = run.read(DATASET), run.read(EVIDENCE)
    windows = since_test(night.windows, night.test.end, MOMENT)
    lately = arrived(settings.data, MOMENT - DAY, MOMENT, keys)
    partitions = arrived(settings.data, windows.start - DAY, MOMENT, keys)
    fresh = build_fresh(settings.data, "refreshes/r/dataset", partitions, list(lately), settings.mapping, windows)
    data = load_part(settings.data, "refreshes/r/dataset", fresh, "train")
    assert fresh.train.start == night.test.end
    assert data.ids["time"].min() >= night.test.end
    assert 60 < len(data.group) == fresh.rankings
    assert fresh.joined_share > 0.9

    parent = load_rival(settings.registry, RUN)
    document = settings.registry.documents.stored(RUN).weights
    text, trained = refreshed(
        document.model.text,
        data,
        load_part(settings.data, run.key(TABLES), night, "valid"),
        parameters=document.lineage["parameters"],
        positive=settings.mapping.least_positive,
    )
    beside = refresh.refreshed(
        RUN, parent.scorer, data, partial(refit, document.model.text), mode="refit", positive=2, debiased=False
    )
    learned, test = (load_part(settings.data, run.key(TABLES), night, part) for part in ("train", "test"))
    days = HeldOut(test, night, learned.ids.select(TRAINED_ON), seed=7, group_share_min=0.01)
    contest = refresh.contest(days, Scorer.from_model(text, night.features), Rivals(champion=parent))
    landed = Landed.of(account_of(settings.data, lately))
    audit = audited(found.audit, trained.importance, parent.importance)
    evidence = refresh.gather(contest, landed, trained, fresh, beside, audit)
    assert (evidence.train_impressions, evidence.joinable) == (fresh.train.rows, fresh.joinable)
    assert evidence.champion.version == beside.parent == RUN
    assert abs(evidence.champion.delta.value) < 0.05
    assert evidence.refreshed.delta.n > 50

    decision = decide(evidence, Policy.from_variables(LENIENT).unasked())
    assert [check.name for check in decision.checks].count("parent_delta") == 1
    documented = partial(
        weights_document,
        "20250715_2335",
        text,
        mapping=settings.mapping,
        manifest=night,
        test=test,
        trained=trained,
        decision=decision,
        seed=7,
        fresh=fresh,
    )
    made = documented(found=evidence)
    read = weights.decode(weights.encode(made))
    check_golden(read)
    assert (read.lineage["mode"], read.lineage["parent"], read.lineage["debiased"]) == ("refit", RUN, False)
    assert read.lineage["parameters"]["debias"] is False
    assert (read.data.train.start, read.data.train.end, read.data.window.end) == (night.test.end, MOMENT, MOMENT)
    assert (read.data.valid, read.data.test) == (document.data.valid, document.data.test)
    assert read.data.counts["train_rankings"] == fresh.rankings
    assert {name for name in read.data.hashes if name.startswith("fresh labelled")} == {
        "fresh labelled-000.parquet",
        "fresh labelled-001.parquet",
    }
    assert read.linear.weights != document.linear.weights
    assert read.calibration.x != document.calibration.x
    anew = replace(
        evidence, refreshed=replace(beside, mode="full"), train_impressions=night.train.rows + fresh.train.rows
    )
    full = documented(found=anew)
    assert (full.data.train.start, full.data.train.end) == (night.train.start, MOMENT)
    assert full.data.counts["train_rankings"] == night.train.rankings + fresh.rankings


def test_many_test_rankings_are_thinned(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(RUN, settings)
    night = run.read(DATASET)
    learned, test = (load_part(settings.data, run.key(TABLES), night, part) for part in ("train", "test"))
    days = HeldOut(test, night, learned.ids.select(TRAINED_ON), seed=7, group_share_min=0.01)
    parent = load_rival(settings.registry, RUN)
    whole = refresh.contest(days, parent.scorer, Rivals(champion=parent))
    monkeypatch.setattr(refresh, "MOST_ROWS", len(test.relevance) // 2)
    half = refresh.contest(days, parent.scorer, Rivals(champion=parent))
    assert (len(whole.ndcg), len(half.ndcg)) == (len(test.group), -(-len(test.group) // 2))
    assert half.ndcg == pytest.approx(whole.ndcg[::2], nan_ok=True)


def test_a_refresh_counts_as_trained_up_to_its_moment(settings: Settings) -> None:
    """Where one is compared with all the same, only rankings that it did not learn from count."""
    registry = settings.registry
    stored = registry.documents.stored(RUN).weights
    data = replace(stored.data, train=weights.Window(start=stored.data.test.end, end=MOMENT))
    registry.publish(replace(stored, version="20250715_2335", data=data), who="me", why="", move_id="m")
    assert load_rival(registry, "20250715_2335").seen_until == MOMENT
    assert load_rival(registry, RUN).seen_until == stored.data.valid.end
