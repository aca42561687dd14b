"""What K-Means finds, what it is called, and what cannot be segmented."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ltr_pipeline.errors import SegmentError
from ltr_pipeline.segments import training
from ltr_pipeline.segments.comparison import ARI_MIN, compare
from ltr_pipeline.segments.labels import words
from ltr_pipeline.segments.model import OLD_AFTER, decoded, encoded, nearest, notices
from ltr_pipeline.segments.parameters import WORDING, LevelParameters
from support.segments import NOW, PERIODS, USERS, engagement, parameters

TABLE = engagement(2000)
SECONDS = dt.timedelta(seconds=1)


def trained(table=TABLE, level=USERS, **fields):
    seed = fields.pop("seed", 2025)
    return training.train(table, level, parameters(level, **fields), PERIODS, seed=seed, now=NOW)


MODEL = trained()


def changed(**fields):
    return msgspec.structs.replace(USERS, **fields)


def test_each_sort_of_user_gets_the_word_for_how_engaged_it_is():
    rows = MODEL.assign(TABLE)
    sorts = [4, 3, 2, 1, 0]  # of the table, the most active first
    assert [np.bincount(rows[sort::5], minlength=5).argmax() for sort in sorts] == [0, 1, 2, 3, 4]
    assert MODEL.labels["pt"] == WORDING["pt"]
    assert MODEL.labels["en"] == WORDING["en"]
    assert (MODEL.rows, MODEL.entities, MODEL.start, MODEL.end) == (2000, 2000, *PERIODS[0])
    assert MODEL.silhouette is not None
    assert 0.2 < MODEL.silhouette < 1


def test_assignment_is_that_of_kmeans_itself():
    from sklearn.cluster import KMeans

    kmeans = KMeans(n_clusters=5, n_init=1, init=np.array(MODEL.centroids), max_iter=1).fit(MODEL.scaled(TABLE))
    kmeans.cluster_centers_ = np.array(MODEL.centroids)
    assert kmeans.predict(MODEL.scaled(TABLE)).tolist() == MODEL.assign(TABLE).tolist()


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=20),
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=6),
)
def test_nearest_is_nearest(rows, centroids):
    found = nearest(np.array(rows), np.array(centroids))
    distances = cdist(rows, centroids)
    assert distances[np.arange(len(rows)), found] == pytest.approx(distances.min(axis=1), rel=1e-12, abs=1e-300)


def test_no_chunk_is_left_out():
    rows = np.arange(40_000.0)[:, None]
    assert nearest(rows, np.array([[0.0], [39_999.0]])).sum() == 20_000


def test_the_same_rows_and_seed_give_the_same_model_whatever_their_order():
    again = trained(TABLE.sample(fraction=1, shuffle=True, seed=7).sort("entity"))
    assert compare(TABLE, again, MODEL, 1).ari == pytest.approx(1, abs=0.01)
    assert trained() == MODEL


def test_more_rows_than_are_trained_on_are_drawn_from(monkeypatch):
    monkeypatch.setattr(training, "TRAINED_ROWS", 1500)
    few = trained()
    assert few.rows == 2000
    assert compare(TABLE, few, MODEL, 1).ari > 0.95


def test_a_model_is_plain_json_and_comes_back_whole():
    assert decoded(encoded(MODEL), "here") == MODEL


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "no model of segments"),
        (encoded(MODEL).replace('"days"', '"daze"', 1), "it needs daze, which nothing counts"),
    ],
)
def test_a_model_that_was_tampered_with_is_refused(text, sentence):
    with pytest.raises(SegmentError, match=sentence):
        decoded(text, "here")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"center": MODEL.center[1:]}, "4 features, 3 centers"),
        ({"scale": (0.0, *MODEL.scale[1:])}, "not every scale is above 0"),
        ({"centroids": MODEL.centroids[1:]}, "4 centroids, and not as many labels"),
        ({"centroids": tuple(row[1:] for row in MODEL.centroids)}, "not every centroid has 4"),
        ({"center": (float("inf"), *MODEL.center[1:])}, "not every number is finite"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(fields, sentence):
    with pytest.raises(SegmentError, match=f"the model of level user is not whole: .*{sentence}"):
        msgspec.structs.replace(MODEL, **fields)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (TABLE.clear(), "level user: nothing landed from 2025-07-14 to 2025-07-21 names one"),
        (TABLE.with_columns(days=pl.lit(1)), "days is the same in all 2,000 rows and tells nobody apart"),
        (TABLE.head(4), "its 4 rows differ in . ways only, too few for k = 5 segments"),
        (TABLE.with_columns(lists=pl.lit(float("nan"))), "lists of 2,000 rows is missing or no count, the first nan"),
        (TABLE.with_columns(lists=pl.lit(None, pl.Int64)), "lists of 2,000 rows is missing"),
        (TABLE.with_columns(lists=pl.lit(-1)), "the first -1"),
    ],
)
def test_what_cannot_be_segmented_is_said_in_a_sentence(table, sentence):
    with pytest.raises(SegmentError, match=sentence):
        trained(table)


def test_rows_that_are_half_zeros_are_scaled_by_their_spread():
    table = engagement(500, means=(0.0, 0.0, 0.0, 5.0, 50.0))
    model = trained(table, changed(k=2))
    assert all(np.isfinite(model.scale))
    assert model.assign(table)[4::5].tolist() == [0] * 100


def test_training_alone_needs_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(SegmentError, match=r"needs sklearn.cluster: pip install 'ltr-pipeline\[segments\]'"):
        trained()


def test_assigning_imports_no_scikit_learn():
    script = (
        "import sys; from ltr_pipeline.segments import model, comparison, training; print('sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_another_seed_and_another_draw_agree():
    other = trained(seed=7)
    assert compare(TABLE, other, MODEL, 3).ari > 0.95
    drawn = engagement(2000, seed=9)
    found = compare(drawn, trained(drawn), MODEL, 3)
    assert found.ari is not None
    assert found.ari > 0.9
    assert found.kept_label > 0.9
    assert found.old_to_new == {index: index for index in range(5)}
    assert (found.former, found.reason) == (3, "")


def test_a_model_of_another_world_is_not_taken_and_the_reason_is_said():
    other = engagement(2000, means=(0.0, 20.0, 22.0, 24.0, 26.0))
    found = compare(other, trained(other), MODEL, 3)
    assert found.ari is not None
    assert found.ari < ARI_MIN
    assert found.reason == f"its agreement with the former one (ARI) is {found.ari:.3f}, below 0.8"


def test_models_of_different_periods_cannot_be_compared():
    months = msgspec.structs.replace(MODEL, granularity="month")
    found = compare(TABLE, months, MODEL, 3)
    assert (found.ari, found.kept_label) == (None, None)
    assert found.reason == "it counts by month and the former one by week, which cannot be compared"


def test_labels_without_a_common_language_cannot_be_held_against_each_other():
    english = msgspec.structs.replace(MODEL, labels={"en": MODEL.labels["en"]})
    portuguese = msgspec.structs.replace(MODEL, labels={"pt": MODEL.labels["pt"]})
    assert compare(TABLE, english, portuguese, 1).kept_label is None


def test_a_current_model_needs_no_notice():
    assert notices(MODEL, USERS, parameters(), NOW + OLD_AFTER) == []


@pytest.mark.parametrize(
    ("level", "fields", "sentence"),
    [
        (changed(k=4), {}, "k 5 → 4"),
        (USERS, {"granularity": "day"}, "granularity week → day"),
        (changed(weights={"days": 1.0}), {}, "weights .* → {'days': 1.0}"),
        (changed(features=("days", "lists"), weights={"days": 1.0}), {}, r"features .* → \['days', 'lists'\]"),
        (USERS, {"wording": {"pt": ("a", "b", "c", "d", "e")}}, "labels .* → {'pt': "),
    ],
)
def test_parameters_that_are_newer_than_the_model_are_said(level, fields, sentence):
    (said,) = notices(MODEL, level, parameters(level, **fields), NOW)
    pattern = f"the parameters of level user are newer than its model: .*{sentence}.*; `ltr segments train` makes"
    assert re.match(pattern, said)


def test_an_old_model_is_said_to_be_old():
    (said,) = notices(MODEL, USERS, parameters(), NOW + OLD_AFTER + SECONDS)
    assert said == "the model of level user is 90 days old; `ltr segments train` makes a new one"


def test_three_segments_take_three_of_five_words():
    assert trained(level=changed(k=3)).labels == {k: tuple(v) for k, v in words(3, WORDING).items()}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"level": "usr"}, "there is no such level; there are user, item"),
        ({"k": 1}, "k is 1, but must be from 2 to 50"),
        ({"features": ()}, "features must name at least one"),
        ({"features": ("dayz",), "weights": {}}, r"features names dayz \(did you mean days\?\)"),
        ({"weights": {"impressions": 1.0}}, "weights names impressions.*, which is not among its features"),
        ({"weights": {"days": float("nan")}}, "weights must be finite"),
        ({"weights": {}}, "one of them not 0"),
    ],
)
def test_levels_that_contradict_themselves_are_refused(fields, sentence):
    with pytest.raises(SegmentError, match=f"config.segment_levels, level .*{sentence}"):
        LevelParameters(**msgspec.structs.asdict(USERS) | fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"granularity": "year"}, "granularity is 'year'; there are day, week, month"),
        ({"periods": 0}, "periods is 0, but must be from 1 to 366"),
        ({"levels": ()}, "no level is active"),
        ({"language": "de"}, "language is 'de', but config.segment_labels has words in pt, en"),
        ({"wording": {"pt": ("muito", "pouco")}}, "has 2 labels in 'pt', but level user has k = 5 segments"),
    ],
)
def test_parameters_that_contradict_themselves_are_refused(fields, sentence):
    with pytest.raises(SegmentError, match=sentence):
        parameters(**fields)
