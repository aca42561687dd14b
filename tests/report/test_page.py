import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, Page

from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.metrics.fairness import Gap, GroupAccuracy
from ltr_pipeline.metrics.slices import Slice
from ltr_pipeline.ranker.train import Chooser
from ltr_pipeline.report import rows
from ltr_pipeline.report.diagnosis import Finding
from ltr_pipeline.report.night import Night
from ltr_pipeline.report.page import render
from ltr_pipeline.report.wording import gate_rows
from support.browser import chromium
from support.nights import (
    DATASET,
    EVIDENCE,
    EXAMPLES,
    FAIR,
    LANDING,
    NIGHTS,
    OCCASIONS,
    REFRESHED,
    RELIABILITY,
    TRAINED,
    UNFAIR,
    YESTERDAY,
    delta,
    estimate,
    example,
    night,
    refreshed,
    rejected,
    unfair,
    unjudgeable,
    untrained,
)

EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'>{{ 7*7 }}"

every_night = pytest.mark.parametrize("kind", NIGHTS)


class Outline(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

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


def outline(night: Night) -> Outline:
    return Outline(render(night))


class TestEveryNight:
    @every_night
    def test_is_the_same_bytes_again(self, kind):
        assert render(NIGHTS[kind]()) == render(NIGHTS[kind]())

    @every_night
    def test_refers_to_nothing_outside(self, kind):
        html = render(NIGHTS[kind]())
        page = Outline(html)
        names = {"href", "src", "srcset", "action", "data", "poster"}
        addresses = [value for _, attrs in page.tags for name, value in attrs.items() if name in names]
        assert [address for address in addresses if not address.startswith(("#", "data:"))] == []
        assert re.findall(r"https?:|@import|url\(", html) == []
        assert page.attributes("script") == []

    @every_night
    def test_says_nothing_of_missing_values(self, kind):
        assert re.findall(r"\b(None|nan|inf|Undefined)\b", outline(NIGHTS[kind]()).text) == []

    @every_night
    def test_is_marked_up_for_who_cannot_see_it(self, kind):
        page = outline(NIGHTS[kind]())
        tags = [name for name, _ in page.tags]
        assert tags.count("h1") == tags.count("main") == 1
        assert tags.count("caption") == tags.count("table")
        assert all(attrs.get("scope") for attrs in page.attributes("th"))
        for attrs in page.attributes("svg"):
            assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and attrs["aria-label"])
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        links = [attrs["href"].removeprefix("#") for attrs in page.attributes("a")]
        assert set(links) <= set(ids)

    @every_night
    def test_is_small(self, kind):
        assert len(render(NIGHTS[kind]()).encode()) < 200_000


