"""Candidates of queries, ordered and recommended, in tables that BI reads."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ltr_pipeline.batch.job import RankJob
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from support.databases import VERSION, model, opened, run
from support.killing import finish, fork
from support.recommending import RANK, candidates


def ranked(database: Database, job: RankJob = RANK, *, size: int = 100, **how: Any) -> Any:
    return rank(database, "best", job, how.pop("model", model()), size=size, **how)


COLUMNS = "SELECT query_id, item_id, rank, score, label, reasons, model_version, status"


def test_the_best_candidates_of_each_query_are_recommended(database: Database) -> None:
    candidates(database, 5)
    done = ranked(database, size=6)
    assert (done.rows, done.batches, done.rejected, done.ok, done.kind) == (10, 3, 0, True, "rank")
    assert done.waiting == 10
    rows = run(database, f"{COLUMNS} FROM recommendations_v1 WHERE query_id = '3' ORDER BY rank")
    assert [tuple(row) for row in rows] == [
        ("3", "l2", 1, 20.0, "cold", "for: A 0.2", VERSION, "proposed"),
        ("3", "l1", 2, 10.0, "cold", "", VERSION, "proposed"),  # l1 is as the mean of its list
    ]


def test_a_later_run_is_the_current_one_and_the_former_stays(database: Database) -> None:
    candidates(database, 3)
    at_once = replace(RANK, approval="none")
    first = ranked(database, at_once)
    assert first.waiting == 0
    run(database, "UPDATE candidates SET a = 0.9 WHERE lawyer_id = 'l0'")
    second = ranked(database, at_once, model=model("20250715_0215"))
    assert second.run_id != first.run_id
    rows = run(database, "SELECT DISTINCT run_id, model_version FROM recommendations_current")
    assert rows == [(second.run_id, "20250715_0215")]
    assert run(database, "SELECT DISTINCT item_id FROM recommendations_current WHERE rank = 1") == [("l0",)]
    assert run(database, "SELECT count(*) FROM recommendations_v1") == [(12,)]


def test_candidates_may_come_from_a_select_or_a_view(database: Database) -> None:
    candidates(database, 4)
    run(database, "CREATE VIEW shown AS SELECT * FROM candidates WHERE case_id > 2")
    assert ranked(database, replace(RANK, table="shown")).rows == 4
    sql = "SELECT case_id, lawyer_id, a, s FROM candidates WHERE case_id = 1 AND 'a:b' <> '%'"
    assert ranked(database, replace(RANK, table=None, sql=sql)).rows == 2
    with pytest.raises(ScoringError, match="its sql gives case_id, but not lawyer_id, a, s"):
        ranked(database, replace(RANK, table=None, sql="SELECT case_id FROM candidates"))


def test_an_unfinished_run_is_gone_on_with(database: Database) -> None:
    candidates(database, 6)

    class StoppedError(Exception):
        pass

    def stop_at(what: Any) -> None:
        if getattr(what, "number", 0) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        ranked(database, size=3, tell=stop_at)
    assert run(database, "SELECT state, batches FROM score_runs") == [("failed", 2)]
    done = ranked(database, size=3)
    assert (done.rows, done.batches) == (8, 6)
    assert run(database, "SELECT state, rows, batches FROM score_runs") == [("done", 12, 6)]
    assert run(database, "SELECT count(*) FROM recommendations_v1") == [(12,)]


def test_candidates_that_cannot_be_scored_or_come_twice_are_told(database: Database) -> None:
    candidates(database, 2)
    run(database, "UPDATE candidates SET a = 1e300 WHERE case_id = 1 AND lawyer_id = 'l2'")
    run(database, "INSERT INTO candidates VALUES (2, 'l0', 0.4, NULL)")
    done = ranked(database, replace(RANK, rejects_max=0.5))
    assert (done.rows, done.rejected, done.ok) == (4, 2, True)
    assert dict(run(database, "SELECT key, reason FROM score_rejects")) == {
        "1/l2": "feature A is 1e+300, beyond a 32-bit float",
        "2/l0": "the item comes more than once for its query",
    }


def test_no_candidates_are_no_fault(database: Database) -> None:
    candidates(database, 1)
    run(database, "DELETE FROM candidates")
    assert (ranked(database).rows, ranked(database).reason) == (0, "there are no candidates")
    assert run(database, "SELECT count(*) FROM score_runs") == [(0,)]


def test_two_workers_share_a_run(database_url: str) -> None:
    def work() -> None:
        with opened(database_url, tables=False) as mine:
            ranked(mine, size=3)

    with opened(database_url) as database:
        candidates(database, 40)
    assert [finish(one) for one in [fork(work), fork(work)]] == [0, 0]
    with opened(database_url) as database:
        # One that begins when the other has ended begins a run of its own, which is as whole.
        found = run(
            database, "SELECT run_id, count(*), count(DISTINCT query_id) FROM recommendations_v1 GROUP BY run_id"
        )
        assert {(rows, queries) for _, rows, queries in found} == {(80, 40)}
        assert run(database, "SELECT DISTINCT state FROM score_runs") == [("done",)]
        assert run(database, "SELECT count(*) FROM recommendations_v1 WHERE status = 'proposed'") == [(80,)]
