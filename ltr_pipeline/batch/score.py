"""Score the rows of a table that have no score, batch by batch, each by its own transaction.

A batch is fetched by key and locked; other workers pass over it (PostgreSQL) or wait (SQLite). So a worker that is
killed leaves a batch whole or not at all, but others may have passed over rows that it held: passes are repeated from
the lowest key until one finds nothing, and the last pass waits for rows that are locked.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from ltr_pipeline.batch import runs
from ltr_pipeline.batch.changing import Changing
from ltr_pipeline.batch.job import ScoreJob
from ltr_pipeline.batch.matrix import read
from ltr_pipeline.batch.model import Model
from ltr_pipeline.batch.runs import Batch, Begun, Mode, Outcome, Run, State, Tell
from ltr_pipeline.batch.scale import Scale, labelled, quantiles
from ltr_pipeline.batch.tables import REFERENCES
from ltr_pipeline.batch.target import Columns, Target
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import LtrError

__all__ = ["reference", "score", "score_columns"]


def score(
    database: Database,
    name: str,
    job: ScoreJob,
    model: Model,
    *,
    size: int,
    tell: Tell = lambda _: None,
    mode: Mode = "unscored",
    again: str | None = None,
    changing: Changing | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Score the rows of a job that are due, and return what became of them.

    Parameters
    ----------
    size
        Rows a batch.
    tell
        Is told how much is to be done, and each batch.
    mode, again
        Which rows are due (`Target`).
    changing
        Features that are joined to the rows.
    dry_run
        Look at everything, count, and write nothing.

    Raises
    ------
    ScoringError
        The job does not fit the table or the version.
    DatabaseError
        The database refuses, or stays away.
    """
    with database.begin(write=False) as connection:
        target = Target(database, connection, name, job, model.version, mode, again, changing)
        target.check_features(connection, model.scorer.features)
        upto = target.last_key(connection)
        due = 0 if upto is None else target.count(connection, upto)
    begun = Begun(job=name, version=model.version, rows=due, batches=math.ceil(due / size))
    tell(begun)
    if dry_run or not due:
        scale = Scale(model.calibration)
        return _outcome(name, mode, model, scale, None, ok=True, reason="nothing is due" if not due else "dry run")
    scale = Scale(model.calibration, [] if model.calibration else reference(database, name, model, target.sample))
    run = runs.begin(database, name, job.kind, mode, model.version, scale.name)
    try:
        _Worker(database, target, model, scale, run, begun, upto, size, tell).work()
    except BaseException as error:
        _fail(database, run, error)
        raise
    reason = runs.too_many(run.rejected, run.rows, job.rejects_max)
    state: State = "rejected" if reason else "done"
    ended = partial(runs.end, database, run.run_id, state, reason, run.rejected)
    run.rows, run.number = runs.patiently(name, ended)  # more than was counted here, where an answer was lost
    return _outcome(name, mode, model, scale, run, ok=not reason, reason=reason)


