"""The champion is called unfair where the gate's rule calls it so, and it is said what to do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ltr_pipeline.gate.decision import Decision, decide
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.report.champion import alarm
from support.nights import EVIDENCE, FAIR, UNFAIR

A, B = "20251119_0215", "20251120_0215"  # the champion of EVIDENCE, and its challenger
FIGURES = "the fairness gap is 0.115 after noise correction (raw 0.118), above the limit of 0.05"


def decision(limit: float = 0.05) -> Decision:
    return decide(replace(EVIDENCE, champion_fairness=UNFAIR), Policy(fairness_max=limit))


def test_while_it_is_in_use_it_is_said_with_the_figures_and_what_to_do() -> None:
    found = alarm(decision(), A)
    assert found is not None
    assert found.raised
    assert found.what == f"{A}, which is in use, ranks groups of people unequally: {FIGURES}."
    assert "`ltr rollback` goes back to the one before" in found.remedy
    assert str(found) == f"{found.what} {found.remedy}"


def test_where_a_newer_version_took_its_place_nothing_needs_to_be_done() -> None:
    found = alarm(decision(), B, B)
    assert found is not None
    assert not found.raised
    assert found.what == f"{A}, which was in use before, ranked groups of people unequally: {FIGURES}."
    assert found.remedy == f"{B} has taken its place, so nothing needs to be done about it."


def test_where_a_version_that_passed_is_not_in_use_it_is_the_way_out() -> None:
    found = alarm(decision(), A, B)
    assert found is not None
    assert found.raised
    assert found.remedy == f"{B} passed the gate: to use it, `ltr rollback {B}`, then `ltr unpin`."


def test_a_repeat_of_the_night_that_published_the_champion_does_not_offer_it_as_the_way_out() -> None:
    found = alarm(decision(), A, A)
    assert found is not None
    assert f"rollback {A}" not in found.remedy


def test_where_the_version_in_use_is_not_known_it_is_taken_for_the_champion() -> None:
    found = alarm(decision(), None)
    assert found is not None
    assert found.raised


@pytest.mark.parametrize(
    "measured",
    [
        None,
        FAIR,
        replace(UNFAIR, corrected_p20=0.04),  # inconclusive
        replace(FAIR, evaluable=False, reason="a group needs 30 rankings with a pair to compare; b has 12"),
        replace(FAIR, configured=False, reason="no impression has a protected group"),
    ],
)
def test_it_is_silent_where_the_gate_would_not_fail_it(measured: object) -> None:
    assert alarm(decide(replace(EVIDENCE, champion_fairness=measured), Policy()), A) is None


def test_the_limit_is_the_gates() -> None:
    assert alarm(decision(0.12), A) is None
