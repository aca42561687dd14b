"""Rows of a real table, scored: each once, none forgotten, whatever their keys are."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.batch.job import ScoreJob
from ltr_pipeline.batch.runs import Batch, Begun
from ltr_pipeline.batch.score import score
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from support.databases import JOB, VERSION, model, on_sqlite, opened, run, users, wrong

NEXT = "20250715_0215"


def scored(database: Database, job: ScoreJob = JOB, *, size: int = 100, **how: Any) -> Any:
    return score(database, "lead_score", job, how.pop("model", model()), size=size, **how)


def test_every_row_gets_the_score_of_its_features_once(database: Database) -> None:
    users(database, 1000)
    told: list[Begun | Batch] = []
    done = scored(database, tell=told.append)
    assert (done.rows, done.batches, done.rejected, done.version, done.scale) == (1000, 10, 0, VERSION, "probability")
    assert done.ok
    assert wrong(database) == []
    begun, *batches = told
    assert (begun.rows, begun.batches) == (1000, 10)
    assert [(batch.number, batch.rows, batch.first_key, batch.last_key) for batch in batches] == [
        (number, 100, str(100 * number - 99), str(100 * number)) for number in range(1, 11)
    ]
    labels = dict(run(database, "SELECT lead_label, count(*) FROM users GROUP BY lead_label"))
    assert labels == {"cold": 300, "warm": 400, "hot": 300}  # of 0 to 99, from 30 and from 70 on
    (moment,) = run(database, "SELECT min(scored_at) FROM users")[0]
    moment = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    assert abs(moment - dt.datetime.now(dt.UTC).replace(tzinfo=None)) < dt.timedelta(minutes=5)


def test_a_second_run_changes_nothing(database: Database) -> None:
    users(database, 250)
    scored(database)
    again = scored(database)
    assert (again.rows, again.batches, again.ok, again.run_id) == (0, 0, True, None)
    assert wrong(database) == []
    assert run(database, "SELECT count(*) FROM score_runs") == [(1,)]


def test_runs_and_batches_are_kept(database: Database) -> None:
    users(database, 250)
    done = scored(database)
    (kept,) = run(
        database, "SELECT run_id, job, kind, mode, version, scale, state, rows, batches, rejected FROM score_runs"
    )
    assert tuple(kept) == (done.run_id, "lead_score", "score", "unscored", VERSION, "probability", "done", 250, 3, 0)
    batches = run(database, "SELECT number, rows, fetch_ms, score_ms, write_ms FROM score_batches ORDER BY number")
    assert [tuple(batch[:2]) for batch in batches] == [(1, 100), (2, 100), (3, 50)]
    assert all(part > 0 for batch in batches for part in batch[2:])


@pytest.mark.parametrize("size", [1, 7, 2000, 2001, 100_000])
def test_any_size_of_a_batch_gives_the_same(database: Database, size: int) -> None:
    count = 30 if size < 10 else 4100
    users(database, count)
    assert scored(database, size=size).batches == math.ceil(count / size)
    assert wrong(database) == []


@pytest.mark.parametrize(
    ("key", "id_of"),
    [
        ("bigint", lambda n: n * 2**33 - 2**40),
        ("text", lambda n: f"{'aBé-_ '[n % 6]}{n}"),
        ("varchar(40)", lambda n: f"{n}"),
        ("char(8)", lambda n: f"k{n}"),
        ("uuid", lambda n: str(UUID(int=n * 2**100))),
        ("numeric(20, 2)", lambda n: str(Decimal(n) / 4)),
    ],
    ids=["bigint", "text", "varchar", "char", "uuid", "numeric"],
)
def test_keys_of_any_type_are_paged(database: Database, key: str, id_of: Callable[[int], Any]) -> None:
    users(database, 230, key=key, id_of=id_of)
    for size in (25, 2001):
        run(database, "UPDATE users SET lead_score = NULL")
        run(database, "UPDATE users SET writes = 0")
        assert scored(database, size=size).rows == 230
        assert wrong(database) == []


@given(
    keys=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4), max_size=40),
    size=st.integers(1, 9),
)
def test_no_key_is_lost_or_taken_twice(tmp_path_factory: pytest.TempPathFactory, keys: set[str], size: int) -> None:
    with opened(on_sqlite(tmp_path_factory.mktemp("keys"))) as database:
        users(database, len(keys), key="text", id_of=dict(enumerate(sorted(keys), 1)).__getitem__)
        assert scored(database, size=size).rows == len(keys)
        assert wrong(database) == []


@given(
    keys=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=4), max_size=40)
)
def test_no_key_is_lost_or_taken_twice_whatever_the_collation(server_database: Database, keys: set[str]) -> None:
    run(server_database, "TRUNCATE users")
    if keys:
        with server_database.begin() as connection:
            from sqlalchemy import text

            rows = [{"id": key} for key in keys]
            connection.execute(text("INSERT INTO users (id, a) VALUES (:id, 0.5)"), rows)
    assert scored(server_database, size=3).rows == len(keys)
    assert wrong(server_database) == []


@pytest.fixture(scope="module")
def server_database(postgres: Any) -> Any:
    from support.databases import on_postgresql

    with opened(on_postgresql(postgres)) as database:
        users(database, 0, key='text COLLATE "unicode"' if _has_icu(database) else "text")
        yield database


def _has_icu(database: Database) -> bool:
    return bool(run(database, "SELECT 1 FROM pg_collation WHERE collname = 'unicode'"))


def test_rows_that_cannot_be_scored_are_told_and_stay(database: Database) -> None:
    users(database, 200)
    infinite = "'inf'" if database.is_postgresql else "9e999"
    run(database, f"UPDATE users SET a = {infinite} WHERE id = 7")
    run(database, "UPDATE users SET a = 1e300 WHERE id = 120")
    run(database, "UPDATE users SET writes = 0")
    done = scored(database)
    assert (done.rows, done.rejected, done.batches, done.ok) == (198, 2, 2, True)
    rejects = run(database, "SELECT key, reason FROM score_rejects ORDER BY length(key)")
    assert rejects == [
        ("7", "feature A is inf; write NULL where it is missing"),
        ("120", "feature A is 1e+300, beyond a 32-bit float"),
    ]
    assert {row.id for row in wrong(database)} == {7, 120}
    assert run(database, "SELECT rejected, rows, batches FROM score_runs") == [(2, 198, 2)]
    run(database, "UPDATE users SET a = 0.5 WHERE id = 7")
    later = scored(database)
    assert (later.rows, later.rejected) == (1, 1)
    assert run(database, "SELECT key FROM score_rejects") == [("120",)]


def test_too_many_of_them_make_the_run_red(database: Database) -> None:
    users(database, 20)
    run(database, "UPDATE users SET a = 1e300 WHERE id <= 2")
    assert scored(database, replace(JOB, rejects_max=0.1)).ok
    done = scored(database)
    assert not done.ok
    assert done.reason.startswith("2 of 2 rows cannot be scored, 100.0%, more than the 5.0% that rejects_max allows")
    assert [row.state for row in run(database, "SELECT state FROM score_runs ORDER BY run_id")] == ["done", "rejected"]


def test_text_in_a_feature_is_told(database: Database) -> None:
    users(database, 3)
    kind = "text" if database.is_postgresql else "TEXT"
    run(database, f"ALTER TABLE users ADD COLUMN typed {kind}")
    run(database, "UPDATE users SET typed = '1,5' WHERE id = 2")
    done = scored(database, replace(JOB, features={"A": "typed"}, rejects_max=1))
    assert (done.rows, done.rejected) == (2, 1)
    assert run(database, "SELECT reason FROM score_rejects") == [("feature A is '1,5', which is no number",)]


def test_another_version_scores_its_rows_anew_only_when_asked(database: Database) -> None:
    users(database, 150)
    scored(database)
    newer = model(NEXT)
    assert scored(database, model=newer).rows == 0
    assert scored(database, model=newer, mode="again", again="20250101_0215").rows == 0
    assert scored(database, model=newer, mode="again", again=VERSION).rows == 150
    assert run(database, "SELECT DISTINCT model_version, writes FROM users") == [(NEXT, 2)]
    run(database, "UPDATE users SET lead_score = NULL WHERE id <= 10")
    run(database, "UPDATE users SET writes = 0")
    assert scored(database, model=model(), mode="stale").rows == 150
    assert scored(database, model=model(), mode="stale").rows == 0
    assert wrong(database) == []
    assert scored(database, mode="all").rows == 150
    assert run(database, "SELECT DISTINCT writes FROM users") == [(2,)]


def test_without_a_version_column_nobody_knows_who_scored(database: Database) -> None:
    users(database, 1)
    with pytest.raises(ScoringError, match="which version scored a row is known only where the job names a column"):
        scored(database, replace(JOB, version=None), mode="again", again=VERSION)


def test_features_are_aggregated_over_the_keys_of_a_batch(database: Database) -> None:
    users(database, 30)
    run(database, "CREATE TABLE events (user_id integer, value double precision)")
    run(database, "INSERT INTO events SELECT id, a / 2 FROM users WHERE id > 5")
    run(database, "INSERT INTO events SELECT id, a / 2 FROM users WHERE id > 5")
    query = 'SELECT user_id AS id, sum(value) AS "A" FROM events WHERE user_id IN :keys GROUP BY user_id'
    assert scored(database, replace(JOB, features={}, features_sql=query), size=7).rows == 30
    assert [row.id for row in wrong(database)] == [1, 2, 3, 4, 5]  # without events A is missing, which counts 0
    assert run(database, "SELECT DISTINCT lead_score FROM users WHERE id <= 5") == [(0.0,)]


def test_an_aggregation_that_gives_a_key_twice_is_refused(database: Database) -> None:
    users(database, 3)
    query = 'SELECT id, a AS "A" FROM users WHERE id IN :keys UNION ALL SELECT id, a AS "A" FROM users'
    with pytest.raises(ScoringError, match="several rows for one id: it needs a GROUP BY"):
        scored(database, replace(JOB, features={}, features_sql=query))
    with pytest.raises(ScoringError, match="but not the key id"):
        scored(database, replace(JOB, features={}, features_sql='SELECT a AS "A" FROM users WHERE id IN :keys'))


def test_without_calibration_a_score_is_a_percentile_that_stays(database: Database) -> None:
    users(database, 200)
    uncalibrated = model(calibrated=False)
    done = scored(database, model=uncalibrated)
    assert done.scale == "percentile"
    found = dict(run(database, "SELECT a, lead_score FROM users WHERE id <= 100"))
    assert found[0.5] == pytest.approx(50.5)
    assert list(found.values()) == [found[a] for a in found]
    assert sorted(found.values()) == [found[a] for a in sorted(found)]
    run(database, "INSERT INTO users (id, a) VALUES (1001, 0.5), (1002, 7)")
    scored(database, model=uncalibrated)
    assert run(database, "SELECT lead_score FROM users WHERE id > 1000 ORDER BY id") == [(found[0.5],), (100.0,)]


def test_a_dry_run_writes_nothing(database: Database) -> None:
    users(database, 10)
    told: list[Any] = []
    done = scored(database, dry_run=True, tell=told.append, model=model(calibrated=False))
    assert (done.rows, done.reason, told[0].rows) == (0, "dry run", 10)
    assert len(wrong(database)) == 10
    assert run(database, "SELECT count(*) FROM score_runs") == [(0,)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"table": "user"}, "has no table user; did you mean users?"),
        ({"table": "shown"}, "shown is a view, whose rows cannot be locked: name the table that it shows"),
        ({"score": "lead_scor"}, "the table users has no column lead_scor (did you mean lead_score?); its columns are"),
        ({"features": {"A": "aa"}}, "the table users has no column aa"),
        ({"features": {"Z": "a"}}, "the published version has no feature Z; its features are A, S"),
        ({"key": "lead_label"}, "lead_label of users is null in some rows"),
        ({"key": "s"}, "s of users is not unique"),
        ({"table": "a.b.c"}, "'a.b.c' is no name of a table"),
    ],
)
def test_a_job_that_does_not_fit_its_table_is_told(database: Database, change: dict[str, Any], says: str) -> None:
    users(database, 3)
    run(database, "UPDATE users SET s = 1")
    run(database, "CREATE VIEW shown AS SELECT * FROM users")
    with pytest.raises(ScoringError) as caught:
        scored(database, replace(JOB, **change))
    assert says in str(caught.value)
    assert run(database, "SELECT count(*) FROM score_runs") == [(0,)]


def test_names_may_hold_any_sign(database: Database) -> None:
    table, key, column = 'My "users"; DROP TABLE users', "the %key:x", "sco're"
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"'.replace(":", r"\:") for name in (table, key, column)]
    run(
        database,
        f"CREATE TABLE {quoted[0]} ({quoted[1]} integer PRIMARY KEY, a double precision, {quoted[2]} double precision)",
    )
    run(database, f"INSERT INTO {quoted[0]} VALUES (1, 0.25, NULL), (2, 0.5, NULL)")
    name = '"' + table.replace('"', '""') + '"'
    for size in (1, 3000):
        job = ScoreJob(table=name, key=key, score=column, features={"A": "a"})
        assert scored(database, job, size=size).rows == 2
        assert run(database, f"SELECT {quoted[2]} FROM {quoted[0]} ORDER BY 1") == [(25.0,), (50.0,)]
        run(database, f"UPDATE {quoted[0]} SET {quoted[2]} = NULL")


def test_a_table_may_be_in_a_schema(server_database: Database) -> None:
    run(server_database, 'CREATE SCHEMA IF NOT EXISTS "Crm"')
    run(server_database, 'CREATE TABLE "Crm".people (id serial PRIMARY KEY, a float8, points numeric(5, 1))')
    run(server_database, 'INSERT INTO "Crm".people (a) SELECT 0.123 FROM generate_series(1, 5)')
    job = ScoreJob(table="Crm.people", key="id", score="points", features={"A": "a"})
    assert scored(server_database, job, size=2).rows == 5
    assert run(server_database, 'SELECT DISTINCT points FROM "Crm".people') == [(Decimal("12.3"),)]


def test_a_right_that_is_missing_is_named_with_the_grant_that_helps(postgres: Any) -> None:
    from support.databases import on_postgresql

    url = on_postgresql(postgres)
    with opened(url) as database:
        users(database, 20)
        run(database, "CREATE ROLE scorer LOGIN PASSWORD 'secret'")
        run(database, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO scorer")
        run(database, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO scorer")
        run(database, "REVOKE ALL ON users FROM scorer")
        limited = url.replace(f"airflow:{postgres.password}@", "scorer:secret@")
        with opened(limited, tables=False) as theirs:
            with pytest.raises(ScoringError) as caught:
                scored(theirs)
            assert "the user scorer may not do this: GRANT SELECT (id, lead_score" in str(caught.value)
            assert run(database, "SELECT count(*) FROM score_runs") == [(0,)]
            run(database, str(caught.value).partition("may not do this: ")[2])
            assert scored(theirs, size=7).rows == 20
    with opened(url) as database:
        assert wrong(database) == []


def test_a_row_that_somebody_else_scores_or_removes_meanwhile_is_left_alone(tmp_path: Any) -> None:
    with opened(on_sqlite(tmp_path)) as database:
        users(database, 30)

        def meddle(what: Begun | Batch) -> None:
            if isinstance(what, Batch) and what.number == 1:
                run(database, "UPDATE users SET lead_score = 1, model_version = 'theirs' WHERE id BETWEEN 11 AND 15")
                run(database, "DELETE FROM users WHERE id BETWEEN 16 AND 20")

        done = scored(database, size=10, tell=meddle)
        assert (done.rows, done.batches) == (20, 2)
        assert [row.id for row in wrong(database)] == [11, 12, 13, 14, 15]
