"""Segments that agree too little with those in use: who asks, and what an approval puts in their place."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import SegmentError
from ltr_pipeline.jobs import segment_approval, segments
from ltr_pipeline.monitoring.records import SegmentsTrained
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.runs.run import Json
from ltr_pipeline.segments import comparison
from ltr_pipeline.settings import Settings
from support.small import simulate, small_settings, up_to
from support.webhook import Server, running

NOW = dt.datetime(2025, 7, 15, 6, 15, tzinfo=dt.UTC)
QUESTION = "manual/0"
MODELS = "SELECT level, version, in_use FROM analytics.segment_models ORDER BY level, version"


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landed")
    simulate(folder)
    up_to("extract_events", small_settings(folder))
    return folder


@pytest.fixture
def settings(landed: Path, tmp_path: Path, database_url: str) -> Settings:
    shutil.copytree(landed, tmp_path / "project")
    found = small_settings(tmp_path / "project", database_url=database_url)
    segments.init(found)
    return found


def sql(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """What a person does who edits or reads the tables."""
    with Database(settings.database) as database, database.begin() as connection:
        found = connection.execute(text(segments.table_names(settings, statement)))
        return [tuple(row) for row in found] if found.returns_rows else []


@pytest.fixture
def handed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """What a training handed on whose models broke the limit."""
    assert segment_approval.begin(segments.as_json(segments.train(settings, now=NOW)), QUESTION, settings) is None
    monkeypatch.setattr(comparison, "ARI_MIN", 1.5)
    found: list[Json] = segments.as_json(segments.train(settings, now=NOW + dt.timedelta(hours=1)))
    assert [level["in_use"] for level in found] == [False, False]
    return found


def answer(handed: list[Json], settings: Settings, choice: str = "publish", why: str = "fine") -> str:
    return segment_approval.answer(handed, QUESTION, choice=choice, who="anna", why=why, settings=settings)


def in_use(settings: Settings) -> list[tuple[str, int]]:
    return [(level, version) for level, version, used in sql(settings, MODELS) if used]


FORMER, NEW = [("item", 1), ("user", 1)], [("item", 2), ("user", 2)]


def test_a_person_is_asked_and_told_why(handed: list[Json], settings: Settings) -> None:
    asked = segment_approval.begin(handed, QUESTION, settings)
    assert asked
    assert asked["subject"] == "Replace the segments in use?"
    assert "below 1.5" in asked["body"]
    assert "--replace" not in asked["body"]
    with running(Server()) as hook:
        told = settings.model_copy(update={"notify_urls": (f"json://127.0.0.1:{hook.port}",)})
        segment_approval.tell(handed, QUESTION, "http://airflow/x", NOW, told)
    (message,) = hook.got
    assert "Please decide until 2025-07-15 06:15 UTC.\n\nAnswer: http://airflow/x" in message["message"]
    again = segment_approval.begin(handed, QUESTION, settings)
    assert again
    assert again["until"] == NOW.isoformat()


def test_what_was_approved_is_put_in_use_once_and_told(handed: list[Json], settings: Settings) -> None:
    assert answer(handed, settings) == "publish"
    with running(Server()) as hook:
        told = settings.model_copy(update={"notify_urls": (f"json://127.0.0.1:{hook.port}",)})
        segment_approval.replace(handed, told)
    segment_approval.replace(handed, settings)  # tried again
    assert in_use(settings) == NEW
    (message,) = hook.got
    assert message["title"] == "LTR segments replaced"
    assert "model 2 of level user is in use, approved by anna: fine, though its agreement" in message["message"]
    newest = [one for one in History(settings.data).read(SegmentsTrained) if one.version == 2]
    assert [(one.level, one.in_use, one.answered_by, one.answer_reason) for one in newest] == [
        ("item", True, "anna", "fine"),
        ("user", True, "anna", "fine"),
    ]
    reasons = sql(settings, "SELECT reason FROM analytics.segment_models WHERE version = 2")
    assert all(reason.endswith("below 1.5; approved by anna: fine") for (reason,) in reasons)
    assert segments.classify(settings, now=NOW).levels[0].model_version == 2


@pytest.mark.parametrize(("choice", "why"), [("keep", "odd"), ("publish", "")])
def test_without_an_approval_the_former_ones_stay(
    handed: list[Json], settings: Settings, choice: str, why: str
) -> None:
    with pytest.raises(SegmentError, match="nobody has approved"):
        segment_approval.replace(handed, settings)
    assert answer(handed, settings, choice, why) == "keep"
    with pytest.raises(SegmentError, match="nobody has approved"):
        segment_approval.replace(handed, settings)
    segment_approval.keep(handed, settings)
    assert in_use(settings) == FORMER
    newest = [one for one in History(settings.data).read(SegmentsTrained) if one.version == 2]
    said = "kept by anna: odd" if why else "nothing is approved without a reason, and anna gave none"
    assert {one.answer for one in newest} == {said}
    assert all(one.said.endswith(f"; {said}") and not one.in_use for one in newest)


def test_what_was_altered_since_it_was_approved_is_not_put_in_use(handed: list[Json], settings: Settings) -> None:
    answer(handed, settings)
    other = "(SELECT model FROM analytics.segment_models AS o WHERE o.level = 'user' AND o.version = 1)"
    sql(settings, f"UPDATE analytics.segment_models SET model = {other} WHERE level = 'user' AND version = 2")
    with pytest.raises(SegmentError, match="version 2 of level user was altered since it was trained"):
        segment_approval.replace(handed, settings)
    assert in_use(settings) == FORMER


def test_what_another_training_overtook_is_not_put_in_use(handed: list[Json], settings: Settings) -> None:
    answer(handed, settings)
    segments.train(settings, replace=True, now=NOW)
    with pytest.raises(SegmentError, match="another training put a model in use meanwhile"):
        segment_approval.replace(handed, settings)
    assert in_use(settings) == [("item", 3), ("user", 3)]


def test_an_approval_of_other_models_counts_for_nothing(handed: list[Json], settings: Settings) -> None:
    answer(handed, settings)
    later: list[Json] = segments.as_json(segments.train(settings, now=NOW))
    with pytest.raises(SegmentError, match="nobody has approved"):
        segment_approval.replace(later, settings)
    assert in_use(settings) == FORMER