class TestVerdict:
    @pytest.mark.parametrize(
        ("kind", "title", "lead"),
        [
            (
                "published",
                "Published 20251120_0215",
                "17 of the gate's 19 checks passed and 2 did not apply, so 20251120_0215 is published and now in use.",
            ),
            (
                "rejected",
                "Not published",
                "15 of the gate's 19 checks passed, 2 failed (Fairness gap, Against the champion) and 2 did not apply, "
                "so the new model is not published and 20251119_0215 stays in use.",
            ),
            (
                "inconclusive",
                "Not published",
                "15 of the gate's 19 checks passed, 1 turned out inconclusive (Against the champion), 1 could not be "
                "made (Fairness gap) and 2 did not apply, so the new model is not published and 20251119_0215 stays in "
                "use.",
            ),
            (
                "waiting",
                "Waits for an answer",
                "15 of the gate's 19 checks passed, 1 turned out inconclusive (Against the champion), 1 could not be "
                "made (Fairness gap) and 2 did not apply, so a person decides whether the new model is published; "
                "until then 20251119_0215 stays in use.",
            ),
            (
                "approved",
                "Published 20251120_0215",
                "15 of the gate's 19 checks passed, 1 turned out inconclusive (Against the champion), 1 could not be "
                "made (Fairness gap) and 2 did not apply, so 20251120_0215 is published and now in use. Approved by "
                "anna: <b>fifty lists</b> look",
            ),
            (
                "unanswered",
                "Not published",
                "15 of the gate's 19 checks passed, 1 turned out inconclusive (Against the champion), 1 could not be "
                "made (Fairness gap) and 2 did not apply, so the new model is not published and 20251119_0215 stays in "
                "use. Nobody answered within 90 minutes.",
            ),
            (
                "pinned",
                "Published, latest unchanged",
                "17 of the gate's 19 checks passed and 2 did not apply, so 20251120_0215 is published, but "
                "20251101_0215 stays in use.",
            ),
            ("empty day", "Not judged", "20251119_0215 stays in use. Nothing has landed for the window."),
        ],
    )
    def test_comes_first(self, kind, title, lead):
        words = outline(NIGHTS[kind]()).words
        assert words[words.index(title) + 1].startswith(lead)

    def test_a_dry_run_is_not_called_a_rejection(self):
        tried = night(policy=Policy(gate_mode="dry_run"), version=None, promoted=False, latest=None)
        text = outline(tried).text
        assert "Judged in a dry run" in text
        assert "17 of the gate's 19 checks passed and 2 did not apply, but a dry run publishes nothing" in text
        assert "no version is in use yet." in text
        assert "Dry run: would publish." in text

    def test_a_trial_that_publishes_nothing_says_that_it_would_pass(self):
        words = outline(night(version=None, promoted=False, latest=None)).words
        assert "Passes the gate, not published" in words

    def test_what_happens_next_and_what_to_do_is_told(self):
        assert "goes back to 20251119_0215" in outline(night()).text
        text = outline(rejected()).text
        assert "Nothing changes for users, and the next night trains a new model on newer events." in text
        reason = "above the limit of 0.05. Fairness below shows which group is ranked worse"
        assert reason in text
        assert text.count("A night that loses now and then is normal.") == 1
        both = replace(rejected().evidence, best_recent=replace(EVIDENCE.best_recent, delta=delta(-0.03)))
        worse = outline(night(both, version=None, promoted=False, latest=None)).text
        assert worse.count("A night that loses now and then is normal.") == 1

    def test_an_unfair_version_in_use_stands_before_every_table(self):
        html = render(unfair())
        said = "20251119_0215, which is in use, ranks groups of people unequally: the fairness gap is 0.115"
        assert html.index(said) < html.index("<table")
        replaced = outline(night(replace(EVIDENCE, champion_fairness=UNFAIR))).text
        assert "20251120_0215 has taken its place, so nothing needs to be done about it." in replaced
        assert "groups of people unequally" not in outline(night()).text

    def test_what_is_typed_is_marked_as_code(self):
        assert "<code>ltr rollback</code>" in render(night())
        assert "<code>ltr rollback 20251120_0215</code>" in render(NIGHTS["pinned"]())

    def test_reasons_stand_before_every_table(self):
        html = render(rejected())
        reason = "The fairness gap is 0.115 after noise correction (raw 0.118), above the limit of 0.05."
        assert html.index(reason) < html.index("<table")


