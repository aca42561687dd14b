"""Scoring the rows of a table against a script that selects a row, scores it and updates it.

    python benchmarks/batch.py [--repeats 5]

Everything runs on a real PostgreSQL of its own. The script and `ltr score`'s own code take turns over fresh rows; both
score with the same trees and write score, label, version and time. The script is given in two forms, committing each
row and, better than most, each 100 rows. Printed are medians, with their range. Then come the memory of a process that
scores 100,000 and 1,000,000 rows, and the time of a fetch when 100 of 400,000 rows have no score, with and without the
index that ``ltr database init --indexes`` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import lightgbm as lgb
import numpy as np
import psycopg
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy.native.postgres import PostgresServer
from ltr_pipeline.batch.job import ScoreJob
from ltr_pipeline.batch.model import Model
from ltr_pipeline.batch.scale import Scale, labelled
from ltr_pipeline.batch.score import score
from ltr_pipeline.batch.tables import TABLES
from ltr_pipeline.batch.target import Target
from ltr_pipeline.database.address import Address
from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import upgrade
from ltr_pipeline.scoring.calibration import Calibration
from ltr_pipeline.scoring.scorer import Scorer

FEATURES: Final = ("a", "s", "t", "g", "q", "u", "r", "c")
VERSION: Final = "20250714_0215"
JOB: Final = ScoreJob(
    table="users",
    key="id",
    score="lead_score",
    label="lead_label",
    version="model_version",
    scored_at="scored_at",
    features={name: name for name in FEATURES},
)
TABLE: Final = f"""
CREATE TABLE users (id bigint PRIMARY KEY, {", ".join(f"{name} float8" for name in FEATURES)}, lead_score float8,
                    lead_label text, model_version text, scored_at timestamptz)
"""
SELECT: Final = f"SELECT {', '.join(FEATURES)} FROM users WHERE id = %s"
UPDATE: Final = "UPDATE users SET lead_score = %s, lead_label = %s, model_version = %s, scored_at = %s WHERE id = %s"
OURS: Final = {"ours, 100 a batch": (10_000, 100), "ours, 10,000 a batch": (40_000, 10_000)}
SCRIPTS: Final = {"script, commits a row": (2_000, 1), "script, commits 100": (2_000, 100)}


def trained() -> Model:
    """Return 200 trees, alike in every process."""
    rng = np.random.default_rng(1)
    matrix = rng.random((5_000, len(FEATURES)))
    relevance = np.digitize(matrix[:, :5].sum(axis=1) + rng.normal(0, 0.5, len(matrix)), [2, 2.5, 3])
    parameters = {"objective": "lambdarank", "num_threads": 1, "verbose": -1, "deterministic": True}
    booster = lgb.train(parameters, lgb.Dataset(matrix, relevance, group=[50] * 100, feature_name=list(FEATURES)), 200)
    scorer = Scorer.from_model(booster.model_to_string(), list(FEATURES))
    calibration = Calibration(positive=2, x=[-3.0, 3.0], y=[0.0, 1.0], error=0.01)
    return Model(version=VERSION, scorer=scorer, calibration=calibration)


def fill(database: Database, rows: int, *, scored: bool = False) -> None:
    """Make the table anew; of scored rows one in 4,000 is not."""
    values = ", ".join("random()" for _ in FEATURES)
    known = "CASE WHEN n % 4000 > 0 THEN 50 END" if scored else "NULL"
    with database.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS users"))
        connection.execute(text(TABLE))
        connection.execute(text(f"INSERT INTO users SELECT n, {values}, {known} FROM generate_series(1, {rows}) AS n"))
    database.execute_alone("VACUUM ANALYZE users")
    database.execute_alone("CHECKPOINT")


def by_script(url: str, model: Model, commit: int) -> None:
    """Select a row, score it, update it."""
    scale = Scale(model.calibration)
    with psycopg.connect(url) as connection:
        keys = [key for (key,) in connection.execute("SELECT id FROM users WHERE lead_score IS NULL ORDER BY id")]
        for done, key in enumerate(keys, 1):
            row = connection.execute(SELECT, [key]).fetchone()
            value = scale(model.scorer.score(np.array([row], dtype=np.float32)))
            (label,) = labelled(value, JOB.labels)
            connection.execute(UPDATE, [float(value[0]), label, VERSION, dt.datetime.now(dt.UTC), key])
            if done % commit == 0:
                connection.commit()


def by_us(database: Database, model: Model, size: int) -> None:
    """Score all rows as ``ltr score`` does."""
    score(database, "lead_score", JOB, model, size=size)


def rate(database: Database, rows: int, work: Callable[[], object]) -> float:
    """Return the rows that are scored in a second, of fresh ones."""
    fill(database, rows)
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    with database.begin(write=False) as connection:
        left = connection.scalar(text("SELECT count(*) FROM users WHERE lead_score IS NULL"))
    if left:
        raise SystemExit(f"{left} rows have no score")
    return rows / seconds


def compare(url: str, database: Database, model: Model, repeats: int) -> None:
    """Print rows a second of each way, in turns, and what ours is of the scripts'."""
    turns: dict[str, list[float]] = {name: [] for name in [*SCRIPTS, *OURS]}
    for _ in range(repeats):
        for name, (rows, commit) in SCRIPTS.items():
            turns[name].append(rate(database, rows, lambda commit=commit: by_script(url, model, commit)))
        for name, (rows, size) in OURS.items():
            turns[name].append(rate(database, rows, lambda size=size: by_us(database, model, size)))
    print(f"{'rows/s, median of ' + str(repeats):28}")
    for name, rates in turns.items():
        print(f"{name:28} {spread(rates, '8,.0f')}")
    for name in OURS:
        for script in SCRIPTS:
            ratios = [ours / theirs for ours, theirs in zip(turns[name], turns[script], strict=True)]
            print(f"{name} / {script}: {spread(ratios, '.1f')}", flush=True)


