"""Long work rests beside requests, and only there."""

from __future__ import annotations

import threading
import time

import pytest

from ltr_pipeline.scoring import pace
from ltr_pipeline.scoring.pace import breathe, unhurried


def work(seconds: float) -> int:
    """Work for so long; how often it breathed."""
    end, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        breathe()
        count += 1
    return count


def test_work_rests_only_where_it_is_unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[str] = []
    monkeypatch.setattr(pace.time, "sleep", lambda _: rests.append(threading.current_thread().name))
    work(0.01)
    assert not rests
    with unhurried():
        other = threading.Thread(target=work, args=(0.01,), name="other")
        other.start()
        assert work(0.02) > len(rests) > 1
        other.join()
    assert "other" not in rests
    before = len(rests)
    work(0.01)
    assert len(rests) == before
