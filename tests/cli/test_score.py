"""`ltr score` and what belongs to it, as a user types it after `make run`."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ltr_pipeline.monitoring.records import BatchRun
from ltr_pipeline.monitoring.store import History
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.versions.registry import Registry
from support.commands import A, B, ltr, project
from support.databases import on_postgresql, opened, run
from support.documents import document
from support.programs import CHECKOUT

LINE = re.compile(r"batch (\d+) of 10: 100 rows, [\d,]+ rows/s, fetch \d+ ms, score \d+ ms, write \d+ ms, rejected 0")
JOBS = """
[lead_score]
kind = "score"
table = "users"
key = "id"
score = "lead_score"
label = "lead_label"
version = "model_version"
scored_at = "scored_at"
features = { A = "a", S = "s" }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a published version, whose probabilities can be trusted, and a job for its features."""
    project(tmp_path, monkeypatch)
    publish(tmp_path, A)
    (tmp_path / "scoring.toml").write_text(JOBS)
    monkeypatch.setenv("LTR_SCORING", "scoring.toml")
    return tmp_path


def publish(folder: Path, version: str) -> None:
    calibrated = Calibration(positive=2, x=[0.25, 0.75], y=[0.2, 0.8], error=0.01)
    weights = msgspec.structs.replace(document(version), calibration=calibrated)
    Registry(LocalStorage(folder / "registry" / "ltr")).publish(weights, who="airflow/nightly", why="passed the gate")


def rows(query: str) -> list[Any]:
    with opened("sqlite:///var/ltr.db", tables=False) as database:
        return run(database, query)


def test_a_simulated_table_is_filled_in_ten_batches_and_then_left_alone(here: Path) -> None:
    assert ltr("simulate", "--database").code == 0
    done = ltr("score")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == f"lead_score: 1,000 rows to score by {A}, in 10 batches"
    assert [LINE.fullmatch(line)[1] for line in lines[1:-1]] == [str(number) for number in range(1, 11)]
    assert re.match(rf"lead_score: 1,000 rows by {A} in 10 batches, .*, 0 rejected \(probability\)", lines[-1])
    # the model is a step at A = 0.5, its two scores mean 0.2 and 0.8
    assert rows(
        "SELECT DISTINCT a > 0.5, lead_score, lead_label, model_version FROM users WHERE a IS NOT NULL ORDER BY 1"
    ) == [
        (0, 20.0, "cold", A),
        (1, 80.0, "hot", A),
    ]
    assert ltr("score").out.splitlines()[1:] == ["lead_score: nothing is due; nothing was written"]
    again = ltr("score", "lead_score", "--json")
    assert again.code == 0
    assert {name: again.json[name] for name in ("job", "version", "rows", "batches", "rejected")} == {
        "job": "lead_score",
        "version": A,
        "rows": 0,
        "batches": 0,
        "rejected": 0,
    }
    assert again.json["seconds"] < 60
    assert rows("SELECT count(*) FROM score_batches") == [(10,)]
    assert ltr("simulate", "--database").code == 2  # there is one


def test_every_run_is_in_the_history(here: Path) -> None:
    ltr("simulate", "--database", "--users", "30")
    ltr("score", "--dry-run")
    ltr("score")
    ltr("score")  # which finds nothing to do, and begins no run
    kept = History(LocalStorage(here / "data")).read(BatchRun)
    assert [(one.job, one.version, one.rows, one.rejected, one.state) for one in kept] == [
        ("lead_score", A, 30, 0, "done")
    ]


def test_options_say_which_rows(here: Path) -> None:
    ltr("simulate", "--database", "--users", "250")
    looked, said = ltr("score", "--dry-run").out.splitlines()
    assert looked.startswith("lead_score: 250 rows to score")
    assert said == "lead_score: dry run; nothing was written"
    assert rows("SELECT count(lead_score) FROM users") == [(0,)]
    first = ltr("score", "--json")
    assert [(one["rows"], one["scale"]) for one in first.json] == [(250, "probability")]
    assert "batch 3 of 3" in first.err
    publish(here, B)
    assert ltr("score", "lead_score", "--json").json["rows"] == 0
    assert ltr("score", "lead_score", "--again", A, "--json").json["rows"] == 250
    assert ltr("score", "lead_score", "--again", A, "--json").json["rows"] == 0
    assert ltr("score", "lead_score", "--all", "--json").json["rows"] == 250
    assert rows("SELECT DISTINCT model_version FROM users") == [(B,)]
    refused = ltr("score", "--again", B)
    assert refused.code == 2
    assert "that is the published version itself" in refused.err


def test_too_many_rejected_rows_exit_with_1(here: Path) -> None:
    ltr("simulate", "--database", "--users", "20")
    rows("UPDATE users SET a = 'much' WHERE id < 3")
    done = ltr("score")
    assert done.code == 1
    assert "2 of 20 rows cannot be scored, 10.0%, more than the 5.0% that rejects_max allows" in done.out


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        (
            JOBS.replace("lead_score]", "lead_scores]"),
            "there is no job lead_score; did you mean lead_scores? The jobs are lead_s",
        ),
        (JOBS.replace("table =", "tabel ="), "job lead_score: unknown key 'tabel'; did you mean table?"),
        (JOBS.replace('"score"\ntable', '"sore"\ntable'), "job lead_score: "),
        (JOBS + "features_sql = 'SELECT 1'\n", "give either features or features_sql"),
        (JOBS.replace('version = "model_version"', "rescore = true"), "rescore needs the column that version names"),
        (JOBS.replace('label = "lead_label"', 'label = "lead_score"'), "have to be different columns"),
        ("", "declares no job"),
        ("lead_score", "cannot be read"),
    ],
)
def test_a_file_of_jobs_that_is_wrong_is_told(here: Path, jobs: str, says: str) -> None:
    (here / "scoring.toml").write_text(jobs)
    done = ltr("score", "lead_score")
    assert done.code == 2
    assert says in done.err


def test_without_a_published_version_nothing_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    ltr("simulate", "--database", "--users", "3")
    done = ltr("score")
    assert done.code == 2
    assert "no version is published in" in done.err
    assert "`ltr run` trains and publishes one" in done.err


def test_database_init_prints_its_statements_and_makes_tables_once(here: Path) -> None:
    printed = ltr("database", "init", "--dry-run").out
    for table in ("ltr_tables", "score_runs", "analytics_cubo_engajamento"):
        assert printed.count(f"CREATE TABLE {table} (") == 1
    assert "all tables are there" not in printed
    assert "tables are made and up to date" in ltr("database", "init").out
    assert "all tables are there and up to date" in ltr("database", "init").out


def test_doctor_looks_at_the_database_and_the_jobs(here: Path) -> None:
    found = [(one["status"], one["text"]) for one in ltr("doctor", "--json").json if one["subject"] == "database"]
    assert found == [("ok", "SQLite file var/ltr.db is not there yet: the first command that needs it makes it")]
    ltr("simulate", "--database", "--users", "3")
    found = [(one["status"], one["text"]) for one in ltr("doctor", "--json").json if one["subject"] == "database"]
    assert [status for status, _ in found] == ["ok", "ok"]
    assert found[1][1] == "job lead_score fits the table users"
    rows("ALTER TABLE users RENAME COLUMN a TO area")
    found = [(one["status"], one["text"]) for one in ltr("doctor", "--json").json if one["subject"] == "database"]
    assert found[1][0] == "warning"
    assert "the table users has no column a" in found[1][1]


def test_an_index_on_rows_without_a_score_is_offered_made_once_and_used(
    here: Path, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = on_postgresql(postgres)
    monkeypatch.setenv("LTR_DATABASE_URL", url)
    offered = "CREATE INDEX CONCURRENTLY IF NOT EXISTS ltr_unscored_lead_score ON users (id) WHERE lead_score IS NULL;"
    assert "CREATE INDEX" not in ltr("database", "init").out
    lacking = ltr("score")
    assert lacking.code == 2
    assert "has no table users: `table` in LTR_SCORING says which it is; `ltr simulate --database` makes" in lacking.err
    ltr("simulate", "--database")
    assert offered in ltr("database", "init", "--dry-run").out.replace('"', "")
    assert ": 1 index made" in ltr("database", "init", "--indexes").out
    assert "CREATE INDEX" not in ltr("database", "init").out
    with opened(url, tables=False) as database:
        assert run(
            database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ltr_unscored_lead_score'::regclass"
        ) == [(True,)]
    assert ltr("score", "--json").json[0]["rows"] == 1000


SHOWN = """
from ltr_pipeline.batch.runs import Batch, Begun
from ltr_pipeline.cli.scoring import _Shown
times = {"fetch_ms": 10.0, "score_ms": 10.0, "write_ms": 80.0}
keys = {"first_key": "1", "last_key": "9"}
with _Shown(as_json=False) as shown:
    shown.tell(Begun(job="lead_score", version="v", rows=200, batches=2))
    for number in (1, 2):
        batch = Batch(job="lead_score", number=number, batches=2, rows=99, rejected=1, **keys, **times)
        shown.tell(batch)
"""


def test_on_a_terminal_a_bar_says_how_far_it_is() -> None:
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1", "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen([sys.executable, "-c", SHOWN], stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(leader, 4096):
                shown += part
    os.close(leader)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    assert "lead_score" in text
    assert "200/200 rows, 1,000 rows/s" in text
    assert "batch 1 of 2" not in text
