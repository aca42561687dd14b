"""The pages as functions of facts: what they tell, what they are when there is nothing, and how large they get."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ltr_pipeline.batch.proposed import Proposal, ProposedRun, Row
from ltr_pipeline.board.asked import PERIODS, Asked, Page, asked
from ltr_pipeline.board.facts import Facts, Reader
from ltr_pipeline.board.links import PAGES, Links
from ltr_pipeline.board.outcomes import LONGEST as LONGEST_OUTCOMES
from ltr_pipeline.board.overview import alone
from ltr_pipeline.board.page import Here, feature_page, login_page, message_page, policy, render
from ltr_pipeline.board.recommendations import Draft, Proposed
from ltr_pipeline.board.shown import ShownList
from ltr_pipeline.errors import RequestError
from ltr_pipeline.monitoring.records import (
    Alert,
    BatchRun,
    Distribution,
    DriftReport,
    FeatureDrift,
    Figure,
    NightRecord,
    Outcomes,
    PostedMetrics,
    SegmentsTrained,
)
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.versions.ledger import Act
from support.history import (
    DAY,
    DRIFTED,
    EVENT,
    MOVED,
    NOW,
    PRICE_WAR,
    REJECTED,
    ROLLED_BACK,
    Quick,
    enter,
    name_of,
    reader_of,
    write_history,
)

EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'>{{ 7*7 }}"
KILOBYTES = 100_000
HERE = Here(Links())
LISTS = [
    ShownList(
        at=NOW - dt.timedelta(minutes=number),
        query_id=f"case-{number}",
        version=name_of(DAY - dt.timedelta(days=number % 2)),
        user_id=f"u-{number}",
        items=["a", "b"],
        length=7,
    )
    for number in range(60)
]


def proposed(word: str = "case", *, state: str = "done") -> Proposed:
    """Recommendations of a run, of which some wait."""
    rows = [
        Proposal(
            query_id=word, item_id=f"{word}-{number}", rank=number, score=50.0, label=word, reasons=word, status=status,
            answered_by=None if status == "proposed" else word, answer_reason=None if status == "proposed" else word,
        )
        for number, status in enumerate(("proposed", "approved", "rejected", "superseded", word), 1)
    ]  # fmt: skip
    counts = {row.status: 1 for row in rows}
    found = ProposedRun(run_id=8, job=word, version=name_of(DAY), state=state, started_at=NOW, counts=counts)
    return Proposed([found, replace(found, run_id=7, counts={"superseded": 5})], found, Page(rows, 1, 1, len(rows)))


every_page = pytest.mark.parametrize("name", PAGES)


class Outline(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.inside != "style" and data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def reader(month_folder: Path) -> Reader:
    return reader_of(month_folder)


@pytest.fixture(scope="module")
def month(reader: Reader) -> Facts:
    return reader.facts(NOW)


def shown(name: str, facts: Facts, words: Asked = Asked(), reader: Reader | None = None, **more: Any) -> Outline:  # noqa: B008
    report = reader.drift(words.date or DAY) if reader else None
    return Outline(render(name, facts, words, HERE, report=report, lists=LISTS, **{"proposed": proposed(), **more}))


def ago(days: int) -> dt.date:
    return DAY - dt.timedelta(days=days)


class TestWhatPagesTell:
    def test_overview_tells_what_ranks_and_how_it_goes(self, month: Facts, reader: Reader) -> None:
        text = shown("overview", month).text
        assert f"{name_of(DAY)} is in use" in text
        assert re.search(r"nDCG@5 was 0\.7\d\d in the night of 15 Jul 2025, 0\.0\d\d above the gate\.", text)
        assert "Nothing needs a look." in text
        assert "Nights without a hand 4 goal 30" in text  # the last hand was 4 days ago
        assert "Bad versions a day 0.03 at most 1" in text
        assert re.search(r"p95 of ranking \d\.\d\d ms at most 15 ms", text)
        assert re.search(r"Fallbacks 0\.\d\d % at most 0\.1 %", text)
        assert "The data drifted: S" in text
        assert "rollback by ana: users like it less" in text

    def test_overview_says_what_needs_a_look(self, month: Facts) -> None:
        then = ago(DRIFTED[0])
        drift = [day for day in month.drift if day.date <= then]
        outcomes = [one for one in month.outcomes if one.date <= ago(ROLLED_BACK)]
        facts = Facts(at=NOW, nights=month.nights, drift=drift, outcomes=outcomes, unreadable=2, moves=month.moves)
        text = shown("overview", facts).text
        assert "3 things need a look" in text
        assert f"{MOVED} differs from both references: PSI 0.46 and 0.44." in text
        assert "27 % below the 0.71 promised" in text
        assert "2 records of the history cannot be read." in text

    def test_a_service_that_ranks_with_another_version_says_so(self, month: Facts) -> None:
        text = Outline(render("overview", month, Asked(), Here(Links(), ranks="20250101_0215"))).text
        assert "20250101_0215 ranks" in text
        assert f"`latest` is {name_of(DAY)}, but this service ranks with 20250101_0215" in text

    def test_an_hourly_version_in_use_says_of_which_night_it_is(self, month: Facts) -> None:
        head, hour = month.moves[-1], "20250715_0835"
        act = Act.of("airflow/hourly", "passed the gate", None)
        move = act.entry(head, "publish", hour, to=hour, pin=False, parent=head.to)
        text = shown("overview", dataclasses.replace(month, moves=[*month.moves, move])).text
        assert f"{hour} is in use" in text
        assert f", hourly, of {head.to}: passed the gate (airflow/hourly)." in text

    def test_nights_are_drawn_listed_and_lead_to_their_reports(self, month: Facts) -> None:
        page = shown("nights", month)
        (label,) = [svg["aria-label"] for svg in page.attributes("svg") if "nDCG@5 of" in (svg.get("aria-label") or "")]
        assert label
        assert "30 nights: from 0.615" in label
        assert "the gate asks for 0.650" in label
        assert PRICE_WAR in page.text
        assert "rollback" in page.text
        links = [link["href"] for link in page.attributes("a")]
        assert f"reports/{name_of(DAY)}" in links
        assert sum(str(link).startswith("reports/") for link in links) == 31
        assert "kept the former" in page.text
        assert "nDCG@5 0.615 is below 0.650." in page.text
        assert "published, not in use" in page.text
        assert "accuracy 0.95" in page.text

    def test_the_table_below_a_graphic_has_all_its_figures(self, month: Facts) -> None:
        html = render("nights", month, Asked(), HERE)
        (table,) = re.findall(r"<details>.*?</details>", html, re.DOTALL)
        rows = re.findall(r'<tr><th scope="row">(\S+?)<td>(\S+?)<td>(.+?)<td>0\.650<td>(.+?)<td>(.*)', table)
        assert len(rows) == 30
        by_day = {row[0]: row for row in rows}
        assert by_day[ago(REJECTED).isoformat()][1:4] == ("0.615", "0.594 to 0.636", "kept the former")
        assert by_day[ago(EVENT).isoformat()][4] == PRICE_WAR
        assert by_day[ago(ROLLED_BACK).isoformat()][4].startswith("rollback to ")

    def test_drift_shows_each_feature_and_the_day_that_is_asked_for(self, month: Facts, reader: Reader) -> None:
        page = shown("drift", month, Asked(date=ago(DRIFTED[0])), reader)
        assert f"On 6 Jul 2025 {MOVED} differs from both its references." in page.text
        strips = [svg["aria-label"] for svg in page.attributes("svg") if svg.get("class") == "strip"]
        assert strips[0] == "30 days, in alert on 6 Jul 2025 and 7 Jul 2025; largest PSI 0.460 on 7 Jul 2025"
        assert len(strips) == 8
        assert f"drift/{MOVED}?date=2025-07-06" in [link["href"] for link in page.attributes("a")]
        assert "0.680" in page.text  # the classifier's AUC
        assert f"{MOVED} 71.0 %" in page.text
        assert "Share of unavailable items" in page.text
        assert "No scores were logged." in page.text

    def test_a_day_that_cannot_be_judged_says_why(self, month: Facts, reader: Reader) -> None:
        text = shown("drift", month, Asked(date=ago(30)), reader).text
        assert "15 Jun 2025 cannot be judged: the reference has 240 rows; 500 are needed." in text

    def test_a_feature_shows_how_it_is_spread(self, month: Facts, reader: Reader) -> None:
        html = feature_page(month, Asked(), Here(Links(1)), reader.drift(ago(DRIFTED[0])), MOVED)
        assert html
        page = Outline(html)
        assert "On 6 Jul 2025 it differs from both references: PSI 0.460." in page.text
        assert "below 0.1 25.0 % 5.0 % 0.1 to 0.3 35.0 % 15.0 %" in page.text
        assert "missing 3.0 % 0.0 %" in page.text
        assert "../drift?date=2025-07-06" in [link["href"] for link in page.attributes("a")]
        assert feature_page(month, Asked(), HERE, reader.drift(DAY), "nothing") is None

    def test_outcomes_stand_beside_what_was_promised(self, month: Facts) -> None:
        page = shown("outcomes", month)
        assert re.search(r"Of the 8\d\d lists that 20250714_0215 showed on 14 Jul 2025, nDCG@5 was 0\.\d+;", page.text)
        assert "the gate had promised 0.712" in page.text
        titles = [
            title for title in ("Hit@3", "Conversion", "Satisfaction, 1 to 5") if f"{title}, as a table" in page.text
        ]
        assert len(titles) == 3
        assert "fell" in page.text
        assert "15 Jul 2025 20250715_0215 24 h" in page.text  # the early look

    def test_outcomes_of_one_version(self, month: Facts) -> None:
        version = name_of(ago(3))
        page = shown("outcomes", month, Asked(version=version))
        rows = [day for day in ("12 Jul 2025", "11 Jul 2025") if f"{day} {version}" in page.text]
        assert rows == ["12 Jul 2025"]
        assert "all versions" in page.text

    def test_predictions_are_paged_and_filtered(self, month: Facts) -> None:
        first = shown("predictions", month)
        assert "The 60 lists that landed last" in first.text
        assert "case-0 u-0 20250715_0215" in first.text
        assert "case-25 " not in first.text
        assert "Page 1 of 3" in first.text
        second = shown("predictions", month, Asked(page=2, version=name_of(ago(1))))
        assert "case-51 " in second.text
        assert "case-50 " not in second.text
        beyond = shown("predictions", month, Asked(page=9))
        assert "Page 9 of 3" in beyond.text

    def test_batches_and_segments(self, month: Facts) -> None:
        batches = shown("batches", month).text
        assert re.search(r"The last run of lead_score, on 15 Jul 2025, scored [\d,]+ rows by 20250715_0215 in", batches)
        assert "The database refused the connection." in batches
        segments = shown("segments", month).text
        assert "waits: the former stays in use. It agrees with the former by 0.76." in segments
        assert re.search(r"dormant 5,200 41\.9 % casual 4,100 33\.1 % regular", segments)  # the largest first

    def test_earlier_days_are_a_link_away(self, year_folder: Path) -> None:
        facts = reader_of(year_folder).facts(NOW)
        page = shown("nights", facts, Asked(days=90))
        links = [unescape(str(link["href"])) for link in page.attributes("a")]
        assert "nights?days=90&until=2025-04-16" in links
        assert "nights?page=2&days=90" in links
        before = shown("nights", facts, Asked(days=90, until=dt.date(2025, 4, 16)))
        assert "17 Jan 2025" in before.text
        assert "nights?days=90&until=2025-07-15" in [unescape(str(link["href"])) for link in before.attributes("a")]


class TestNothingAndLittle:
    @every_page
    def test_an_empty_store_says_what_will_be_here_and_what_fills_it(self, name: str, tmp_path: Path) -> None:
        facts = reader_of(tmp_path).facts(NOW)
        page = Outline(render(name, facts, Asked(), HERE))
        assert re.search(r"will stand here|this shows|will be compared here", page.text)
        assert {"make run", "ltr monitor", "ltr score", "ltr segments train", "ltr recommendations list"} & set(
            page.words
        )

    @every_page
    def test_one_day_is_enough(self, name: str, tmp_path: Path) -> None:
        reader = reader_of(tmp_path)
        assert reader.registry is not None
        write_history(Quick(tmp_path / "data"), reader.registry.ledger, days=1)
        page = shown(name, reader.facts(NOW), reader=reader)
        assert "will stand here" not in page.text

    @every_page
    def test_records_without_figures_are_told(self, name: str, tmp_path: Path) -> None:
        history = History(Quick(tmp_path / "data"))
        history.write(NightRecord(run=name_of(DAY), date=DAY, verdict="none", because="it is not due"))
        history.write(DriftReport(date=DAY, status="fine", features=[FeatureDrift(name="A", status="not_evaluable")]))
        history.write(Outcomes(date=DAY, version="legacy", age_hours=72, matured=True, lists=0))
        history.write(SegmentsTrained(date=DAY, level="user", version=1, in_use=True, entities=0))
        reader = reader_of(tmp_path)
        assert shown(name, reader.facts(NOW), reader=reader).text
        found = feature_page(reader.facts(NOW), Asked(), Here(Links(1)), reader.drift(DAY), "A")
        assert found
        assert "There is no distribution of that day" in found

    def test_half_written_unknown_and_newer_records_are_left_out_and_said(self, tmp_path: Path) -> None:
        data = Quick(tmp_path / "data")
        write_history(data, days=3)
        keys = data.keys("monitoring/nights")
        data.put(keys[0], data.get(keys[0])[:40])
        newer = data.get(keys[1]).replace(b'"kind":"night"', b'"kind":"night","mood":"sunny"')
        data.put(keys[1], newer)
        data.put("monitoring/nights/2025-07-15/x/20990101T000000000000Z.json", b'{"kind":"dream","date":"2025-07-15"}')
        data.put("monitoring/moods/2025-07-15/x/20990101T000000000000Z.json", b"{}")
        facts = reader_of(tmp_path).facts(NOW)
        assert [night.date for night in facts.nights] == [ago(1), DAY]
        assert facts.unreadable == 2
        assert "2 records of the history cannot be read" in shown("overview", facts).text

    def test_days_that_are_not_finite_are_not_drawn(self, tmp_path: Path) -> None:
        history = History(Quick(tmp_path / "data"))
        for days, value in ((1, None), (0, 0.7)):
            figure = Figure(value=value, low=value, high=value)
            history.write(NightRecord(run=name_of(ago(days)), date=ago(days), verdict="keep", ndcg_at_5=figure))
        html = render("nights", reader_of(tmp_path).facts(NOW), Asked(), HERE)
        assert not re.search(r"\bnan\b|\binf\b", html)

    def test_a_registry_that_cannot_be_read_is_said_and_the_rest_is_told(self, month: Facts) -> None:
        facts = Facts(at=NOW, nights=month.nights, problem="the ledger's newest entry is gone")
        page = shown("overview", facts)
        assert "Not all could be read: the ledger's newest entry is gone." in page.text


class TestSafety:
    @every_page
    def test_names_are_text(self, name: str, tmp_path: Path) -> None:
        history = History(Quick(tmp_path / "data"))
        alert = Alert(kind="drift", subject=EVIL, what=EVIL, remedy=EVIL)
        night = NightRecord(run=EVIL, date=DAY, verdict="keep", because=EVIL, champion=EVIL, reason=EVIL, version=EVIL)
        history.write(night)
        spread = Distribution(edges=[0.5], reference=[0.5, 0.5, 0.0], current=[0.1, 0.9, 0.0])
        drifted = FeatureDrift(name=EVIL, status="alert", reason=EVIL, psi={"trailing": 0.4}, distribution=spread)
        report = DriftReport(
            date=DAY, status="alert", reason=EVIL, features=[drifted], alerts=[alert], events=[EVIL], rows=1
        )
        history.write(report)
        figure = Figure(value=0.5, low=0.4, high=0.6, n=9)
        outcomes = Outcomes(
            date=DAY, version=EVIL, age_hours=72, matured=True, lists=9, ndcg_at_5=figure, reason=EVIL, alerts=[alert]
        )
        history.write(outcomes)
        batch = BatchRun(
            date=DAY, job=EVIL, run_id=1, version=EVIL, mode="all", state="failed", rows=1, rejected=0, batches=1,
            seconds=1.0, reason=EVIL,
        )  # fmt: skip
        history.write(batch)
        history.write(
            SegmentsTrained(date=DAY, level=EVIL, version=1, in_use=True, entities=3, sizes={EVIL: 3}, said=EVIL)
        )
        history.write(PostedMetrics(date=DAY, at=NOW, metrics={EVIL: 1.0}))
        reader = reader_of(tmp_path)
        assert reader.registry is not None
        enter(reader.registry.ledger, "publish", EVIL, EVIL, who=EVIL, why=EVIL)
        facts, lists = reader.facts(NOW), [ShownList(at=NOW, query_id=EVIL, version=EVIL, user_id=EVIL, items=[EVIL])]
        pages = [
            render(
                name,
                facts,
                Asked(version=EVIL),
                Here(Links(), ranks=EVIL),
                report=report,
                lists=lists,
                proposed=proposed(EVIL),
                draft=Draft(who=EVIL, why=EVIL),
                problem=EVIL,
            ),
            feature_page(facts, Asked(), Here(Links(1)), report, EVIL),
            login_page(HERE, EVIL, EVIL),
            message_page(HERE, EVIL, EVIL),
        ]
        for html in pages:
            assert html
            page = Outline(html)
            assert not {"script", "img"} & {tag for tag, _ in page.tags}
            assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
            assert "{{ 7*7 }}" in page.text

    @every_page
    def test_nothing_is_loaded_and_nothing_is_styled_in_place(self, name: str, month: Facts, reader: Reader) -> None:
        page = shown(name, month, reader=reader)
        assert not {"script", "iframe", "object", "img"} & {tag for tag, _ in page.tags}
        assert [link["href"] for link in page.attributes("link")] == ["data:,"]
        assert not any("style" in attributes for _, attributes in page.tags)
        allowed = policy()
        assert "unsafe" not in allowed
        assert allowed.startswith("default-src 'none'; style-src 'sha256-")
        assert page.attributes("meta")[2]["content"] == allowed

    @every_page
    @pytest.mark.parametrize("depth", [0, 1])
    def test_links_are_relative(self, name: str, depth: int, month: Facts, reader: Reader) -> None:
        html = render(name, month, Asked(), Here(Links(depth), leave=True), report=reader.drift(DAY), lists=LISTS,
            proposed=proposed(),
        )  # fmt: skip
        page = Outline(html)
        places = [attributes.get(key) for _, attributes in page.tags for key in ("href", "action") if key in attributes]
        assert len(places) > 8
        for place in places:
            assert place is not None
            assert place.startswith(("#", "data:", "../" if depth else "")), place
            assert not place.startswith(("/", "http"))


class TestSize:
    @every_page
    @pytest.mark.parametrize("days", PERIODS)
    def test_a_year_of_many_features_stays_small(self, name: str, days: int, year_folder: Path) -> None:
        reader = reader_of(year_folder)
        html = render(
            name, reader.facts(NOW), Asked(days=days), HERE, report=reader.drift(DAY), lists=LISTS, proposed=proposed()
        )
        assert len(html.encode()) <= KILOBYTES
        if name == "nights":
            assert html.count("<th scope=") > min(days, 390)  # the year is really there

    def test_a_feature_of_a_year(self, year_folder: Path) -> None:
        reader = reader_of(year_folder)
        html = feature_page(reader.facts(NOW), Asked(days=365), Here(Links(1)), reader.drift(DAY), "S")
        assert html
        assert len(html.encode()) <= KILOBYTES

    def test_facts_are_read_once(self, year_folder: Path) -> None:
        gets: list[str] = []

        class Counting(Quick):
            def get(self, key: str) -> bytes:
                gets.append(key)
                return super().get(key)

        reader = Reader(Counting(year_folder / "data"))
        reader.facts(NOW)
        assert len(gets) > 2000
        gets.clear()
        assert len(reader.facts(NOW).nights) == 400
        assert gets == []

    def test_outcomes_show_no_more_days_than_they_can(self, year_folder: Path) -> None:
        html = render("outcomes", reader_of(year_folder).facts(NOW), Asked(days=365), HERE)
        (about,) = re.findall(r'aria-label="nDCG@5, promised and online on (\d+) days', html)
        assert int(about) <= LONGEST_OUTCOMES


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ({"page": "-1"}, "page must be a whole number from 1"),
            ({"page": "0"}, "page must be"),
            ({"page": "two"}, "page must be"),
            ({"page": "1.5"}, "page must be"),
            ({"page": "٣"}, "page must be"),
            ({"page": "9" * 30}, "page must be"),
            ({"page": ""}, "page must be"),
            ({"days": "31"}, "days must be one of 30, 90, 365"),
            ({"days": "all"}, "days must be"),
            ({"date": "15.07.2025"}, "date must be a day such as 2025-07-15"),
            ({"until": "2025-13-01"}, "until must be a day"),
            ({"date": "20250715"}, "date must be a day"),
            ({"version": "x" * 257}, "version must have at most 256 characters"),
        ],
    )
    def test_wrong_words_are_named(self, words: dict[str, str], said: str) -> None:
        with pytest.raises(RequestError, match=re.escape(said)):
            asked(words)

    def test_right_words(self) -> None:
        assert asked({"page": "2", "days": "90", "date": "2025-07-15", "version": "a", "more": "x"}) == Asked(
            days=90, page=2, date=DAY, version="a"
        )


class TestNightsThatTrainNothing:
    """By the policy, most nights judge the version in use and train nothing."""

    def test_what_they_judged_is_drawn_and_told(self, month: Facts) -> None:
        use = Figure(value=0.7, low=0.68, high=0.72, n=900)
        nights = [
            replace(
                night, verdict="none", trained=False, ndcg_at_5=None, champion_ndcg_at_5=use, version=None, moved=False
            )
            for night in month.nights[-10:]
        ]
        told = {"because": "it is not due", "metrics": {"champion_latency_p95_ms": 5.5}}
        nights = [replace(night, **told) for night in nights]
        facts = Facts(at=NOW, nights=nights)
        page = shown("nights", facts)
        assert "nDCG@5 of 10 nights: from 0.700 to 0.700" in str(
            [svg.get("aria-label") for svg in page.attributes("svg")]
        )
        assert page.text.count("It is not due.") == 10
        assert page.text.count("not trained") >= 10
        overview = shown("overview", facts).text
        assert "The night of 15 Jul 2025 trained nothing: it is not due." in overview
        assert "5.50 ms" in overview


class TestGoals:
    def test_what_a_person_approved_is_told_with_the_name_and_the_reason(self, month: Facts) -> None:
        answer = f"approved by {EVIL}: fifty lists"
        *nights, last = month.nights
        told = replace(
            last,
            verdict="publish",
            moved=True,
            asked=True,
            answer=answer,
            answered_by=EVIL,
            answer_reason="fifty lists",
            reason=f"latest moved from a to b; {answer}",
        )
        facts = Facts(at=NOW, nights=[*nights, told])
        assert f"The night was published, {answer}." in shown("overview", facts).text
        assert "approved by a person" in shown("nights", facts).text
        assert f"Latest moved from a to b; {answer}." in shown("nights", facts).text

    def test_a_night_by_hand_a_missing_night_and_a_hand_end_the_count(self, month: Facts) -> None:
        nights = [replace(night, by_hand=False) for night in month.nights]
        assert alone(Facts(at=NOW, nights=nights)) == 31
        assert alone(Facts(at=NOW, nights=[*nights[:-3], replace(nights[-3], by_hand=True), *nights[-2:]])) == 2
        answered = replace(nights[-3], answered_by="anna")
        assert alone(Facts(at=NOW, nights=[*nights[:-3], answered, *nights[-2:]])) == 2
        assert alone(Facts(at=NOW, nights=[*nights[:-6], *nights[-5:]])) == 5
        assert alone(Facts(at=NOW, nights=nights, moves=month.moves)) == 4
        guarded = [replace(move, who="guard, ltr@host") for move in month.moves]
        assert alone(Facts(at=NOW, nights=nights, moves=guarded)) == 31
        assert alone(Facts(at=NOW)) == 0

    def test_a_goal_that_is_missed_is_marked(self, month: Facts) -> None:
        slow = replace(month.nights[-1], metrics={"latency_p95_ms": 22.0})
        worse = replace(month.outcomes[-1], fallbacks=40)
        facts = Facts(at=NOW, nights=[slow], outcomes=[worse], moves=month.moves)
        text = shown("overview", facts).text
        assert "22.00 ms at most 15 ms : not met" in text
        assert re.search(r"Fallbacks 4\.\d+ % at most 0\.1 % : not met", text)


def numbers(path: str) -> Iterator[float]:
    yield from (float(number) for number in re.findall(r"-?\d+\.?\d*", path))


@every_page
def test_graphics_stay_inside_their_frames(name: str, month: Facts, reader: Reader) -> None:
    page = shown(name, month, reader=reader)
    for path in page.attributes("path"):
        if (path.get("class") or "").startswith(("line", "band")):
            assert all(-5 <= number <= 1005 for number in numbers(str(path["d"])))
    for circle in page.attributes("circle"):
        assert all(0 <= float(str(circle[key]).rstrip("%")) <= 100 for key in ("cx", "cy"))


def test_recommendations_are_answered_by_a_form_where_they_wait() -> None:
    text = render("recommendations", Facts(at=NOW), Asked(), HERE, proposed=proposed())
    page = Outline(text)
    assert "1 recommendation of run 8 of case waits for an answer." in page.text
    fields = [field["name"] for field in page.attributes("input")]
    assert fields == ["run", "seen", "row", "which", "which", "who", "why"]
    assert page.attributes("button")[0] == {"name": "answer", "value": "approved"}
    for words in ({"proposed": proposed(state="running")}, {"here": Here(Links(files={}))}):
        given: dict[str, Any] = {"proposed": proposed(), "here": HERE, **words}
        closed = Outline(render("recommendations", Facts(at=NOW), Asked(), given["here"], proposed=given["proposed"]))
        assert closed.attributes("input") == []


def test_what_was_typed_and_marked_is_there_again_where_an_answer_is_refused() -> None:
    refused = Draft(run=8, seen=1, who="Ana", why="so", marked=[Row("case", "case-1")], only_marked=True)
    text = render("recommendations", Facts(at=NOW), Asked(), HERE, proposed=proposed(), draft=refused, problem="no")
    inputs = {(field["name"], field.get("value")): field for field in Outline(text).attributes("input")}
    assert "checked" in inputs["row", '["case","case-1"]']
    assert "checked" in inputs["which", "marked"]
    assert {("who", "Ana"), ("why", "so")} <= set(inputs)
    assert 'role="alert" id="problem">No.</p>' in text
