"""A kept run that a person publishes on the board of a running Airflow, and two versions on the same rankings."""

from __future__ import annotations

import json

import pytest

from ltr_pipeline.board import duel
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.documents import DOCUMENT
from ltr_pipeline.versions.weights import Weights, decode
from support.apiserver import ApiServer, form_of
from support.kept import FAILED, KEPT
from support.small import RUN

pytestmark = pytest.mark.long


def judged_model(nights: Settings, run: str) -> Weights:
    """The document that a run has frozen for its gate, whether it was published or not."""
    return decode(nights.data.get(f"runs/{run}/{DOCUMENT}"))


def test_what_failed_a_check_is_nobodys_to_publish(beside_nights: ApiServer, nights: Settings) -> None:
    with beside_nights.client("otto") as client:
        listed = client.get("/ltr/nights").text
        assert f"act/publish?run={KEPT}" in listed
        assert f"act/publish?run={FAILED}" not in listed
        shown = client.get(f"/ltr/act/publish?run={FAILED}").text
        assert "a check failed, which no setting and nobody overrules" in shown
        assert "<textarea" not in shown
        assert f"is published already, as {RUN}" in client.get(f"/ltr/act/publish?run={RUN}").text
        assert "has not been judged" in client.get("/ltr/act/publish?run=20200101_0215").text


def test_a_decision_made_again_is_looked_at_again(beside_nights: ApiServer, nights: Settings) -> None:
    key = f"runs/{KEPT}/decision.json"
    former = nights.data.get(key)
    with beside_nights.client("otto") as client:
        form = form_of(client.get(f"/ltr/act/publish?run={KEPT}").text) | {"reason": "looked"}
        nights.data.put(key, json.dumps(json.loads(former), indent=7).encode())
        answer = client.post("/ltr/act/publish", data=form, headers=beside_nights.own())
        nights.data.put(key, former)
    assert answer.status_code == 409
    assert "judged again since you looked" in answer.text
    assert nights.registry.promoted() == RUN


def test_a_person_publishes_what_the_data_could_not_decide(beside_nights: ApiServer, nights: Settings) -> None:
    with beside_nights.client("otto") as client:
        shown = client.get(f"/ltr/act/publish?run={KEPT}").text
        assert "golden requests" in shown
        assert f"{KEPT} minus {RUN}" in shown or f"{KEPT} ranks" in shown  # what its own night found
        form = form_of(shown) | {"reason": "fifty lists looked right"}
        done = client.post("/ltr/act/publish", data=form, headers=beside_nights.own())
        assert done.status_code == 303, done.text
        again = client.post("/ltr/act/publish", data=form, headers=beside_nights.own())
        assert again.headers["location"] == done.headers["location"]
        assert "is published already" in client.get(f"/ltr/act/publish?run={KEPT}").text
        assert f"act/publish?run={KEPT}" not in client.get("/ltr/nights").text
    move = nights.registry.history()[-1]
    assert (move.move, move.to, move.who, move.why) == ("publish", KEPT, "otto", "fifty lists looked right")
    approval = json.loads(nights.data.get(f"runs/{KEPT}/approval.json"))
    assert (approval["who"], approval["why"]) == ("otto", "fifty lists looked right")


def test_two_versions_are_compared_on_rankings_that_neither_was_trained_on(nights: Settings) -> None:
    one, other, champion = (judged_model(nights, run) for run in (FAILED, RUN, KEPT))
    found = duel.apart(nights, other, one)
    assert (found.newer, found.older) == (FAILED, RUN)
    assert found.delta is not None, found.reason
    assert found.delta.low < found.delta.value < found.delta.high
    turned = found.of(RUN)
    assert turned is not None
    assert (turned.value, turned.low) == (-found.delta.value, -found.delta.high)
    known = duel.recorded(champion, other)
    made = duel.apart(nights, champion, other)
    assert known is not None
    assert known.delta == made.delta  # the night's own figure, made again


def test_rankings_that_are_gone_are_said_to_be(nights: Settings) -> None:
    one, other = (judged_model(nights, run) for run in (KEPT, RUN))
    kept = nights.data.get(f"runs/{KEPT}/dataset.json")
    nights.data.delete(f"runs/{KEPT}/dataset.json")
    try:
        assert "no longer kept" in duel.apart(nights, one, other).reason
    finally:
        nights.data.put(f"runs/{KEPT}/dataset.json", kept)
