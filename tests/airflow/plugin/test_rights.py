"""Who may read the board in a running Airflow, and who may act there: both auth managers, every role, every address."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.apiserver import ROLES, USERS, ApiServer, form_of
from support.board import NEWEST, registry_of

PAGES = (
    "/",
    "/nights",
    "/versions",
    "/compare",
    "/drift",
    "/outcomes",
    "/predictions",
    "/batches",
    "/recommendations",
    "/segments",
    f"/reports/{NEWEST}",
    "/run?dag=train_ltr_daily&run=none",
    "/drift/S",
    "/done/1",
)
ACTS = ("rollback", "pin", "unpin", "publish")
MAY_ACT = {"vera": False, "uma": False, "otto": True, "ada": True}
OPEN = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect")


@pytest.fixture(params=["simple", pytest.param("fab", marks=pytest.mark.long)])
def airflow(request: pytest.FixtureRequest) -> ApiServer:
    found: ApiServer = request.getfixturevalue(request.param)
    return found


def seen(answer: httpx.Response) -> int:
    """Status of a page; one that is missing was let through."""
    return 200 if answer.status_code in (200, 404) else answer.status_code


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status, and how the sentence begins that says why somebody is not let in."""
    reasons = ("Not authenticated", "This is for", "This form is refused", "Recommendations are answered")
    return answer.status_code, next((reason for reason in reasons if reason in answer.text), answer.text[-500:])


def test_who_may_read_and_who_may_act(airflow: ApiServer) -> None:
    registry = registry_of(airflow.folder.parent)
    before = registry.history()
    found = {}
    for user in ("", *USERS):
        with airflow.client(user) as client:
            own = {"headers": airflow.own(), "data": {"reason": "r"}}
            found[user] = (
                {seen(client.get(f"/ltr{page}")) for page in PAGES},
                {seen(client.get(f"/ltr/act/{act}?run={NEWEST}")) for act in ACTS},
                {said(client.post(f"/ltr/act/{act}", **own)) for act in ACTS},
                said(client.post("/ltr/recommendations", **own)),
            )
    barred, no_seal = {(403, "This is for")}, (403, "This form is refused")
    assert found == {
        "": ({401}, {401}, {(401, "Not authenticated")}, (401, "Not authenticated")),
        "vera": ({200}, {403}, barred, (403, "Recommendations are answered")),
        "uma": ({200}, {403}, barred, no_seal),
        "otto": ({200}, {200}, {no_seal}, no_seal),
        "ada": ({200}, {200}, {no_seal}, no_seal),
    }
    assert registry.history() == before


def test_a_token_in_a_header_lets_in_as_the_cookie_does(airflow: ApiServer) -> None:
    with airflow.client() as client:
        assert client.get("/ltr/", headers={"authorization": f"Bearer {airflow.token('vera')}"}).status_code == 200
        assert client.get("/ltr/", headers={"authorization": "Bearer none"}).status_code in (401, 403)


def test_who_may_not_act_is_offered_nothing(airflow: ApiServer) -> None:
    offered = {}
    for user in USERS:
        with airflow.client(user) as client:
            pages = [client.get(f"/ltr{page}").text for page in ("/", "/versions", "/nights", "/compare")]
            offered[user] = any("act/" in page for page in pages)
            assert f"You are <bdi>{user}</bdi>" in pages[0]
    assert offered == MAY_ACT


def test_the_app_describes_itself_to_nobody(airflow: ApiServer) -> None:
    for user in ("", "ada"):
        with airflow.client(user) as client:
            for path in OPEN:
                assert client.get(f"/ltr{path}").status_code in (401, 404)
            assert "openapi" not in client.get("/ltr/openapi.json").text.lower().replace("/openapi", "")


def test_only_who_is_let_in_learns_what_there_is(airflow: ApiServer) -> None:
    with airflow.client() as client:
        for path in ("/nothing", "/reports/..%2F..%2Fsecret", "/act/nothing", "/a/b/c"):
            answer = client.get(f"/ltr{path}")
            assert answer.status_code in (401, 404)
            assert NEWEST not in answer.text


def test_the_ledger_names_the_person_and_the_reason(airflow: ApiServer) -> None:
    registry = registry_of(airflow.folder.parent)
    with airflow.client("otto") as client:
        form = form_of(client.get("/ltr/act/pin").text)
        done = client.post("/ltr/act/pin", data=form | {"reason": "  the fair\nis on  "}, headers=airflow.own())
        assert done.status_code == 303
        move = registry.history()[-1]
        assert (move.move, move.who, move.why, move.pin) == ("pin", "otto", "the fair is on", True)
        assert done.headers["location"] == f"../done/{move.seq}"
        told = client.get(f"/ltr/done/{move.seq}").text
        assert "pin by otto: the fair is on" in told
        form = form_of(client.get("/ltr/act/unpin").text)
        assert client.post("/ltr/act/unpin", data=form | {"reason": "over"}, headers=airflow.own()).status_code == 303
    assert not registry.history()[-1].pin


@pytest.mark.long
def test_what_roles_of_fab_see_and_do_is_what_they_are_given_of_these_dags(fab: ApiServer) -> None:
    found = {}
    for user in ROLES:
        with fab.client(user) as client:
            paths = ("", "versions", "recommendations", "act/pin", "act/publish?run=none")
            found[user] = [seen(client.get(f"/ltr/{path}")) for path in paths]
    assert found == {
        "nora": [200, 200, 403, 403, 403],
        "sven": [200, 200, 200, 403, 403],  # recommendations name people: who may read the DAG that makes them
        "gil": [200, 200, 403, 403, 403],  # the gate's Variables are not his
        "polly": [403] * 5,
        "odd": [403] * 5,
    }
    with fab.client("sven") as client:
        refused = client.post("/ltr/recommendations", data={"reason": "r"}, headers=fab.own())
    assert said(refused) == (403, "Recommendations are answered")


@pytest.mark.long
def test_wrong_settings_are_told_on_the_page_and_airflow_does_without_it(tmp_path: Path) -> None:
    with ApiServer(tmp_path / "airflow", LTR_BUCKETS="many") as airflow, airflow.client("ada") as client:
        told = client.get("/ltr/")
        assert (told.status_code, "LTR_BUCKETS" in told.text) == (503, True)
        assert client.get("/ltr/act/pin").status_code == 503
        assert client.get("/api/v2/dags").status_code == 200
