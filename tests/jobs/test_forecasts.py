"""Scores of a real database beside what landed, and a sentence where there is nothing to hold."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from ltr_pipeline.batch.score import score
from ltr_pipeline.database.engine import Database
from ltr_pipeline.events.chain import partitions_for
from ltr_pipeline.events.landing import land
from ltr_pipeline.events.sources.files import FileSource
from ltr_pipeline.jobs.forecasts import forecasts_of
from ltr_pipeline.mapping import load_mapping
from ltr_pipeline.monitoring.outcomes import outcomes, windows_of
from ltr_pipeline.schedule import night_of
from ltr_pipeline.settings import Settings, load_settings
from support.databases import VERSION, model, opened, run, users
from support.messages import answered, shown

DAY = dt.date(2025, 7, 15)
NOON = dt.datetime(2025, 7, 15, 12, tzinfo=dt.UTC)
SCORING = """
[lead_score]
kind = "score"
table = "users"
key = "id"
score = "lead_score"
label = "lead_label"
version = "model_version"
scored_at = "scored_at"
features = { A = "a", S = "s" }
ids = { user_id = "id" }

[second]
kind = "score"
table = "users"
key = "id"
score = "lead_score"
features = { A = "a" }
"""


def settings(folder: Path, url: str, scoring: str = SCORING) -> Settings:
    (folder / "scoring.toml").write_text(scoring)
    return load_settings(
        data_uri=str(folder / "data"),
        registry_uri=str(folder / "registry"),
        scoring_path=folder / "scoring.toml",
        database_url=url,
    )


def landed(folder: Path, won: int) -> dict[str, str]:
    """The partition of the lists that users 1 to 100 were shown on the day, of whom some won."""
    at = NOON + dt.timedelta(hours=1)
    messages: list[Any] = []
    for user in range(1, 101):
        about = {"user_id": str(user), "ranking_id": f"r-{user}", "policy": VERSION}
        messages += [
            shown(f"case-{user}", lawyer, at.isoformat(), rank_position=place, **about)
            for place, lawyer in enumerate("ab", 1)
        ]
        if user <= won:
            later = (at + dt.timedelta(hours=1)).isoformat()
            messages.append(answered(f"case-{user}", "a", later, action="won", ranking_id=f"r-{user}"))
    log = folder / "audit.log"
    log.write_text("".join(json.dumps(message) + "\n" for message in messages))
    found = load_settings(data_uri=str(folder / "data")).data
    date = DAY + dt.timedelta(days=4)
    land(found, night_of(date), FileSource(str(log)), load_mapping(), buckets=2, since=NOON - dt.timedelta(days=20))
    return partitions_for(found, date, windows_of(DAY, 3).start)


def scored(database: Database) -> None:
    """Users 1 to 150 with the probabilities 0.01 to 1.00, 0.01 to 0.50, on the day."""
    from ltr_pipeline.batch.job import ScoreJob, load_jobs

    users(database, 150)
    job = load_jobs(Path("scoring.toml"))["lead_score"]
    assert isinstance(job, ScoreJob)
    score(database, "lead_score", job, model(), size=50)
    run(database, "UPDATE users SET scored_at = '2025-07-15 12:00:00'")


def test_what_was_stated_is_held_against_what_landed(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked, partitions = settings(tmp_path, database_url), landed(tmp_path, won=30)
    with opened(database_url) as database:
        scored(database)
    found, said = forecasts_of(asked, partitions, DAY)
    (forecast,) = found.values()
    stated = sum(n % 100 for n in range(1, 101)) / 100
    assert (forecast.scored, forecast.rows, forecast.happened) == (150, 100, 30)
    assert forecast.expected == pytest.approx(stated, abs=0.01)
    assert forecast.error == pytest.approx((stated - 30) / 30, abs=0.01)
    assert [sentence.startswith("job second: which version scored a row") for sentence in said] == [True]
    (record,) = outcomes(asked.data, partitions, asked.mapping, DAY, attribution_days=3, forecasts=found)
    assert (record.version, record.lists, record.forecast) == (VERSION, 100, forecast)
    (alert,) = record.alerts
    assert (alert.kind, alert.subject) == ("calibration", VERSION)
    assert "Of 100 rows" in alert.what
    assert "an error of 65 %" in alert.what
    assert forecasts_of(asked, partitions, DAY - dt.timedelta(days=1))[0] == {}


@pytest.mark.parametrize(
    ("url", "scoring", "said"),
    [
        ("sqlite:///{folder}/none.db", SCORING, "none.db is not there, so nothing was scored"),
        ("sqlite:///{folder}/other.db", "nonsense", "cannot be read"),
        ("postgresql://ltr:secret@127.0.0.1:1/none", SCORING, "cannot be reached"),
    ],
)
def test_whatever_is_wrong_with_the_database_is_a_sentence(tmp_path: Path, url: str, scoring: str, said: str) -> None:
    make_other(tmp_path)
    asked = settings(tmp_path, url.format(folder=tmp_path), scoring)
    found, (sentence,) = forecasts_of(asked, landed(tmp_path, won=1), DAY)
    assert found == {}
    assert said in sentence
    assert "secret" not in sentence
    assert not (tmp_path / "none.db").exists()


def make_other(folder: Path) -> str:
    """A database of somebody else, in which nothing was ever scored."""
    url = f"sqlite:///{folder}/other.db"
    with opened(url, tables=False) as other:
        run(other, "CREATE TABLE something (id integer)")
    return url


def test_where_nothing_was_ever_scored_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert forecasts_of(settings(tmp_path, make_other(tmp_path)), landed(tmp_path, won=1), DAY) == ({}, [])


WITHOUT: Final = """
import sys
sys.modules["sqlalchemy"] = None
import datetime as dt
from ltr_pipeline.jobs.forecasts import forecasts_of
from ltr_pipeline.settings import load_settings
print(forecasts_of(load_settings(database_url=sys.argv[1]), {}, dt.date(2025, 7, 15)))
"""


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, make_other(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].startswith("({}, [")
    assert "pip install 'ltr-pipeline[database]'" in done.stdout.splitlines()[-1]
