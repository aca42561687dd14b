"""What the gate looks at: who is compared with whom, on which rankings, and what is missing said as missing."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from ltr_pipeline.dataset.load import Dataset
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.evidence import Evidence
from ltr_pipeline.gate.measure import Contest, HeldOut, gather, requests, without_model
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.gate.rivals import Rival, Rivals, load_rival, rivals
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.linear import Linear
from ltr_pipeline.scoring.scorer import Scorer
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import encode
from support.documents import document
from support.nights import DATASET, part

DAYS, A_DAY = 3, 40
START = dt.datetime(2025, 7, 10, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
WORSE = 1 / math.log2(3)  # nDCG of a pair in the wrong order
HALF = (1 + WORSE) / 2  # of as many in the right one
FEATURES = ("A", "S")
BY_A, BY_S = (Scorer.from_linear({name: 1.0}, FEATURES) for name in FEATURES)
A, B, C, D = (f"202507{day}_0215" for day in (10, 11, 12, 13))
NOW = dt.datetime(2025, 7, 15, 2, 15, tzinfo=dt.UTC)


def pairs(groups: tuple[str | None, str | None] = ("a", "b"), *, right_by_s_until: int = 0) -> Dataset:
    """Forty lists a day of a better item and a worse one: A tells them apart, S the other way round but at first."""
    rankings = DAYS * A_DAY
    day = np.repeat(np.arange(DAYS), A_DAY)
    features = np.zeros((2 * rankings, 2), np.float32)
    features[::2, 0] = 1
    features[np.arange(rankings) * 2 + (day >= right_by_s_until), 1] = 1
    number = np.repeat(np.arange(rankings), 2)
    return Dataset(
        features=features,
        feature_names=FEATURES,
        relevance=np.tile([1, 0], rankings).astype(np.int8),
        group=np.full(rankings, 2, np.int32),
        position=np.tile([1, 2], rankings).astype(np.int32),
        ids=pl.DataFrame(
            {
                "query_id": [f"q-{n}" for n in number],
                "ranking_id": [f"r-{n}" for n in number],
                "item_id": ["better", "worse"] * rankings,
                "user_id": [f"u-{n}" for n in number],
                "time": [START + int(day[n]) * DAY + dt.timedelta(minutes=int(n) % A_DAY) for n in number],
                "protected_group": pl.Series(groups * rankings, dtype=pl.String),
            }
        ),
    )


def trained_on(*groups: str | None) -> pl.DataFrame:
    """Training rows in which each group showed the better item."""
    return pl.DataFrame({"item_id": ["better"] * len(groups), "protected_group": pl.Series(groups, dtype=pl.String)})


TRAINED_ON = trained_on("a", "b")


def gathered(
    test: Dataset | None = None,
    challenger: Scorer = BY_A,
    *,
    trained_on: pl.DataFrame = TRAINED_ON,
    min_queries: int = 100,
    **rivals: Any,
) -> Evidence:
    windows = replace(DATASET.windows, min_queries=min_queries)
    manifest = replace(DATASET, windows=windows, train=part(28, 8, 500))
    days = HeldOut(test or pairs(), manifest, trained_on, seed=1, group_share_min=0.01)
    return gather(Contest(days, challenger, Rivals(**rivals)), landed=None)


def rival(scorer: Scorer = BY_S, seen_until: dt.datetime = START) -> Rival:
    return Rival(version=A, scorer=scorer, seen_until=seen_until)


def test_everything_is_measured_on_the_same_rankings() -> None:
    found = gathered(legacy_weights={"S": 1.0})
    assert (found.test_queries, found.train_impressions) == (120, 500)
    assert found.metrics.ndcg_at_5.value == 1
    assert {name: part.ndcg_at_5.value for name, part in found.baselines.items()} == {
        "random": pytest.approx((1 + WORSE) / 2),
        "logged_order": 1,
        "legacy_linear": pytest.approx(WORSE),
    }
    assert found.against_random.value == pytest.approx((1 - WORSE) / 2)
    assert found.latency.requests >= 1000


def test_the_fallback_is_measured_against_random_order() -> None:
    by_a = Linear(weights={"A": 1.0, "S": 0.0}, means={"A": 0.5, "S": 0.5}, scales={"A": 0.5, "S": 0.5})
    for linear, better in ((by_a, True), (replace(by_a, weights={"A": -1.0, "S": 0.0}), False)):
        days = HeldOut(pairs(), DATASET, TRAINED_ON, seed=1, group_share_min=0.01)
        found = gather(Contest(days, BY_A, Rivals()), landed=None, linear=linear).fallback
        assert found is not None
        assert found.metrics.ndcg_at_5.value == pytest.approx(1 if better else WORSE)
        assert found.beats_random is better
    assert gathered().fallback is None


def test_probabilities_are_measured_on_the_test_days() -> None:
    """A scores the 120 relevant items 1 and the others 0: a calibration that says 0.9 and 0.1 is off by 0.1."""
    days = HeldOut(pairs(), DATASET, TRAINED_ON, seed=1, group_share_min=0.01)
    knots = Calibration(positive=1, x=[0.0, 1.0], y=[0.1, 0.9])
    found = gather(Contest(days, BY_A, Rivals()), landed=None, calibration=knots).reliability
    assert found is not None
    assert (found.positive, found.rows, found.relevant) == (1, 240, 120)
    assert found.error == pytest.approx(0.1)
    assert [(each.stated, each.observed, each.rows) for each in found.bins] == [
        (pytest.approx(0.1), 0, 120),
        (pytest.approx(0.9), 1, 120),
    ]
    assert gathered().reliability is None


def test_every_day_is_a_slice() -> None:
    """A is right on every day, S on the first two alone."""
    found = gathered(pairs(right_by_s_until=2), challenger=BY_S).slices
    assert [(part.value, part.ndcg_at_5.value) for part in found if part.dimension == "day"] == [
        ("2025-07-10", pytest.approx(1)),
        ("2025-07-11", pytest.approx(1)),
        ("2025-07-12", pytest.approx(WORSE)),
    ]


def test_feedback_that_joins_nothing_is_counted() -> None:
    found = gathered()
    assert (found.joinable, found.unjoined) == (DATASET.joinable, 179)


def test_a_model_gets_its_features_in_its_own_order() -> None:
    other_way = Scorer.from_linear({"A": 1.0}, ("S", "A"))
    found = gathered(challenger=other_way, champion=rival(Scorer.from_linear({"S": 1.0}, ("S", "A"))))
    assert found.metrics.ndcg_at_5.value == 1
    assert found.champion.delta.value == pytest.approx(1 - WORSE)


def test_a_model_with_fewer_features_than_there_are_is_compared() -> None:
    assert gathered(champion=rival(Scorer.from_linear({"S": 1.0}, ("S",)))).champion.delta.n == 120


def test_a_rival_is_scored_without_a_feature_that_is_gone_and_it_is_said() -> None:
    found = gathered(champion=rival(Scorer.from_linear({"Z": 1.0}, ("A", "Z"))))
    assert found.champion.gone == ["Z"]
    assert found.champion.metrics.ndcg_at_5.value == pytest.approx((1 + WORSE) / 2)  # all tied
    (check,) = (check for check in decide(found, Policy()).checks if check.name == "champion")
    assert "which was scored without Z, as no event has it" in check.reason


def test_a_feature_that_is_gone_and_that_no_score_depends_on_is_not_missed() -> None:
    found = gathered(champion=rival(Scorer.from_linear({"A": 1.0, "Z": 0.0}, ("A", "Z"))))
    assert (found.champion.gone, found.champion.delta.value) == ([], 0)


def test_a_rival_is_measured_on_the_rankings_that_it_is_compared_on() -> None:
    found = gathered(champion=rival(seen_until=START + DAY), min_queries=10).champion
    assert found.delta.n == found.metrics.ndcg_at_5.n < 120


def test_lists_shown_again_to_nobody_known_are_no_more_evidence() -> None:
    data = pairs()
    queries = pl.Series("query_id", [f"q-{row // 20}" for row in range(240)])
    again = dataclasses.replace(data, ids=data.ids.with_columns(queries, user_id=pl.lit(None, pl.String)))
    found = gathered(again, champion=rival(), min_queries=10)
    assert (found.test_queries, found.metrics.ndcg_at_5.n, found.champion.delta.n) == (12, 120, 120)
    (check,) = (check for check in decide(found, Policy()).checks if check.name == "queries")
    assert check.reason == "12 eligible test rankings of different queries, below the minimum of 100"


def test_without_a_champion_the_legacy_weights_take_its_place() -> None:
    legacy = gathered(legacy_weights={"S": 1.0}).champion
    assert (legacy.version, legacy.kind) == (None, "legacy_linear")
    assert legacy.delta.value == pytest.approx(1 - WORSE)
    none = gathered().champion
    assert (none.kind, none.delta) == ("none", None)
    assert "no legacy weights" in none.reason
    assert "legacy_linear" not in gathered().baselines


def test_only_rankings_that_a_rival_was_not_trained_on_count() -> None:
    """S is right on the first two days, which the rival has seen, and wrong on the last."""
    found = gathered(pairs(right_by_s_until=2), champion=rival(seen_until=START + 2 * DAY), min_queries=A_DAY)
    assert found.champion.delta.n == A_DAY
    assert found.champion.delta.value == pytest.approx(1 - WORSE)


def test_a_rival_that_has_seen_too_much_is_not_evaluable() -> None:
    found = gathered(
        champion=rival(seen_until=START + 2 * DAY),
        best_recent=rival(seen_until=START + dt.timedelta(minutes=1)),
        min_queries=A_DAY + 1,
    )
    assert found.champion.delta is None
    assert found.champion.reason == f"{A} was trained up to 2025-07-12: 40 test rankings are new to it"
    assert found.best_recent.delta.n == 119
    assert found.best_recent.kind == "best_recent"


def test_fewer_test_rankings_than_asked_for_are_compared_when_all_are_new() -> None:
    found = gathered(champion=rival(), min_queries=1000)
    assert found.champion.delta.n == 120
    assert gathered(champion=rival(seen_until=START + DAY), min_queries=1000).champion.delta is None


@pytest.mark.parametrize("groups", [("a", "a"), ("a", None), (None, None)])
def test_a_group_that_training_knew_is_missed_not_unconfigured(groups: tuple[str | None, str | None]) -> None:
    found = gathered(pairs(groups), trained_on=trained_on("a", "b", None))
    assert (found.fairness.configured, found.fairness.evaluable) == (True, False)
    assert found.fairness.reason
    (check,) = (check for check in decide(found, Policy()).checks if check.name == "fairness_gap")
    assert check.status == "not_evaluable"
    (missed,) = (part for part in found.slices if part.value == "b")
    assert (missed.impressions, missed.note) == (0, "no test ranking is in this slice")


def test_where_nobody_has_a_group_fairness_is_skipped() -> None:
    found = gathered(pairs((None, None)), trained_on=trained_on(None))
    assert found.fairness.configured is False
    (check,) = (check for check in decide(found, Policy()).checks if check.name == "fairness_gap")
    assert check.status == "skipped"


def test_groups_of_a_service_that_are_new_are_judged() -> None:
    fair = gathered(trained_on=trained_on(None)).fairness
    assert fair.configured
    assert {part.protected_group for part in fair.groups} == {"a", "b"}


def test_items_that_training_did_not_show_are_new() -> None:
    slices = {(part.dimension, part.value): part for part in gathered().slices}
    assert slices["items", "new"].ndcg_at_5.n == 120  # each list has the worse item, which was never shown
    assert slices["items", "known"].impressions == 0


def test_test_days_without_a_ranking_are_said_to_be_empty() -> None:
    test = pairs()
    rows = {name: getattr(test, name)[:0] for name in ("features", "relevance", "group", "position", "ids")}
    found = gathered(dataclasses.replace(test, **rows), champion=rival())
    assert (found.test_queries, found.latency, found.fairness.evaluable) == (0, None, False)
    assert (found.metrics.ndcg_at_5.value, found.champion.delta, found.against_random) == (None, None, None)
    assert [(group.protected_group, group.pairs, group.exposure) for group in found.fairness.groups] == [
        ("a", 0, None),
        ("b", 0, None),
    ]
    assert decide(found, Policy()).verdict == "keep"


def test_without_positions_there_is_no_logged_order() -> None:
    test = pairs()
    unlogged = Dataset(**{**vars(test), "position": None})
    assert set(gathered(unlogged).baselines) == {"random"}


def test_requests_are_spread_over_the_days_and_hold_what_was_shown() -> None:
    test = pairs()
    test.features[1, 1] = np.nan
    asked = requests(test, 3)
    assert [request.query_id for request in asked] == ["q-0", "q-59", "q-119"]
    assert [item.item_id for item in asked[0].candidates] == ["better", "worse"]
    assert msgspec.json.decode(asked[0].candidates[1].features) == {"A": 0.0, "S": None}
    assert len(requests(test, 1000)) == 120
    empty = Dataset(**{**vars(test), "group": np.empty(0, np.int32)})
    assert requests(empty, 3) == []


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStorage(tmp_path))


def publish(registry: Registry, **ndcg: float) -> None:
    for version, value in ndcg.items():
        registry.publish(document(version.removeprefix("v"), high=value), who="ann", why="test")


def test_rivals_are_the_promoted_version_and_the_best_other_of_28_days(registry: Registry) -> None:
    assert rivals(registry, NOW) == (None, None)
    publish(registry, **{f"v{A}": 0.8})
    assert rivals(registry, NOW) == (A, None)
    publish(registry, **{f"v{B}": 0.9, f"v{C}": 0.85, f"v{D}": 0.7})
    assert rivals(registry, NOW) == (D, B)
    assert rivals(registry, dt.datetime(2025, 8, 8, 2, 15, tzinfo=dt.UTC)) == (D, B)  # 28 days after B
    assert rivals(registry, dt.datetime(2025, 8, 8, 2, 16, tzinfo=dt.UTC)) == (D, C)
    assert rivals(registry, dt.datetime(2025, 9, 9, tzinfo=dt.UTC)) == (D, None)


def test_a_backfill_is_not_compared_with_what_came_later(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8, f"v{B}": 0.9, f"v{C}": 0.85})
    assert rivals(registry, dt.datetime(2025, 7, 11, 2, 15, tzinfo=dt.UTC)) == (C, A)


def test_a_version_that_was_never_in_use_is_no_rival(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.7})
    registry.pin(who="ann", why="test")
    publish(registry, **{f"v{B}": 0.9})
    assert rivals(registry, NOW) == (A, None)


def test_a_refresh_is_neither_champion_nor_rival(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8, f"v{B}": 0.7})
    hours = [f"{B[:8]}_{hour:02}35" for hour in (3, 4, 5)]
    for hour, high in zip(hours, (0.95, 0.96, 0.97), strict=True):
        assert registry.publish(document(hour, high=high, parent=B), who="ann", why="test").moved
    assert rivals(registry, NOW) == (B, A)
    registry.rollback(hours[0], who="ann", why="test")
    assert rivals(registry, NOW) == (B, A)
    registry.rollback(A, who="ann", why="test")
    assert rivals(registry, NOW) == (A, B)  # the refresh was rolled back from, not what it was refit from
    registry.unpin(who="ann", why="test")
    publish(registry, **{f"v{C}": 0.6})
    assert rivals(registry, NOW) == (C, A)


def test_what_was_rolled_back_from_or_cannot_be_read_is_no_rival(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8, f"v{B}": 0.9, f"v{C}": 0.85})
    publish(registry, **{f"v{D}": 0.95})
    registry.rollback(C, who="ann", why="test")
    assert rivals(registry, NOW) == (C, B)
    registry.storage.put(f"{B}/ltr_weights.json", b"{}")
    assert rivals(registry, NOW) == (C, A)


def test_a_rival_is_loaded_with_its_own_model(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8})
    found = load_rival(registry, A)
    assert found.version == A
    assert found.seen_until == document(A).data.valid.end
    assert found.scorer.score(np.array([[0.2, 0], [0.9, 0]], np.float32)).tolist() == [0.25, 0.8]
    assert load_rival(registry, None) is None


def test_the_model_of_a_rival_is_read_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(registry, **{f"v{A}": 0.8})
    read, from_model = [], Scorer.from_model

    def counted(text: str, *rest: Any) -> Scorer:
        read.append(text)
        return from_model(text, *rest)

    monkeypatch.setattr(Scorer, "from_model", counted)
    found = load_rival(registry, A)
    assert found.scorer.score(np.array([[0.9, 0]], np.float32)).tolist() == [0.8]
    assert len(read) == 1


def test_a_version_that_scores_otherwise_than_recorded_is_no_rival(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8})
    stored = registry.load(A)
    off = replace(stored, golden=[replace(stored.golden[0], scores=[0.25, 0.7])])
    registry.storage.put(f"{A}/ltr_weights.json", encode(off))
    with capture_logs() as events:
        assert load_rival(registry, A) is None
    assert "golden request" in events[0]["error"]


def test_a_version_that_does_not_load_is_no_rival_and_the_log_says_so(registry: Registry) -> None:
    publish(registry, **{f"v{A}": 0.8})
    registry.storage.put(f"{A}/ltr_weights.json", b"{}")
    for version in (A, B):
        with capture_logs() as events:
            assert load_rival(registry, version) is None
        assert [event["version"] for event in events if event["log_level"] == "warning"] == [version]


def explored(test: Dataset) -> Dataset:
    """Let a coin decide each list's order: the better item is on top in every other one."""
    swapped = np.repeat(np.arange(len(test.group)) % 2 == 1, 2)
    position = np.where(swapped, 3 - test.position, test.position).astype(np.int32)
    return dataclasses.replace(test, position=position, propensity=np.full(len(position), 0.5, np.float32))


