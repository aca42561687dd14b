"""The simulated world: its log is a pure function of world and day, and its claims about the truth hold."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import lightgbm as lgb
import msgspec
import numpy as np
import polars as pl
import pytest

from ltr_pipeline.errors import SettingsError, StorageError
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.metrics import rankings as metrics
from ltr_pipeline.metrics.coins import coin_pairs
from ltr_pipeline.metrics.quality import ndcg
from ltr_pipeline.simulate.draw import MAX_ANSWER_HOURS, answers, rankings_on, sample, visits
from ltr_pipeline.simulate.log import HORIZON_DAYS, LATEST_HOURS, REDELIVERY_HOURS, arrivals, truth, write_log
from ltr_pipeline.simulate.world import ACTIONS, FEATURES, ShownLists, World, utility

LEGACY = load_mapping().legacy_weights
TUESDAY = date(2025, 7, 1)
SMALL = World(legacy_weights=LEGACY, rankings_per_day=30)
DAY = timedelta(days=1)


def changed(**fields: object) -> World:
    return msgspec.structs.replace(SMALL, **fields)


def drawn(world: World, rankings: int = 4000) -> ShownLists:
    return sample(world, rankings, np.random.default_rng(1))


def log(world: World, days: int = 8, first: date = TUESDAY) -> pl.DataFrame:
    return pl.concat(arrivals(world, first, days))


def decoded(lines: pl.DataFrame) -> list[dict]:
    return [msgspec.json.decode(line) for line in lines["line"]]


# The log is a pure function of world and day


def test_equal_worlds_write_equal_bytes_and_another_seed_does_not(tmp_path):
    for name, world in [("one", SMALL), ("same", changed()), ("other", changed(seed=8))]:
        write_log(tmp_path / name, world, TUESDAY, 2)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same
    assert one != other


def test_ratings_follow_utility_and_leave_the_rest_of_the_world_as_it_is():
    busy = changed(rankings_per_day=300)
    with_ratings, without = log(busy, 4), log(msgspec.structs.replace(busy, rated_share=0.0), 4)
    assert with_ratings["line"].str.replace(r',"rating":\d', "").equals(without["line"])
    assert not without["line"].str.contains("rating").any()
    said = {
        (context["ranking_id"], context["lawyer_id"]): context["rating"]
        for context in (message["context"] for message in decoded(with_ratings.filter(kind="feedback")))
        if "rating" in context
    }
    worth = {row[:2]: row[2] for row in truth(busy, TUESDAY - 4 * DAY, 8)["ranking_id", "item_id", "utility"].rows()}
    pairs = np.array([(worth[key], rating) for key, rating in said.items() if key in worth])
    assert len(pairs) > 300
    assert set(pairs[:, 1]) == {1, 2, 3, 4, 5}
    assert 0.4 < np.corrcoef(pairs.T)[0, 1] < 0.9


@pytest.mark.parametrize("start", [None, TUESDAY])
def test_a_log_continued_day_by_day_equals_one_written_at_once(tmp_path, start):
    world = changed(start=start, outages={TUESDAY + 2 * DAY: "no_feedback", TUESDAY + 3 * DAY: "silent"})
    write_log(tmp_path / "once", world, TUESDAY, 6)
    for ahead in range(6):
        write_log(tmp_path / "daily", world, TUESDAY + ahead * DAY, 1, append=ahead > 0)
    assert (tmp_path / "daily").read_bytes() == (tmp_path / "once").read_bytes()


def test_summary_counts_the_lines_and_a_log_that_is_not_appended_to_is_replaced(tmp_path):
    path = tmp_path / "logs" / "audit.log"
    write_log(path, SMALL, TUESDAY, 3)
    summary = write_log(path, SMALL, TUESDAY, 2)
    parts = (summary.impressions, summary.feedback, summary.duplicates, summary.malformed, summary.unrelated)
    assert summary.lines == sum(parts) == len(path.read_bytes().splitlines())
    assert summary.impressions > summary.feedback > 0
    assert b'""' not in path.read_bytes()  # JSON, not CSV


def test_a_log_that_cannot_be_written_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="Is a directory"):
        write_log(tmp_path, SMALL, TUESDAY, 1)


def test_a_world_survives_json():
    world = changed(start=TUESDAY, outages={TUESDAY: "noise"})
    assert msgspec.json.decode(msgspec.json.encode(world), type=World) == world


def test_impossible_worlds_are_refused():
    with pytest.raises(SettingsError, match=r"late_share=1\.5"):
        changed(late_share=1.5)
    with pytest.raises(SettingsError, match="20 lawyers"):
        changed(lawyers=19)


# Messages


def test_lines_stand_in_order_of_arrival_and_only_malformed_ones_break_the_format():
    lines = log(changed(malformed_share=0.01))
    assert lines["arrival"].is_sorted()
    for event in decoded(lines.filter(pl.col("kind") != "malformed")):
        context = event["context"]
        assert event["message"] in ("match_recommendation", "offer_feedback", "user_login")
        assert context["user_id"].startswith("u-")
        if event["message"] == "match_recommendation":
            assert list(context["features"]) == list(FEATURES)
            assert all(value is None or 0 <= value <= 1 for value in context["features"].values())
            assert 1 <= context["rank_position"] <= 20
        if event["message"] == "offer_feedback":
            assert context["action"] in ACTIONS


def test_without_delays_impressions_are_logged_as_they_were_shown():
    world = changed(late_share=0.0)
    lines = log(world, days=2).filter(pl.col("kind") == "impression", ~pl.col("duplicate"))
    shown = [event["context"]["event_id"] for event in decoded(lines)]
    assert shown == truth(world, TUESDAY, 2)["event_id"].to_list()


def test_malformed_messages_are_broken_in_every_way():
    lines = log(changed(malformed_share=0.05)).filter(pl.col("kind") == "malformed")["line"]
    truncated = [line for line in lines if not line.endswith("}}")]
    contexts = [msgspec.json.decode(line)["context"] for line in lines if line.endswith("}}")]
    for line in truncated:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(line)
    ways = [
        sum(context["features"] == "none" for context in contexts),
        sum("case_id" not in context for context in contexts),
        sum(context["rank_position"] == 0 for context in contexts),
        sum(context.get("action", "won") not in ACTIONS for context in contexts),
    ]
    assert len(truncated) > 0
    assert min(ways) > 0
    assert sum(ways) + len(truncated) == len(lines)


def test_the_log_tells_the_truth():
    """Joining the log's own feedback inside three days gives back the labels that `truth` states."""
    lines = log(changed(start=TUESDAY), days=HORIZON_DAYS + 3).filter(~pl.col("duplicate"))
    events = pl.DataFrame(
        [
            (c["ranking_id"], c["lawyer_id"], event["timestamp"], c.get("action"), c.get("rank_position"))
            for event in decoded(lines.filter(pl.col("kind").is_in(["impression", "feedback"])))
            for c in [event["context"]]
        ],
        schema=["ranking_id", "item_id", "time", "action", "position"],
        orient="row",
    ).with_columns(pl.col("time").str.to_datetime(time_zone="UTC"))
    shown, feedback = events.filter(pl.col("action").is_null()), events.filter(pl.col("action").is_not_null())
    labels = (
        feedback.join(shown, on=["ranking_id", "item_id"], suffix="_shown")
        .filter(pl.col("time") - pl.col("time_shown") < timedelta(days=3))
        .group_by("ranking_id", "item_id")
        .agg(pl.col("action").replace_strict({name: i for i, name in enumerate(ACTIONS)}).max().alias("label"))
    )
    expected = truth(changed(start=TUESDAY), TUESDAY, 2)
    found = expected.join(labels, on=["ranking_id", "item_id"], how="left").with_columns(pl.col("label").fill_null(0))
    assert found["label"].to_list() == found["relevance"].to_list()
    assert found.join(shown, on=["ranking_id", "item_id", "position", "time"]).height == expected.height > 500
    assert not found.filter(~pl.col("available") & (pl.col("label") > 0)).height


