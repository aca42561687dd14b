"""Questions and answers: for one matter, once, and never without a reason."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec.structs import replace

from ltr_pipeline.errors import RegistryError
from ltr_pipeline.gate.approval import Asking, check_approvable, said
from ltr_pipeline.gate.decision import Decision
from ltr_pipeline.gate.policy import Policy
from ltr_pipeline.storage.base import Storage
from support.nights import ASK, UNSURE, night

NOW = dt.datetime(2025, 7, 15, 2, 30, tzinfo=dt.UTC)
FIRST, SECOND = "manual/0", "manual/1"


@pytest.fixture
def asking(storage: Storage) -> Asking:
    return Asking(storage, "runs/20250715_0215", "1a" * 32)


def test_an_answer_is_for_one_matter(asking: Asking) -> None:
    asking.hear(FIRST, choice="publish", who="anna", why="fine")
    other = replace_about(asking, "2b" * 32)
    assert (other.answer(), other.settled(FIRST)) == (None, None)
    assert asking.settled(FIRST) == "publish"


def replace_about(asking: Asking, about: str) -> Asking:
    return Asking(asking.storage, asking.folder, about)


def test_the_first_answer_to_a_question_counts_and_an_approval_counts_for_every_question(asking: Asking) -> None:
    kept = asking.hear(FIRST, choice="keep", who="anna", why="odd")
    assert asking.hear(FIRST, choice="publish", who="bob", why="fine") == kept
    assert asking.settled(SECOND) is None
    approved = asking.hear(SECOND, choice="publish", who="bob", why="fine")
    assert said(approved) == "approved by bob: fine"
    assert asking.hear("manual/2", choice="keep", who="anna", why="odd") == approved
    assert asking.settled("manual/3") == "publish"


def test_a_kept_night_is_approved_by_hand_and_the_open_question_then_changes_nothing(asking: Asking) -> None:
    asking.approve(who="bob@desk", why=" looked ")
    assert asking.hear(FIRST, choice="keep", who="", why="", unheard="").choice == "publish"
    found = asking.answer()
    assert found
    assert (found.who, found.why, found.question) == ("bob@desk", "looked", "")


@pytest.mark.parametrize("why", ["", " \n\t", None])
def test_nothing_is_approved_without_a_reason(asking: Asking, why: str) -> None:
    found = asking.hear(FIRST, choice="publish", who="anna", why=why)
    assert (found.choice, said(found)) == ("keep", "nothing is approved without a reason, and anna gave none")


def test_a_time_out_says_how_long_was_waited(asking: Asking) -> None:
    asking.ask(FIRST, asked=NOW, until=NOW + dt.timedelta(minutes=90), link="x")
    found = asking.hear(FIRST, choice="publish", who="", why="", unheard="")
    assert (found.choice, said(found)) == ("keep", "nobody answered within 90 minutes")


@pytest.mark.parametrize("content", [b"", b"{", b'{"about": 1}', b"\xff"])
def test_an_answer_that_cannot_be_read_is_none(asking: Asking, content: bytes) -> None:
    asking.storage.put(f"{asking.folder}/approval.json", content)
    assert asking.answer() is None


def test_a_reason_is_kept_short(asking: Asking) -> None:
    assert len(asking.hear(FIRST, choice="keep", who="anna", why="x" * 10_000).why) == 500


def decided(**fields: object) -> Decision:
    decision = night(UNSURE, ASK).decision
    assert decision
    return replace(decision, **({"document": "3c" * 32} | fields))


def test_what_the_data_could_not_decide_may_be_approved_whatever_the_policy() -> None:
    check_approvable("20250715_0215", decided())
    check_approvable("20250715_0215", decided(verdict="keep", policy=Policy()))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mode": "dry_run"}, "it was a dry run"),
        ({"document": None}, "there is nothing to publish"),
    ],
)
def test_what_may_not(fields: dict[str, object], why: str) -> None:
    with pytest.raises(RegistryError, match=f"run 20250715_0215 cannot be approved: {why}"):
        check_approvable("20250715_0215", decided(**fields))


def test_a_check_that_failed_is_nobodys_to_overrule() -> None:
    first, *rest = decided().checks
    failed = replace(first, status="fail", reason="nDCG@5 is 0.600, below the minimum of 0.65")
    with pytest.raises(RegistryError, match=r"a check failed, which no setting and nobody overrules: nDCG@5 is 0\.600"):
        check_approvable("20250715_0215", decided(checks=[failed, *rest]))