def test_coin_pairs_are_those_of_the_test_rankings() -> None:
    found = gathered(explored(pairs()), champion=rival())
    assert found.coins is not None
    assert (found.coins.rankings, found.coins.pairs, found.coins.upper, found.coins.possible) == (120, 120, 60, 60.0)
    assert (found.champion.unbiased.value, found.champion.unbiased.n) == (1.0, 120)  # right about all, and about none
    windows = DATASET.windows
    later = windows.cutoff + (DATASET.test.end - DATASET.test.start) + DAY * windows.attribution_days
    assert found.coins.ready == later.date()


def test_a_rival_is_compared_by_coin_pairs_that_it_was_not_trained_on() -> None:
    found = gathered(explored(pairs()), champion=rival(seen_until=START + 2 * DAY), min_queries=A_DAY)
    assert found.champion.unbiased.n == A_DAY
    legacy = gathered(explored(pairs()), legacy_weights={"S": 1.0})
    assert legacy.champion.unbiased.n == 120


def test_how_much_a_rank_is_looked_at_comes_from_answers_to_coin_pairs() -> None:
    test = explored(pairs())
    blind = np.where((test.position == 2) & (np.arange(len(test.position)) % 8 == 2), 0, test.relevance).astype(np.int8)
    (first, second) = gathered(dataclasses.replace(test, relevance=blind)).examination
    assert (first.rank, second.rank) == (1, 2)
    assert second.value == pytest.approx(0.5)