def test_nothing_arrives_after_the_horizon():
    assert MAX_ANSWER_HOURS + LATEST_HOURS + REDELIVERY_HOURS <= 24 * HORIZON_DAYS
    lines = log(changed(start=TUESDAY, late_share=1.0, duplicate_share=1.0), days=HORIZON_DAYS + 1)
    first_day = lines.filter(pl.col("kind").is_in(["impression", "feedback"]), pl.col("line").str.contains("r20250701"))
    sent = first_day.filter(~pl.col("duplicate"))["line"]
    redelivered = first_day.filter("duplicate")["line"]
    assert sorted(sent) == sorted(redelivered)
    assert sent.n_unique() == len(sent) > 300


def test_shares_of_faults_are_what_the_world_says():
    world = changed(start=TUESDAY, rankings_per_day=300, unavailable_share=0.1, duplicate_share=0.02, late_share=0.05)
    lines = log(world, days=12)
    sound = lines.filter(~pl.col("duplicate") & pl.col("kind").is_in(["impression", "feedback"]))
    events = decoded(sound)
    happened = pl.Series([event["timestamp"] for event in events]).str.to_datetime(time_zone="UTC")
    late = (sound["arrival"] - happened) > timedelta(minutes=10)
    shown = [event["context"]["available"] for event in events if event["message"] == "match_recommendation"]
    for count, of, share in [
        (int(lines["duplicate"].sum()), len(sound), world.duplicate_share),
        (int(late.sum()), len(sound), world.late_share),
        (shown.count(False), len(shown), world.unavailable_share),
        (int((lines["kind"] == "malformed").sum()), len(sound), world.malformed_share),
        (int((lines["kind"] == "unrelated").sum()), len(sound), world.unrelated_share),
    ]:
        assert abs(count - share * of) < 5 * np.sqrt(share * of), (count, of, share)
    assert set(lines.filter("duplicate")["line"]) <= set(sound["line"])


