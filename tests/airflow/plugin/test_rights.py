"""Who may read the board in a running Airflow, and who may act there: both auth managers, every role, every address."""

from __future__ import annotations

import httpx
import pytest

from support.apiserver import USERS, ApiServer, form_of
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


def test_who_may_read_and_who_may_act(airflow: ApiServer) -> None:
    registry = registry_of(airflow.folder.parent)
    before = registry.history()
    found = {}
    for user in ("", *USERS):
        with airflow.client(user) as client:
            reads = {seen(client.get(f"/ltr{page}")) for page in PAGES}
            asks = {seen(client.get(f"/ltr/act/{act}?run={NEWEST}")) for act in ACTS}
            orders = {
                client.post(f"/ltr/act/{act}", data={"reason": "r"}, headers=airflow.own()).status_code for act in ACTS
            }
            found[user] = (reads, asks, orders)
    assert found == {
        "": ({401}, {401}, {401}),
        "vera": ({200}, {403}, {403}),
        "uma": ({200}, {403}, {403}),
        "otto": ({200}, {200}, {403}),  # let in, but what they sent has no seal
        "ada": ({200}, {200}, {403}),
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