def by_us_alone(database: Database) -> None:
    """Score all rows and print the memory before, and the most there was since: Linux forgets its maximum when told."""
    model = trained()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_of("VmRSS")
    by_us(database, model, 10_000)
    print(f"{before} MB before, {memory_of('VmHWM')} MB at most")


def memory_of(kind: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{kind}:")[2].split()[0]) // 1024


def memory(url: str, database: Database, sizes: tuple[int, ...] = (100_000, 1_000_000)) -> None:
    """Print the most memory that a process of its own had, by the rows that it scored."""
    for rows in sizes:
        fill(database, rows)
        start = time.perf_counter()
        command = [sys.executable, __file__, "--score"]
        said = subprocess.run(command, input=url, capture_output=True, text=True, check=True).stdout
        print(f"memory, {rows:9,} rows: {said.strip()}, {time.perf_counter() - start:.0f} s", flush=True)


def fetches(database: Database, model: Model, repeats: int) -> None:
    """Print how long the first fetch of a run takes when few of many rows have no score."""
    fill(database, 400_000, scored=True)
    with database.begin(write=False) as connection:
        target = Target(database, connection, "lead_score", JOB, model.version)
        upto = target.last_key(connection)
        (index,) = target.missing_index(connection)
    for name, statement in (("without an index", ""), ("with the partial index", index)):
        if statement:
            database.execute_alone(statement)
        times = []
        for _ in range(repeats + 1):
            with database.begin() as connection:
                start = time.perf_counter()
                keys, _ = target.fetch(connection, None, upto, 100, wait=False)
                times.append(1000 * (time.perf_counter() - start))
            if len(keys) != 100:
                raise SystemExit(f"{len(keys)} rows without a score instead of 100")
        print(f"fetch of 100 of 400,000 rows {name}: {spread(times[1:], '.1f')} ms", flush=True)


def spread(values: list[float], form: str) -> str:
    """Return median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form.strip('8')}} to {max(values):{form.strip('8')}})"


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Address of a PostgreSQL that lasts as long."""
    folder = Path(tempfile.mkdtemp(prefix="ltr-benchmark-"))  # where it runs as another user, that one must get in
    folder.chmod(0o755)
    server = PostgresServer(folder)
    try:
        server.start()
        print(f"PostgreSQL {server.version()}", flush=True)
        yield f"postgresql://airflow:{server.password}@127.0.0.1:{server.port}/airflow"
    finally:
        server.stop()
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("speed", "fetch", "memory"))
    parser.add_argument("--score", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:  # the address comes by standard input: it has a password in it
        with Database(Address.parse(sys.stdin.read())) as database:
            by_us_alone(database)
        return
    with served() as url, Database(Address.parse(url)) as database:
        upgrade(database, [TABLES])
        model = trained()
        if options.only in (None, "speed"):
            compare(url, database, model, options.repeats)
        if options.only in (None, "fetch"):
            fetches(database, model, options.repeats)
        if options.only in (None, "memory"):
            memory(url, database)


if __name__ == "__main__":
    main()
