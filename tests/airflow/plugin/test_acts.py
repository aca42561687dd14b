"""Acts on the board in a running Airflow: only what was shown, once, with a reason, from our own pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import pytest

from ltr_pipeline.versions.registry import Registry
from support.apiserver import ApiServer, form_of
from support.board import FORMER, NEWEST, OLDEST, registry_of

Press = Callable[..., httpx.Response]


@pytest.fixture
def registry(simple: ApiServer) -> Iterator[Registry]:
    """The registry, with the newest version in use and not pinned, before and after."""
    found = registry_of(simple.folder.parent)
    _reset(found)
    yield found
    _reset(found)


def _reset(registry: Registry) -> None:
    if registry.promoted() != NEWEST:
        registry.rollback(NEWEST, who="test", why="as before")
    registry.unpin(who="test", why="as before")


@pytest.fixture
def client(simple: ApiServer) -> Iterator[httpx.Client]:
    with simple.client("otto") as client:
        yield client


@pytest.fixture
def press(simple: ApiServer, client: httpx.Client) -> Press:
    """Send the form of a page, as a browser does unless told otherwise."""

    def send(
        page: str, reason: str = "tried", *, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        form = form_of(client.get(f"/ltr/{page}").text) | {"reason": reason} | fields
        return client.post(f"/ltr/{page.partition('?')[0]}", data=form, headers=headers or simple.own())

    return send


def test_a_rollback_moves_pins_and_names_who(press: Press, registry: Registry) -> None:
    assert press(f"act/rollback?version={OLDEST}", "offers dropped").status_code == 303
    move = registry.history()[-1]
    assert (move.move, move.before, move.to, move.pin) == ("rollback", NEWEST, OLDEST, True)
    assert (move.who, move.why) == ("otto", "offers dropped")
    assert registry.verify() == [] or all(each.ok for each in registry.verify())


def test_without_a_version_it_goes_to_the_one_before(press: Press, registry: Registry) -> None:
    former = registry.ledger.former(registry.history()[-1])
    assert press("act/rollback").status_code == 303
    assert registry.promoted() == former != NEWEST


def test_the_page_shows_what_will_change(client: httpx.Client, registry: Registry) -> None:
    shown = client.get(f"/ltr/act/rollback?version={OLDEST}").text
    assert f"from {NEWEST} to {OLDEST}" in shown
    assert "scores its 1 golden request (2 items) as it did" in shown
    assert re.search(r"nDCG@5.*?0\.700.*?0\.720", shown, re.DOTALL)
    assert "on the same rankings is not known" in shown  # no run's folder has its test rankings
    assert registry.promoted() == NEWEST  # to look moves nothing


@pytest.mark.parametrize("reason", ["", "   ", "\n"])
def test_nothing_is_done_without_a_reason(press: Press, registry: Registry, reason: str) -> None:
    before = registry.history()
    answer = press("act/rollback", reason)
    assert answer.status_code == 422
    assert "Say why" in answer.text
    assert registry.history() == before


def test_a_form_that_is_sent_twice_acts_once(simple: ApiServer, client: httpx.Client, registry: Registry) -> None:
    form = form_of(client.get("/ltr/act/rollback").text) | {"reason": "once"}
    answers = [client.post("/ltr/act/rollback", data=form, headers=simple.own()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [303] * 3
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert [move.why for move in registry.history()].count("once") == 1


def test_who_looked_before_somebody_else_acted_is_told(
    simple: ApiServer, client: httpx.Client, registry: Registry
) -> None:
    form = form_of(client.get(f"/ltr/act/rollback?version={OLDEST}").text) | {"reason": "late"}
    registry.rollback(FORMER, who="ana", why="was quicker")
    answer = client.post("/ltr/act/rollback", data=form, headers=simple.own())
    assert answer.status_code == 409
    assert "has changed since you looked" in answer.text
    assert "ana" in answer.text
    assert ">late</textarea>" in answer.text  # what was typed is not lost
    assert registry.promoted() == FORMER


def test_many_at_once_leave_one_ledger_without_a_fork(simple: ApiServer, registry: Registry) -> None:
    people = 6
    before, barrier = len(registry.history()), Barrier(people)

    def act(number: int) -> int:
        with simple.client("otto" if number % 2 else "ada") as client:
            target = (OLDEST, FORMER)[number % 2]
            form = form_of(client.get(f"/ltr/act/rollback?version={target}").text) | {"reason": f"person {number}"}
            barrier.wait(60)
            return client.post("/ltr/act/rollback", data=form, headers=simple.own()).status_code

    with ThreadPoolExecutor(people) as pool:
        statuses = sorted(pool.map(act, range(people)))
    assert statuses == [303] + [409] * (people - 1)
    history = registry.history()  # checks that each entry follows the one before
    assert [move.seq for move in history] == list(range(1, len(history) + 1))
    assert len(history) == before + 1
    assert registry.storage.get("latest/ltr_weights.json") == registry.documents.read(history[-1].to)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-origin"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "same-origin"},
        {"origin": "OWN"},
        {"origin": "OWN", "sec-fetch-site": "same-site"},
        {"origin": "OWN", "sec-fetch-site": "none"},
        {"origin": "https://OWN", "sec-fetch-site": "cross-site"},
    ],
    ids=str,
)
def test_forms_of_other_sites_and_ports_are_refused(
    simple: ApiServer, press: Press, registry: Registry, headers: dict[str, str]
) -> None:
    before = registry.history()
    own = {name: value.replace("OWN", f"http://{simple.host}", 1) for name, value in headers.items()}
    answer = press("act/pin", headers={"user-agent": "a browser"} | own)
    assert answer.status_code == 403
    assert "does not come from a page of this Airflow" in answer.text
    assert registry.history() == before


@pytest.mark.parametrize("field", ["version", "seen", "seal", "run", "decision"])
def test_a_form_of_another_page_is_refused(press: Press, registry: Registry, field: str) -> None:
    before = registry.history()
    answer = press(f"act/rollback?version={FORMER}", **{field: OLDEST})
    assert answer.status_code == 403
    assert registry.history() == before


def test_a_form_of_another_person_or_act_is_refused(
    simple: ApiServer, client: httpx.Client, registry: Registry
) -> None:
    before = registry.history()
    form = form_of(client.get("/ltr/act/pin").text) | {"reason": "taken"}
    with simple.client("ada") as other:
        assert other.post("/ltr/act/pin", data=form, headers=simple.own()).status_code == 403
    assert client.post("/ltr/act/rollback", data=form, headers=simple.own()).status_code == 403
    assert registry.history() == before


def test_what_is_no_form_or_too_large_is_refused(simple: ApiServer, client: httpx.Client) -> None:
    assert client.post("/ltr/act/pin", json={"reason": "x"}, headers=simple.own()).status_code == 415
    assert client.post("/ltr/act/pin", data={"reason": "x" * 300_000}, headers=simple.own()).status_code == 413


def test_a_version_that_is_not_there_or_does_not_load_cannot_be_gone_back_to(
    client: httpx.Client, registry: Registry
) -> None:
    for version in ("20200101_0215", "nonsense", "../../etc"):
        shown = client.get("/ltr/act/rollback", params={"version": version}).text
        assert "This cannot be done" in shown
        assert "<textarea" not in shown


def test_what_is_so_already_is_said(client: httpx.Client, registry: Registry) -> None:
    assert "is not pinned" in client.get("/ltr/act/unpin").text
    registry.pin(who="test", why="a test")
    assert "is pinned already" in client.get("/ltr/act/pin").text


def test_a_reason_is_text_wherever_it_is_shown(press: Press, client: httpx.Client, registry: Registry) -> None:
    evil = "<script>alert(1)</script> {{ 7*7 }}"
    done = press("act/pin", evil)
    told = client.get(f"/ltr/{done.headers['location'].removeprefix('../')}").text
    assert "<script>" not in told
    assert "{{ 7*7 }}" in told
    policy = client.get("/ltr/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