class TestSections:
    def test_the_gate_table_has_every_cell_of_every_check(self):
        told = rejected()
        words = outline(told).words
        start = words.index("Verdict")
        cells = words[start + 1 : words.index("Ranking quality", start)]
        for check, observed, interval, threshold, verdict in gate_rows(told.decision):
            at = cells.index(check)
            row = [word for word in cells[at : at + 6] if word in (observed, interval, threshold, verdict)]
            assert row == [observed, interval, threshold, verdict]

    def test_a_graphic_puts_the_threshold_and_the_value_where_they_are(self):
        # p95 is 0.68 ms of 15 ms allowed, on an axis from 0 to 1.1 * 15 = 16.5 ms
        html = render(night())
        graphic = html[html.index('aria-label="Latency p95: 0.68 ms') :].partition("</svg>")[0]
        assert f'cx="{100 * 0.68 / 16.5:.2f}%"' in graphic
        assert f'class="limit" x1="{100 * 15 / 16.5:.2f}%"' in graphic
        assert f'class="zone" x="0" y="2" width="{100 * 15 / 16.5:.2f}%"' in graphic

    def test_an_importance_and_its_change_are_in_one_row(self):
        [row] = [row for row in rows.feature_rows(TRAINED, night().former, DATASET) if row.name == "S"]
        assert (row.share, row.was, row.change) == (0.22, 0.24, "−2.0 pp")

    @pytest.mark.parametrize(
        ("chosen_by", "said"),
        [
            (Chooser(source="validation", rankings=1412), "chosen by 1,412 rankings of the validation days"),
            (Chooser(source="training", rankings=87), "chosen by 87 training rankings, held out until it was chosen"),
            (Chooser(source="none", rankings=0), "chosen by nobody; all trees were kept"),
        ],
    )
    def test_who_chose_the_number_of_trees_stands_beside_it(self, chosen_by, said):
        assert said in outline(night(trained=replace(TRAINED, chosen_by=chosen_by))).text
        assert "chosen by" not in outline(night(trained=replace(TRAINED, chosen_by=None))).text

    def test_features_that_came_and_went_are_told(self):
        former = replace(night().former, features=night().former.features[:-1])  # without C
        gone = replace(TRAINED, importance=dict.fromkeys(("A", "S"), 0.5))
        dataset = replace(DATASET, features=["A", "S", "T", "C"], vanished=["T"], appeared=["C"])
        states = {row.name: row.state for row in rows.feature_rows(gone, former, dataset)}
        assert states["G"] == "removed since the version before"
        assert states["T"] == "vanished: no value in the test days"
        assert states["C"] == "new since the version before; appeared: no value in the training days, but later"
        assert states["A"] == ""
        text = outline(night(trained=gone, former=former, dataset=dataset)).text
        assert "Vanished: no value in the test days: T" in text
        assert "Seen in the events, but not on the allow-list: Z2" in text

    def test_a_refresh_says_what_it_is_and_that_position_bias_was_not_taken_out(self):
        text = outline(refreshed()).text
        made = "an hourly refresh of 20251119_0215: its trees, with new values learned from 1,391 positive answers"
        assert made in text
        assert "Position bias was not taken out of these answers" in text
        assert "it corrected for position bias when the trees were trained" in text
        assert "Against its parent, lately +0.004" in text
        assert "hourly refresh" not in outline(night()).text

    @pytest.mark.parametrize("mode", ["refit", "full"])
    def test_a_refresh_whose_answers_were_debiased_has_nothing_to_say_of_that(self, mode):
        debiased = replace(REFRESHED, mode=mode, debiased=True)
        text = outline(night(replace(EVIDENCE, refreshed=debiased))).text
        assert "an hourly refresh of 20251119_0215" in text
        assert "Position bias was not" not in text
        assert "it corrects for position bias in training" in text

    def test_the_champions_fairness_stands_beside_the_challengers(self):
        words = outline(unfair()).words
        at = words.index("The champion, 20251119_0215")
        assert words[at + 1] == "fail"
        section = words[at : words.index("Features", at)]
        assert section[section.index("Gap, noise-corrected (judged)") + 1] == "0.115"
        assert section[section.index("b") + 2] == "0.686"  # after the kind of rankings
        assert "nDCG@5" not in section
        assert "noise-corrected, champion 0.115" in words
        assert "The champion, 20251119_0215" not in outline(night()).words

    def test_the_champions_fairness_is_shown_where_nothing_was_trained(self):
        page = outline(untrained())
        assert "fairness" in [attrs["id"] for attrs in page.attributes("section")]
        assert "The champion, 20251119_0215" in page.words
        assert "How often a better item of a group" not in page.text

    def test_both_kinds_of_rankings_of_the_champion_are_shown(self):
        other = Gap(kind="pure", rankings=204, gap=0.09, low=0.02, high=0.14, noise=0.03, corrected_gap=0.085)
        both = replace(UNFAIR, rankings=911, other=other)
        html = render(night(replace(EVIDENCE, champion_fairness=both)))
        assert "<h4>Mixed rankings (911)</h4>" in html
        assert "<h4>Pure rankings (204)</h4>" in html

    def test_yesterday_and_today_stand_side_by_side(self):
        told = {change.name: change[1:] for change in rows.evidence_changes(YESTERDAY, EVIDENCE)}
        assert told["nDCG@5"] == ("0.706", "0.712", "+0.006", "")
        assert told["Training impressions"] == ("150,011", "152,340", "+2,329", "+1.6 %")  # 2329 / 150011
        before, now = (replace(each, champion_fairness=FAIR) for each in (YESTERDAY, EVIDENCE))
        now = replace(now, champion_fairness=UNFAIR)
        told = {change.name: change[1:] for change in rows.evidence_changes(before, now)}
        assert told["Fairness gap of 20251119_0215"] == ("0.015", "0.115", "+0.100", "")
        other = replace(before, champion=replace(before.champion, version="20251118_0215"))
        assert not [change for change in rows.evidence_changes(other, now) if "20251119" in change.name]
        unknown = {change.name: change[1:] for change in rows.evidence_changes(YESTERDAY, unjudgeable().evidence)}
        assert unknown["nDCG@5"] == ("0.706", "–", "–", "")

    def test_only_features_that_miss_more_or_fewer_values_are_listed(self):
        before = night().yesterday_dataset
        assert [tuple(change) for change in rows.dataset_changes(before, DATASET)] == [
            ("Missing values of T", "5.10 %", "2.00 %", "−3.1 pp", "")
        ]

    def test_every_landed_record_has_a_row(self):
        used = rows.use_rows(DATASET.impressions, DATASET.feedback)
        assert sum(row.impressions for row in used) == DATASET.impressions.landed
        assert sum(row.feedback for row in used) == DATASET.feedback.landed
        assert sum(row.records for row in rows.landing_rows(LANDING)) == LANDING.read

    def test_stated_probabilities_stand_beside_what_came_of_them(self):
        # 3.4 % stated, 3.0 % observed, on an axis from 0 to the most observed, 33.4 %
        html = render(night())
        graphic = html[html.index('aria-label="Stated 3.4 %, observed 3.0 %"') :].partition("</svg>")[0]
        assert f'width="{100 * 0.03 / 0.334:.2f}%"' in graphic
        assert f'class="was" x1="{100 * 0.034 / 0.334:.2f}%"' in graphic
        assert "The probabilities are off by 1.1 percentage points on average." in outline(night()).text

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (0.0512, "off by 5.1 percentage points on average, more than 5, so none is told"),
            (None, "too few of either kind"),
        ],
    )
    def test_a_calibration_that_is_not_trusted_says_so(self, error, said):
        assert said in outline(night(replace(EVIDENCE, reliability=replace(RELIABILITY, error=error)))).text
        assert "Calibration" not in outline(night(replace(EVIDENCE, reliability=None))).text

    def test_a_feature_table_says_how_many_impressions_it_has_nothing_for(self):
        [row] = rows.table_rows(NIGHTS["tabled"]().dataset)
        assert (row.rows, row.future, row.unplaced, row.without) == (81_204, 311, 12, 0.1)  # 17,791 of 177,910
        text = outline(NIGHTS["tabled"]()).text
        assert "profiles G and Q, known at most 30 days before 81,204 311 12 10.0 %" in text
        assert text.count("of the table profiles") == 2
        assert "Features that change" not in outline(night()).text

    def test_declared_events_stand_beside_the_days_of_the_window(self):
        page = outline(NIGHTS["declared"]())
        assert (
            "Price war 20 October 2025 to 1 November 2025 a ranking counts 0.2 in training and validation" in page.text
        )
        assert "Singles' Day 11 November 2025 in no part: neither learned from nor judged by" in page.text
        assert "Proclamation 15 November 2025 as any other day" in page.text
        assert "Dropped: left out the calendar leaves out the day that the ranking began on 9,000 0" in page.text
        assert re.search(r"2025-11-15 Proclamation 0\.700", page.text)
        assert not re.search(r"2025-11-14 \D", page.text)
        assert "Declared events" not in outline(night()).text

    def test_a_declared_event_is_marked_where_its_days_are_and_cut_off_at_the_window(self):
        marks = [
            attributes
            for attributes in outline(NIGHTS["declared"]()).attributes("rect")
            if attributes["class"] == "p-event"
        ]
        day = 100 / 28
        found = [(float(mark["x"].rstrip("%")), float(mark["width"].rstrip("%"))) for mark in marks]
        assert found == [pytest.approx(place, abs=0.1) for place in ((0, 10 * day), (19 * day, day), (23 * day, day))]

    def test_the_tail_of_positions_is_one_column(self):
        columns = rows.position_columns({0: 5, 1: 60, 20: 20, 21: 15, 400: 5})
        assert [(c.name, c.share) for c in columns if c.share] == [("1", 0.6), ("20", 0.2), ("21+", 0.2)]

    def test_a_run_that_was_not_judged_has_no_empty_sections(self):
        landed_only = Night(run="20251120_0215", date=night().date, landing=LANDING)
        page = outline(landed_only)
        assert [attrs["id"] for attrs in page.attributes("section")] == ["data"]
        assert "Quarantined not JSON 14" in page.text


