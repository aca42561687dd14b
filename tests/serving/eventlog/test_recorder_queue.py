"""The recorder in this process: what is taken in is written or counted, whatever is wrong with something beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from ltr_pipeline.serving import wire
from ltr_pipeline.serving.eventlog import recorder as module
from ltr_pipeline.serving.eventlog.encode import AnsweredList, Encoder, new_request_id
from ltr_pipeline.serving.eventlog.recorder import BusyError, Recorder
from ltr_pipeline.serving.ranking.agreement import agreement
from ltr_pipeline.serving.ranking.shadow import Served, ShadowRanking
from ltr_pipeline.serving.settings import ServingSettings
from ltr_pipeline.serving.weights.models import legacy
from ltr_pipeline.settings import load
from support.lists import listed as a_list


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LTR_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("LTR_EVENTS_PATH", str(tmp_path / "audit.log"))
    return tmp_path / "audit.log"


def counted(kind: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("ltr_events_total", {"kind": kind, "outcome": outcome}) or 0.0


def candidate(features: bytes = b'{"A":1}') -> wire.RankCandidate:
    return wire.RankCandidate(item_id="i", features=msgspec.Raw(features))


def listed(event_id: str = "e") -> AnsweredList:
    return a_list([candidate()], request_id=new_request_id("q", "0" * 32), event_id=event_id)


def feedback(count: int) -> wire.FeedbackRequest:
    one = wire.FeedbackItem(query_id="q", item_id="i", action="accepted")
    return wire.FeedbackRequest(events=[one] * count)


def test_feedback_is_taken_in_as_a_whole_or_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(load(ServingSettings))
    before = counted("feedback", "dropped")
    with monkeypatch.context() as full:
        full.setattr(module, "QUEUE_BYTES", 500)  # room for some of them
        with pytest.raises(BusyError):
            recorder.feedback(feedback(5))
    assert counted("feedback", "dropped") == before + 5
    assert recorder.feedback(feedback(5)) == 5
    recorder.start()
    recorder.stop()
    assert log.read_bytes().count(b"\n") == 5


def test_what_cannot_be_encoded_is_counted_and_stops_nothing(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(load(ServingSettings))
    before = counted("impressions", "dropped")
    with monkeypatch.context() as broken:
        broken.setattr(Encoder, "impressions", lambda *_: 1 / 0)
        recorder.answered(listed())
    recorder.answered(listed())
    recorder.start()
    recorder.stop()
    assert counted("impressions", "dropped") == before + 1
    assert log.read_bytes().count(b"\n") == 1


def test_a_kept_answer_that_cannot_be_read_takes_nothing_with_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_SHOWN", "reported")
    recorder = Recorder(load(ServingSettings))
    answer = listed(event_id=new_request_id("q", "0" * 32))
    assert recorder._pending.keep(answer)
    assert recorder._pending._database is not None
    recorder._pending._database.execute("UPDATE held SET list = '{}'")
    recorder.shown(wire.ShownRequest(request_id=answer.request_id, items=["i"]))
    recorder.feedback(feedback(1))
    recorder.start()
    recorder.stop()
    assert log.read_bytes().count(b"offer_feedback") == 1


def test_a_shadow_order_waits_for_no_report(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTR_SHOWN", "reported")
    recorder = Recorder(load(ServingSettings))
    model = legacy({"A": 1.0})
    served = Served(
        request_id=new_request_id("q"),
        query_id="q",
        user_id=None,
        candidates=[candidate()],
        model=model,
        scores=np.array([1.0]),
        k=1,
        columns={},
    )
    shadow = ShadowRanking(served, "other", [0], agreement(np.array([1.0]), np.array([2.0])), 0.001)
    recorder.answered(shadow.answered_list())
    recorder.start()
    recorder.stop()
    assert b'"shadow":true' in log.read_bytes()