# Days


def test_weekends_are_quiet_and_the_event_day_is_busy():
    week = [SMALL.traffic(TUESDAY + ahead * DAY) for ahead in range(7)]  # Tuesday to Monday
    assert max(week[4:6]) < min(week[:4] + week[6:]) * 0.7
    world = changed(rankings_per_day=1000, event_day=9)
    wednesday, event = (len(rankings_on(world, TUESDAY + ahead * DAY).group) for ahead in (1, 8))
    assert world.is_event_day(TUESDAY + 8 * DAY)
    assert 2.2 * wednesday < event < 2.8 * wednesday


def test_on_an_event_day_clients_may_answer_another_way():
    plain, reversed_ = (changed(rankings_per_day=1000, event_day=9, event_effect=effect) for effect in (0.0, 1.0))
    event, other = TUESDAY + 8 * DAY, TUESDAY + 7 * DAY
    assert np.array_equal(rankings_on(plain, other).answer, rankings_on(reversed_, other).answer)
    liked = {}
    for effect in (0.0, 0.5, 1.0):
        shown = rankings_on(changed(rankings_per_day=1000, event_day=9, event_effect=effect), event)
        assert np.array_equal(shown.features, rankings_on(plain, event).features, equal_nan=True)
        liked[effect] = np.corrcoef(shown.utility, shown.relevance())[0, 1]
    assert liked[0.0] > 0.3
    assert abs(liked[0.5]) < 0.1
    assert liked[1.0] < -0.2
    with pytest.raises(SettingsError, match=r"event_effect=1\.5 of the simulated world"):
        changed(event_effect=1.5)


def test_visitors_of_an_event_day_want_something_else_too():
    world = changed(event_day=9, event_effect=1.0)
    on = {day: visits(world, 2000, np.random.default_rng(1), day=TUESDAY + day * DAY) for day in (7, 8)}
    liked = {day: np.corrcoef(seen.utility, seen.relevance)[0, 1] for day, seen in on.items()}
    assert liked[8] < -0.2 < 0.3 < liked[7]


def test_outages():
    day = TUESDAY + 2 * DAY
    kinds = {}
    for outage in ("silent", "no_feedback", "malformed"):
        lines = log(changed(outages={day: outage}), days=1, first=day)
        kinds[outage] = {kind: int((lines["kind"] == kind).sum()) for kind in ("impression", "feedback", "malformed")}
    assert sum(kinds["silent"].values()) == 0
    assert kinds["no_feedback"]["impression"] > 100
    assert kinds["no_feedback"]["feedback"] == 0
    assert kinds["malformed"]["malformed"] > 0.02 * kinds["malformed"]["impression"]


def test_on_a_noisy_day_answers_say_nothing_about_utility():
    noisy = changed(rankings_per_day=1000, outages={TUESDAY: "noise"})
    at = {}
    for world in (noisy, changed(rankings_per_day=1000)):
        shown = rankings_on(world, TUESDAY)
        at[world.outages.get(TUESDAY)] = np.corrcoef(shown.utility, shown.relevance())[0, 1]
    assert abs(at["noise"]) < 0.1
    assert at[None] > 0.3