class _Worker:
    """One worker on one table."""

    def __init__(
        self,
        database: Database,
        target: Target,
        model: Model,
        scale: Scale,
        run: Run,
        begun: Begun,
        upto: Any,  # noqa: ANN401 - of any type that a key may have
        size: int,
        tell: Tell,
    ) -> None:
        self.database, self.target, self.model, self.scale = database, target, model, scale
        self.run, self.begun, self.upto, self.size, self.tell = run, begun, upto, size, tell
        with database.begin(write=False) as connection:
            self.had_rejects = runs.has_rejects(connection, target.name)

    def work(self) -> None:
        """Pass over the table until a pass that waits for locked rows has found nothing to score."""
        if self.target.mode == "all":  # nothing tells the rows that are done, so they are not passed over twice
            self._pass(wait=True, count=True)
            return
        wait, first = not self.database.is_postgresql, True
        while True:
            scored = self._pass(wait=wait, count=first)
            first = False
            if not scored and wait:
                return
            wait = not scored or not self.database.is_postgresql

    def _pass(self, *, wait: bool, count: bool) -> int:
        """Pass once from the lowest key to the highest; return how many rows were scored.

        Rows that are rejected are met in every pass; those of the last one are what is left.
        """
        last, scored, self.run.rejected = None, 0, 0
        while True:
            done = runs.patiently(self.target.name, partial(self._batch, last, wait=wait, count=count))
            if done is None:
                return scored
            last, batch = done
            scored += batch.rows
            self.run.rejected += batch.rejected
            if count or batch.rows:
                self.run.number = batch.number
                self.run.rows += batch.rows
                self.tell(batch)

    def _batch(self, after: Any, *, wait: bool, count: bool) -> tuple[Any, Batch] | None:  # noqa: ANN401
        """Score one batch by one transaction; return its last key, and None when there are no rows left."""
        with self.database.begin() as connection:
            at = time.perf_counter()
            keys, columns = self.target.fetch(connection, after, self.upto, self.size, wait=wait)
            fetch_ms = runs.milliseconds(at)
            if not keys:
                return None
            at = time.perf_counter()
            good, scores, rejected = score_columns(self.model, columns, len(keys))
            values = self.scale(scores)
            score_ms = runs.milliseconds(at)
            at = time.perf_counter()
            labels = labelled(values, self.target.job.labels)
            chosen = [keys[row] for row in good]
            written = self.target.write(connection, chosen, values.tolist(), labels, runs.now())
            self._reject(connection, chosen, {runs.as_text(keys[row]): why for row, why in rejected.items()})
            batch = Batch(
                job=self.target.name,
                number=self.run.number + 1,
                batches=self.begun.batches,
                rows=written,
                rejected=len(rejected),
                fetch_ms=fetch_ms,
                score_ms=score_ms,
                write_ms=runs.milliseconds(at),
                first_key=runs.as_text(keys[0]),
                last_key=runs.as_text(keys[-1]),
            )
            if count or written:
                batch = runs.record(connection, self.run.run_id, batch, rejected=len(rejected) if count else 0)
        return keys[-1], batch

    def _reject(self, connection: Any, scored: Sequence[Any], reasons: dict[str, str]) -> None:  # noqa: ANN401
        if self.had_rejects and scored:
            runs.accept(connection, self.target.name, map(runs.as_text, scored))
        runs.reject(self.database, connection, self.target.name, self.run.run_id, reasons)
        self.had_rejects = self.had_rejects or bool(reasons)


def score_columns(model: Model, columns: Columns, rows: int) -> tuple[list[int], Any, dict[int, str]]:
    """Score rows by the model.

    Returns
    -------
    Rows that have a score, their scores, float64, and the reason by row of the others.
    """
    found = read(columns, model.scorer.features, rows)
    rejected = dict(found.rejected)
    good = np.array([row for row in range(rows) if row not in rejected], dtype=np.intp)
    scores = model.scorer.score(found.matrix[good])
    for row in good[~np.isfinite(scores)].tolist():
        rejected[row] = f"{model.version} gives it no finite score"
    finite = np.isfinite(scores)
    return good[finite].tolist(), scores[finite], rejected


def reference(database: Database, name: str, model: Model, sample: Any) -> list[float]:  # noqa: ANN401
    """Return the quantiles that a version's percentiles are read from: of a sample of the job's rows, drawn once.

    Whoever comes first enters them; all others, and all later runs, read the same.

    Parameters
    ----------
    sample
        Reads features of a sample of the rows, from a connection.
    """
    stored = select(REFERENCES.c.quantiles).where(REFERENCES.c.job == name, REFERENCES.c.version == model.version)
    with database.begin(write=False) as connection:
        found = connection.scalar(stored)
        columns: Columns = [] if found else sample(connection)
    if not found:
        rows = len(columns[0][1]) if columns else 0
        scores = score_columns(model, columns, rows)[1]
        insert = (postgresql if database.is_postgresql else sqlite).insert
        new = insert(REFERENCES).values(job=name, version=model.version, quantiles=json.dumps(quantiles(scores)))
        with database.begin() as connection:
            connection.execute(new.on_conflict_do_nothing())
            found = connection.scalar(stored)
    quantiles_stored: list[float] = json.loads(str(found))
    return quantiles_stored


def _fail(database: Database, run: Run, error: BaseException) -> None:
    """Enter that a run has failed, if the database takes it."""
    try:
        runs.end(database, run.run_id, "failed", str(error) or type(error).__name__, run.rejected)
    except LtrError:
        runs.log.warning("that the run has failed could not be entered", run_id=run.run_id)


def _outcome(name: str, mode: str, model: Model, scale: Scale, run: Run | None, *, ok: bool, reason: str) -> Outcome:
    seconds = run.seconds if run else 0.0
    return Outcome(
        job=name,
        kind="score",
        version=model.version,
        mode=mode,
        scale=scale.name,
        rows=run.rows if run else 0,
        batches=run.number if run else 0,
        rejected=run.rejected if run else 0,
        seconds=round(seconds, 3),
        rows_per_second=round((run.rows + run.rejected) / max(seconds, 1e-3), 1) if run else 0.0,
        run_id=run.run_id if run else None,
        ok=ok,
        reason=reason,
    )
