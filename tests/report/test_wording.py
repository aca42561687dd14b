"""Gate checks in people's words."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.gate.checks.check import Check
from ltr_pipeline.gate.decision import decide
from ltr_pipeline.gate.figures import signed
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.report.message import aligned
from ltr_pipeline.report.wording import STATUS, figure, gate_rows, gate_table, interval, label, limit
from support.nights import EVIDENCE, REFRESHED

DECISION = decide(replace(EVIDENCE, refreshed=REFRESHED), Policy())


def check(name: str, **fields: object) -> Check:
    known = {"status": "pass", "observed": None, "low": None, "high": None, "threshold": None, "unit": "", "reason": ""}
    return Check(name=name, **(known | fields))


def test_every_check_of_the_gate_and_every_status_has_words() -> None:
    names = {one.name: label(one) for one in DECISION.checks}
    assert all(words != name.replace("_", " ") for name, words in names.items())
    assert len(set(names.values())) == len(names)
    assert set(STATUS) == set(typing.get_args(typing.get_type_hints(Check)["status"]))


def test_a_row_says_what_was_seen_and_what_was_asked() -> None:
    rows = {row[0]: row[1:] for row in gate_rows(DECISION)}
    assert rows["nDCG@5"] == ("0.712", "0.692 to 0.732", "≥ 0.650", "pass")
    assert rows["Against the champion"] == ("+0.008", "−0.001 to +0.017", "CI > −0.010", "pass")
    assert rows["Latency p95"] == ("0.68 ms", "–", "≤ 15 ms", "pass")
    assert rows["Training impressions"][:3] == ("152,340", "–", "≥ 100")
    assert rows["Quarantined records"][:3] == ("0.23 %", "–", "≤ 1 %")


def test_what_is_not_known_is_a_dash() -> None:
    unknown = check("ndcg_at_5", status="not_evaluable")
    assert gate_rows(replace(DECISION, checks=[unknown])) == [("nDCG@5", "–", "–", "–", "not evaluable")]
    assert interval(check("ndcg_at_5", low=0.1)) == "–"


@pytest.mark.parametrize(
    ("name", "threshold", "written"),
    [
        ("fairness_gap", 0.05, "≤ 0.050"),
        ("latency_p95", 2.5, "≤ 2.5 ms"),
        ("quarantined_share", 0.005, "≤ 0.5 %"),
        ("queries", 1000, "≥ 1,000"),
        ("a_new_check", 0.5, "0.500"),
    ],
)
def test_limits_are_written_in_the_unit_of_the_check(name: str, threshold: float, written: str) -> None:
    assert limit(check(name, threshold=threshold)) == written


def test_a_check_without_words_is_readable() -> None:
    assert label(check("a_new_check")) == "a new check"


def test_the_table_is_aligned() -> None:
    table = aligned(gate_table(DECISION)).splitlines()
    assert len(table) == len(DECISION.checks) + 1
    column = table[0].index("Verdict")
    assert [line[column:] for line in table[1:]] == [STATUS[one.status] for one in DECISION.checks]
    assert all(line == line.rstrip() for line in table)


@given(st.floats(-1e6, 1e6))
def test_a_difference_has_a_sign_unless_it_rounds_to_zero(value: float) -> None:
    text = signed(value)
    number = float(text.replace("−", "-").replace(",", ""))
    assert number == pytest.approx(value, abs=0.0005001)
    assert (text[0] in "+−") == (number != 0)
    assert "-" not in text


@given(st.floats(-1e6, 1e6), st.sampled_from(["score", "delta"]))
def test_a_minus_is_a_true_minus(value: float, kind: typing.Literal["score", "delta"]) -> None:
    assert "-" not in figure(value, kind)


def test_a_reason_writes_its_figures_as_the_table_beside_it_does() -> None:
    loss = replace(EVIDENCE.champion.delta, value=-0.05, low=-0.06, high=-0.04)
    decision = decide(replace(EVIDENCE, champion=replace(EVIDENCE.champion, delta=loss)), Policy())
    seen = {row[0]: row[1:3] for row in gate_rows(decision)}
    assert seen["Against the champion"] == ("−0.050", "−0.060 to −0.040")
    assert "−0.050 nDCG@5 (95 % CI −0.060 to −0.040)" in decision.reasons[0]