class TestFindings:
    FINDINGS = (
        Finding(what="First.", remedy="Do this.", count=9, share=0.9, place="a.log:17", excerpt="never shown"),
        Finding(what="Second.", remedy="Do that.", count=1, share=0.1),
    )

    def test_stand_before_the_gate_with_place_and_without_what_users_typed(self):
        page = outline(night(findings=self.FINDINGS))
        assert [attrs["id"] for attrs in page.attributes("section")][:2] == ["findings", "gate"]
        assert "First. Do this. First at a.log:17 Second. Do that." in page.text
        assert "never shown" not in page.text


class TestExamples:
    def test_each_item_stands_beside_its_former_places(self):
        page = outline(night())
        assert "Gained most: case-81 nDCG@5 1.000 here, 0.301 by 20251119_0215." in page.text
        assert "12 candidates, 16 November 2025, 10:30 UTC." in page.text
        assert "Item New Shown Champion Relevance lawyer-1 1 8 6 3" in page.text
        assert "lawyer-14 5 – 5 0" in page.text  # its place was not logged
        assert "lawyer-31 11 1 2 2" in page.text

    def test_without_a_champion_the_order_shown_is_compared(self):
        text = outline(NIGHTS["first"]()).text
        assert "against the order shown one gained most" in text
        assert "Item New Shown Relevance lawyer-1 1 8 3" in text

    def test_a_run_of_a_former_release_has_none(self):
        page = outline(night(examples=None))
        assert "examples" not in [attrs["id"] for attrs in page.attributes("section")]


