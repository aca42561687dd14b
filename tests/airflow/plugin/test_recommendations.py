"""Recommendations in a running Airflow: who may edit the DAG that makes them answers, once, under their own name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from ltr_pipeline.batch.rank import rank
from ltr_pipeline.database.engine import Database
from support.apiserver import ApiServer, form_of
from support.databases import model, opened, run
from support.recommending import RANK, candidates

pytestmark = pytest.mark.long

PAGE = "/ltr/recommendations"
Stored = set[tuple[str, str | None, str | None]]


@pytest.fixture
def database(simple: ApiServer) -> Iterator[Database]:
    """Three queries, of which the newest run has recommended two items each; a Connection has its address."""
    with opened(f"sqlite:///{simple.database}") as database:
        run(database, "DROP TABLE IF EXISTS candidates")
        candidates(database, 3)
        rank(database, "best", RANK, model(), size=100)
        yield database


@pytest.fixture
def uma(simple: ApiServer) -> Iterator[httpx.Client]:
    with simple.client("uma") as client:
        yield client


def stored(database: Database) -> Stored:
    """Return what became of the newest run's recommendations."""
    query = "SELECT DISTINCT status, answered_by, answer_reason FROM recommendations_v1 WHERE run_id = "
    newest = "(SELECT max(run_id) FROM recommendations_v1)"
    return {(status, by, why) for status, by, why in run(database, query + newest)}


def answer(client: httpx.Client, airflow: ApiServer, **more: str | list[str]) -> httpx.Response:
    form = form_of(client.get(PAGE).text) | {"why": "as in the meeting", "which": "all", "answer": "approved"}
    return client.post(PAGE, data=form | more, headers=airflow.own())


def test_who_answers_is_named_by_the_login(simple: ApiServer, database: Database, uma: httpx.Client) -> None:
    shown = uma.get(PAGE).text
    assert "6 recommendations of run" in shown
    assert "Your name" not in shown
    done = answer(uma, simple, who="somebody else")
    assert done.status_code == 303, done.text
    assert stored(database) == {("approved", "uma", "as in the meeting")}
    after = uma.get(f"/ltr/{done.headers['location']}").text
    assert "Nothing waits for an answer." in after
    assert "uma, " in after


def test_marked_rows_alone(simple: ApiServer, database: Database, uma: httpx.Client) -> None:
    rows = [unescape(row) for row in re.findall(r'name="row" value="([^"]+)"', uma.get(PAGE).text)]
    assert answer(uma, simple, which="marked", row=rows[:2], answer="rejected").status_code == 303
    assert {status for status, *_ in stored(database)} == {"rejected", "proposed"}


def test_of_two_people_who_saw_the_same_the_second_is_told_of_the_first(
    simple: ApiServer, database: Database, uma: httpx.Client
) -> None:
    with simple.client("ada") as ada:
        late = form_of(ada.get(PAGE).text) | {"why": "typed", "which": "all", "answer": "rejected"}
        assert answer(uma, simple).status_code == 303
        refused = ada.post(PAGE, data=late, headers=simple.own())
    assert refused.status_code == 409
    assert "approved by uma" in refused.text
    assert stored(database) == {("approved", "uma", "as in the meeting")}


def test_a_viewer_reads_and_is_offered_no_form(simple: ApiServer, database: Database) -> None:
    with simple.client("vera") as vera:
        shown = vera.get(PAGE).text
        assert "6 recommendations of run" in shown
        assert "<form" not in shown
        assert answer(vera, simple).status_code == 403
    assert {status for status, *_ in stored(database)} == {"proposed"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "same-origin"},
    ],
    ids=str,
)
def test_forms_of_other_sites_and_ports_are_refused(
    simple: ApiServer, database: Database, uma: httpx.Client, headers: dict[str, str]
) -> None:
    form = form_of(uma.get(PAGE).text) | {"why": "as in the meeting", "which": "all", "answer": "approved"}
    assert uma.post(PAGE, data=form, headers={"user-agent": "a browser"} | headers).status_code == 403
    with simple.client("ada") as ada:  # the seal is another person's
        assert ada.post(PAGE, data=form, headers=simple.own()).status_code == 403
    assert {status for status, *_ in stored(database)} == {"proposed"}


@pytest.mark.parametrize(("changed", "status"), [({"why": " "}, 409), ({"run": "x"}, 422), ({"run": "99999"}, 404)])
def test_what_is_wrong_is_told_and_changes_nothing(
    simple: ApiServer, database: Database, uma: httpx.Client, changed: dict[str, str], status: int
) -> None:
    assert answer(uma, simple, **changed).status_code == status
    assert {status for status, *_ in stored(database)} == {"proposed"}