def test_a_score_that_knows_the_place_fails_the_coin_check() -> None:
    test = explored(pairs())
    test.features[:, 1] = test.position == 1
    found = gathered(test, BY_S)
    assert found.coins.share == 1.0
    (check,) = (check for check in decide(found, Policy()).checks if check.name == "coin")
    assert check.status == "fail"


def test_without_exploration_or_without_positions_there_is_no_coin() -> None:
    plain = gathered(pairs(), champion=rival())
    assert (plain.coins.rankings, plain.coins.suffices, plain.champion.unbiased) == (0, None, None)
    assert gathered(dataclasses.replace(pairs(), position=None)).coins is None


def two_groups() -> Dataset:
    """Mixed lists: A ranks both groups right, S that of group a alone, and that of group b the wrong way round."""
    test = pairs()
    b_is_better = np.arange(len(test.group)) % 2 == 1
    rows = np.repeat(b_is_better, 2)
    test.features[:, 1] = np.where(rows, 1 - test.relevance, test.relevance)
    first = np.where(b_is_better, "b", "a")
    labels = np.column_stack([first, np.where(b_is_better, "a", "b")]).ravel()
    ids = test.ids.with_columns(
        protected_group=pl.Series(labels), item_id=pl.Series(np.arange(len(labels)).astype(str))
    )
    return dataclasses.replace(test, ids=ids)


