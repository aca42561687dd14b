"""A run's folder: artefacts that are whole and are checked, and a name on every log line."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import NotFoundError, SourceError
from ltr_pipeline.report.artefacts import MODEL, OUTCOME
from ltr_pipeline.runs.names import run_name
from ltr_pipeline.runs.run import Outcome, Run, logged, opened
from ltr_pipeline.versions.ids import Version
from support.small import RUN, small_settings

ENDED = Outcome(run=RUN, version=None, moved=False, reason="nothing is published yet", latest=None)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(RUN, small_settings(tmp_path, log_folder=tmp_path / "logs"))


@given(st.datetimes(dt.datetime.fromordinal(700_000), timezones=st.timezones()))
def test_the_name_of_a_run_is_a_version_of_its_minute_in_utc(moment: dt.datetime) -> None:
    utc = moment.astimezone(dt.UTC)
    assert Version.parse(run_name(moment)).time == utc.replace(second=0, microsecond=0)


def test_a_year_of_three_digits_names_a_run_as_it_names_a_version() -> None:
    assert run_name(dt.datetime(999, 7, 14, 2, 15, tzinfo=dt.UTC)) == "09990714_0215"


def test_bytes_come_back_as_they_were_written(run: Run) -> None:
    reference = opened(run.write(MODEL, b"tree\n\xff"))
    assert run.storage.get(run.key("model.txt")) == b"tree\n\xff"
    assert run.read(MODEL) == run.verified(MODEL, reference.sha256) == b"tree\n\xff"


def test_an_artefact_comes_back_as_it_was_written(run: Run) -> None:
    handed = run.write(OUTCOME, ENDED, counts={"rows": 3}, verdict="keep")
    reference = opened(handed)
    assert (reference.run, reference.counts, reference.verdict) == (RUN, {"rows": 3}, "keep")
    assert reference.uri.endswith(f"/runs/{RUN}/outcome.json")
    assert run.read(OUTCOME) == run.verified(OUTCOME, reference.sha256) == ENDED
    assert json.loads(json.dumps(handed)) == handed  # what XCom makes of it
    assert run.write(OUTCOME, ENDED, counts={"rows": 3}, verdict="keep") == handed


def test_another_artefact_than_the_task_before_wrote_is_refused(run: Run) -> None:
    reference = opened(run.write(OUTCOME, ENDED))
    run.write(OUTCOME, msgspec.structs.replace(ENDED, reason="another"))
    with pytest.raises(SourceError, match=rf"runs/{RUN}/outcome\.json changed since .* clear that task"):
        run.verified(OUTCOME, reference.sha256)


def test_an_artefact_that_is_not_there_is_missed_only_by_who_needs_it(run: Run) -> None:
    assert run.read_if_there(OUTCOME) is None
    with pytest.raises(NotFoundError, match=rf"runs/{RUN}/outcome\.json"):
        run.read(OUTCOME)


def test_runs_do_not_see_each_other(run: Run) -> None:
    run.write(OUTCOME, ENDED)
    assert Run("20250716_0215", run.settings).read_if_there(OUTCOME) is None


@pytest.mark.parametrize("handed", [{}, {"run": RUN}, {"run": RUN, "uri": "x", "sha256": "y", "more": 1}])
def test_what_is_no_reference_is_refused(handed: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        opened(handed)


def lines(run: Run) -> list[dict[str, str]]:
    return [json.loads(line) for line in (run.settings.log_folder / "ltr_training.log").read_text().splitlines()]


def test_every_line_of_a_task_says_which_run_date_and_task(run: Run) -> None:
    with logged(RUN, run.settings, "train_ranker") as opened_run:
        structlog.get_logger().info("halfway", trees=3)
    assert opened_run.name == RUN
    assert [line["event"] for line in lines(run)] == ["task started", "halfway", "task finished"]
    assert {(line["run"], line["date"], line["task"]) for line in lines(run)} == {(RUN, "2025-07-15", "train_ranker")}


def test_the_error_of_a_failed_task_is_logged_and_goes_on(run: Run) -> None:
    with pytest.raises(SourceError), logged(RUN, run.settings, "extract_events"):
        raise SourceError("the log is away")
    assert [line["event"] for line in lines(run)] == ["task started", "task failed"]
    assert (lines(run)[1]["kind"], lines(run)[1]["error"]) == ("SourceError", "the log is away")
