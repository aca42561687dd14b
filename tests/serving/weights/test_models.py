"""Which model ranks, which one is the way back, and a reloader that nothing stops; in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ltr_pipeline import errors
from ltr_pipeline.serving.guard import Guard, Limits
from ltr_pipeline.serving.weights import reload as module
from ltr_pipeline.serving.weights.models import Loaded, Models, legacy, load
from ltr_pipeline.serving.weights.reload import Reloader
from ltr_pipeline.serving.weights.workers import Refused, Workers
from ltr_pipeline.storage.base import Fetched
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.weights import encode
from support.documents import document

A, B, C = "20250714_0215", "20250715_0215", "20250716_0215"
KEY = "ltr_weights.json"
LIMITS = Limits(seconds=600, requests=10, failed_share=0.001, p95_ms=15)


def loaded(version: str) -> Loaded:
    return load(encode(document(version)), where="here")


class Counted(LocalStorage):
    """Counts what is read, and fails when it is told to."""

    reads = 0
    fails: Exception | None = None

    def fetch(self, key: str, tag: str = "") -> Fetched | None:
        if self.fails:
            raise self.fails
        fetched = super().fetch(key, tag)
        self.reads += fetched is not None
        return fetched


@pytest.fixture
def models() -> Models:
    return Models(legacy({"A": 1.0}))


@pytest.fixture
def storage(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "weights")


def until(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_way_back_is_the_last_model_whose_trial_was_over(models: Models) -> None:
    a, b, c = map(loaded, (A, B, C))
    models.take(a)
    assert models.former is None  # nothing was asked before
    models.take(b)
    assert models.former is a
    models.take(c)
    assert models.former is a
    assert not models.step_back(b)
    assert models.step_back(c)
    assert (models.current, models.former) == (a, None)
    assert not models.step_back(a)


def test_a_rollback_is_not_on_trial(models: Models) -> None:
    a, b = map(loaded, (A, B))
    models.take(b)
    models.take(a)
    assert models.former is None


def test_legacy_is_a_way_back_when_it_has_answered(models: Models) -> None:
    models.legacy.traffic.now.add(failed=False)
    a = loaded(A)
    models.take(a)
    assert models.step_back(a)
    assert not models.ready


def test_what_is_refused_or_unchanged_is_not_read_again(models: Models, storage: Counted) -> None:
    reloader = Reloader(models, (storage, KEY), seconds=3600, guard=Guard(LIMITS))
    assert reloader.poll().outcome == "nothing published"
    storage.put(KEY, encode(document(A)))
    assert [reloader.poll().outcome for _ in range(3)] == ["loaded", "unchanged", "unchanged"]
    storage.put(KEY, b"{}")
    polls = [reloader.poll() for _ in range(3)]
    assert [poll.outcome for poll in polls] == ["refused"] * 3
    assert all("altered" in (poll.last_error or "") for poll in polls)
    assert storage.reads == 2
    assert reloader.reload(force=True).outcome == "refused"
    assert storage.reads == 3


def test_the_thread_survives_whatever_comes(models: Models, storage: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(LIMITS)
    reloader = Reloader(models, (storage, KEY), seconds=0.05, guard=guard)
    storage.put(KEY, encode(document(A)))
    storage.fails = ZeroDivisionError("boom")
    reloader.start()
    try:
        until(lambda: reloader.state.last_error == "boom")
        monkeypatch.setattr(module, "load", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        storage.fails = None
        until(lambda: reloader.state.last_error == "MemoryError")
        assert models.refused == {}  # it is not the document's fault
        monkeypatch.setattr(module, "load", load)
        until(lambda: models.current.version == A)
        looks: list[int] = []

        def look() -> None:
            looks.append(1)
            raise ZeroDivisionError

        monkeypatch.setattr(guard, "look", look)
        until(lambda: len(looks) > 2)
        monkeypatch.undo()
        storage.put(KEY, encode(document(B)))
        until(lambda: models.current.version == B)
    finally:
        reloader.stop()


def test_polls_are_spread_and_never_late(models: Models, storage: Counted) -> None:
    reloader = Reloader(models, (storage, KEY), seconds=300, guard=Guard(LIMITS))
    waits = [reloader._next_poll() - time.monotonic() for _ in range(200)]
    assert 269 < min(waits) < max(waits) <= 300
    assert max(waits) - min(waits) > 10


def test_a_breach_tries_the_rollback_until_it_is_done(models: Models, storage: Counted) -> None:
    tried: list[str] = []

    def roll_back(bad: Loaded, reason: str) -> str:
        tried.append(bad.version)
        if len(tried) < 3:
            raise errors.LtrError("away")
        return "done"

    guard = Guard(LIMITS)
    reloader = Reloader(models, (storage, KEY), seconds=0.05, guard=guard, roll_back=roll_back)
    storage.put(KEY, encode(document(A)))
    reloader.start()
    try:
        until(lambda: models.current.version == A)
        storage.put(KEY, encode(document(B)))
        until(lambda: models.current.version == B)
        for _ in range(100):
            models.current.traffic.now.add(failed=True)
        until(lambda: guard.watch.rollback == "done")
        assert (tried, models.current.version) == ([B] * 3, A)
    finally:
        reloader.stop()


def test_a_worker_tells_the_others_and_not_itself(tmp_path: Path) -> None:
    one, other = Workers(tmp_path), Workers(tmp_path)
    one.call()
    assert one.called() is None
    assert other.called() is not None
    assert other.called() is None
    one.refuse("0" * 64, Refused(version=B, reason="slow"))
    assert other.refused() == {"0" * 64: Refused(version=B, reason="slow")}
    other.call(forgive=True)
    call = one.called()
    assert call is not None
    assert call.forgive
    assert one.refused() == {}
    assert Workers(tmp_path).called() is None  # what was said before it came is not for it
    alone = Workers()
    alone.call()
    alone.refuse("0" * 64, Refused(version=B, reason="slow"))
    assert (alone.called(), alone.refused()) == (None, {})