def test_the_champions_fairness_is_measured_as_the_challengers() -> None:
    found = gathered(two_groups(), champion=rival(BY_S))
    assert (found.fairness.gap, found.champion_fairness.gap) == (0, 1)
    challenger, champion = gathered(two_groups(), BY_S).fairness, found.champion_fairness
    by_fewer_shuffles = ("noise", "corrected_gap", "upper", "null_p95", "corrected_p20")
    assert champion == replace(
        challenger,
        groups=champion.groups,  # without nDCG@5
        **{name: getattr(champion, name) for name in by_fewer_shuffles},
    )
    for name in by_fewer_shuffles:
        assert getattr(champion, name) == pytest.approx(getattr(challenger, name), rel=0.1)
    decision = decide(found, Policy())
    assert decision.champion.version == A
    assert decision.champion.fairness.status == "fail"
    assert not [reason for reason in decision.reasons if "fairness" in reason]


def test_only_rankings_that_the_champion_was_not_trained_on_tell_its_fairness() -> None:
    found = gathered(two_groups(), champion=rival(BY_S, START + DAY), min_queries=10).champion_fairness
    assert found.rankings == 2 * A_DAY
    assert {(group.protected_group, group.rankings) for group in found.groups} == {("a", A_DAY), ("b", A_DAY)}
    assert gathered(two_groups(), champion=rival(BY_S, START + DAYS * DAY)).champion_fairness is None


