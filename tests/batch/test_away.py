"""A database that goes away in the middle of a run: the batch is done again, whole."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch import runs
from ltr_pipeline.batch.runs import Batch, patiently
from ltr_pipeline.batch.score import score
from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseError, DatabaseUnavailableError
from support.databases import JOB, model, on_postgresql, opened, run, users, wrong


def test_a_server_that_is_restarted_in_the_middle_costs_no_row(postgres: PostgresServer) -> None:
    url = on_postgresql(postgres)
    with opened(url) as database:
        users(database, 100)
        starting: list[threading.Thread] = []

        def restart(what: Any) -> None:
            if isinstance(what, Batch) and what.number == 3:
                postgres.stop()
                starting.append(threading.Thread(target=postgres.start))
                starting[0].start()

        try:
            done = score(database, "lead_score", JOB, model(), size=10, tell=restart)
        finally:
            starting[0].join()
        assert (done.rows, done.batches) == (100, 10)
        assert wrong(database) == []


def test_a_session_that_is_ended_in_the_middle_of_a_batch_costs_no_row(postgres: PostgresServer) -> None:
    url = on_postgresql(postgres)
    with opened(url) as database, opened(url) as other:
        users(database, 60)
        # Each of the first two batches that come to row 35 ends its own session.
        run(
            database,
            "CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.id = 35 AND nextval('cuts') < 3 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; "
            "RETURN NEW; END $$",
        )
        run(database, "CREATE SEQUENCE cuts")
        run(database, "CREATE TRIGGER cut BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION cut_off()")
        assert score(database, "lead_score", JOB, model(), size=10).rows == 60
        assert wrong(database) == []
        assert run(other, "SELECT sum(rows), count(*) FROM score_batches") == [(60, 6)]


def test_only_what_time_can_heal_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "WAITS", (0.0, 0.0))
    tries: list[DatabaseError] = []

    def fail(error: DatabaseError) -> None:
        tries.append(error)
        raise error

    with pytest.raises(DatabaseUnavailableError):
        patiently("job", lambda: fail(DatabaseUnavailableError("away")))
    assert len(tries) == 3
    with pytest.raises(DatabaseError):
        patiently("job", lambda: fail(DatabaseError("no table")))
    assert len(tries) == 4


class Forgetful(Database):
    """A database whose answer to a commit is lost once."""

    lost = 0

    @contextlib.contextmanager
    def begin(self, *, write: bool = True) -> Iterator[Connection]:
        with super().begin(write=write) as connection:
            yield connection
        if write:
            self.lost += 1
            if self.lost == 4:
                raise DatabaseUnavailableError("the answer to a commit is lost")


def test_a_commit_whose_answer_is_lost_is_counted_once(database_url: str) -> None:
    with opened(database_url) as database:
        users(database, 60)
        with Forgetful(Address.parse(database_url)) as forgetful:
            done = score(forgetful, "lead_score", JOB, model(), size=10)
            assert forgetful.lost > 4
        assert (done.rows, done.batches) == (60, 6)
        assert wrong(database) == []
        assert run(database, "SELECT sum(rows), count(*), max(number) FROM score_batches") == [(60, 6, 6)]
