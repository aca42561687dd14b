"""The commands of segments, as a user types them after a first night."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import text

from ltr_pipeline.database.engine import Database
from ltr_pipeline.segments import comparison
from ltr_pipeline.segments.parameters import WORDING
from ltr_pipeline.settings import load_settings
from support.commands import ltr
from support.small import DAYS, simulate, up_to


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landed")
    simulate(folder)
    return folder


@pytest.fixture
def project(landed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose events have landed, without a database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LTR_EVENTS_PATH", str(landed / "audit.log"))
    monkeypatch.setenv("LTR_DATA_URI", str(landed / "data"))
    monkeypatch.setenv("LTR_DATABASE_URL", f"sqlite:///{tmp_path / 'ltr.db'}")
    monkeypatch.setenv("LTR_WINDOW_DAYS", str(DAYS))
    up_to("extract_events", load_settings())
    return tmp_path


def test_init_train_classify_show(project: Path) -> None:
    assert "CREATE TABLE config_segment_levels" in ltr("segments", "init", "--dry-run").out
    made = ltr("segments", "init")
    assert made.out.splitlines() == [
        f"SQLite file {project / 'ltr.db'}: tables of segments are made",
        "Periods, levels, features, weights and words are in config_segment_parameters, config_segment_levels and "
        "config_segment_labels",
    ]
    assert "tables of segments are there" in ltr("segments", "init").out
    nothing = ltr("segments", "show")
    assert nothing.out == "No segments yet: `ltr segments train` makes models, `ltr segments classify` applies them.\n"
    early = ltr("segments", "classify")
    assert early.code == 2
    assert "error: level user has no model in use: `ltr segments train` makes one" in early.err
    trained = ltr("segments", "train")
    assert trained.code == 0
    assert trained.out.startswith("model 1 of level user is the first, and in use\n")
    assert ", ".join(WORDING["pt"]) in trained.out
    assert re.search(r"^  [\d,]+ users, [\d,]+ rows, ", trained.out, re.MULTILINE)
    assert "Nothing is classified" in ltr("segments", "show").out
    done = ltr("segments", "classify")
    assert done.code == 0
    assert done.out.startswith("user: ")
    assert "in the week from 2025-07-07: " in done.out
    shown = ltr("segments", "show")
    lines = shown.out.splitlines()
    assert lines[0].startswith("user by week: model 1, trained ")
    assert lines[1].split()[:4] == ["Segment", "2025-07-07", "Share", "Typical"]
    assert lines[2].startswith("engajamento excelente ")
    assert {"item by week"} == {line.partition(":")[0] for line in lines if line.startswith("item")}
    assert shown.err.count("notice") == 0


def test_json_holds_what_was_done(project: Path) -> None:
    (user, _) = ltr("segments", "train", "--json").json
    assert (user["level"], user["version"], user["in_use"], user["comparison"]) == ("user", 1, True, None)
    done = ltr("segments", "classify", "--json").json
    assert set(done) == {"levels", "notices", "rows", "left_out", "seconds"}
    shown = ltr("segments", "show", "--json").json
    counted = sum(row["entities"] for level in shown["levels"] for row in level["rows"])
    assert counted == done["rows"] > 0


def test_a_model_that_is_not_taken_exits_with_1(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ltr("segments", "train")
    monkeypatch.setattr(comparison, "ARI_MIN", 1.5)
    kept = ltr("segments", "train")
    assert kept.code == 1
    assert "model 1 of level user stays in use" in kept.out
    assert ltr("segments", "train", "--replace").code == 0


def test_show_says_when_to_train_again(project: Path) -> None:
    ltr("segments", "train")
    ltr("segments", "classify")
    with Database(load_settings().database) as database, database.begin() as connection:
        connection.execute(text("UPDATE config_segment_levels SET k = 3 WHERE level = 'user'"))
        connection.execute(text("UPDATE config_segment_levels SET active = 0 WHERE level = 'item'"))
    shown = ltr("segments", "show")
    assert "notice: the parameters of level user are newer than its model: k 5 → 3" in shown.err
    assert "item: no model is in use" not in shown.out  # it is not active, and what was classified is shown
