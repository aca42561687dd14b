"""The pages of versions: what the ledger tells of each, two side by side, and what a page says before an act."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from ltr_pipeline.board import duel
from ltr_pipeline.board.asked import Asked
from ltr_pipeline.board.confirm import Form, Tried, pinning, publishing, rolling_back
from ltr_pipeline.board.duel import Duel
from ltr_pipeline.board.facts import Facts, Reader
from ltr_pipeline.board.judged import Judged, Line
from ltr_pipeline.board.links import Links
from ltr_pipeline.board.page import Here, compare_page, confirm_page, render
from ltr_pipeline.board.versions import chosen, compared, known, lead_of, sides, versions
from ltr_pipeline.errors import UnknownVersionError
from ltr_pipeline.monitoring.records import Figure
from ltr_pipeline.versions.registry import Registry
from ltr_pipeline.versions.weights import Feature, Window
from support.documents import document
from support.history import NOW, enter, reader_of
from support.small import small_settings

A, B, C = "20250713_0215", "20250714_0215", "20250715_0215"
EVIL = "<img src=x onerror=alert(1)>"
READS = Here(Links())
ACTS = Here(Links(), acts=True, reader="otto")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = reader_of(tmp_path).registry
    assert found is not None
    return found


def told(registry: Registry) -> Facts:
    return Reader(registry.storage, registry).facts(NOW)


class TestWhatTheLedgerTells:
    def test_each_version_once_the_newest_first_with_what_became_of_it(self, registry: Registry) -> None:
        for version in (A, B, C):
            enter(registry.ledger, "publish", version, version)
        enter(registry.ledger, "rollback", A, A, who="ana", why="users like it less", pin=True)
        enter(registry.ledger, "publish", "20250716_0215", A, pin=True)
        found = known(told(registry))
        assert [(one.version, one.became, one.pinned) for one in found] == [
            ("20250716_0215", "never in use", False),
            (C, "rolled back from", False),
            (B, "was in use", False),
            (A, "in use", True),
        ]
        lead = versions(told(registry), Asked()).lead
        assert lead == f"4 versions are kept; 1 rolled back from; 1 never in use. {A} is in use."

    def test_what_is_in_use_again_was_not_rolled_back_from(self, registry: Registry) -> None:
        for move, version in (("publish", A), ("publish", B), ("rollback", A), ("rollback", B), ("rollback", A)):
            enter(registry.ledger, move, version, version)  # type: ignore[arg-type]
        assert [(one.version, one.became) for one in known(told(registry))] == [
            (B, "rolled back from"),
            (A, "in use"),
        ]

    def test_pruned_versions_are_gone(self, registry: Registry) -> None:
        for version in (A, B, C):
            enter(registry.ledger, "publish", version, version)
        enter(registry.ledger, "prune", C, C, pruned=[A])
        assert [one.version for one in known(told(registry))] == [C, B]

    def test_the_one_in_use_and_the_one_before_are_offered_first(self, registry: Registry) -> None:
        for version in (A, B, C):
            enter(registry.ledger, "publish", version, version)
        facts = told(registry)
        assert chosen(facts, Asked()) == (C, B)
        assert chosen(facts, Asked(one=A)) == (A, C)
        assert chosen(facts, Asked(one=A, other=B)) == (A, B)

    def test_acts_are_offered_to_who_may_and_never_of_the_version_in_use(self, registry: Registry) -> None:
        for version in (A, B):
            enter(registry.ledger, "publish", version, version)
        facts = told(registry)
        assert re.findall(r"act/rollback\?version=(\w+)", render("versions", facts, Asked(), ACTS)) == [A]
        assert "act/" not in render("versions", facts, Asked(), READS)
        assert "act/" not in render("overview", facts, Asked(), READS)
        assert "act/pin" in render("overview", facts, Asked(), ACTS)

    def test_a_refresh_is_told_as_such_and_is_nobodys_to_go_back_to(self, registry: Registry) -> None:
        hour = "20250714_1035"
        for version, parent in ((A, None), (B, None), (hour, B)):
            enter(registry.ledger, "publish", version, version, parent=parent)
        enter(registry.ledger, "expire", B, B)
        facts = told(registry)
        assert [(one.version, one.became) for one in known(facts)] == [
            (hour, "was in use"),
            (B, "in use"),
            (A, "was in use"),
        ]
        html = render("versions", facts, Asked(), ACTS)
        assert f"hourly, of {B}" in html
        assert re.findall(r"act/rollback\?version=(\w+)", html) == [A]
        assert chosen(facts, Asked()) == (B, A)


class TestTwoSideBySide:
    def test_figures_stand_beside_each_other_and_differences_are_marked(self) -> None:
        one, other = document(B, high=0.75), document(A, high=0.70)
        rows = {row.label: row for row in compared(one, other).rows}
        assert (rows["nDCG@5"].one, rows["nDCG@5"].other, rows["nDCG@5"].same) == ("0.750", "0.700", False)
        assert rows["nDCG@5"].notes[0] == "0.700 to 0.800"
        assert rows["Latency p95"].same
        assert rows["Test days"].one == "8 Jul 2025 to 10 Jul 2025"

    def test_what_the_gate_said_of_one_alone_is_shown_beside_nothing(self) -> None:
        judged = replace(document(B), gate={"checks": [{"name": "ndcg_at_5", "status": "pass"}, {"name": "dreams"}]})
        rows = {row.label: (row.one, row.other) for row in compared(judged, document(A)).checks}
        assert rows["nDCG@5"] == ("pass", "–")
        assert "dreams" in rows  # of another release

    def test_features_that_one_lacks_come_first(self) -> None:
        more = document(B)
        more = replace(more, features=[*more.features, Feature(name="Z", missing="zero")])
        rows = [(row.label, row.one, row.other) for row in compared(more, document(A)).features]
        assert rows[0] == ("Z", "0.00 %", "not there")
        assert rows[1][0] == "A"

    @pytest.mark.parametrize(
        ("delta", "says"),
        [
            ((0.02, 0.01, 0.03), f"{B} ranks better than {A}: +0.020 in nDCG@5 (+0.010 to +0.030), on the same 9"),
            ((-0.02, -0.03, -0.01), f"{B} ranks worse than {A}: −0.020"),
            ((0.01, -0.01, 0.03), "The data cannot tell which of the two ranks better"),
            ((None, None, None), ""),
        ],
    )
    def test_which_ranks_better(self, delta: tuple[float | None, ...], says: str) -> None:
        value, low, high = delta
        found = Duel(newer=B, older=A, delta=Figure(value=value, low=low, high=high, n=9))
        said = lead_of(found, B, A)
        assert said.startswith(says)
        assert bool(said) == bool(says)

    def test_a_nights_own_comparison_is_found_from_both_sides(self) -> None:
        champion = {"version": A, "delta": {"value": 0.02, "low": 0.01, "high": 0.03, "n": 9}}
        one, other = replace(document(B), champion=champion), document(A)
        for pair in ((one, other), (other, one)):
            found = duel.recorded(*pair)
            assert found is not None
            assert (found.newer, found.older) == (B, A)
        assert lead_of(found, A, B).startswith(f"{A} ranks worse than {B}: −0.020 in nDCG@5 (−0.030 to −0.010)")
        assert duel.recorded(one, document(C)) is None
        assert duel.recorded(replace(one, champion={"version": A, "delta": None}), other) is None

    def test_the_page_is_text_whatever_a_feature_is_called(self, registry: Registry) -> None:
        enter(registry.ledger, "publish", A, A)
        evil = replace(document(B), features=[Feature(name=EVIL, missing=EVIL)], libraries={"lightgbm": EVIL})
        html = compare_page(told(registry), ACTS, evil, document(A))
        assert "<img" not in html
        assert "&lt;img" in html
        assert re.findall(r"act/rollback\?version=(\w+)", html) == [B]


@pytest.fixture
def facts(registry: Registry) -> Facts:
    for version in (A, B):
        enter(registry.ledger, "publish", version, version)
    return told(registry)


def judged(problem: str = "") -> Judged:
    lines = [
        Line(name="ndcg_at_5", status="inconclusive", reason=EVIL, observed=0.7, low=0.6, high=0.8, threshold=0.65)
    ]
    return Judged(run=C, sha256="a" * 64, checks=lines, reasons=[], document=b"{}", problem=problem)


class TestBeforeAnAct:
    def test_a_rollback_says_what_moves_what_was_tried_and_which_ranks_better(self, facts: Facts) -> None:
        found = Duel(newer=B, older=A, delta=Figure(value=0.02, low=0.01, high=0.03, n=9))
        shown = rolling_back(facts, A, Tried(document(A)), document(B), found)
        html = confirm_page(facts, ACTS, shown, Form({"seal": "s"}))
        assert f"moves from {B} to {A}" in html
        assert "scores its 1 golden request (2 items)" in html
        assert f"{A} ranks worse than {B}" in html
        assert 'name="reason"' in html
        assert "<bdi>otto</bdi>" in html

    def test_why_it_is_not_known_which_ranks_better_is_said(self, facts: Facts) -> None:
        unknown = Duel(newer=B, older=A, reason="the test rankings of B are no longer kept")
        shown = rolling_back(facts, A, Tried(document(A)), document(B), unknown)
        assert "is not known: the test rankings of B are no longer kept." in confirm_page(facts, ACTS, shown, Form({}))

    def test_what_does_not_load_cannot_be_gone_back_to(self, facts: Facts) -> None:
        shown = rolling_back(facts, A, Tried(None, "it scores otherwise than recorded"), document(B), None)
        html = confirm_page(facts, ACTS, shown, Form({}))
        assert "This cannot be done: it scores otherwise than recorded." in html
        assert "<textarea" not in html

    def test_where_the_version_in_use_cannot_be_read_there_is_a_way_back(self, facts: Facts) -> None:
        shown = rolling_back(facts, A, Tried(document(A)), None, None)
        assert shown.problem == ""
        assert "<textarea" in confirm_page(facts, ACTS, shown, Form({}))

    def test_pinning_says_what_is_so_already(self, facts: Facts, registry: Registry) -> None:
        assert pinning(facts, "pin").problem == ""
        assert "is not pinned" in pinning(facts, "unpin").problem
        enter(registry.ledger, "pin", B, B, pin=True)
        pinned = told(registry)
        assert "is pinned already" in pinning(pinned, "pin").problem
        assert pinning(pinned, "unpin").problem == ""
        assert pinning(Facts(at=NOW), "pin").problem == "nothing was published yet"

    def test_a_kept_run_shows_the_gates_table_and_what_becomes_of_latest(
        self, facts: Facts, registry: Registry
    ) -> None:
        html = confirm_page(facts, ACTS, publishing(facts, judged(), Tried(document(C)), None, None), Form({}))
        assert f"moves to it, now {B}" in html
        assert "&lt;img src=x" in html
        assert "0.600 to 0.800" in html
        enter(registry.ledger, "pin", B, B, pin=True)
        pinned = publishing(told(registry), judged(), Tried(document(C)), None, None)
        assert f"stays {B}, which it is pinned to" in pinned.changes[1]
        refused = publishing(facts, judged("a check failed"), Tried(document(C)), None, None)
        assert "<textarea" not in confirm_page(facts, ACTS, refused, Form({}))

    def test_what_is_wrong_with_an_answer_is_told_and_what_was_typed_is_there_again(self, facts: Facts) -> None:
        shown = pinning(facts, "pin")
        html = confirm_page(facts, ACTS, shown, Form({"seen": "2"}, f"because {EVIL}", "somebody was first"))
        assert 'role="alert" id="fault">Somebody was first.' in html
        assert ">because &lt;img" in html


def test_a_refresh_is_compared_with_its_parent_alone(tmp_path: Path) -> None:
    settings = small_settings(tmp_path)
    found = duel.apart(settings, document("20250714_1035", parent=B), document(A))
    assert found.reason == "a refresh is compared with its parent alone, in its own hour"


def test_a_document_that_is_gone_is_unknown(registry: Registry) -> None:
    with pytest.raises(UnknownVersionError):
        Reader(registry.storage, registry).weights(A)


def test_no_day_is_newer_by_its_name_alone() -> None:
    later = document(A, end=dt.datetime(2025, 7, 20, tzinfo=dt.UTC))
    assert duel.in_order(later, document(B)) == (later, document(B))
    assert duel.in_order(document(B), later) == (later, document(B))


def test_the_training_days_of_a_refresh_go_on_to_its_hour() -> None:
    made = document("20250714_1035", parent=B)
    learned = Window(start=made.data.test.end, end=made.data.window.end)
    refreshed = replace(made, data=replace(made.data, train=learned))
    (days,) = (row for row in sides(refreshed, document(B)) if row.label == "Training days")
    assert days.one == "11 Jul 2025 to 14 Jul 2025"
