"""When a figure fell: the arithmetic by hand, and what it is held against."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from msgspec.structs import replace

from ltr_pipeline.monitoring.falls import LEAST_DAYS, USUAL_DAYS, judged
from ltr_pipeline.monitoring.records import Figure, Outcomes

DAY = dt.date(2025, 7, 31)
VERSION = "20250731_0215"


def figure(value: float | None, half: float | None = 0.0196, n: int = 400) -> Figure:
    """A figure whose standard error is 0.01, where nothing else is said."""
    ends = (None, None) if half is None or value is None else (value - half, value + half)
    return Figure(value=value, low=ends[0], high=ends[1], n=n)


def of(ndcg: float | None, ago: int = 0, version: str = VERSION, **fields: object) -> Outcomes:
    day = DAY - dt.timedelta(days=ago)
    told = {"lists": 500, "age_hours": 72.0, "matured": True, "ndcg_at_5": figure(ndcg)} | fields
    return Outcomes(date=day, version=version, **told)  # type: ignore[arg-type]


def before(ndcg: float = 0.8, days: int = 28, **fields: object) -> list[Outcomes]:
    return [of(ndcg, ago, **fields) for ago in range(1, days + 1)]


def test_a_fall_is_relative_with_the_interval_of_the_ratio() -> None:
    found = judged(of(0.6), {}, before(0.8))
    (fall,) = found.falls
    assert (fall.figure, fall.against) == ("ndcg_at_5", "usual")
    assert fall.share == pytest.approx(0.25)
    # Standard errors of 0.01 now, and of 0.01 / sqrt(28) of the mean of the days before, which do not differ.
    half = 1.96 * math.hypot(0.01, 0.75 * 0.01 / math.sqrt(28)) / 0.8
    assert (fall.low, fall.high) == (pytest.approx(0.25 - half), pytest.approx(0.25 + half))
    usual = found.usual["ndcg_at_5"]
    assert (usual.value, usual.n) == (pytest.approx(0.8), 28 * 400)
    assert usual.high == pytest.approx(0.8 + 0.0196 / math.sqrt(28))


@pytest.mark.parametrize(
    ("now", "half", "status"),
    [
        (0.8, 0.02, "fine"),
        (0.65, 0.001, "fine"),  # 19 %, surely
        (0.63, 0.001, "fell"),  # 21 %
        (0.63, 0.08, "fell"),  # 21 % ± 10 %
        (0.63, 0.10, "fine"),  # 21 % ± 13 %: its interval begins within 10 %
        (0.9, 0.02, "fine"),
    ],
)
def test_it_fell_by_more_than_a_share_and_surely_by_half_of_that(now: float, half: float, status: str) -> None:
    found = judged(of(None, ndcg_at_5=figure(now, half)), {}, before(0.8))
    assert found.status == status
    assert [alert.kind for alert in found.alerts] == (["outcome"] if status == "fell" else [])
    assert bool(found.reason) == (status == "fell")


def test_the_limit_can_be_set() -> None:
    assert judged(of(0.7), {}, before(0.8), fall_max=0.1).status == "fell"
    assert judged(of(0.5), {}, before(0.8), fall_max=0.5).status == "fine"


def test_every_figure_is_looked_at_and_one_alert_names_all_that_fell() -> None:
    now = of(0.8, conversion=figure(0.1), satisfaction=figure(2.0), hit_at_3=figure(0.9))
    usual = before(0.8, conversion=figure(0.2), satisfaction=figure(4.0), hit_at_3=figure(0.9))
    found = judged(now, {}, usual)
    assert [one.figure for one in found.falls] == ["ndcg_at_5", "hit_at_3", "conversion", "satisfaction"]
    (alert,) = found.alerts
    assert "conversion of 0.100 is 50 % below that of the days before (95 % interval 40 to 60 %)" in alert.what
    assert "satisfaction of 2.000 is 50 % below" in alert.what
    assert "nDCG" not in alert.what
    assert (alert.subject, "ltr rollback" in alert.remedy) == (VERSION, True)


def test_what_the_gate_had_measured_is_a_promise() -> None:
    promise = {"ndcg_at_5": figure(0.8), "hit_at_3": figure(0.9), "mrr": figure(0.7)}
    found = judged(of(0.6, hit_at_3=figure(0.88)), promise, [])
    assert [(one.figure, one.against) for one in found.falls] == [("ndcg_at_5", "promised"), ("hit_at_3", "promised")]
    assert (found.status, found.promised) == ("fell", figure(0.8))
    assert "25 % below what the gate had measured" in found.reason
    kept = judged(of(0.85), promise, [])
    assert (kept.status, kept.falls[0].share) == ("fine", pytest.approx(-0.0625))


def test_days_that_differ_make_the_interval_wider() -> None:
    """Four in seven days at 0.9, three at 0.5: a day at 0.55 is one of them."""
    uneven = [of(0.9 if ago % 7 < 4 else 0.5, ago) for ago in range(1, 29)]
    found = judged(of(0.55), {}, uneven)
    (fall,) = found.falls
    assert fall.share > 0.2
    assert fall.low < 0.1
    assert found.status == "fine"


def test_a_day_weighs_by_its_lists() -> None:
    small = [of(0.2, ago, ndcg_at_5=figure(0.2, n=4)) for ago in range(15, 29)]
    assert judged(of(0.8), {}, [*before(0.8, 14), *small]).usual["ndcg_at_5"].value == pytest.approx(0.7941, abs=1e-4)


def test_only_days_that_are_alike_say_what_is_usual() -> None:
    alike = before(0.8, LEAST_DAYS)
    assert judged(of(0.8), {}, alike[:-1]).status == "not_evaluable"
    assert judged(of(0.8), {}, alike).status == "fine"
    for other in (
        [replace(one, age_hours=24.0) for one in alike],
        [replace(one, status="fell") for one in alike],
        [replace(one, version="balanced") for one in alike],
        [replace(one, date=DAY + dt.timedelta(days=n)) for n, one in enumerate(alike)],
        [replace(one, date=one.date - dt.timedelta(days=USUAL_DAYS)) for one in alike],
        [replace(one, ndcg_at_5=None) for one in alike],
        [replace(one, ndcg_at_5=figure(math.nan)) for one in alike],
        [replace(one, ndcg_at_5=figure(0.8, None)) for one in alike],
        alike[:1] * 20,  # one day
    ):
        assert judged(of(0.8), {}, other).status == "not_evaluable"


def test_versions_follow_each_other_and_other_policies_stand_by_themselves() -> None:
    """An experiment that is shown elsewhere may always convert less."""
    earlier = [of(0.8, ago, f"202507{30 - ago:02}_0215" if ago < 20 else "legacy") for ago in range(1, 29)]
    aside = before(0.4, version="aside")
    assert judged(of(0.8), {}, [*earlier, *aside]).usual["ndcg_at_5"].value == pytest.approx(0.8)
    assert judged(of(0.4, version="aside"), {}, [*earlier, *aside]).status == "fine"
    assert judged(of(0.8, version="interleaved"), {}, earlier).status == "not_evaluable"


def test_versions_of_one_day_are_one_day() -> None:
    halves = [
        of(value, ago, f"202507{ago:02}_0{hour}15") for ago in range(1, 7) for hour, value in enumerate((0.7, 0.9))
    ]
    assert judged(of(0.8), {}, halves).status == "not_evaluable", "six days are no week"
    halves += [of(value, 7, f"20250707_0{hour}15") for hour, value in enumerate((0.7, 0.9))]
    found = judged(of(0.8), {}, halves)
    assert found.usual["ndcg_at_5"].value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (of(None, lists=0), "no list was shown"),
        (of(None, lists=3), "3 lists of fewer than 10 users are too few"),
        (of(None, lists=3, ndcg_at_5=figure(0.5, None)), "3 lists of fewer than 10 users are too few"),
        (of(0.8), "0 of the 7 days before that it takes are known; what the gate had measured for this version is not"),
        (of(0.8, version="legacy"), "0 of the 7 days before that it takes are known"),
    ],
)
def test_where_nothing_can_be_compared_it_says_why(now: Outcomes, reason: str) -> None:
    found = judged(now, {}, [])
    assert (found.status, found.alerts, found.falls) == ("not_evaluable", [], [])
    assert found.reason.startswith(reason)


def test_an_early_look_warns_early() -> None:
    early = {"age_hours": 24.0, "matured": False}
    (alert,) = judged(of(0.5, **early), {}, before(0.8, **early)).alerts
    assert alert.kind == "early"
    assert "fell after 24 hours: nDCG@5" in alert.what


def test_the_share_of_fallbacks_is_told_where_it_is_notable() -> None:
    (alert,) = judged(of(0.5, fallbacks=150), {}, before(0.8)).alerts
    assert "30 % of them a fallback had to rank" in alert.what
    (alert,) = judged(of(0.5, fallbacks=5), {}, before(0.8)).alerts
    assert "fallback" not in alert.what


def test_of_few_answers_the_upper_end_counts() -> None:
    """1 of 100 lists converted where 5 usually do: up to 5.4 are as likely."""
    one_in_hundred = Figure(value=0.01, low=0.0018, high=0.0545, n=100)
    found = judged(of(0.8, conversion=one_in_hundred), {}, before(0.8, conversion=figure(0.05, 0.001)))
    fall = next(one for one in found.falls if one.figure == "conversion")
    assert (fall.share, fall.low < 0, 0.9 < fall.high < 1) == (pytest.approx(0.8), True, True)
    assert found.status == "fine"


def test_a_figure_of_zero_can_have_fallen_and_one_can_not_fall_from_zero() -> None:
    none = Figure(value=0.0, low=0.0, high=0.02, n=400)
    found = judged(of(0.8, conversion=none), {}, before(0.8, conversion=figure(0.3)))
    assert found.status == "fell"
    zero = Figure(value=0.0, low=0.0, high=0.0, n=400)
    assert judged(of(0.8, conversion=none), {}, before(0.8, conversion=zero)).status == "fine"
