"""Recommendations on the board, served over a real database: who may answer, once, and what is said otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from ltr_pipeline.batch.rank import rank
from ltr_pipeline.database.engine import Database
from support.databases import model, opened, run
from support.recommending import RANK, candidates
from support.service import Server

KEY = "a-key-of-the-commercial-team"
PAGE = "/board/recommendations"
EVIL = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
OURS = {"sec-fetch-site": "same-origin"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ltr.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """Three queries, of which a run has recommended two items each."""
    with opened(url) as database:
        candidates(database, 3)
        recommend(database)
        yield database


def recommend(database: Database) -> None:
    rank(database, "best", RANK, model(), size=100)


@pytest.fixture
def server(url: str, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "service", LTR_DATABASE_URL=url, LTR_API_KEYS=KEY) as server:
        yield server


@pytest.fixture
def person(server: Server) -> Iterator[httpx.Client]:
    """A browser whose person has logged in."""
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        assert client.post("/board/login", data={"key": KEY}).status_code == 303
        yield client


def form(**changed: Any) -> dict[str, Any]:
    given = {"run": "1", "seen": "6", "who": "Ana", "why": "as in the meeting", "which": "all", "answer": "approved"}
    return given | changed


def stored(database: Database) -> set[tuple[str, str | None, str | None]]:
    query = "SELECT DISTINCT status, answered_by, answer_reason FROM recommendations_v1"
    return {(status, by, why) for status, by, why in run(database, query)}


def test_a_person_approves_all_that_waits(database: Database, person: httpx.Client) -> None:
    shown = person.get(PAGE).text
    assert "6 recommendations of run 1 of best wait for an answer." in shown
    assert shown.count('name="row"') == 6
    done = person.post(PAGE, data=form(), headers=OURS)
    assert (done.status_code, done.headers["location"]) == (303, "recommendations?run=1")
    assert stored(database) == {("approved", "Ana, by the board", "as in the meeting")}
    after = person.get(f"{PAGE}?run=1").text
    assert "Nothing waits for an answer." in after
    assert "<form class=" not in after
    assert "Ana, by the board" in after


def test_marked_rows_are_rejected_and_the_rest_waits(database: Database, person: httpx.Client) -> None:
    rows = re.findall(r'name="row" value="([^"]+)"', person.get(PAGE).text)
    marked = [one.replace("&#34;", '"') for one in rows[:2]]
    assert person.post(PAGE, data=form(which="marked", row=marked, answer="rejected"), headers=OURS).status_code == 303
    counts = dict(run(database, "SELECT status, count(*) FROM recommendations_v1 GROUP BY status"))
    assert counts == {"rejected": 2, "proposed": 4}


def test_of_two_people_who_saw_the_same_the_second_is_refused(database: Database, person: httpx.Client) -> None:
    assert person.post(PAGE, data=form(), headers=OURS).status_code == 303
    late = person.post(PAGE, data=form(who="Bob", why="<b>no</b>", answer="rejected"), headers=OURS)
    assert late.status_code == 409
    assert "Nothing of run 1 of best waits for an answer: 6 rows approved by Ana, by the board on 20" in late.text
    assert stored(database) == {("approved", "Ana, by the board", "as in the meeting")}


def test_what_changed_since_the_page_was_made_is_told_and_nothing_typed_is_lost(
    database: Database, person: httpx.Client
) -> None:
    run(database, "UPDATE recommendations_v1 SET status = 'rejected' WHERE query_id = '1'")
    refused = person.post(PAGE, data=form(why="the reason that was typed"), headers=OURS)
    assert refused.status_code == 409
    assert "4 rows of run 1 of best wait for an answer, not the 6 that you saw: look again (2 rows" in refused.text
    assert 'value="the reason that was typed"' in refused.text
    assert person.post(PAGE, data=form(seen="4"), headers=OURS).status_code == 303


def test_a_run_that_a_newer_one_has_superseded_says_so(database: Database, person: httpx.Client) -> None:
    recommend(database)
    assert "run 2 of best" in person.get(PAGE).text
    refused = person.post(PAGE, data=form(), headers=OURS)
    assert refused.status_code == 409
    assert "6 rows superseded by run 2 on 20" in refused.text


@pytest.mark.parametrize(
    ("changed", "status", "says"),
    [
        ({"why": " "}, 409, "The reason is missing"),
        ({"who": " "}, 409, "Who answers is missing"),
        ({"which": "marked"}, 409, "No row is marked"),
        ({"which": "marked", "row": '["9","l9"]'}, 409, "did not recommend item l9 for 9"),
        ({"which": "marked", "row": '["9"]'}, 422, "The form must name a run"),
        ({"run": "7"}, 404, "No run 7 has recommended anything; the newest is 1"),
        ({"run": "x"}, 422, "The form must name a run"),
        ({"answer": "maybe"}, 422, "Answer must be approved or rejected"),
        ({"why": "x" * 300_000}, 413, "larger than 262144 bytes"),
        ({"row": ["[]"] * 300}, 413, "more than 200 fields"),
    ],
)
def test_what_is_wrong_with_a_form_is_told_and_changes_nothing(
    database: Database, person: httpx.Client, changed: dict[str, Any], status: int, says: str
) -> None:
    answer = person.post(PAGE, data=form(**changed), headers=OURS)
    assert answer.status_code == status
    assert says in answer.text
    assert stored(database) == {("proposed", None, None)}


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({}, 403, "nothing says which page sends this"),
        ({"sec-fetch-site": "cross-site"}, 403, "for a page of another site"),
        ({"sec-fetch-site": "same-site"}, 403, "for a page of another site"),  # another port is such a neighbour
        ({"origin": "http://evil.example"}, 403, "for a page of another site"),
        ({"origin": "null"}, 403, "for a page of another site"),
        ({"x-api-key": "another-key-altogether", **OURS}, 403, "not known"),
        ({"x-api-key": KEY, "sec-fetch-site": "cross-site"}, 403, "for a page of another site"),
    ],
)
def test_forms_of_other_pages_are_refused(
    database: Database, person: httpx.Client, headers: dict[str, str], status: int, says: str
) -> None:
    answer = person.post(PAGE, data=form(), headers=headers)
    assert answer.status_code == status
    assert says.lower() in answer.text.lower()
    assert stored(database) == {("proposed", None, None)}


def test_without_a_session_nobody_looks_or_answers(database: Database, server: Server) -> None:
    assert server.http.get(PAGE).status_code == 303
    refused = server.http.post(PAGE, data=form(), headers=OURS)
    assert (refused.status_code, "log in" in refused.text) == (401, True)
    assert stored(database) == {("proposed", None, None)}
    assert server.http.post(PAGE, json=form(), headers={"x-api-key": KEY}).status_code == 415
    assert server.http.post(PAGE, data=form(), headers={"x-api-key": KEY}).status_code == 303
    assert stored(database) == {("approved", "Ana, by the board", "as in the meeting")}


def test_without_keys_only_this_machine_looks_and_answers(database: Database, url: str, tmp_path: Path) -> None:
    with Server(tmp_path / "keyless", LTR_DATABASE_URL=url) as server:
        for headers in ({"X-Forwarded-For": "192.0.2.7"}, {"Host": "evil.example"}):
            assert "LTR_API_KEYS" in server.http.get(PAGE, headers=headers).text
            assert server.http.post(PAGE, data=form(), headers=headers).status_code == 403
        assert stored(database) == {("proposed", None, None)}
        assert server.http.post(PAGE, data=form(), headers=OURS).status_code == 303


def test_hostile_names_are_text(database: Database, person: httpx.Client) -> None:
    first = "WHERE query_id = '1' AND rank = 1"
    run(database, f"UPDATE recommendations_v1 SET item_id = :evil, reasons = :also {first}", evil=EVIL, also=EVIL)
    run(database, "UPDATE recommendations_v1 SET job = :evil", evil=EVIL)
    run(database, "UPDATE score_runs SET job = :evil", evil=EVIL)
    text = person.get(PAGE).text
    assert "<script>" not in text
    assert "<img" not in text
    (mine,) = {one for one in re.findall(r'name="row" value="([^"]+)"', text) if "owned" in one}
    done = person.post(PAGE, data=form(which="marked", row=unescape(mine), who=EVIL, why=EVIL), headers=OURS)
    assert done.status_code == 303
    after = person.get(f"{PAGE}?run=1").text
    assert "<script>" not in after
    assert "&lt;script&gt;" in after


def test_long_runs_have_pages(url: str, tmp_path: Path) -> None:
    with opened(url) as database:
        candidates(database, 60)
        recommend(database)
    with Server(tmp_path / "service", LTR_DATABASE_URL=url) as server:
        pages = [server.http.get(f"{PAGE}?run=1&page={page}").text for page in (1, 2, 3, 4)]
        assert [page.count('name="row"') for page in pages] == [50, 50, 20, 0]
        assert "recommendations?page=2&amp;days=30&amp;run=1" in pages[0]
        assert server.http.get(f"{PAGE}?run=7").status_code == 404
        assert server.http.get(f"{PAGE}?run=x").status_code == 422


def test_where_nothing_was_scored_the_page_says_how_and_makes_no_file(tmp_path: Path) -> None:
    with Server(tmp_path / "service", LTR_DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}") as server:
        assert "<code>ltr score</code>" in server.http.get(PAGE).text
    assert not (tmp_path / "none.db").exists()


def test_a_database_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    away = "postgresql://ltr:hunter2secret@127.0.0.1:1/sales"
    with Server(tmp_path / "service", LTR_DATABASE_URL=away) as server:
        for answer in (server.http.get(PAGE), server.http.post(PAGE, data=form(), headers=OURS)):
            assert answer.status_code == 503
            assert "cannot be reached" in answer.text
            assert "hunter2" not in answer.text


def test_tables_of_a_former_release_are_told(postgresql_url: str, tmp_path: Path) -> None:
    with Server(tmp_path / "service", LTR_DATABASE_URL=postgresql_url) as server:
        answer = server.http.get(PAGE)
    assert answer.status_code == 503
    assert "ltr database init" in answer.text