def test_the_champions_fairness_is_measured_where_too_few_rankings_are_new_to_compare() -> None:
    found = gathered(two_groups(), champion=rival(BY_S, START + 2 * DAY))
    assert found.champion.delta is None
    assert [group.rankings for group in found.champion_fairness.groups] == [20, 20]
    assert not found.champion_fairness.evaluable
    assert decide(found, Policy()).champion.fairness.status == "not_evaluable"


def test_without_a_champion_there_is_no_fairness_of_it() -> None:
    assert gathered(two_groups(), legacy_weights={"S": 1.0}).champion_fairness is None


def test_groups_that_the_champion_alone_is_tested_on_are_pooled_as_the_challengers() -> None:
    test = two_groups()
    rare = test.ids["protected_group"].set(pl.Series(np.arange(len(test.ids)) == len(test.ids) - 1), "typo")
    test = dataclasses.replace(test, ids=test.ids.with_columns(protected_group=rare))
    found = gathered(test, champion=rival(BY_S, START + DAY), min_queries=10)
    assert found.champion_fairness.pooled == found.fairness.pooled == ["typo"]
    assert found.champion_fairness.pooled_share == pytest.approx(1 / (4 * A_DAY))


def test_a_night_without_a_challenger_measures_the_champion() -> None:
    days = HeldOut(two_groups(), DATASET, TRAINED_ON, seed=1, group_share_min=0.01)
    found = without_model("all features are alike", days, Rivals(champion=rival(BY_S)), None)
    assert (found.champion.version, found.champion.delta, found.champion.reason) == (
        A,
        None,
        "there is no model to compare",
    )
    assert found.champion_fairness == gathered(two_groups(), champion=rival(BY_S)).champion_fairness
    decision = decide(found, Policy())
    assert (decision.verdict, decision.champion.fairness.status) == ("keep", "fail")
    assert (found.champion.metrics.ndcg_at_5.value, found.judged) == (pytest.approx(HALF), found.champion.metrics)
    assert found.baselines["random"].ndcg_at_5.value == pytest.approx((1 + WORSE) / 2)
    assert found.champion_latency.requests >= 1000
    assert found.test_queries == gathered(two_groups()).test_queries
    alone = without_model("all features are alike", days, Rivals(), None)
    assert (alone.champion.kind, alone.champion_fairness, decide(alone, Policy()).champion) == ("none", None, None)


