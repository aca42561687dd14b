"""Labels, positions, list lengths, scores and shares: what is said of each, and when it alerts."""

from __future__ import annotations

import numpy as np
import pytest

from ltr_pipeline.metrics.drift import Rows
from ltr_pipeline.monitoring.drift_measures import LEAST_EVENTS, MEASURES, measure_drift
from ltr_pipeline.monitoring.drift_rows import Column
from ltr_pipeline.monitoring.records import Alert, MeasureDrift
from ltr_pipeline.monitoring.references import references
from support.seen import NAN, TODAY, ago, quiet

SEEN = quiet()
NOW = ago(SEEN) == 0
CHANCE = np.random.default_rng(5).random(len(NOW))
FORMER = references(TODAY, SEEN.days)


def judged(name: str, values: object, rows: Rows = SEEN.rows, single: str = "") -> tuple[MeasureDrift, Alert | None]:
    of_rows = np.broadcast_to(np.asarray(values, dtype=np.float32), rows.day.shape)
    drift, alert = measure_drift(name, Column(of_rows, rows), TODAY.toordinal(), FORMER, single)
    assert (drift.name, drift.status == "alert") == (name, alert is not None)
    assert alert is None or (alert.subject, alert.what) == (name, drift.reason)
    return drift, alert


def share(now: float, before: float) -> np.ndarray:
    """Ones in this share of the rows, else zeros."""
    return np.less(CHANCE, np.where(NOW, now, before))


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_as_before_is_fine(name):
    drift, _ = judged(name, CHANCE < 0.5)
    assert (drift.status, drift.reason) == ("fine", "")
    assert drift.current == pytest.approx(0.5, abs=0.05)
    assert set(drift.reference) == set(drift.distance) == {"trailing", "weekday"}


def test_feedback_that_finds_no_impression_alerts():
    drift, alert = judged("joined_share", share(0.6, 0.97))
    assert alert is not None
    assert alert.what.startswith("the share of interactions that belong to an impression is 6")
    assert "%, against 96.9% in the 28 days before and 9" in alert.what
    assert "ids that feedback is sent with" in alert.remedy
    assert drift.distance["trailing"] == pytest.approx(-0.37, abs=0.05)


def test_a_share_that_changes_by_less_than_two_points_does_not_matter():
    large = quiet(lists=400)
    chance = np.random.default_rng(5).random(len(large.matrix))
    values = np.where(ago(large) == 0, chance < 0.985, chance < 0.999)
    drift, _ = judged("unavailable_share", values, large.rows)
    assert drift.status == "fine"
    assert drift.p < 0.001


def test_labels_alert_from_a_fifth_on():
    assert judged("labels", share(0.2, 0.4))[0].reason.startswith("the mean label by the end of the day is 0.")
    assert judged("labels", share(0.37, 0.4))[1] is None


def test_what_all_answers_have_lost_alerts():
    drift, _ = judged("labels", np.where(NOW, 0, CHANCE < 0.3))
    assert (drift.status, drift.current) == ("alert", 0)


@pytest.mark.parametrize("name", ["positions", "list_length", "scores"])
def test_distributions_alert_as_features_do(name):
    drift, alert = judged(name, 10 * CHANCE + 3 * NOW)
    assert alert is not None
    assert drift.reason.startswith(f"{MEASURES[name]} is 7.99")
    assert "(KS distance 0." in drift.reason


def test_what_is_no_longer_logged_alerts():
    drift, _ = judged("positions", np.where(NOW, NAN, 10 * CHANCE))
    assert drift.reason == "positions is missing in 100.0% of the rows, against 0.0% and 0.0% before"
    assert drift.current is None


def test_what_is_logged_for_the_first_time_is_new_and_alerts_of_nothing():
    drift, _ = judged("positions", np.where(NOW, 10 * CHANCE, NAN))
    assert (drift.status, drift.reason) == ("not_evaluable", "it is new: it was not logged in the days before")
    assert (drift.current > 0, drift.reference) == (True, {})


def test_what_is_not_logged_says_so():
    drift, _ = judged("positions", NAN)
    assert (drift.status, drift.reason) == ("not_evaluable", "it is not logged")


@pytest.mark.parametrize(("name", "least"), [("joined_share", LEAST_EVENTS), ("labels", 500)])
@pytest.mark.parametrize("few", [NOW, ~NOW, NOW & False], ids=["day", "references", "none now"])
def test_below_the_least_sample_there_is_no_judgment(name, least, few):
    kept = ~few | (np.cumsum(few) < least) if few.any() else ~NOW
    rows = Rows(day=SEEN.rows.day[kept], cluster=SEEN.rows.cluster[kept])
    drift, _ = judged(name, share(0.1, 0.9)[kept], rows)
    assert drift.status == "not_evaluable"
    assert drift.reason.startswith("there are ")
    assert drift.reason.endswith(f" before; it takes {least}")
    assert drift.distance == {}


def test_with_one_reference_figures_are_shown_and_do_not_alert():
    drift, _ = judged("joined_share", share(0.1, 0.9), single="there is only one")
    assert (drift.status, drift.reason) == ("not_evaluable", "there is only one")
    assert drift.distance["weekday"] < -0.7


def test_references_have_to_agree():
    """Tuesdays are always so."""
    tuesday = SEEN.rows.day % 7 == TODAY.toordinal() % 7
    assert judged("joined_share", np.where(tuesday, CHANCE < 0.5, CHANCE < 0.9))[1] is None
