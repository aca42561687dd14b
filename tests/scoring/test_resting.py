"""Long work rests beside requests, and only there."""

from __future__ import annotations

import threading

import pytest

from ltr_pipeline.scoring import resting as resting_module
from ltr_pipeline.scoring.resting import rest_if_due, resting


def work(times: int = 50_000) -> None:
    """Ask for a rest so often: for longer than anybody works without a rest."""
    for _ in range(times):
        rest_if_due()


def test_work_rests_only_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[str] = []
    monkeypatch.setattr(resting_module.time, "sleep", lambda _: rests.append(threading.current_thread().name))
    work()
    assert not rests
    with resting():
        other = threading.Thread(target=work, name="other")
        other.start()
        work()
        other.join()
    assert "other" not in rests
    before = len(rests)
    assert 50_000 > before > 1
    work()
    assert len(rests) == before
