"""A kept run that a person publishes on the board of a running Airflow, and two versions on the same rankings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltr_pipeline.board import duel
from ltr_pipeline.jobs.chain import finish
from ltr_pipeline.settings import Settings
from ltr_pipeline.versions.documents import DOCUMENT
from ltr_pipeline.versions.weights import Weights, decode
from support.apiserver import ApiServer, form_of
from support.small import DAY, LENIENT, NIGHT, RUN, UNDECIDED, WHO, simulate, small_settings, up_to

pytestmark = pytest.mark.long

KEPT = "20250716_0215"
FAILED = "20250717_0215"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A night that published, one that the gate could not decide, and one that failed a check."""
    folder = tmp_path_factory.mktemp("nights")
    simulate(folder)
    settings = small_settings(folder)
    for number, variables in enumerate((LENIENT, UNDECIDED, UNDECIDED | {"ltr_ndcg_min": "0.99"})):
        date = NIGHT + number * DAY
        if number:
            simulate(folder, date - DAY, 1)
        finish(up_to("quality_gate", settings, date, variables), WHO, settings)
    assert settings.registry.promoted() == RUN
    return settings


@pytest.fixture(scope="module")
def airflow(settings: Settings) -> Iterator[ApiServer]:
    folder = Path(settings.data_uri).parent
    places = {"LTR_DATA_URI": settings.data_uri, "LTR_REGISTRY_URI": str(settings.registry_uri)}
    with ApiServer(folder / "airflow", **places) as airflow:
        yield airflow


def judged_model(settings: Settings, run: str) -> Weights:
    """The document that a run has frozen for its gate, whether it was published or not."""
    return decode(settings.data.get(f"runs/{run}/{DOCUMENT}"))


def test_what_failed_a_check_is_nobodys_to_publish(airflow: ApiServer, settings: Settings) -> None:
    with airflow.client("otto") as client:
        nights = client.get("/ltr/nights").text
        assert f"act/publish?run={KEPT}" in nights
        assert f"act/publish?run={FAILED}" not in nights
        shown = client.get(f"/ltr/act/publish?run={FAILED}").text
        assert "a check failed, which no setting and nobody overrules" in shown
        assert "<textarea" not in shown
        assert f"is published already, as {RUN}" in client.get(f"/ltr/act/publish?run={RUN}").text
        assert "has not been judged" in client.get("/ltr/act/publish?run=20200101_0215").text


def test_a_decision_made_again_is_looked_at_again(airflow: ApiServer, settings: Settings) -> None:
    key = f"runs/{KEPT}/decision.json"
    former = settings.data.get(key)
    with airflow.client("otto") as client:
        form = form_of(client.get(f"/ltr/act/publish?run={KEPT}").text) | {"reason": "looked"}
        settings.data.put(key, json.dumps(json.loads(former), indent=7).encode())
        answer = client.post("/ltr/act/publish", data=form, headers=airflow.own())
        settings.data.put(key, former)
    assert answer.status_code == 409
    assert "judged again since you looked" in answer.text
    assert settings.registry.promoted() == RUN


def test_a_person_publishes_what_the_data_could_not_decide(airflow: ApiServer, settings: Settings) -> None:
    with airflow.client("otto") as client:
        shown = client.get(f"/ltr/act/publish?run={KEPT}").text
        assert "golden requests" in shown
        assert f"{KEPT} minus {RUN}" in shown or f"{KEPT} ranks" in shown  # what its own night found
        form = form_of(shown) | {"reason": "fifty lists looked right"}
        done = client.post("/ltr/act/publish", data=form, headers=airflow.own())
        assert done.status_code == 303, done.text
        again = client.post("/ltr/act/publish", data=form, headers=airflow.own())
        assert again.headers["location"] == done.headers["location"]
        assert "is published already" in client.get(f"/ltr/act/publish?run={KEPT}").text
        assert f"act/publish?run={KEPT}" not in client.get("/ltr/nights").text
    move = settings.registry.history()[-1]
    assert (move.move, move.to, move.who, move.why) == ("publish", KEPT, "otto", "fifty lists looked right")
    approval = json.loads(settings.data.get(f"runs/{KEPT}/approval.json"))
    assert (approval["who"], approval["why"]) == ("otto", "fifty lists looked right")


def test_two_versions_are_compared_on_rankings_that_neither_was_trained_on(settings: Settings) -> None:
    one, other, champion = (judged_model(settings, run) for run in (FAILED, RUN, KEPT))
    found = duel.apart(settings, other, one)
    assert (found.newer, found.older) == (FAILED, RUN)
    assert found.delta is not None, found.reason
    assert found.delta.low < found.delta.value < found.delta.high
    turned = found.of(RUN)
    assert turned is not None
    assert (turned.value, turned.low) == (-found.delta.value, -found.delta.high)
    known = duel.recorded(champion, other)
    made = duel.apart(settings, champion, other)
    assert known is not None
    assert known.delta == made.delta  # the night's own figure, made again


def test_rankings_that_are_gone_are_said_to_be(settings: Settings) -> None:
    one, other = (judged_model(settings, run) for run in (KEPT, RUN))
    kept = settings.data.get(f"runs/{KEPT}/dataset.json")
    settings.data.delete(f"runs/{KEPT}/dataset.json")
    try:
        assert "no longer kept" in duel.apart(settings, one, other).reason
    finally:
        settings.data.put(f"runs/{KEPT}/dataset.json", kept)
