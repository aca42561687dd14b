"""`ltr try LOG`, as a user types it: would this log pass, and if not, why?"""

from __future__ import annotations

import datetime as dt
import json
import re
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ltr_pipeline.cli.main import app
from ltr_pipeline.errors import SettingsError, SourceError
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.simulate.log import write_log
from ltr_pipeline.simulate.world import World

FIRST = dt.date(2026, 9, 1)
WORLD = World(legacy_weights=load_mapping().legacy_weights, rankings_per_day=150)
FAIR = ("--variable", "ltr_fairness_max=0.2")  # this small a log cannot show less


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "mine.jsonl"
    write_log(path, WORLD, FIRST, 20)
    return path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tried(path: Path, *options: str) -> tuple[int, str]:
    """Exit code and what was printed; what `ltr` shows as an error is raised."""
    done = CliRunner().invoke(app, ["try", str(path), "--folder", "scratch", *options])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def manifest() -> dict[str, object]:
    (path,) = Path("scratch").rglob("manifest.json")
    return json.loads(path.read_text())


def test_a_good_log_passes_and_nothing_is_published(log: Path) -> None:
    code, said = tried(log, *FAIR)
    assert (code, "Verdict: publish" in said) == (0, True)
    assert "impossible position" in said  # why records were quarantined
    steps = re.findall(r"^step (\d) of 6: .+, \d+\.\d s(?:, [\d,]+ rows)?$", said, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6"]
    assert re.search(r"[\d,]+ of [\d,]+ interactions \(9\d\.\d %\) belong to an impression\.", said)
    assert list(Path("scratch").rglob("report.html"))
    assert not Path("scratch/registry").exists()
    assert not Path("var").exists()


def test_a_stricter_variable_fails_it_and_says_why(log: Path) -> None:
    code, said = tried(log, "--variable", "ltr_ndcg_min=0.95")
    assert (code, "below the minimum of 0.95" in said) == (1, True)


def test_the_last_line_counts_without_a_line_feed(tmp_path: Path, log: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(log.read_bytes().removesuffix(b"\n"))
    tried(cut, *FAIR)
    assert manifest()["range"]["segments"][0]["end"] == cut.stat().st_size


def test_an_event_from_the_future_does_not_move_the_day_that_is_judged(tmp_path: Path, log: Path) -> None:
    message = next(json.loads(line) for line in log.open() if '"match_recommendation"' in line)
    ahead = tmp_path / "ahead.jsonl"
    ahead.write_text(log.read_text() + json.dumps(message | {"timestamp": "2090-01-01T00:00:00Z"}))
    code, said = tried(ahead, *FAIR)
    assert (code, " landed records are from the future" in said) == (0, True)
    assert manifest()["date"] == "2026-09-21"


def test_a_log_without_feedback_gets_a_verdict_and_a_report(tmp_path: Path, log: Path) -> None:
    silent = tmp_path / "silent.jsonl"
    silent.write_text("".join(line for line in log.open() if '"offer_feedback"' not in line))
    code, said = tried(silent)
    assert (code, "Verdict: keep" in said) == (1, True)
    assert "Is feedback logged?" in said
    assert list(Path("scratch").rglob("report.html"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"type": "search", "message": "search.results"}\n' * 3, "Kinds of message seen: search.results"),
        ("\x00\xff not JSON at all\n", "not UTF-8"),
        ("timestamp,message,case_id\n", "comma-separated values (CSV)"),
        ("", "No record was read."),
    ],
)
def test_a_log_of_something_else_gets_a_verdict_and_a_hint(tmp_path: Path, text: str, hint: str) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(text, encoding="latin-1")
    code, said = tried(other)
    assert (code, hint in said, "Verdict: keep" in said) == (1, True, True)
    assert list(Path("scratch").rglob("report.html"))


def test_records_that_were_recognised_and_refused_are_not_taken_for_something_else(tmp_path: Path, log: Path) -> None:
    whole = (line for line in log.open() if '"match_recommendation"' in line and line.endswith("}}\n"))
    messages = [json.loads(line) for line in islice(whole, 50)]
    numbered = tmp_path / "numbered.jsonl"
    numbered.write_text("".join(json.dumps(m | {"timestamp": 1_788_000_000}) + "\n" for m in messages))
    code, said = tried(numbered)
    assert (code, "No record is an impression" in said) == (1, False)
    told = (
        "No impression landed: 50 of 50 records were recognised, but refused (wrong type): time is a number, not text."
    )
    remedy = 'Set time_unit = "seconds" or "milliseconds" in the mapping if that is meant.'
    assert f"{told} {remedy}\n    first at {numbered}:0: {{" in said
    assert f"there is no training ranking. {told} {remedy}" in said
    assert told in next(Path("scratch").rglob("report.html")).read_text()


def test_what_cannot_be_tried_is_a_clear_error(tmp_path: Path, log: Path) -> None:
    with pytest.raises(SourceError, match="no event log there"):
        tried(tmp_path / "missing.jsonl")
    with pytest.raises(SettingsError, match=r"no such Variable; did you mean ltr_ndcg_min\? There are ltr_ndcg_min, "):
        tried(log, "--variable", "ltr_ndgc_min=0.7")
    Path("scratch").mkdir(exist_ok=True)
    Path("scratch/mine").touch()
    with pytest.raises(SettingsError, match="not empty"):
        tried(log)