class TestHostileNames:
    def hostile(self) -> Night:
        evidence = replace(
            EVIDENCE,
            champion=replace(EVIDENCE.champion, version=EVIL, delta=None, reason=EVIL),
            fairness=replace(FAIR, reason=EVIL, groups=[replace(FAIR.groups[0], protected_group=EVIL)]),
            slices=[replace(EVIDENCE.slices[0], dimension=EVIL, value=EVIL, note=EVIL)],
            latency=replace(EVIDENCE.latency, cpu=EVIL),
        )
        return night(
            evidence,
            note=EVIL,
            findings=[Finding(what=EVIL, remedy=EVIL, count=1, share=1, place=EVIL)],
            trained=replace(TRAINED, importance={EVIL: 1.0}, missing_rules={EVIL: EVIL}, parameters={EVIL: EVIL}),
            dataset=replace(
                DATASET,
                features=[EVIL],
                vanished=[EVIL],
                windows=replace(DATASET.windows, occasions=[replace(one, name=EVIL) for one in OCCASIONS]),
            ),
            landing=replace(LANDING, unknown_features=[EVIL], quarantine_reasons={EVIL: 1}, fallback=EVIL),
            libraries={EVIL: EVIL},
            lineage={EVIL: EVIL},
            hashes={EVIL: EVIL},
            examples=replace(EXAMPLES, version=EVIL, examples=[example("typical", EVIL, 0.5, 0.5, (EVIL, 1, 1, 1, 1))]),
        )

    def test_are_text_and_nothing_else(self, page):
        page.set_content(render(self.hostile()))
        assert "owned" not in page.title()
        assert page.locator("script, img").count() == 0
        assert page.locator("[onerror]").count() == 0
        assert page.locator("tbody th bdi", has_text="document.title").first.inner_text() == EVIL

    def test_long_ones_do_not_widen_the_page(self, page):
        long = "x" * 300
        told = night(
            replace(EVIDENCE, slices=[replace(EVIDENCE.slices[0], value=long)]),
            dataset=replace(
                DATASET,
                windows=replace(DATASET.windows, occasions=[replace(one, name=long) for one in OCCASIONS]),
            ),
            trained=replace(TRAINED, importance={long: 1.0}, parameters={long: long}),
            note=long,
            examples=replace(EXAMPLES, examples=[example("worse", long, 0.5, 0.5, (long, 1, 1, 1, 1))]),
        )
        for width in (390, 1280):
            show(page, told, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_many_of_them_keep_the_file_small(self):
        names = [f"feature-{index:05d}-{'y' * 60}" for index in range(3000)]
        shares = dict.fromkeys(names, 1 / 3000)
        part = replace(DATASET.train, feature_missing=dict.fromkeys(names, 0.0))
        crowd = replace(
            EVIDENCE,
            slices=[
                Slice(dimension="protected_group", value=name, ndcg_at_5=estimate(0.7), impressions=1) for name in names
            ],
            fairness=replace(
                FAIR, groups=[GroupAccuracy(protected_group=name, accuracy=0.5, pairs=1, rankings=1) for name in names]
            ),
        )
        dataset = replace(DATASET, features=names, train=part, vanished=names)
        before = replace(dataset, train=replace(part, feature_missing=dict.fromkeys(names, 0.5)))
        told = night(
            crowd, trained=replace(TRAINED, importance=shares), dataset=dataset, yesterday_dataset=before, former=None
        )
        html = render(told)
        assert len(html.encode()) < 1_000_000
        assert "2,940 more features, together 98.0 % of the gain" in " ".join(html.split())


class TestColours:
    """WCAG 2.2: 4.5 to 1 for text, in the light and in the dark theme."""

    PAIRS = (
        ("ink", "page"),
        ("soft", "page"),
        ("blue", "page"),
        ("ink", "panel"),
        *((tone, f"{tone}-soft") for tone in ("green", "red", "amber")),
        ("soft", "grey-soft"),
    )

    @pytest.mark.parametrize("pair", PAIRS, ids="-on-".join)
    @pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
    def test_text_stands_out(self, pair, theme):
        css = files("ltr_pipeline.report").joinpath("templates/report.css").read_text()
        block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        light, dark = sorted((luminance(colours[name]) for name in pair), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def show(page: Page, told: Night, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.set_content(render(told))


class TestInTheBrowser:
    @every_night
    def test_fits_a_phone_and_a_desk_without_a_request_or_an_error(self, page, tmp_path, kind):
        file = tmp_path / "report.html"
        file.write_text(render(NIGHTS[kind]()), encoding="utf-8")
        requests, problems = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
        assert problems == []

    @every_night
    def test_fits_a4(self, page, kind):
        show(page, NIGHTS[kind](), 688)  # 210 mm less 2 * 14 mm of margin at 96 px an inch
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 688
        assert not page.locator("nav").is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")

    def test_is_legible_on_a_phone(self, page):
        show(page, night(), 390)
        sizes = page.evaluate(
            "[...document.querySelectorAll('th, td, p, dt, dd, text, span')]"
            ".filter(e => e.textContent.trim() && e.getClientRects().length)"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12

    def test_a_phone_sees_every_figure_with_its_name(self, page):
        show(page, night(), 390)
        card = page.locator("#gate tbody tr").first.inner_text().split("\n")
        assert card[0] == "nDCG@5"
        assert (
            page.evaluate("getComputedStyle(document.querySelector('#gate td.num'), '::before').content")
            == '"Observed"'
        )

    def test_the_page_is_navigable_by_its_headings_and_tables(self, page):
        show(page, night(), 390)
        assert page.get_by_role("heading", level=2).count() >= 9
        gate = page.get_by_role("table", name="Gate table")
        assert gate.get_by_role("row").count() == 1 + len(night().decision.checks)  # one of headings
        assert gate.get_by_role("columnheader").count() == 6
