"""What people's databases do to a run that is under way: deadlocks, restarts, other writers; and what they hold."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch import runs
from ltr_pipeline.batch.model import Model
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.batch.score import score
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError, ScoringError
from support.databases import JOB, model, on_postgresql, on_sqlite, opened, run, users, wrong
from support.recommending import RANK, candidates


@pytest.fixture
def server_database(postgres: PostgresServer) -> Any:
    """An empty database of PostgreSQL, with our tables."""
    with opened(on_postgresql(postgres)) as database:
        yield database


def disturbed(act: Callable[[], object], *, after: int = 2) -> Model:
    """Return the `model`, which acts once in the middle of a batch: rows are locked and read, and not yet written."""
    found = model()
    sound, calls = found.scorer.score, count()

    def score(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        if next(calls) == after:
            act()
        return sound(matrix)

    found.scorer.score = score  # type: ignore[method-assign]
    return found


def waiting(database: Database) -> bool:
    """Whether a session of this database waits for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return run(database, query) != [(0,)]


def scored(database: Database, how: Model | None = None, size: int = 10) -> Any:
    return score(database, "lead_score", JOB, how or model(), size=size)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=lambda stop: stop.name)
def test_a_server_that_restarts_in_the_middle_of_a_batch(
    postgres: PostgresServer, server_database: Database, stop: signal.Signals
) -> None:
    users(server_database, 50)

    def restart() -> None:
        postgres.stop(stop)
        postgres.start()

    assert scored(server_database, disturbed(restart)).rows == 50
    assert wrong(server_database) == []
    assert run(server_database, "SELECT sum(rows), count(*) FROM score_batches") == [(50, 5)]
    assert run(server_database, "SELECT state, rows, batches FROM score_runs") == [("done", 50, 5)]


