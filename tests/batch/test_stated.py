"""Probabilities read back from a real database: of which version, of whom, and of that day alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from msgspec.structs import replace

from ltr_pipeline.batch.job import Job
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.batch.score import score
from ltr_pipeline.batch.stated import STATED, stated
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from support.databases import JOB, VERSION, model, opened, run, users
from support.recommending import RANK, candidates

OF_USERS = replace(JOB, ids={"user_id": "id"})


def today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def rows(database: Database, job: Job = OF_USERS, day: dt.date | None = None) -> list[dict[str, Any]]:
    """Rows of the day on which the test began, or of the next one where midnight has passed meanwhile."""
    days = [day] if day else [today() - dt.timedelta(days=1), today()]
    return [one for day in days for one in stated(database, "lead_score", job, day).to_dicts()]


def test_scores_of_a_day_are_probabilities_of_their_rows(database: Database) -> None:
    users(database, 120)
    score(database, "lead_score", OF_USERS, model(), size=50)
    found = sorted(rows(database), key=lambda one: int(one["user_id"]))
    assert [one["user_id"] for one in found] == [str(n) for n in range(1, 121)]
    assert [one["probability"] for one in found] == [pytest.approx(n % 100 / 100) for n in range(1, 121)]
    assert {(one["version"], one["query_id"], one["item_id"]) for one in found} == {(VERSION, None, None)}
    assert all(abs(one["time"] - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5) for one in found)
    for other in (today() - dt.timedelta(days=2), today() + dt.timedelta(days=1)):
        assert rows(database, day=other) == []


def test_a_row_that_another_version_scored_since_states_what_that_one_does(database: Database) -> None:
    users(database, 10)
    score(database, "lead_score", OF_USERS, model(), size=50)
    score(database, "lead_score", OF_USERS, model("20250715_0215"), size=50, mode="again", again=VERSION)
    assert {one["version"] for one in rows(database)} == {"20250715_0215"}


def test_percentiles_state_nothing(database: Database) -> None:
    users(database, 10)
    score(database, "lead_score", OF_USERS, model(calibrated=False), size=50)
    assert rows(database) == []


def test_recommendations_are_of_query_and_item(database: Database) -> None:
    candidates(database, queries=3)
    rank(database, "lead_score", RANK, model(), size=50)
    found = sorted((one["query_id"], one["item_id"], round(one["probability"], 4)) for one in rows(database, RANK))
    assert found == [(str(q), f"l{i}", i / 10) for q in (1, 2, 3) for i in (1, 2)]
    assert {(one["version"], one["user_id"]) for one in rows(database, RANK)} == {(VERSION, None)}


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        (JOB, r'which id its key is, such as ids = \{ user_id = "id" \}'),
        (replace(OF_USERS, ids={"user_id": "a"}), "which id its key is"),
        (replace(OF_USERS, scored_at=None), "which version scored a row, and when"),
        (replace(OF_USERS, version=None), "which version scored a row, and when"),
        (replace(OF_USERS, table="user"), "has no table user; did you mean users"),
        (replace(OF_USERS, scored_at="when"), "has no column when"),
    ],
)
def test_a_job_that_does_not_say_whose_scores_these_are_is_named(database: Database, job: Job, problem: str) -> None:
    users(database, 3)
    with pytest.raises(ScoringError, match=problem):
        stated(database, "lead_score", job, today())


def test_where_nothing_was_ever_scored_nothing_is_stated(database_url: str) -> None:
    with opened(database_url, tables=False) as empty:
        found = stated(empty, "lead_score", OF_USERS, today())
    assert (found.height, dict(found.schema)) == (0, STATED)


@pytest.mark.parametrize("zone", ["timestamp with time zone", "timestamp without time zone"])
def test_a_days_bounds_are_utc_whatever_the_column_keeps(postgresql_url: str, zone: str) -> None:
    moments = ("2025-06-30 23:59:59", "2025-07-01 00:00:00", "2025-07-01 23:59:59", "2025-07-02 00:00:00")
    with opened(postgresql_url) as database:
        users(database, 4)
        run(database, f"ALTER TABLE users ALTER COLUMN scored_at TYPE {zone}")
        score(database, "lead_score", OF_USERS, model(), size=50)
        for key, moment in enumerate(moments, 1):
            utc = f"TIMESTAMP '{moment}'" + (" AT TIME ZONE 'UTC'" if "with time" in zone else "")
            run(database, f"UPDATE users SET scored_at = {utc} WHERE id = {key}")
        found = rows(database, day=dt.date(2025, 7, 1))
    assert sorted((one["user_id"], str(one["time"])) for one in found) == [
        ("2", "2025-07-01 00:00:00+00:00"),
        ("3", "2025-07-01 23:59:59+00:00"),
    ]
