"""`ltr recommendations`, as the commercial team types it after `ltr score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.commands import A, ltr, project, published
from support.databases import opened, run
from support.recommending import candidates

JOBS = """
[best]
kind = "rank"
table = "candidates"
query = "case_id"
item = "lawyer_id"
features = { A = "a", S = "s" }
first = 2
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project that recommends from three queries, over a database of either kind."""
    found = (
        f"sqlite:///{tmp_path / 'ltr.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
    )
    project(tmp_path, monkeypatch)
    published(tmp_path, A)
    (tmp_path / "scoring.toml").write_text(JOBS)
    monkeypatch.setenv("LTR_SCORING", "scoring.toml")
    monkeypatch.setenv("LTR_DATABASE_URL", found)
    with opened(found) as database:
        candidates(database, 3)
    return str(found)


def current(url: str) -> list[Any]:
    with opened(url, tables=False) as database:
        return run(database, "SELECT query_id, item_id FROM recommendations_current ORDER BY query_id, rank")


def test_a_run_is_shown_cut_down_approved_and_the_rest_rejected(url: str, tmp_path: Path) -> None:
    assert ltr("recommendations", "list").out.startswith("Nothing was recommended yet; `ltr score` does it")
    scored = ltr("score").out.splitlines()
    assert scored[-1] == (
        "best: 6 recommendations of run 1 wait for an answer: `ltr recommendations show 1`, then approve or reject"
    )
    assert ltr("score", "best", "--dry-run", "--json").json["waiting"] == 0
    assert "6 proposed" in ltr("recommendations", "list").out
    (listed,) = ltr("recommendations", "list", "--json").json
    assert (listed["run_id"], listed["job"], listed["counts"]) == (1, "best", {"proposed": 6})
    assert "proposed" in ltr("recommendations", "show", "1").out
    printed = ltr("recommendations", "show", "1", "--csv").out.splitlines()
    assert printed[0].startswith("query_id,item_id,rank,score,label,reasons,status,")
    (tmp_path / "rows.csv").write_text("\n".join(printed[:3]))
    done = ltr("recommendations", "approve", "1", "--rows", "rows.csv", "--reason", "as in the meeting")
    assert (done.code, done.out) == (0, "2 recommendations of run 1 approved; 4 of it still wait\n")
    assert ltr("recommendations", "reject", "1", "--reason", "on leave").out == "4 recommendations of run 1 rejected\n"
    assert [tuple(row) for row in current(url)] == [("1", "l0"), ("1", "l1")]  # alike to this model
    told = {(one["status"], one["answer_reason"]) for one in ltr("recommendations", "show", "1", "--json").json}
    assert told == {("approved", "as in the meeting"), ("rejected", "on leave")}
    refused = ltr("recommendations", "approve", "1", "--reason", "late")
    assert refused.code == 2
    assert refused.err.startswith("error: nothing of run 1 of best waits for an answer: 4 rows rejected by ")
    assert refused.err.rstrip().endswith("(as in the meeting)")


def test_an_answer_needs_a_reason_and_rows_that_are_there(url: str, tmp_path: Path) -> None:
    ltr("score")
    assert ltr("recommendations", "approve", "1").code == 2
    assert "the reason is missing" in ltr("recommendations", "approve", "1", "--reason", " ").err
    (tmp_path / "rows.csv").write_text("query_id;item_id\n1;l0\n9;l9\n")
    refused = ltr("recommendations", "reject", "1", "--rows", "rows.csv", "--reason", "no")
    assert refused.code == 2
    assert "did not recommend item l9 for 9; nothing was answered" in refused.err
    assert "no run 7 has recommended anything; the newest is 1" in ltr("recommendations", "show", "7").err
    assert current(url) == []


def test_a_job_that_does_without_people_is_shown_at_once(url: str, tmp_path: Path) -> None:
    (tmp_path / "scoring.toml").write_text(JOBS + 'approval = "none"\n')
    assert "wait for an answer" not in ltr("score").out
    assert len(current(url)) == 6
    (tmp_path / "scoring.toml").write_text(JOBS + 'approval = "nobody"\n')
    assert "approval" in ltr("score").err