def test_a_world_with_a_start_has_no_feedback_on_earlier_lists():
    for start, orphans in [(None, True), (TUESDAY, False)]:
        events = decoded(log(changed(start=start), days=2).filter(pl.col("kind") == "feedback"))
        assert any(event["context"]["ranking_id"] < "r20250701" for event in events) is orphans


def test_clients_and_lawyers_come_back_and_lawyers_change_slowly():
    shown = truth(changed(rankings_per_day=300), TUESDAY, 3)
    assert shown.group_by("query_id").agg(pl.col("ranking_id").n_unique())["ranking_id"].max() > 1
    assert shown.group_by("query_id").agg(pl.col("user_id").n_unique())["user_id"].max() == 1
    assert shown.group_by("user_id").agg(pl.col("ranking_id").n_unique())["ranking_id"].max() > 1
    lawyers = [set(rankings_on(changed(rankings_per_day=300), TUESDAY + n * DAY).item.tolist()) for n in (0, 1, 50)]
    assert len(lawyers[1] - lawyers[0]) <= 2
    assert 90 <= len(lawyers[2] - lawyers[0]) <= 100
    groups = shown.group_by("item_id").agg(pl.col("protected_group").n_unique())
    assert groups["protected_group"].max() == 1


# What is true


def test_lists_are_well_formed():
    shown = sample(SMALL, 2000, np.random.default_rng(1), only_available=False)
    assert (shown.group.min(), shown.group.max()) == (5, 20)
    assert len(set(zip(shown.ranking.tolist(), shown.item.tolist(), strict=True))) == len(shown.item)
    assert (shown.position == np.concatenate([np.arange(size) + 1 for size in shown.group])).all()
    missing = dict(zip(FEATURES, np.isnan(shown.features).mean(axis=0), strict=True))
    assert [name for name, share in missing.items() if share] == ["T", "R"]
    present = shown.features[~np.isnan(shown.features)]
    assert 0 <= present.min() < present.max() <= 1
    assert (present == present.astype(np.float64).round(3).astype(np.float32)).all()


def test_only_available_lawyers_keep_their_positions():
    everything = sample(SMALL, 500, np.random.default_rng(1), only_available=False)
    kept = sample(SMALL, 500, np.random.default_rng(1))
    assert kept.available.all()
    assert kept.group.sum() == everything.available.sum() < len(everything.item)
    assert (kept.position == everything.position[everything.available]).all()
    nobody = sample(changed(unavailable_share=1.0), 5, np.random.default_rng(1))
    assert (len(nobody.group), len(nobody.user), len(nobody.item)) == (0, 0, 0)


def test_utility_is_far_from_linear():
    features = drawn(changed(missing_share=0.0)).features.astype(np.float64)
    worth = utility(features)
    table = np.column_stack([features, np.ones(len(features))])
    residual = worth - table @ np.linalg.lstsq(table, worth, rcond=None)[0]
    assert 0.4 < 1 - residual.var() / worth.var() < 0.75


def test_examination_falls_with_position():
    shown = drawn(changed(exploration=100.0), 20_000)  # the order has nothing to do with appeal
    answered = [float((shown.answer[shown.position == position] >= 0).mean()) for position in (1, 2, 4, 8, 16)]
    assert all(above > below for above, below in itertools.pairwise(answered))
    assert answered[2] / answered[0] == pytest.approx(4**-SMALL.examination, rel=0.1)


def test_relevance_is_the_best_action_inside_the_window():
    assert {name: load_mapping().relevance[name] for name in ACTIONS} == {name: i for i, name in enumerate(ACTIONS)}
    assert load_mapping().features == FEATURES
    shown = drawn(SMALL)
    accepted_and_lost = (shown.answer == 2) & (shown.outcome == 0)
    assert set(shown.relevance(30)[accepted_and_lost]) == {2}
    assert (shown.relevance(3) <= shown.relevance(7)).all()
    in_time = (shown.relevance(3) > 0).sum() / (shown.relevance(30) > 0).sum()
    assert 0.98 < in_time < 1
    assert not shown.relevance(0).any()


def test_the_group_effect_lowers_the_answers_to_one_group_and_nothing_else():
    fair, unfair = (drawn(changed(group_effect=effect)) for effect in (0.0, 0.8))
    assert np.array_equal(fair.features, unfair.features, equal_nan=True)
    assert (fair.position == unfair.position).all()
    rate = {
        (name, group): float((shown.relevance()[shown.protected_group == group] > 0).mean())
        for name, shown in (("fair", fair), ("unfair", unfair))
        for group in (0, 1)
    }
    assert rate["fair", 0] == rate["unfair", 0]
    assert rate["fair", 1] == pytest.approx(rate["fair", 0], rel=0.08)
    assert rate["unfair", 1] < 0.5 * rate["fair", 1]


