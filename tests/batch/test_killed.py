"""Workers that are killed anywhere: what they leave is done by the others, and nothing is done twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.batch.score import score
from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from support.databases import JOB, model, on_postgresql, opened, run, users, wrong
from support.killing import finish, fork
from support.recommending import RANK, candidates

ROWS = 3000
SIZE = 10


def worker(url: str, begun: int, *, ranks: bool = False) -> None:
    """Work on the job in a connection of one's own, and say when that begins."""
    with Database(Address.parse(url)) as database:
        os.write(begun, b".")
        if ranks:
            rank(database, "best", RANK, model(), size=SIZE)
        else:
            score(database, "lead_score", JOB, model(), size=SIZE)


def kill_some(url: str, kills: int, chance: random.Random, *, ranks: bool = False) -> int:
    """Let two workers work and kill one of them at a time, anywhere; return how many were killed in their work."""
    done = 0
    said, begun = os.pipe()
    workers: list[int] = []
    try:
        for _ in range(4 * kills):
            while len(workers) < 2:
                workers.append(fork(lambda: worker(url, begun, ranks=ranks)))
                os.read(said, 1)
            time.sleep(chance.random() * 0.15)  # when it is killed is the test's own input
            victim = workers.pop(chance.randrange(2))
            os.kill(victim, signal.SIGKILL)
            done += finish(victim) == -signal.SIGKILL
            if done == kills:
                break
    finally:
        for one in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
            finish(one)
        os.close(said)
        os.close(begun)
    return done


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.long)])
def test_killed_workers_leave_nothing_unscored_and_nothing_twice(postgres: PostgresServer, kills: int) -> None:
    url = on_postgresql(postgres)
    with opened(url) as database:
        users(database, ROWS * (1 + kills // 10))
    assert kill_some(url, kills, random.Random(kills)) == kills
    said, begun = os.pipe()
    last = [fork(lambda: worker(url, begun)) for _ in range(2)]
    assert [finish(one) for one in last] == [0, 0]
    os.close(said)
    os.close(begun)
    with opened(url) as database:
        assert wrong(database) == []
        assert run(database, "SELECT sum(rows) FROM score_batches") == run(database, "SELECT count(*) FROM users")
        assert score(database, "lead_score", JOB, model(), size=SIZE).rows == 0


def test_killed_workers_recommend_for_every_query_once(postgres: PostgresServer) -> None:
    url = on_postgresql(postgres)
    with opened(url) as database:
        candidates(database, queries=400)
    kill_some(url, 4, random.Random(3), ranks=True)
    with opened(url) as database:
        rank(database, "best", RANK, model(), size=SIZE)
        finished = run(database, "SELECT max(run_id) FROM score_runs WHERE state = 'done'")[0][0]
        counted = run(
            database,
            "SELECT count(*), count(DISTINCT query_id) FROM recommendations_v1 WHERE run_id = :run",
            run=finished,
        )
        assert counted == [(800, 400)]
        assert run(database, "SELECT count(*) FROM recommendations_v1 WHERE status = 'proposed'") == [(800,)]


def test_rows_that_a_dying_session_held_are_waited_for(postgres: PostgresServer) -> None:
    url = on_postgresql(postgres)
    with opened(url) as database, opened(url) as other:
        users(database, 50)
        with other.begin() as held:
            held.exec_driver_sql("SELECT id FROM users WHERE id BETWEEN 11 AND 20 FOR UPDATE")
            child = fork(lambda: worker(url, os.open(os.devnull, os.O_WRONLY)))
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            until = time.monotonic() + 60
            while run(database, waits) == [(0,)] and time.monotonic() < until:
                time.sleep(0.02)
            assert run(database, "SELECT count(*) FROM users WHERE lead_score IS NULL") == [(10,)]
        assert finish(child) == 0
        assert wrong(database) == []
