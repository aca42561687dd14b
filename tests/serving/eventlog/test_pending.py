"""Answers that wait for their reports, in a database that may be damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltr_pipeline.serving.eventlog.encode import AnsweredList
from ltr_pipeline.serving.eventlog.pending import FILE, Pending
from ltr_pipeline.serving.wire import RankCandidate


def answered(request_id: str) -> AnsweredList:
    return AnsweredList(
        request_id=request_id,
        event_id=request_id,
        query_id="q",
        user_id=None,
        seconds=1_752_575_400.5,
        policy="p",
        shadow=False,
        candidates=[RankCandidate(item_id=item, features={"A": 1.0}) for item in "ab"],
        features=("A",),
        propensities=None,
        teams=None,
    )


def kept(pending: Pending, request_id: str) -> bool:
    done = pending.keep(answered(request_id))
    pending.settle()
    return done


def test_an_answer_is_taken_once_as_it_was_shown(tmp_path: Path) -> None:
    pending = Pending(tmp_path, 600)
    assert kept(pending, "r")
    found = pending.take("r", ["b"])
    assert found is not None
    assert [candidate.item_id for candidate in found.candidates] == ["b"]
    assert pending.take("r", ["b"]) is None
    pending.close()


@pytest.mark.parametrize("junk", [b"no database at all" * 100, b""], ids=["not a database", "emptied"])
def test_a_damaged_database_is_set_aside_and_begun_anew(tmp_path: Path, junk: bytes) -> None:
    first = Pending(tmp_path, 600)
    assert kept(first, "before")
    first.close()
    for beside in tmp_path.glob(f"{FILE}-*"):
        beside.unlink()
    (tmp_path / FILE).write_bytes(junk)
    second = Pending(tmp_path, 600)
    assert any(kept(second, f"after-{n}") for n in range(2))  # the first may find the damage
    assert kept(second, "later")
    assert second.take("later", ["a"]) is not None
    assert [path.read_bytes() for path in tmp_path.glob("*.damaged-*")] == ([junk] if junk else [])
    second.close()


def test_a_database_damaged_in_the_middle_is_set_aside_by_one_of_two_workers(tmp_path: Path) -> None:
    one, other = Pending(tmp_path, 600), Pending(tmp_path, 600)
    for number in range(500):
        assert kept(one, f"r-{number}")
    assert other.take("r-1", ["a"]) is not None
    other.settle()
    for pending in (one, other):
        pending.close()
        pending._database = None
    damaged = bytearray((tmp_path / FILE).read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    (tmp_path / FILE).write_bytes(damaged)
    for number in range(5):
        for pending in (one, other):
            kept(pending, f"new-{number}-{id(pending)}")
    assert kept(one, "last")
    assert other.take("last", ["a"]) is not None
    assert len([*tmp_path.glob("*.damaged-*")]) == 1
    one.close()
    other.close()