def test_a_trained_model_beats_the_legacy_weights_by_less_than_the_leakage_alarm():
    """The calibration that `make run` relies on, at the size of its training window."""
    world, rng = World(legacy_weights=LEGACY), np.random.default_rng(1)
    train, test = sample(world, 6600, rng), sample(world, 6000, rng)
    parameters = {"objective": "lambdarank", "num_leaves": 15, "num_threads": 1, "verbosity": -1}
    rows = lgb.Dataset(train.features, train.relevance(), group=train.group, position=train.position)
    model = lgb.train(parameters | {"lambdarank_position_bias_regularization": 0.1, "seed": 1}, rows, 80)
    weights = np.array([LEGACY.get(name, 0.0) for name in FEATURES])
    scores = {
        "model": model.predict(test.features),
        "legacy": np.nan_to_num(test.features) @ weights,
        "logged": -test.position,
        "random": np.zeros(len(test.item)),
    }
    found = {name: ndcg(metrics.Rankings(test.relevance(), score, test.group)) for name, score in scores.items()}
    mean = {name: float(np.nanmean(values)) for name, values in found.items()}
    eligible = np.isfinite(found["random"]).mean()
    assert 0.72 < mean["model"] < 0.79
    assert 0.04 < mean["model"] - mean["legacy"] < 0.085
    assert 0.44 < mean["random"] < 0.50
    assert mean["random"] + 0.15 < mean["logged"] < mean["model"]
    assert eligible > 0.75


def test_visits_are_answered_as_they_are_shown() -> None:
    """Return what clients do with a list that somebody else made: what they look at, they judge by its appeal."""
    rng = SMALL.rng(5)
    seen = visits(SMALL, 400, rng, day=date(2025, 7, 1))
    assert seen.group.sum() == len(seen.item)
    assert set(np.unique(seen.relevance)) == {0, 1, 2, 3}
    everything = answers(SMALL, seen, np.ones(len(seen.item), np.int32), rng)  # on top of the page nobody is overlooked
    best = np.maximum(everything.answer, everything.outcome).clip(min=0)
    assert (best == seen.relevance).all()
    nothing = answers(SMALL, seen, np.zeros(len(seen.item), np.int32), rng)
    assert (nothing.answer == -1).all()
    assert (nothing.outcome == -1).all()
    far = answers(SMALL, seen, np.full(len(seen.item), 20, np.int32), rng)
    assert 0.2 < (far.answer >= 0).sum() / (everything.answer >= 0).sum() < 0.5


def test_explored_lists_differ_by_swaps_of_neighbours_and_nothing_else_does():
    plain, explored = (drawn(changed(explored_share=share, unavailable_share=0.0), 2000) for share in (0.0, 0.5))
    assert np.isnan(plain.propensity).all()
    assert (plain.group == explored.group).all()
    swapped = plain.item != explored.item
    where = ~np.isnan(explored.propensity)
    assert not swapped[~where].any()
    assert 0.45 < where[explored.position == 1].mean() < 0.55
    assert set(explored.propensity[where]) == {0.5, 1.0}
    assert not swapped[where & (explored.propensity == 1.0)].any()
    pairs = coin_pairs(explored.group, explored.position, explored.propensity)
    assert len(pairs) == (explored.propensity == 0.5).sum() / 2
    moved = swapped[pairs.upper]
    assert 0.47 < moved.mean() < 0.53
    assert (explored.item[pairs.upper][moved] == plain.item[pairs.lower][moved]).all()
    assert (explored.item[pairs.lower][moved] == plain.item[pairs.upper][moved]).all()
    assert swapped.sum() == 2 * moved.sum()


def test_an_explored_log_says_so_and_another_says_nothing():
    assert not log(SMALL)["line"].str.contains("propensity|explore").any()
    events = decoded(log(changed(explored_share=0.5)).filter(pl.col("kind") == "impression"))
    by_policy = {True: set(), False: set()}
    for event in events:
        by_policy[event["context"]["algorithm_version"] == "legacy+explore"].add(event["context"]["propensity"])
    assert by_policy == {True: {0.5, 1.0}, False: {None}}
