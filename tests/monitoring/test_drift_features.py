"""One feature on a day: what is said of it, and when that alerts."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from ltr_pipeline.metrics.drift import compare
from ltr_pipeline.monitoring.drift_features import (
    LEAST_ROWS,
    Settled,
    decided,
    distribution,
    feature_drift,
    in_words,
    matters,
    watched,
)
from ltr_pipeline.monitoring.drift_rows import Seen
from ltr_pipeline.monitoring.records import Alert, FeatureDrift
from ltr_pipeline.monitoring.references import references
from support.seen import NAN, TODAY, ago, column, quiet, with_feature

SEEN = quiet()
PRICE = column(SEEN, "price")
CHANCE = np.random.default_rng(5).random(len(PRICE))
NOW = ago(SEEN) == 0
FORMER = references(TODAY, SEEN.days)
SETTLED = Settled(TODAY.toordinal(), FORMER, "", 0.05)
SINGLE = "there is only one"


def judged(
    values: object, settled: Settled = SETTLED, importance: dict[str, float] | None = None
) -> tuple[FeatureDrift, Alert | None]:
    drift, alert, design = feature_drift(with_feature(SEEN, "price", values), 2, settled, importance)
    assert design >= 1
    assert (drift.status == "alert") == (alert is not None)
    return drift, alert


def what(values: object) -> str:
    alert = judged(values)[1]
    assert alert is not None
    assert (alert.kind, alert.subject) == ("drift", "price")
    assert alert.remedy
    return alert.what


def test_a_feature_as_before_has_figures_and_no_reason():
    drift, _ = judged(PRICE)
    assert (drift.status, drift.reason, drift.importance) == ("fine", "", None)
    assert set(drift.psi) == set(drift.ks) == {"trailing", "weekday"}
    assert (drift.missing, drift.reference_missing) == (0, 0)
    assert drift.distribution is not None
    assert len(drift.distribution.current) == len(drift.distribution.edges) + 2
    assert sum(drift.distribution.reference) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (PRICE + NOW, "price is higher: its median is "),
        (PRICE - NOW, "price is lower: its median is "),
        (np.where(NOW, 3 * PRICE, PRICE), "price is spread wider: half of its values lie between "),
        (np.where(NOW, PRICE / 3, PRICE), "price is spread narrower: half of its values lie between "),
        (np.where(NOW, 7.5, PRICE), "price is higher: its median is 7.5, against "),
    ],
)
def test_it_says_how_a_feature_has_changed(values, said):
    found = what(values)
    assert found.startswith(said)
    assert "in the 28 days before; " in found
    assert " in the 4 Tuesdays before (KS distance 0." in found or "KS distance 1." in found


def test_a_share_that_goes_missing_is_told_by_its_figures():
    found = what(np.where(NOW & (CHANCE < 0.1), NAN, PRICE))
    share = 100 * (CHANCE[NOW] < 0.1).mean()
    assert found == (
        f"price is missing in {share:.1f} % of the rows, against 0.0 % in the 28 days before and 0.0 % in the 4 "
        "Tuesdays before"
    )


def test_with_one_reference_figures_are_shown_and_do_not_alert():
    drift, _ = judged(PRICE + NOW, Settled(TODAY.toordinal(), FORMER[:1], SINGLE, 0.05))
    assert (drift.status, drift.reason) == ("not_evaluable", SINGLE)
    assert drift.ks["trailing"] > 0.3


# Types


WHOLE = np.floor(10 * CHANCE)


@pytest.mark.parametrize("single", ["", SINGLE])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            np.where(NOW, np.floor(10 * CHANCE), 10 * CHANCE),
            "price has changed its type: all its values are whole numbers, and 100.0 % had a fraction in the 28 days "
            "before",
        ),
        (
            np.where(NOW, WHOLE + 0.25, WHOLE),
            "price has changed its type: 100.0 % of its values have a fraction, and all were whole numbers in the 28 "
            "days before",
        ),
    ],
    ids=["to whole numbers", "to fractions"],
)
def test_another_type_alerts_whatever_it_is_compared_with(values, said, single):
    drift, alert = judged(values, Settled(TODAY.toordinal(), FORMER, single, 0.05))
    assert (drift.status, drift.reason) == ("alert", said)
    assert alert is not None
    assert alert.what == said


def test_whole_numbers_that_chance_draws_are_no_other_type():
    """One row in a hundred has a value, and one value in ten a fraction: most days have none with a fraction."""
    rare = np.where((100 * CHANCE) % 1 < 0.1, 0.5, 1.0)
    values = np.where(CHANCE < 0.01, rare, NAN)
    values[NOW] = np.where(CHANCE[NOW] < 0.01, 1.0, NAN)
    assert judged(values)[1] is None
    values = np.where(CHANCE < 0.01, 1.0, NAN)
    values[np.flatnonzero(NOW & (CHANCE < 0.01))[0]] = 0.5
    assert "type" not in judged(values)[0].reason, "one has"


def test_fractions_that_one_list_has_are_no_type():
    assert judged(np.where(~NOW & (CHANCE < 0.04), WHOLE + 0.5, WHOLE))[1] is None


# What cannot be compared


def test_a_new_feature_is_not_evaluable_until_it_has_rows_enough():
    drift, _ = judged(np.where(ago(SEEN) <= 6, PRICE, NAN))
    began = TODAY - dt.timedelta(days=6)
    assert (drift.status, drift.reason) == (
        "not_evaluable",
        f"it is new: it has values since {began}, too few days to compare with",
    )
    assert (drift.psi, drift.distribution, drift.missing) == ({}, None, 0)
    since = np.where(ago(SEEN) <= 7, PRICE, NAN)
    assert judged(since)[0].status == "fine"
    assert (SEEN.rows.day == TODAY.toordinal() - 7).sum() >= LEAST_ROWS
    assert judged(since + NOW)[1] is not None, "it is compared with the days since it began"


def test_a_vanished_feature_alerts_even_with_one_reference():
    for settled in (SETTLED, Settled(TODAY.toordinal(), FORMER[:1], SINGLE, 0.05)):
        drift, alert = judged(np.where(NOW | (CHANCE < 0.25), NAN, PRICE), settled)
        assert (drift.status, drift.reason, drift.missing) == ("alert", "it has vanished", 1)
        assert alert is not None
        assert alert.what.startswith("price has vanished: no row has a value, against 7")
        assert alert.what.endswith(" % of the rows in the 28 days before")


def test_a_feature_that_hardly_any_row_had_does_not_vanish():
    drift, _ = judged(np.where(~NOW & (CHANCE < 0.04), PRICE, NAN))
    assert (drift.status, drift.reason) == ("not_evaluable", "hardly any row had a value before")


def test_a_feature_without_any_value_says_so():
    drift, _ = judged(NAN)
    assert (drift.status, drift.reason) == (
        "not_evaluable",
        "it has no value, neither on this day nor in those before",
    )


def test_a_feature_whose_table_cannot_be_read_says_why():
    gone = with_feature(SEEN, "price", NAN)
    seen = Seen(gone.names, gone.matrix, gone.rows, gone.asker, unreadable={"price": "no such file"})
    drift, alert, _ = feature_drift(seen, 2, SETTLED, None)
    assert (drift.status, drift.reason, alert) == ("not_evaluable", "no such file", None)


def test_a_constant_feature_is_fine_and_one_that_becomes_constant_is_told():
    drift, _ = judged(7.5)
    assert (drift.status, drift.reason) == ("fine", "it is constant: every value is 7.5")
    found = what(np.where(NOW, 0.5, CHANCE))
    assert found.startswith("price is spread narrower: half of its values lie between 0.5 and 0.5, against ")


# What the model needs


def test_what_the_model_hardly_needs_is_shown_and_nobody_is_told():
    importance = {"fit": 0.99, "near": 0.0, "price": 0.01}
    drift, alert = judged(PRICE + NOW, importance=importance)
    assert (drift.status, drift.importance, alert) == ("fine", 0.01, None)
    assert drift.reason.startswith("price is higher")
    assert drift.reason.endswith("; it holds 1.0 % of the gain of the model in use, so nobody is told")
    assert judged(PRICE + NOW, importance={"price": 0.02})[0].status == "alert"


def test_features_are_watched_by_what_the_model_needs():
    assert watched(["a", "b"], None) == ["a", "b"]
    assert watched(["a", "b", "c"], {"a": 0.981, "b": 0.019}) == ["a"]
    many = [f"f{place}" for place in range(100)]
    assert watched(many, dict.fromkeys(many, 0.01)) == many, "of many features none has a large share"


# Parts


def test_a_difference_that_is_sure_and_small_does_not_matter():
    large = quiet(lists=400)  # sure of a tenth of a standard deviation
    values = column(large, "price") + 0.08 * (ago(large) == 0)
    found = compare(values, large.rows, TODAY.toordinal(), {one.name: one.days for one in FORMER})
    assert found.tests * found.differences[0].p < 0.05
    assert not matters(found.differences[0], found)
    assert decided(found, 0.05) is None
    assert in_words(found, FORMER).startswith("KS distance 0.0")


def test_a_graphic_has_no_bin_that_nobody_is_in():
    of_two = np.where(CHANCE < 0.5, 1.0, 2.0).astype(np.float32)
    shown = distribution(compare(of_two, SEEN.rows, TODAY.toordinal(), {"trailing": FORMER[0].days}))
    assert (len(shown.edges), len(shown.reference)) == (1, 3)
    assert shown.current[-1] == 0


def test_the_spread_of_a_handful_of_values_tells_nothing():
    values = np.where(CHANCE < 0.01, 1.0, NAN)
    values[NOW] = NAN
    here = np.flatnonzero(NOW)
    values[here[:8]] = [1, 1, 1, 1, 1, 1, 1, 60]  # eight of 800, one of them odd
    assert judged(values)[1] is None
