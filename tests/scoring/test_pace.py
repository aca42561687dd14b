"""Long work rests beside requests, and only there."""

from __future__ import annotations

import threading
import time

import pytest

from ltr_pipeline.scoring import resting as resting_module
from ltr_pipeline.scoring.resting import rest_if_due, resting


def work(seconds: float) -> int:
    """Work for so long; how often it could have rested."""
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        rest_if_due()
        count += 1
    return count


def test_work_rests_only_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[str] = []
    monkeypatch.setattr(resting_module.time, "sleep", lambda _: rests.append(threading.current_thread().name))
    work(0.01)
    assert not rests
    with resting():
        other = threading.Thread(target=work, args=(0.01,), name="other")
        other.start()
        assert work(0.02) > len(rests) > 1
        other.join()
    assert "other" not in rests
    before = len(rests)
    work(0.01)
    assert len(rests) == before
