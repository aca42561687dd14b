"""Answers to recommendations: each row once, by one person, with a reason; a newer run takes the rest's place."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ltr_pipeline.batch.answers import answer, newest_runs, proposals, run_of
from ltr_pipeline.batch.proposed import Answer, Row
from ltr_pipeline.batch.rank import rank
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseUnavailableError, ScoringError
from support.databases import model, on_sqlite, opened, run
from support.killing import finish, fork
from support.recommending import RANK, candidates

HOSTILE = "<script>alert(1)</script>'; DROP TABLE recommendations_v1; --"


def recommended(database: Database, queries: int = 3, **how: Any) -> int:
    """Make candidates and a run that recommends two for each query; its number."""
    candidates(database, queries)
    return again(database, **how)


def again(database: Database, **how: Any) -> int:
    done = rank(database, "best", replace(RANK, **how), model(), size=100)
    assert done.run_id is not None
    return done.run_id


def statuses(database: Database, run_id: int) -> dict[str, int]:
    return run_of(database, run_id).counts


def current(database: Database) -> list[tuple[int, str, str]]:
    rows = run(database, "SELECT run_id, query_id, item_id FROM recommendations_current ORDER BY query_id, rank")
    return [tuple(row) for row in rows]


def test_nothing_is_current_until_somebody_approves_it(database: Database) -> None:
    first = recommended(database)
    assert current(database) == []
    assert answer(database, first, "approved", who="ann", why="as in the meeting") == 6
    assert current(database) == [(first, str(q), f"l{i}") for q in (1, 2, 3) for i in (2, 1)]
    one = proposals(database, run_of(database, first))[0]
    assert (one.status, one.answered_by, one.answer_reason) == ("approved", "ann", "as in the meeting")
    assert one.answered_at
    assert abs(one.answered_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


def test_what_is_rejected_leaves_what_was_approved_before(database: Database) -> None:
    first = recommended(database)
    answer(database, first, "approved", who="ann", why="fine")
    run(database, "UPDATE candidates SET a = 0.9 WHERE lawyer_id = 'l0'")
    second = again(database)
    assert {found for found, _, _ in current(database)} == {first}
    answer(database, second, "rejected", who="bob", why="l0 is on leave")
    assert {found for found, _, _ in current(database)} == {first}
    third = again(database)
    answer(database, third, "approved", who="ann", why="l0 is back")
    assert {found for found, _, _ in current(database)} == {third}


def test_some_rows_are_approved_and_the_others_rejected(database: Database) -> None:
    first = recommended(database)
    assert answer(database, first, "approved", who="ann", why="good", rows=[Row("1", "l2"), Row("3", "l1")]) == 2
    assert current(database) == [(first, "1", "l2"), (first, "3", "l1")]
    assert answer(database, first, "rejected", who="bob", why="the rest is not") == 4
    assert statuses(database, first) == {"approved": 2, "rejected": 4}


def test_a_newer_run_supersedes_what_was_not_answered(database: Database) -> None:
    first = recommended(database)
    answer(database, first, "approved", who="ann", why="good", rows=[Row("1", "l2")])
    run(database, "DELETE FROM candidates WHERE case_id = 3")  # of which the newer run says nothing
    second = again(database)
    assert statuses(database, first) == {"approved": 1, "superseded": 5}
    assert statuses(database, second) == {"proposed": 4}
    with pytest.raises(ScoringError, match=rf"nothing of run {first} of best waits .*superseded by run {second} on 20"):
        answer(database, first, "approved", who="ann", why="late")
    assert current(database) == [(first, "1", "l2")]


def test_another_jobs_run_supersedes_nothing(database: Database) -> None:
    first = recommended(database)
    rank(database, "other", RANK, model(), size=100)
    assert statuses(database, first) == {"proposed": 6}


def test_a_job_may_do_without_people(database: Database) -> None:
    first = recommended(database)
    second = again(database, approval="none")
    assert statuses(database, first) == {"superseded": 6}
    assert {found for found, _, _ in current(database)} == {second}
    assert run(database, "SELECT DISTINCT answered_by, answer_reason FROM recommendations_current") == [
        ("job best", 'it declares approval = "none"')
    ]
    with pytest.raises(ScoringError, match=r"6 rows approved by job best on 20"):
        answer(database, second, "rejected", who="ann", why="late")


def test_the_column_itself_is_enough(database: Database) -> None:
    first = recommended(database)
    run(database, "UPDATE recommendations_v1 SET status = 'approved' WHERE query_id = '2'")
    run(database, "UPDATE recommendations_v1 SET status = 'no!' WHERE query_id = '3'")
    assert {query for _, query, _ in current(database)} == {"2"}
    assert answer(database, first, "rejected", who="ann", why="the rest") == 2
    assert statuses(database, first) == {"approved": 2, "no!": 2, "rejected": 2}
    with pytest.raises(ScoringError, match="2 rows approved by hand"):
        answer(database, first, "rejected", who="ann", why="again")


def test_a_run_that_is_not_complete_is_not_answered_and_supersedes_nothing(database: Database) -> None:
    first = recommended(database)

    class StoppedError(Exception):
        pass

    def stop_at(what: Any) -> None:
        if getattr(what, "number", 0) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        rank(database, "best", RANK, model(), size=3, tell=stop_at)
    second = first + 1
    assert statuses(database, first) == {"proposed": 6}
    with pytest.raises(ScoringError, match=rf"run {second} of best is not complete \(failed\): `ltr score best`"):
        answer(database, second, "approved", who="ann", why="quick")
    assert answer(database, first, "approved", who="ann", why="still the newest whole one") == 6
    assert again(database) == second
    assert answer(database, second, "approved", who="ann", why="whole") == 6


def test_a_run_that_is_completed_late_gives_way_to_the_newer_one(database: Database) -> None:
    candidates(database, 3)
    newer: list[int | None] = []

    def overtake(what: Any) -> None:
        if getattr(what, "number", 0) == 1:
            newer.append(rank(database, "best", RANK, model("20250715_0215"), size=100).run_id)

    slow = rank(database, "best", RANK, model(), size=3, tell=overtake)
    assert slow.run_id
    assert (slow.waiting, statuses(database, slow.run_id)) == (0, {"superseded": 6})
    assert statuses(database, newer[0] or 0) == {"proposed": 6}


@pytest.mark.parametrize(
    ("who", "why", "says"),
    [
        ("ann", " \n ", "the reason is missing"),
        ("", "good", "who answers is missing"),
        ("ann", "x" * 1001, "the reason has 1,001 characters, more than 1,000"),
    ],
)
def test_an_answer_says_who_and_why(database: Database, who: str, why: str, says: str) -> None:
    first = recommended(database)
    with pytest.raises(ScoringError, match=says):
        answer(database, first, "approved", who=who, why=why)
    assert statuses(database, first) == {"proposed": 6}


def test_rows_that_were_not_recommended_or_are_answered_are_named(database: Database) -> None:
    first = recommended(database)
    with pytest.raises(
        ScoringError, match=rf"run {first} of best did not recommend item l0 for 1; nothing was answered"
    ):
        answer(database, first, "approved", who="ann", why="all", rows=[Row("1", "l2"), Row("1", "l0")])
    assert statuses(database, first) == {"proposed": 6}
    answer(database, first, "rejected", who="bob", why="no", rows=[Row("1", "l2")])
    with pytest.raises(
        ScoringError, match=rf"item l2 for 1 of run {first} waits for no answer: it is rejected by bob on"
    ):
        answer(database, first, "approved", who="ann", why="all", rows=[Row("1", "l2"), Row("2", "l2")])
    assert statuses(database, first) == {"proposed": 5, "rejected": 1}


def test_unknown_runs_are_told(database: Database) -> None:
    with pytest.raises(ScoringError, match="no run 7 has recommended anything; there is none yet"):
        answer(database, 7, "approved", who="ann", why="good")
    first = recommended(database)
    with pytest.raises(ScoringError, match=f"no run 77 has recommended anything; the newest is {first}"):
        run_of(database, 77)


def test_hostile_words_are_words(database: Database) -> None:
    candidates(database, 1)
    run(database, "UPDATE candidates SET lawyer_id = :evil WHERE lawyer_id = 'l2'", evil=HOSTILE)
    first = again(database)
    answer(database, first, "approved", who="ann\x1b[31m", why="one\ntwo", rows=[Row("1", HOSTILE)])
    assert [item for _, _, item in current(database)] == [HOSTILE]
    rows = run(database, "SELECT answered_by, answer_reason FROM recommendations_current")
    assert [tuple(row) for row in rows] == [(r"ann\u001b[31m", r"one\ntwo")]


def test_runs_are_listed_newest_first(database: Database) -> None:
    first = recommended(database)
    second = again(database)
    assert [(one.run_id, one.waiting, one.complete) for one in newest_runs(database)] == [
        (second, 6, True),
        (first, 0, True),
    ]
    assert len(newest_runs(database, 1)) == 1


def test_what_waits_comes_first_and_pages_hold_every_row_once(database: Database) -> None:
    first = recommended(database, 5)
    answer(database, first, "approved", who="ann", why="good", rows=[Row("1", "l2"), Row("1", "l1"), Row("2", "l1")])
    rows = proposals(database, run_of(database, first))
    assert [one.query_id for one in rows] == ["2", "2", "3", "3", "4", "4", "5", "5", "1", "1"]
    pages = [proposals(database, run_of(database, first), limit=3, offset=at) for at in range(0, 12, 3)]
    assert [one for page in pages for one in page] == rows


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("run"), st.just(())),
            st.tuples(
                st.sampled_from(("approved", "rejected")),
                st.sets(st.tuples(st.sampled_from("123"), st.sampled_from(("l1", "l2"))), max_size=6).map(tuple),
            ),
        ),
        max_size=12,
    )
)
def test_a_row_is_answered_once_and_only_the_newest_run_waits(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, tuple[tuple[str, str], ...]]]
) -> None:
    with opened(on_sqlite(tmp_path_factory.mktemp("acts"))) as database:
        newest = recommended(database)
        given: dict[tuple[int, str, str], str] = {}
        for act, rows in acts:
            if act == "run":
                newest = again(database)
                continue
            named = [Row(*row) for row in rows] or None
            free = [row for row in named or () if (newest, *row) not in given]
            try:
                done = answer(database, newest, act, who="ann", why="so", rows=named)  # type: ignore[arg-type]
            except ScoringError:
                waits = 6 - sum(run_id == newest for run_id, _, _ in given)
                assert waits == 0 or (named and len(free) < len(named))
                continue
            every = named or [Row(q, i) for q in "123" for i in ("l1", "l2") if (newest, q, i) not in given]
            assert done == len(every)
            given |= {(newest, *row): act for row in every}
        stored = run(database, "SELECT run_id, query_id, item_id, status FROM recommendations_v1")
        for run_id, query, item, status in stored:
            expected = given.get((run_id, query, item), "proposed" if run_id == newest else "superseded")
            assert status == expected
        for run_id, query, item in current(database):
            assert given[run_id, query, item] == "approved"


class TestAtOnce:
    """Two sessions of a real PostgreSQL, of which the second waits for the first."""

    @staticmethod
    def second(url: str, act: Callable[[Database], object]) -> int:
        """Act in a session of one's own; exit with 0 when it is refused with a sentence."""

        def refused() -> None:
            with opened(url, tables=False) as database, pytest.raises(ScoringError):
                act(database)

        return fork(refused)

    @staticmethod
    def wait_for_lock(database: Database) -> None:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        until = time.monotonic() + 60
        while run(database, waits) == [(0,)]:
            assert time.monotonic() < until
            time.sleep(0.02)

    @pytest.mark.parametrize("status", ["approved", "rejected"])
    def test_the_second_of_two_people_is_refused(self, postgresql_url: str, status: Answer) -> None:
        with opened(postgresql_url) as database, opened(postgresql_url, tables=False) as other:
            first = recommended(database)
            with other.begin() as held:
                held.exec_driver_sql(
                    "UPDATE recommendations_v1 SET status = 'approved', answered_by = 'ann', answered_at = now()"
                )
                child = self.second(
                    postgresql_url, lambda mine: answer(mine, first, status, who="bob", why="I was quicker")
                )
                self.wait_for_lock(database)
            assert finish(child) == 0
            assert run(database, "SELECT DISTINCT status, answered_by FROM recommendations_v1") == [("approved", "ann")]

    def test_who_approves_while_a_newer_run_supersedes_is_refused(self, postgresql_url: str) -> None:
        with opened(postgresql_url) as database, opened(postgresql_url, tables=False) as other:
            first = recommended(database)
            with other.begin() as held:
                held.exec_driver_sql("UPDATE recommendations_v1 SET status = 'superseded', answered_by = 'run 2'")
                child = self.second(postgresql_url, lambda mine: answer(mine, first, "approved", who="bob", why="fine"))
                self.wait_for_lock(database)
            assert finish(child) == 0
            assert current(database) == []

    def test_a_newer_run_that_comes_while_somebody_approves_leaves_the_approved(self, postgresql_url: str) -> None:
        with opened(postgresql_url) as database, opened(postgresql_url, tables=False) as other:
            first = recommended(database)
            with other.begin() as held:
                held.exec_driver_sql("UPDATE recommendations_v1 SET status = 'approved', answered_by = 'ann'")

                def newer() -> None:
                    with opened(postgresql_url, tables=False) as mine:
                        again(mine)

                child = fork(newer)
                self.wait_for_lock(database)
            assert finish(child) == 0
            assert statuses(database, first) == {"approved": 6}
            assert statuses(database, first + 1) == {"proposed": 6}

    def test_many_at_once_answer_once_and_none_is_in_the_others_way(self, database_url: str) -> None:
        with opened(database_url) as database:
            first = recommended(database, 40)

        def act(name: str) -> Callable[[], None]:
            def acts() -> None:
                with opened(database_url, tables=False) as mine:
                    if name == "newer":
                        again(mine)
                        return
                    try:
                        answer(mine, first, "approved", who=name, why="mine")
                    except ScoringError:
                        return
                    except DatabaseUnavailableError as error:
                        raise AssertionError(error) from None

            return acts

        children = [fork(act(name)) for name in ("ann", "bob", "newer", "eve", "newer")]
        assert [finish(child) for child in children] == [0] * 5
        with opened(database_url) as database:
            found = run(
                database, "SELECT DISTINCT status, answered_by FROM recommendations_v1 WHERE run_id = :r", r=first
            )
            assert len(found) == 1  # one of them answered all, or the newer run came first
            waiting = run(database, "SELECT DISTINCT run_id FROM recommendations_v1 WHERE status = 'proposed'")
            assert [one for (one,) in waiting] == [max(one.run_id for one in newest_runs(database))]

    def test_an_answer_that_saw_something_else_is_refused(self, database: Database) -> None:
        first = recommended(database)
        answer(database, first, "rejected", who="bob", why="on leave", rows=[Row("1", "l2")])
        with pytest.raises(
            ScoringError, match=r"5 rows of run .* wait for an answer, not the 6 that you saw: look again "
        ):
            answer(database, first, "approved", who="ann", why="good", seen=6)
        assert answer(database, first, "approved", who="ann", why="good", seen=5) == 5
