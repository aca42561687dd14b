"""What stands out in the events is told by its cause, the largest first, with what to do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from ltr_pipeline.calendar import Occasion
from ltr_pipeline.dataset.labels import DROPPED_FEEDBACK, DROPPED_IMPRESSIONS, Account
from ltr_pipeline.dataset.manifest import DatasetManifest
from ltr_pipeline.dataset.windows import Windows, split
from ltr_pipeline.events import reasons
from ltr_pipeline.events.manifest import Manifest
from ltr_pipeline.events.source import Quarantined, Segment
from ltr_pipeline.report.diagnosis import NOTEWORTHY, Finding, diagnose, serious
from ltr_pipeline.report.remedies import LARGE_DROPS, UNREAD, of_refusal
from ltr_pipeline.settings import load_settings
from support.nights import CUTOFF, DATASET, DAY, LANDING

QUIET = replace(
    LANDING,
    quarantined=0,
    quarantine_reasons={},
    ignored=0,
    ignored_reasons={},
    unknown_features=[],
    unknown_kinds=[],
    read=LANDING.impressions + LANDING.feedback,
)
NONE = replace(QUIET, impressions=0, feedback=0, read=0)
SPARSE = Windows(cutoff=CUTOFF)


def refused(reason: str, detail: str, offset: int = 0) -> Quarantined:
    return Quarantined(source="a.log", partition=0, offset=offset, reason=reason, detail=detail, excerpt="{")


def found(
    landing: Manifest | None = None,
    dataset: DatasetManifest | None = None,
    records: Sequence[Quarantined] = (),
    first: dt.datetime | None = None,
    **fields: Any,
) -> list[Finding]:
    return diagnose(landing, records, dataset, load_settings(**fields), first)


def told(*args: Any, **fields: Any) -> str:
    return "\n".join(map(str, found(*args, **fields)))


def of_records(*records: Quarantined, landing: Manifest = QUIET) -> list[Finding]:
    """Findings of a landing that refused these."""
    counts = {record.reason: sum(other.reason == record.reason for other in records) for record in records}
    landing = replace(landing, quarantined=len(records), quarantine_reasons=counts, read=landing.read + len(records))
    return found(landing, records=records)


def test_nothing_is_said_of_a_sound_night() -> None:
    assert found(QUIET, DATASET) == []


def test_the_commonest_refusals_are_told_with_their_first_place_and_the_remedy() -> None:
    ids = 'user_id is a number, not text; set ids = "text or number" in the mapping if that is meant'
    times = [refused(reasons.BAD_TIME, f"time is '{n}'; expected an RFC 3339 time", n) for n in range(7)]
    records = [*times, *(refused(reasons.WRONG_TYPE, ids, n) for n in range(50, 62))]
    records += [refused(reasons.NOT_JSON, f"JSON is malformed: invalid character (byte {n})", n) for n in range(5)]
    records += [refused(reasons.MISSING_ITEM, "item_id is missing; expected text")]
    first, second, third = of_records(*records)
    assert first.what.endswith("records were recognised, but refused (wrong type): user_id is a number, not text.")
    assert first.remedy == 'Set ids = "text or number" in the mapping if that is meant.'
    assert (first.count, first.place, first.excerpt) == (12, "a.log:50", "{")
    assert (second.count, third.count) == (7, 5)
    assert second.what.endswith("(bad time): time is '0'; expected an RFC 3339 time.")
    assert third.what == "5 of 9,076 records were refused (not JSON): JSON is malformed: invalid character (byte 0)."


def test_nothing_recognised_names_the_kinds_that_were_seen() -> None:
    other = replace(NONE, read=9, ignored=9, ignored_reasons={"unrelated message": 9}, unknown_kinds=["search"])
    (finding,) = found(other)
    assert "none is of a kind that the mapping names. Kinds of message seen: search." in finding.what
    assert "where message or event is match_recommendation or match" in finding.remedy


def test_what_was_recognised_and_refused_is_not_taken_for_something_else() -> None:
    (finding,) = of_records(
        *[refused(reasons.BAD_TIME, "time is 3; expected another", n) for n in range(9)], landing=NONE
    )
    assert finding.what.startswith("No impression landed: 9 of 9 records were recognised, but refused (bad time)")
    (finding,) = of_records(refused(reasons.NOT_UTF8, "this is UTF-16; convert it"), landing=NONE)
    assert (finding.what, finding.remedy) == (
        "No impression landed: 1 of 1 records were refused (not UTF-8): this is UTF-16.",
        "Convert it.",
    )


@pytest.mark.parametrize(
    ("landing", "what"),
    [
        (NONE, "No record was read."),
        (replace(NONE, read=9, ignored=9, ignored_reasons={"older than the window": 9}), "from before the window"),
        (replace(QUIET, future=3), "3 of 9,051 landed records are from the future"),
        (replace(QUIET, lost=[Segment(source="a", start=5, end=15)]), "10 of 9,061 records were gone"),
        (replace(QUIET, unknown_features=["new"]), "does not list these features: new."),
        (replace(QUIET, unknown_features=["new", "a"]), "new, a (it lists A: is one of the two misspelt?)."),
        (replace(QUIET, unknown_kinds=list("abcdefghijklm")), "ignored: a, b, c, d, e, f, g, h, i, j and 3 more."),
    ],
)
def test_what_a_landing_tells(landing: Manifest, what: str) -> None:
    assert what in told(landing)


def test_a_hidden_column_is_told_with_the_path_that_shows_it() -> None:
    (finding,) = found(replace(QUIET, shadowed={"user_id": 1000}))
    assert 'write user_id = ["$.context.user_id", "$.user_id"] under [fields]' in finding.remedy
    merged = replace(DATASET, several_users=DATASET.rankings)
    assert len(found(replace(QUIET, shadowed={"user_id": 1000}), merged)) == 1  # that is why users are several


def test_clocks_that_differ_are_told_though_the_tolerance_covers_them() -> None:
    (finding,) = found(dataset=replace(DATASET, skewed=DATASET.joinable // 2))
    assert "(50.0 %) are stamped before their impression" in finding.what
    assert "LTR_FEEDBACK_SKEW_SECONDS" in finding.remedy
    assert found(dataset=replace(DATASET, skewed=DATASET.joinable // 100)) == []


def test_feedback_that_joins_nothing_is_told_with_its_reasons() -> None:
    lost = {"no_impression": 200, "before_impression": 60, "too_late": 40}
    dataset = replace(DATASET, feedback=Account(landed=1000, used=690, duplicates=10, dropped=lost))
    (finding,) = found(dataset=dataset)
    assert (finding.count, finding.share) == (300, 300 / 990)
    assert finding.what == (
        "300 of 990 interactions (30.3 %) belong to no impression: 200 name an item that was not shown for their "
        "query, 60 are stamped before it was shown, 40 came more than 3 days after it was shown."
    )
    assert "LTR_FEEDBACK_SKEW_SECONDS" in finding.remedy
    assert "LTR_ATTRIBUTION_DAYS" in finding.remedy
    assert "but for case or white space" not in finding.remedy
    assert "150 of them name ids that were shown but for case or white space" in told(
        dataset=replace(dataset, differ_in_case=150)
    )
    few = replace(DATASET, feedback=Account(landed=1000, used=990, dropped={"too_late": int(NOTEWORTHY * 1000)}))
    assert found(dataset=few) == []


def test_rankings_that_look_like_several_lists_are_told() -> None:
    half = replace(DATASET, repeated_positions=DATASET.rankings // 2, several_users=100)
    (finding,) = found(dataset=half)
    assert "hold two items at one position and 100 were shown to several users: these look" in finding.what
    assert "Map ranking_id, or set session_gap_minutes" in finding.remedy
    assert serious([finding]) == [finding]
    assert found(dataset=replace(DATASET, repeated_positions=1)) == []


def test_many_unused_records_are_told_by_reason() -> None:
    impressions = Account(
        landed=100, used=20, duplicates=15, dropped={"repeated": 40, "immature": 20, "unavailable": 5}
    )
    first, second = found(dataset=replace(DATASET, impressions=impressions))
    assert first.what.startswith("40 of 100 impressions are not used: shown before in the same ranking")
    assert second.what.startswith("15 of 100 impressions are duplicates")
    assert LARGE_DROPS.keys() <= DROPPED_IMPRESSIONS.keys() | DROPPED_FEEDBACK.keys()


def nothing_to_learn(feedback: Account) -> DatasetManifest:
    parts = {name: replace(getattr(DATASET, name), eligible=0) for name in ("train", "valid", "test")}
    return replace(DATASET, feedback=feedback, **parts)


def test_why_nothing_is_relevant() -> None:
    assert "No feedback landed" in told(QUIET, nothing_to_learn(Account()))
    assert "where its kind is offer_feedback" in told(QUIET, nothing_to_learn(Account()))
    assert "None of 9 interactions made an item more relevant" in told(
        QUIET, nothing_to_learn(Account(landed=9, used=9))
    )


def young(days: int, **settings: int) -> DatasetManifest:
    """The dataset of a log of so many days, all of them full."""
    windows = Windows(cutoff=CUTOFF, **settings)  # type: ignore[arg-type]
    eligible = [
        9 * (day >= windows.window_days - days) for day in range(windows.window_days - windows.attribution_days)
    ]
    spans = dict(zip(("train", "valid", "test"), split(eligible, windows), strict=True))
    parts = {
        name: replace(
            getattr(DATASET, name),
            start=span.start,
            end=span.end,
            rankings=9 * (span.end > max(span.start, CUTOFF - days * DAY)),
        )
        for name, span in spans.items()
    }
    return replace(DATASET, windows=windows, **parts)


def closed(part: str | None = None, weight: float = 0.0) -> DatasetManifest:
    """A part has no ranking, and a declared event took twenty days."""
    sale = Occasion(name="Sale", first=(CUTOFF - 25 * DAY).date(), last=(CUTOFF - 6 * DAY).date(), weight=weight)
    fair = Occasion(name="Fair", first=(CUTOFF - 40 * DAY).date(), last=(CUTOFF - 26 * DAY).date(), weight=0)
    dropped = DATASET.impressions.dropped | {"left_out": 30_000}
    return replace(
        DATASET,
        windows=replace(DATASET.windows, occasions=(fair, sale)),
        impressions=replace(DATASET.impressions, dropped=dropped),
        **({part: replace(getattr(DATASET, part), rankings=0, rows=0)} if part else {}),
    )


def test_a_calendar_that_leaves_too_little_is_told_with_what_to_do() -> None:
    (finding,) = found(QUIET, closed("train"), first=CUTOFF - 28 * DAY)
    assert str(finding) == (
        "The calendar leaves no training ranking: 23 days of the window, with 30,000 impressions, are left out (Fair, "
        "Sale). In the file that LTR_CALENDAR names, weigh such days (weight = 0.2) instead, or raise LTR_WINDOW_DAYS."
    )
    assert serious([finding])
    assert "leaves no test ranking: 3 days of the window" in told(QUIET, closed("test", weight=0.5))


def test_days_that_are_left_out_as_declared_are_no_finding() -> None:
    assert found(QUIET, closed()) == []
    none = closed("train")
    assert "calendar" not in told(QUIET, replace(none, impressions=DATASET.impressions))


@pytest.mark.parametrize("days", [1, 2, 3, 4])
def test_too_few_days_are_told_with_settings_that_do(days: int) -> None:
    first = CUTOFF - days * DAY + DAY / 3
    (finding,) = found(dataset=young(days), first=first)
    assert finding.what.startswith(f"The events cover {days} day")
    assert (
        "the settings ask for 9: 3 of attribution, 3 for the test, 2 for validation and one to train on."
        in finding.what
    )
    if days < 3:
        assert "It takes at least 3" in finding.remedy
        return
    attribution = days - 2
    assert f"LTR_ATTRIBUTION_DAYS={attribution} LTR_TEST_DAYS=1 LTR_VALID_DAYS=1" in finding.remedy
    judged = young(days, attribution_days=attribution, test_days=1, valid_days=1)
    assert judged.train.rankings
    assert judged.test.rankings
    assert found(dataset=judged, first=first) == []


def test_days_are_not_missing_where_most_was_refused() -> None:
    landing = replace(QUIET, impressions=1, feedback=0, read=100, quarantined=99, quarantine_reasons={"bad time": 99})
    records = [refused(reasons.BAD_TIME, "time is 3; expected another", n) for n in range(99)]
    (finding,) = found(landing, young(1), records, CUTOFF - DAY)
    assert "99 of 100 records were recognised, but refused" in finding.what


def test_findings_come_by_share() -> None:
    landing = replace(LANDING, shadowed={"time": 4000}, future=200)
    shares = [finding.share for finding in found(landing, records=[refused(reasons.NOT_JSON, "x")])]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 5


def test_every_refusal_has_a_remedy() -> None:
    words = [value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)]
    assert set(words) >= UNREAD
    for reason in [*words, reasons.impossible("position")]:
        assert of_refusal(reason).endswith(".")
