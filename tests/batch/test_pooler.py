"""Behind a PgBouncer in transaction mode, where each transaction is in another session."""

from __future__ import annotations

import pytest

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.batch.score import score
from ltr_pipeline.batch.target import Target
from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError
from support.databases import JOB, VERSION, model, on_postgresql, opened, run, users, wrong
from support.killing import finish, fork
from support.pooler import Pooler
from support.recommending import RANK, candidates


@pytest.fixture
def url(postgres: PostgresServer, pooler: Pooler) -> str:
    """Address, through the pooler, of an empty database."""
    return pooler.url(on_postgresql(postgres))


def work(url: str) -> None:
    with Database(Address.parse(url)) as database:
        score(database, "lead_score", JOB, model(), size=25)


def test_each_transaction_is_in_another_session(url: str) -> None:
    with opened(url, tables=False) as database:
        assert len({run(database, "SELECT pg_backend_pid()")[0][0] for _ in range(5)}) == 5


@pytest.mark.parametrize("size", [100, 2500], ids=["unnest", "copy"])
def test_rows_are_scored(url: str, size: int) -> None:
    with opened(url) as database:
        users(database, 5100)
        run(database, "UPDATE users SET a = 'inf' WHERE id = 7")
        run(database, "UPDATE users SET writes = 0")
        done = score(database, "lead_score", JOB, model(), size=size)
        assert (done.rows, done.rejected, done.batches) == (5099, 1, -(-5100 // size))
        assert [row.id for row in wrong(database)] == [7]


def test_candidates_are_ranked(url: str) -> None:
    with opened(url) as database:
        candidates(database, queries=60)
        assert rank(database, "best", RANK, model(), size=7).rows == 120
        assert run(database, "SELECT count(*) FROM recommendations_v1 WHERE status = 'proposed'") == [(120,)]


def test_the_index_is_made(url: str) -> None:
    with opened(url) as database:
        users(database, 3)
        with database.begin(write=False) as connection:
            target = Target(database, connection, "lead_score", JOB, VERSION)
            (statement,) = target.missing_index(connection)
        database.execute_alone(statement)
        with database.begin(write=False) as connection:
            assert target.missing_index(connection) == []


def test_workers_share_a_table(url: str) -> None:
    with opened(url) as database:
        users(database, 2000)
    workers = [fork(lambda: work(url)) for _ in range(2)]
    assert [finish(worker) for worker in workers] == [0, 0]
    with opened(url) as database:
        assert wrong(database) == []
        assert run(database, "SELECT sum(rows) FROM score_batches") == [(2000,)]


def test_its_own_refusals_are_told_as_the_servers_are(url: str, postgres: PostgresServer, pooler: Pooler) -> None:
    with opened(url.replace(postgres.password, "hunter2"), tables=False) as database:
        with pytest.raises(DatabaseError, match="user airflow refuses the login: check user and pass") as caught:
            run(database, "SELECT 1")
        assert type(caught.value) is DatabaseError  # time does not heal it
    with opened(pooler.url("postgresql://nobody:hunter2@127.0.0.1:1/sales"), tables=False) as database:
        with pytest.raises(DatabaseError, match="user nobody refuses the login") as caught:
            run(database, "SELECT 1")
        assert type(caught.value) is DatabaseError
    with opened(url.rpartition("/")[0] + "/sales", tables=False) as database:
        with pytest.raises(DatabaseError, match="sales") as caught:
            run(database, "SELECT 1")
        assert type(caught.value) is DatabaseError


def test_a_pooler_that_restarts_is_waited_for(url: str, pooler: Pooler) -> None:
    with opened(url) as database:
        users(database, 100)

        def restart(what: object) -> None:
            if getattr(what, "number", 0) == 3:
                pooler.kill()
                pooler.start()

        assert score(database, "lead_score", JOB, model(), size=10, tell=restart).rows == 100
        assert wrong(database) == []
        pooler.stop()
        with pytest.raises(DatabaseUnavailableError):
            run(database, "SELECT 1")
        pooler.start()
