"""The report of a day: its references, what makes it not evaluable, and that only what is known can alert."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from ltr_pipeline.metrics.drift import Rows
from ltr_pipeline.monitoring.drift import report_of
from ltr_pipeline.monitoring.drift_rows import Seen
from ltr_pipeline.scoring.scorer import Scorer
from support.seen import NAN, TODAY, TUESDAYS, ago, column, quiet, with_feature

DAY = dt.timedelta(days=1)
SEEN = quiet()
DRAWN = np.random.default_rng(5).standard_normal(len(SEEN.matrix))


def subjects(report):
    return [alert.subject for alert in report.alerts]


def features(report):
    return {one.name: one for one in report.features}


def shifted(seen: Seen, name: str, by: float = 1.0) -> Seen:
    return with_feature(seen, name, column(seen, name) + by * (ago(seen) == 0))


def correlated(seen: Seen) -> Seen:
    """Fit goes with near on the day, and did not before."""
    mixed = 0.8 * column(seen, "near") + 0.6 * column(seen, "fit")
    return with_feature(seen, "fit", np.where(ago(seen) == 0, mixed, column(seen, "fit")))


def on(seen: Seen, rows: np.ndarray) -> Seen:
    """Some of the rows."""
    return replace(
        seen,
        matrix=seen.matrix[rows],
        rows=Rows(day=seen.rows.day[rows], cluster=seen.rows.cluster[rows]),
        asker=seen.asker[rows],
    )


def test_a_day_like_those_before_is_fine():
    report = report_of(SEEN, TODAY)
    assert (report.status, report.reason, report.alerts) == ("fine", "", [])
    assert (report.rows, report.rankings) == (800, 40)
    assert [(one.name, one.days, one.rows) for one in report.references] == [
        ("trailing", 28, 22_400),
        ("weekday", 4, 3_200),
    ]
    assert {one.status for one in report.features} == {"fine"}
    assert [(one.reference, one.together) for one in report.domain] == [("trailing", None), ("weekday", None)]


def test_a_feature_that_moves_alerts_once_and_explains_the_classifier():
    report = report_of(shifted(SEEN, "price"), TODAY)
    assert (report.status, subjects(report)) == ("alert", ["price"])
    assert features(report)["price"].reason == report.alerts[0].what
    assert all(one.auc.low > 0.55 and next(iter(one.leading)) == "price" for one in report.domain)


def test_features_that_go_together_otherwise_alert_together():
    report = report_of(correlated(SEEN), TODAY)
    assert subjects(report) == ["all features together"]
    (alert,) = report.alerts
    assert "against the 28 days before and 0." in alert.what
    assert {"fit", "near"} <= set(alert.remedy.replace(",", "").split())


def test_the_same_is_reported_again():
    seen = correlated(SEEN)
    assert report_of(seen, TODAY) == report_of(seen, TODAY)


# What cannot be evaluated


def test_without_any_row_it_says_so():
    nothing = on(SEEN, np.zeros(len(SEEN.matrix), dtype=bool))
    report = report_of(replace(nothing, totals={}), TODAY)
    assert (report.status, report.reason) == ("not_evaluable", "no list was shown on 2025-07-29")
    assert {(one.status, one.reason) for one in report.features} == {("not_evaluable", report.reason)}
    assert (report.rows, report.references, report.domain, report.measures, report.alerts) == (0, [], [], [], [])


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (on(SEEN, (ago(SEEN) > 0) | (np.cumsum(ago(SEEN) == 0) <= 499)), "499 impressions were shown on 2025-07-29"),
        (
            on(SEEN, (ago(SEEN) == 0) | ((ago(SEEN) == 2) & (np.cumsum(ago(SEEN) == 2) <= 499))),
            "499 impressions were shown in the day before",
        ),
        (
            on(SEEN, (ago(SEEN) % 7 > 0) | (ago(SEEN) == 0) | (np.cumsum(ago(SEEN) == 7) <= 499) & (ago(SEEN) == 7)),
            "499 impressions were shown in the Tuesday before",
        ),
    ],
    ids=["day", "reference", "weekday"],
)
def test_below_500_rows_nothing_is_judged(seen, reason):
    report = report_of(shifted(seen, "price", 9), TODAY)
    assert (report.status, report.reason) == ("not_evaluable", f"{reason}; it takes 500 to compare")
    assert {(one.status, one.reason) for one in report.features} == {("not_evaluable", report.reason)}
    assert (report.domain, report.alerts) == ([], [])


def test_the_first_day_of_a_log_has_nothing_to_be_compared_with():
    report = report_of(quiet(days=0), TODAY)
    assert (report.status, report.reason) == (
        "not_evaluable",
        "nothing was shown in the 28 days before 2025-07-29",
    )
    assert (report.rows, report.references, report.alerts) == (800, [], [])


def test_with_one_day_of_history_figures_are_shown_and_do_not_alert():
    report = report_of(correlated(shifted(quiet(days=1), "price", 3)), TODAY)
    assert report.status == "not_evaluable"
    assert report.reason == (
        "no Tuesday before has any list, and other days alone cannot tell a change from a weekday, so its figures are "
        "shown and do not alert; from 2025-08-05 on they can"
    )
    assert report.alerts == []
    price = features(report)["price"]
    assert (price.status, price.reason) == ("not_evaluable", report.reason)
    assert price.ks["trailing"] > 0.5
    assert [one.reference for one in report.domain] == ["trailing"]


def test_what_needs_no_second_reference_alerts_on_the_second_day():
    seen = with_feature(quiet(days=1), "stars", 1.5)
    seen = with_feature(seen, "price", np.where(ago(seen) == 0, NAN, 1))
    report = report_of(with_feature(seen, "stars", np.where(ago(seen) == 0, 2, 1.5)), TODAY)
    assert [alert.what.split(":")[0] for alert in report.alerts] == ["price has vanished", "stars has changed its type"]


# Declared events


def test_an_event_without_a_former_year_is_shown_and_does_not_alert():
    report = report_of(shifted(SEEN, "price", 3), TODAY, events=["Price war"])
    assert (report.status, report.alerts, report.events) == ("not_evaluable", [], ["Price war"])
    assert report.reason.startswith("the day is a declared event of which there is no former year to compare with")
    assert features(report)["price"].ks["trailing"] > 0.5


def of_last_year(seen: Seen, moved: float) -> tuple[Seen, dt.date]:
    """Make the first of the days one of last year, on which the price was as different as it is on this day."""
    former = TODAY - 364 * DAY
    first = ago(seen) == 28
    seen = with_feature(seen, "price", column(seen, "price") + moved * (first | (ago(seen) == 0)))
    day = np.where(first, former.toordinal(), seen.rows.day)
    return replace(seen, rows=Rows(day=day, cluster=seen.rows.cluster)), former


def test_an_event_is_compared_with_its_former_year_instead_of_the_weekday():
    seen, former = of_last_year(SEEN, 0.5)
    report = report_of(seen, TODAY, events=["Price war"], former=[former])
    assert [(one.name, one.days) for one in report.references] == [("trailing", 27), ("event", 1)]
    assert (report.status, report.alerts) == ("fine", [])
    assert report_of(shifted(seen, "price"), TODAY, events=["Price war"], former=[former]).status == "alert"


def test_an_event_with_a_former_year_and_no_days_before_it_says_what_it_lacks():
    seen, former = of_last_year(quiet(), 0)
    seen = on(seen, np.isin(seen.rows.day, [former.toordinal(), TODAY.toordinal()]))
    report = report_of(shifted(seen, "price", 3), TODAY, events=["Price war"], former=[former])
    assert (report.status, report.alerts) == ("not_evaluable", [])
    assert report.reason == (
        "nothing was shown in the 28 days before 2025-07-29, so figures are those of the event's former years alone, "
        "are shown and do not alert"
    )


# Both references


@pytest.mark.parametrize("days", [TUESDAYS, None], ids=["as every Tuesday", "unlike the other days only"])
def test_what_only_one_reference_says_is_no_alert(days):
    """Tuesdays are always so; or the other days have changed and Tuesdays have not yet."""
    tuesday = np.isin(SEEN.rows.day, [*TUESDAYS, TODAY.toordinal()])
    moved = tuesday if days else ~tuesday
    report = report_of(with_feature(SEEN, "price", column(SEEN, "price") + moved), TODAY)
    assert (report.status, report.alerts) == ("fine", [])
    assert features(report)["price"].ks["trailing"] > 0.3


# Features that cannot be compared have no part in the classifier


@pytest.mark.parametrize("days", [0, 1, 3, 10, 20])
def test_a_new_feature_alerts_of_nothing(days):
    """Its values are where none were before: by that alone a classifier tells the day apart."""
    report = report_of(with_feature(SEEN, "new", np.where(ago(SEEN) <= days, DRAWN, NAN)), TODAY)
    assert (report.status, report.alerts) == ("fine", [])
    new = features(report)["new"]
    if days < 7:  # there is no Tuesday with it
        began = TODAY - days * DAY
        assert (new.status, new.reason) == (
            "not_evaluable",
            f"it is new: it has values since {began}, too few days to compare with",
        )
    else:
        assert (new.status, new.reason) == ("fine", "")
    assert all("new" not in one.leading and one.auc.low < 0.55 for one in report.domain)


def test_a_vanished_feature_alerts_and_hides_nothing():
    seen = correlated(with_feature(SEEN, "gone", np.where(ago(SEEN) == 0, NAN, DRAWN)))
    report = report_of(seen, TODAY)
    assert subjects(report) == ["gone", "all features together"]
    assert all("gone" not in one.leading for one in report.domain)


def test_what_was_never_there_or_cannot_be_read_is_said_and_alerts_of_nothing():
    seen = with_feature(with_feature(SEEN, "empty", NAN), "table", np.where(ago(SEEN) == 0, NAN, DRAWN))
    report = report_of(replace(seen, unreadable={"table": "no such file"}), TODAY)
    assert (report.status, report.alerts) == ("fine", [])
    told = {name: (one.status, one.reason) for name, one in features(report).items()}
    assert told["empty"] == ("not_evaluable", "it has no value, neither on this day nor in those before")
    assert told["table"] == ("not_evaluable", "no such file")
    assert all(one.auc.low < 0.55 for one in report.domain)


def test_where_no_feature_can_be_compared_there_is_no_classifier():
    report = report_of(replace(SEEN, matrix=np.full_like(SEEN.matrix, np.nan)), TODAY)
    assert (report.status, report.domain, report.alerts) == ("fine", [], [])


def test_constant_features_are_fine():
    report = report_of(replace(SEEN, matrix=np.full_like(SEEN.matrix, 7)), TODAY)
    assert (report.status, report.alerts) == ("fine", [])
    assert {(one.status, one.reason) for one in report.features} == {("fine", "it is constant: every value is 7")}
    assert {one.auc.low for one in report.domain} == {None}


def test_gaps_are_no_matter_of_what_goes_together():
    """An outage that is over, and a share that is another one every day: of both the features tell, or nobody does."""
    chance = np.random.default_rng(0)
    varies = np.append(chance.beta(1, 3, 28), 0.5).repeat(800)
    for gone in ((ago(SEEN) > 0) & (ago(SEEN) <= 14), chance.random(len(DRAWN)) < varies):
        report = report_of(with_feature(SEEN, "price", np.where(gone, NAN, DRAWN)), TODAY)
        assert (report.status, report.alerts) == ("fine", [])
        assert any(one.auc.low > 0.55 for one in report.domain)  # it does tell the day apart


# The model in use


def test_features_that_the_model_hardly_needs_stay_silent():
    """Neither by themselves nor in the classifier."""
    seen = with_feature(shifted(SEEN, "price", 3), "gone", np.where(ago(SEEN) == 0, NAN, DRAWN))
    report = report_of(seen, TODAY, importance={"fit": 0.6, "near": 0.385, "price": 0.01, "gone": 0.005})
    assert (report.status, report.alerts) == ("fine", [])
    price, gone = features(report)["price"], features(report)["gone"]
    assert (price.status, price.importance) == ("fine", 0.01)
    assert price.reason.endswith("; it holds 1.0 % of the gain of the model in use, so nobody is told")
    assert gone.reason.startswith("gone has vanished")
    assert all(set(one.leading) == {"fit", "near"} for one in report.domain)


def test_a_change_that_alerts_alerts_of_scores_too():
    scorer = Scorer.from_linear({"price": 1.0}, ["price"])
    report = report_of(shifted(SEEN, "price"), TODAY, scorer=scorer)
    assert subjects(report) == ["price", "scores"]


def test_a_scorer_may_need_a_feature_that_the_mapping_has_no_more():
    scorer = Scorer.from_linear({"former": 1.0, "price": 1.0}, ["former", "price"])
    (scores,) = report_of(SEEN, TODAY, scorer=scorer).measures
    assert (scores.name, scores.status) == ("scores", "fine")
    assert scores.current == pytest.approx(column(SEEN, "price")[ago(SEEN) == 0].mean(), abs=1e-5)
    alone = report_of(SEEN, TODAY, scorer=Scorer.from_linear({"former": 1.0}, ["former"]))
    assert (alone.status, alone.measures[0].current) == ("fine", 0.0)