def test_a_server_that_stays_away_fails_the_run_and_the_next_one_goes_on(
    postgres: PostgresServer, server_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    users(server_database, 50)
    monkeypatch.setattr(runs, "WAITS", (0.0, 0.0))
    try:
        with pytest.raises(DatabaseUnavailableError) as caught:
            scored(server_database, disturbed(postgres.stop))
    finally:
        postgres.start()
    assert postgres.password not in str(caught.value)
    assert run(server_database, "SELECT count(*) FROM users WHERE lead_score IS NULL") == [(30,)]
    assert scored(server_database).rows == 30
    assert wrong(server_database) == []


CODES = {
    "40P01": "deadlock detected",
    "40001": "could not serialize access",
    "55P03": "lock not available",
    "53300": "too many connections",
    "57P01": "terminating connection",
}


@pytest.mark.parametrize("code", CODES, ids=[what.replace(" ", "_") for what in CODES.values()])
def test_a_batch_that_time_heals_is_done_again_whole(server_database: Database, code: str) -> None:
    users(server_database, 50)
    run(server_database, "CREATE SEQUENCE tries")  # which no rollback turns back
    run(
        server_database,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') IN (15, 33) THEN "
        f"RAISE EXCEPTION USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$",
    )
    run(
        server_database,
        "CREATE TRIGGER a_failing BEFORE UPDATE OF lead_score ON users FOR EACH ROW EXECUTE FUNCTION fail()",
    )
    assert scored(server_database).rows == 50
    assert wrong(server_database) == []
    assert run(server_database, "SELECT sum(rows), count(*) FROM score_batches") == [(50, 5)]
    assert run(server_database, "SELECT last_value > 50 FROM tries") == [(True,)]


def test_what_time_does_not_heal_is_not_tried_again(server_database: Database) -> None:
    users(server_database, 50)
    run(server_database, "ALTER TABLE users ADD CHECK (lead_score < 20)")
    with pytest.raises(DatabaseError, match="violates check constraint") as caught:
        scored(server_database)
    assert type(caught.value) is DatabaseError
    (state,) = run(server_database, "SELECT state, rows, reason FROM score_runs")
    assert state[:2] == ("failed", 10)
    assert "violates check constraint" in state.reason


def test_a_deadlock_with_an_application_ends(server_database: Database) -> None:
    """Ours has rows and wants the total that a trigger counts; theirs has the total and wants our rows."""
    users(server_database, 30)
    run(server_database, "CREATE TABLE totals (n integer)")
    run(server_database, "INSERT INTO totals VALUES (0)")
    run(
        server_database,
        "CREATE FUNCTION total() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN UPDATE totals SET n = n + 1; RETURN NEW; END'",
    )
    run(
        server_database,
        "CREATE TRIGGER b_total BEFORE UPDATE OF lead_score ON users FOR EACH ROW EXECUTE FUNCTION total()",
    )
    done: list[Any] = []
    worker = threading.Thread(target=lambda: done.append(scored(server_database)))
    pause = threading.Event()
    with Database(server_database.address) as theirs, theirs.begin() as connection:
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")  # ours is the one that is ended
        connection.exec_driver_sql("UPDATE totals SET n = 100")
        with Database(server_database.address) as third:
            worker.start()
            while not waiting(third):
                pause.wait(0.02)
            connection.exec_driver_sql("UPDATE users SET s = 1 WHERE id = 3")
    worker.join()
    assert done[0].rows == 30
    assert wrong(server_database) == []
    assert run(server_database, "SELECT n FROM totals") == [(130,)]
    assert run(server_database, "SELECT s FROM users WHERE id = 3") == [(1.0,)]


def test_sqlites_other_writer_is_waited_for(tmp_path: Any) -> None:
    url = on_sqlite(tmp_path)
    with opened(url) as database, opened(url) as other:
        users(database, 30)
        done: list[Any] = []
        worker = threading.Thread(target=lambda: done.append(scored(database)))
        with other.begin() as connection:
            connection.exec_driver_sql("UPDATE users SET a = 0.5 WHERE id = 3")
            worker.start()
            worker.join(0.5)
            assert worker.is_alive()
        worker.join()
        assert done[0].rows == 30
        assert wrong(database) == []
        assert run(database, "SELECT lead_score FROM users WHERE id = 3") == [(50.0,)]


@pytest.mark.parametrize("kind", ["double precision", "real", "numeric", "text", "boolean", "integer"])
def test_a_feature_of_any_type_is_a_number_missing_or_told(server_database: Database, kind: str) -> None:
    values = {
        "text": {"1.5": "is '1.5', which is no number", "": "is '', which is no number"},
        "boolean": {"true": ""},
        "integer": {"1": ""},
    }.get(
        kind,
        {
            "0.5": "",
            "NaN": "is nan; write NULL where it is missing",
            "Infinity": "is inf; write NULL where it is missing",
            "-Infinity": "is -inf; write NULL where it is missing",
        },
    )
    users(server_database, 1 + len(values))
    run(server_database, f"ALTER TABLE users ADD COLUMN given {kind}")
    for key, value in enumerate(values, 2):
        run(server_database, f"UPDATE users SET given = '{value}' WHERE id = {key}")
    job = replace(JOB, features={"A": "given"}, rejects_max=1)
    score(server_database, "lead_score", job, model(), size=10)
    told = {int(row.key): row.reason for row in run(server_database, "SELECT key, reason FROM score_rejects")}
    assert {key: why.lower().replace("infinity", "inf") for key, why in told.items()} == {
        key: f"feature a {why.lower()}" for key, why in enumerate(values.values(), 2) if why
    }
    rest = run(server_database, "SELECT id FROM users WHERE lead_score IS NULL ORDER BY id")
    assert [row.id for row in rest] == sorted(told)
    assert run(server_database, "SELECT lead_score FROM users WHERE id = 1") == [(0.0,)]  # missing, which counts 0


def test_null_in_a_feature_is_missing(database: Database) -> None:
    users(database, 30)
    run(database, "UPDATE users SET a = NULL WHERE id <= 10")
    assert score(database, "lead_score", JOB, model(), size=7).rejected == 0
    assert run(database, "SELECT DISTINCT lead_score FROM users WHERE id <= 10") == [(0.0,)]


@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_what_is_no_table_is_told(server_database: Database, kind: str) -> None:
    users(server_database, 3)
    run(server_database, f"CREATE {kind} shown AS SELECT * FROM users")
    with pytest.raises(ScoringError, match="shown is a view, whose rows cannot be locked: name the table that it show"):
        score(server_database, "lead_score", replace(JOB, table="shown"), model(), size=10)


def test_candidates_may_come_from_a_materialized_view(server_database: Database) -> None:
    candidates(server_database, queries=5)
    run(server_database, "CREATE MATERIALIZED VIEW fresh AS SELECT * FROM candidates")
    assert rank(server_database, "best", replace(RANK, table="fresh"), model(), size=2).rows == 10


def test_a_table_in_parts_is_scored(server_database: Database) -> None:
    run(
        server_database,
        "CREATE TABLE parts (id bigint, day date, a float8, lead_score float8, PRIMARY KEY (id, day)) "
        "PARTITION BY RANGE (day)",
    )
    for year in (2024, 2025):
        run(
            server_database,
            f"CREATE TABLE parts_{year} PARTITION OF parts FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')",
        )
    run(
        server_database,
        "INSERT INTO parts SELECT n, date '2024-01-01' + n, 0.25, NULL FROM generate_series(1, 700) AS n",
    )
    job = replace(JOB, table="parts", label=None, version=None, scored_at=None, features={"A": "a"})
    assert score(server_database, "lead_score", job, model(), size=100).rows == 700
    assert run(server_database, "SELECT DISTINCT lead_score FROM parts") == [(25.0,)]


def test_a_replica_that_only_reads_is_told(server_database: Database) -> None:
    users(server_database, 3)
    run(
        server_database,
        "ALTER ROLE airflow IN DATABASE " + server_database.address.name + " SET default_transaction_read_only = on",
    )
    with (
        opened(server_url(server_database), tables=False) as database,
        pytest.raises(DatabaseError, match="in a read-only transaction") as caught,
    ):
        scored(database)
    assert type(caught.value) is DatabaseError


def test_rights_in_our_own_tables_are_named(server_database: Database) -> None:
    users(server_database, 3)
    role = f"reader_{server_database.address.name}"
    run(server_database, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    run(server_database, f"GRANT SELECT, UPDATE ON users TO {role}")
    url = f"postgresql://{role}:secret@127.0.0.1:{server_database.address.port}/{server_database.address.name}"
    with opened(url, tables=False) as theirs, pytest.raises(DatabaseError) as caught:
        scored(theirs)
    assert "permission denied for table score_" in str(caught.value)
    assert f"have the right granted to the user {role}" in str(caught.value)
    assert run(server_database, "SELECT count(*) FROM users WHERE lead_score IS NULL") == [(3,)]


def server_url(database: Database) -> str:
    at = database.address
    return f"postgresql://{at.user}:{at.password}@{at.host}:{at.port}/{at.name}"