def test_where_no_training_was_due_the_champion_is_held_against_the_limits_that_a_challenger_is() -> None:
    days = HeldOut(two_groups(), DATASET, TRAINED_ON, seed=1, group_share_min=0.01)
    found = without_model("it is young", days, Rivals(champion=rival(BY_S)), None, due=False)
    decision = decide(found, Policy())
    judged = {check.name: (check.status, check.observed) for check in decision.checks}
    assert judged["ndcg_at_5"] == ("pass", pytest.approx(HALF))
    assert judged["fairness_gap"][0] == "fail"
    assert judged["latency_p95"] == ("pass", found.champion_latency.p95_ms)
    assert (decision.verdict, decision.due, decision.reasons[0]) == ("keep", False, "not due: it is young")


def test_a_champion_that_was_trained_on_the_test_days_is_not_judged_by_them() -> None:
    days = HeldOut(two_groups(), DATASET, TRAINED_ON, seed=1, group_share_min=0.01)
    seen = rival(BY_A, START + DAYS * DAY)
    found = without_model("it is young", days, Rivals(champion=seen), None, due=False)
    assert (found.champion.metrics, found.champion_fairness) == (None, None)
    decision = decide(found, Policy())
    assert decision.checks[0].status == "not_evaluable"
    assert "0 test rankings are new to it, so there is no nDCG@5" in decision.checks[0].reason
    assert decision.reasons == ["not due: it is young"]
