"""The training log: a line an event, with the run's context, and never a reason to fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from ltr_pipeline.runs.logs import FILE_NAME, run_log

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def processors() -> Iterator[None]:
    """Leave the processors to other tests as they were."""
    before = list(structlog.get_config()["processors"])
    yield
    assert structlog.get_config()["processors"] == before


def test_events_are_copied_with_the_context_of_the_run_only_inside_it(tmp_path: Path) -> None:
    log.info("before")
    with run_log(tmp_path / "new" / "logs", run="20250715_0215", date="2025-07-15"):
        log.info("inside", rows=3, path=Path("x"))
    log.info("after")
    (line,) = (tmp_path / "new" / "logs" / FILE_NAME).read_text().splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    expected = {"event": "inside", "level": "info", "rows": 3, "path": "x", "run": "20250715_0215"}
    assert found == expected | {"date": "2025-07-15"}


def test_the_context_is_bound_wherever_events_go(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as events:
            with run_log(folder, run="20250715_0215"):
                log.info("inside")
            log.info("after")
        assert [event.get("run") for event in events] == ["20250715_0215", None]


def test_a_task_inside_another_is_copied_once_with_both_contexts(tmp_path: Path) -> None:
    with run_log(tmp_path, run="20250715_0215"), run_log(tmp_path / "inner", task="train_ranker"):
        log.info("inside")
    (outer,) = (tmp_path / FILE_NAME).read_text().splitlines()
    (inner,) = (tmp_path / "inner" / FILE_NAME).read_text().splitlines()
    assert json.loads(outer)["task"] == json.loads(inner)["task"] == "train_ranker"
    assert json.loads(inner)["run"] == "20250715_0215"


def test_text_is_one_line_for_people(tmp_path: Path) -> None:
    with run_log(tmp_path, style="text", run="20250715_0215"):
        log.info("ranker trained", trees=3)
        log.info("two\nlines")
    first, second = (tmp_path / FILE_NAME).read_text().splitlines()
    assert first.startswith("timestamp=")
    assert first.endswith("level='info' event='ranker trained' trees=3 run='20250715_0215'")
    assert r"event='two\nlines'" in second


def test_an_exception_is_logged_whole_on_one_line(tmp_path: Path) -> None:
    with run_log(tmp_path, run="20250715_0215"):
        try:
            int("no rows")
        except ValueError:
            log.exception("failed")
    (line,) = (tmp_path / FILE_NAME).read_text().splitlines()
    assert json.loads(line)["exception"].endswith("'no rows'")


def test_a_log_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder belongs")
    (tmp_path / "taken" / FILE_NAME).mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "taken", Path("/proc/no-such-folder")):
        with capture_logs() as events, run_log(folder, run="20250715_0215"):
            log.info("inside")
        assert [event["event"] for event in events] == ["inside"]


def test_a_run_that_fails_leaves_no_copy_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crash"), run_log(tmp_path, run="20250715_0215"):
        raise ValueError("crash")
    log.info("after")
    assert not (tmp_path / FILE_NAME).exists()
    assert structlog.contextvars.get_contextvars() == {}
