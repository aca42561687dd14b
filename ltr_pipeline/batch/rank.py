"""Order the candidates of each query and recommend the best, some queries at a time, each such batch a transaction.

A run's row says how far it is: whoever works on the run locks it, takes the next queries and moves it on. So several
workers share a run, and one that was killed is gone on with where its last whole batch ended.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, column, func, insert, select, text

from ltr_pipeline.batch import runs
from ltr_pipeline.batch.answers import run_of, supersede
from ltr_pipeline.batch.changing import Changing
from ltr_pipeline.batch.columns import check_rights, find, ordered
from ltr_pipeline.batch.job import RankJob
from ltr_pipeline.batch.matrix import check_features, read
from ltr_pipeline.batch.model import Model
from ltr_pipeline.batch.proposed import APPROVED, PROPOSED
from ltr_pipeline.batch.runs import Batch, Begun, Outcome, Run, Tell
from ltr_pipeline.batch.scale import Scale, labelled
from ltr_pipeline.batch.score import reference, score_columns
from ltr_pipeline.batch.tables import RECOMMENDATIONS, RUNS
from ltr_pipeline.batch.target import SAMPLE, Columns
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import LtrError, ScoringError
from ltr_pipeline.scoring.scorer import descending

__all__ = ["look", "rank", "reasons"]

GOES_ON: Final = dt.timedelta(hours=12)
"""Age up to which an unfinished run is gone on with; after that its candidates are old."""


def rank(
    database: Database,
    name: str,
    job: RankJob,
    model: Model,
    *,
    size: int,
    tell: Tell = lambda _: None,
    changing: Changing | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Recommend the best candidates of every query, and return what became of it.

    Parameters
    ----------
    size
        Candidates a batch, roughly: whole queries are taken.
    tell, changing, dry_run
        As `score` has them.

    Raises
    ------
    ScoringError
        The job does not fit the candidates or the version.
    DatabaseError
        The database refuses, or stays away.
    """
    with database.begin(write=False) as connection:
        candidates = _Candidates(database, connection, name, job, changing)
        check_features([*job.features, *(changing.names if changing else ())], model.scorer.features, name)
        queries, rows = candidates.count(connection)
    batches = math.ceil(queries / _queries(size, queries, rows)) if queries else 0
    tell(Begun(job=name, version=model.version, rows=rows, batches=batches))
    scale = Scale(model.calibration, [] if model.calibration else reference(database, name, model, candidates.sample))
    if dry_run or not queries:
        reason = "dry run" if queries else "there are no candidates"
        return _outcome(name, model, scale, None, Run(run_id=0, job=name), ok=True, reason=reason)
    run_id = _open(database, name, model, scale)
    run = Run(run_id=run_id, job=name)
    worker = _Worker(database, candidates, model, scale, run, _queries(size, queries, rows), batches, tell)
    try:
        worker.work()
    except BaseException as error:
        _fail(database, run, error)
        raise
    reason = runs.too_many(run.rejected, worker.seen - run.rejected, job.rejects_max)
    with database.begin(write=False) as connection:
        rejected = connection.scalar(select(RUNS.c.rejected).where(RUNS.c.run_id == run_id)) or 0
    state: runs.State = "rejected" if reason else "done"
    runs.patiently(
        name,
        lambda: runs.end(database, run_id, state, reason, rejected, lambda held: supersede(held, name, run_id)),
    )
    done = _outcome(name, model, scale, run_id, run, ok=not reason, reason=reason)
    return msgspec.structs.replace(done, waiting=run_of(database, run_id).waiting)


def reasons(
    contributions: NDArray[np.float64], matrix: NDArray[np.float32], features: Sequence[str], count: int
) -> list[str]:
    """Say in words by which features each candidate stands out among those of its query.

    Parameters
    ----------
    contributions
        Of each feature to each score, float64 (candidates, features).
    matrix
        Values of the features, float32 (candidates, features); NaN = missing.
    count
        Number of features to name, the strongest first.

    Examples
    --------
    >>> shares = np.array([[0.5, -0.1], [-0.5, 0.1]])
    >>> values = np.array([[0.9, np.nan], [0.2, 0.4]], dtype=np.float32)
    >>> reasons(shares, values, ["Q", "R"], 2)
    ['for: Q 0.9; against: R missing', 'for: R 0.4; against: Q 0.2']
    """
    apart = contributions - contributions.mean(axis=0)
    strongest = np.argsort(-np.abs(apart), axis=1, kind="stable")[:, :count]
    return [_said(apart[row], matrix[row], features, strongest[row].tolist()) for row in range(len(matrix))]


def _said(apart: NDArray[np.float64], values: NDArray[np.float32], features: Sequence[str], places: list[int]) -> str:
    def named(sign: int) -> str:
        return ", ".join(
            f"{features[at]} {'missing' if np.isnan(values[at]) else format(float(values[at]), '.3g')}"
            for at in places
            if np.sign(apart[at]) == sign
        )

    parts = [(word, named(sign)) for word, sign in (("for", 1), ("against", -1))]
    return "; ".join(f"{word}: {names}" for word, names in parts if names)


def look(database: Database, connection: Connection, name: str, job: RankJob) -> None:
    """Raise ScoringError, or DatabaseError, where a job does not fit its candidates."""
    _Candidates(database, connection, name, job)


class _Candidates:
    """Candidates of a job, from a table or a SELECT."""

    def __init__(
        self, database: Database, connection: Connection, name: str, job: RankJob, changing: Changing | None = None
    ) -> None:
        self.name, self.job, self.changing = name, job, changing
        columns = list(dict.fromkeys([job.query, job.item, *job.features.values(), *job.ids.values()]))
        if job.table:
            found = find(database, connection, name, job.table, columns, views=True)
            check_rights(database, connection, name, job.table, columns, [])
            self.source: Any = found.clause
        else:
            self.source = text(str(job.sql)).columns(*(column(one) for one in columns)).subquery("candidates")
            given = connection.execute(text(f"SELECT * FROM ({job.sql}) AS candidates WHERE 1 = 0")).keys()  # noqa: S608
            if lacking := [one for one in columns if one not in given]:
                raise ScoringError(f"job {name}: its sql gives {', '.join(given)}, but not {', '.join(lacking)}")
        self.query = self.source.c[job.query]
        first = connection.scalar(select(self.query).limit(1))
        self._order = ordered(database, self.query, "text" if isinstance(first, str) else "")

    def count(self, connection: Connection) -> tuple[int, int]:
        """Count queries and candidates."""
        queries, rows = connection.execute(
            select(func.count(self.query.distinct()), func.count(self.query)).select_from(self.source)
        ).one()
        return queries, rows

    def fetch(self, connection: Connection, after: Any, limit: int) -> list[Any]:  # noqa: ANN401
        """Read the candidates of the next queries, by query."""
        next_ones = select(self.query).where(self.query.is_not(None)).distinct().order_by(self._order).limit(limit)
        if after is not None:
            next_ones = next_ones.where(self._order > after)
        queries = [row[0] for row in connection.execute(next_ones)]
        if not queries:
            return []
        wanted = self._rows().where(self.query.in_(queries)).order_by(self._order, self.source.c[self.job.item])
        return list(connection.execute(wanted))

    def sample(self, connection: Connection) -> Columns:
        """Read the features of some candidates."""
        return self.columns(list(connection.execute(self._rows().order_by(func.random()).limit(SAMPLE))))

    def columns(self, rows: Sequence[Any]) -> Columns:
        """Return the features of candidates as columns."""
        given: Columns = [(name, [row[at] for row in rows]) for at, name in enumerate(self.job.features, 2)]
        if self.changing:
            first = 2 + len(self.job.features)
            ids = {name: [row[at] for row in rows] for at, name in enumerate(self.changing.ids, first)}
            given += self.changing.of(ids)
        return given

    def _rows(self) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        ids = self.changing.ids.values() if self.changing else ()
        # Each under a name of its own, as one column may be several of these.
        values = [self.source.c[name].label(f"ltr_{at}") for at, name in enumerate((*self.job.features.values(), *ids))]
        return select(self.query.label("ltr_query"), self.source.c[self.job.item].label("ltr_item"), *values)


class _Worker:
    """One worker on one run."""

    def __init__(
        self,
        database: Database,
        candidates: _Candidates,
        model: Model,
        scale: Scale,
        run: Run,
        queries: int,
        batches: int,
        tell: Tell,
    ) -> None:
        self.database, self.candidates, self.model, self.scale = database, candidates, model, scale
        self.run, self.queries, self.batches, self.tell = run, queries, batches, tell
        self.seen = 0
        self._keys: dict[str, Any] = {}

    def work(self) -> None:
        """Take queries until there are no more."""
        while batch := runs.patiently(self.candidates.name, self._batch):
            self.run.number = batch.number
            self.run.rows += batch.rows
            self.run.rejected += batch.rejected
            self.tell(batch)

    def _batch(self) -> Batch | None:
        with self.database.begin() as connection:
            at = time.perf_counter()
            query = select(RUNS.c.last_key, RUNS.c.batches).where(RUNS.c.run_id == self.run.run_id).with_for_update()
            last, number = connection.execute(query).one()
            rows = self.candidates.fetch(connection, self._key(connection, last), self.queries)
            fetch_ms = runs.milliseconds(at)
            if not rows:
                return None
            at = time.perf_counter()
            written, rejected = self._recommended(rows)
            score_ms = runs.milliseconds(at)
            at = time.perf_counter()
            if written:
                connection.execute(insert(RECOMMENDATIONS), written)
            runs.reject(self.database, connection, self.candidates.name, self.run.run_id, rejected)
            batch = Batch(
                job=self.candidates.name,
                number=number + 1,
                batches=self.batches,
                rows=len(written),
                rejected=len(rejected),
                fetch_ms=fetch_ms,
                score_ms=score_ms,
                write_ms=runs.milliseconds(at),
                first_key=runs.as_text(rows[0][0]),
                last_key=runs.as_text(rows[-1][0]),
            )
            batch = runs.record(connection, self.run.run_id, batch)
        self._keys = {batch.last_key: rows[-1][0]}
        self.seen += len(rows)
        return batch

    def _key(self, connection: Connection, last: str | None) -> Any:  # noqa: ANN401 - of any type that an id may have
        """Return the id, as the database has it, of the query that a run has come to."""
        if last is None or last in self._keys:
            return self._keys.get(str(last))
        first = connection.scalar(select(self.candidates.query).limit(1))
        return type(first)(last) if first is not None else last

    def _recommended(self, rows: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return the rows to write, and the reasons by candidate of those that cannot be scored."""
        good, scores, why_not = score_columns(self.model, self.candidates.columns(rows), len(rows))
        rejected = {f"{rows[at][0]}/{rows[at][1]}": reason for at, reason in why_not.items()}
        place = {row: at for at, row in enumerate(good)}
        found: list[dict[str, Any]] = []
        for _, of_query in groupby(good, key=lambda row: rows[row][0]):
            found += self._of_query(rows, scores, place, list(of_query), rejected)
        return found, rejected

    def _of_query(
        self,
        rows: Sequence[Any],
        scores: NDArray[np.float64],
        place: dict[int, int],
        members: list[int],
        rejected: dict[str, str],
    ) -> list[dict[str, Any]]:
        """Return the recommendations for one query; an item that comes twice counts once."""
        items = [str(rows[row][1]) for row in members]
        for row, item, seen in zip(members, items, _repeated(items), strict=True):
            if seen:
                rejected[f"{rows[row][0]}/{item}"] = "the item comes more than once for its query"
        members = [row for row, seen in zip(members, _repeated(items), strict=True) if not seen]
        raw = scores[[place[row] for row in members]]
        order = descending(raw)[: self.candidates.job.first]
        chosen = [rows[members[at]] for at in order]
        values = self.scale(raw[order])
        words = self._reasons([rows[row] for row in members], order)
        at = runs.now()
        return [
            {
                "run_id": self.run.run_id,
                "job": self.candidates.name,
                "query_id": str(row[0]),
                "item_id": str(row[1]),
                "rank": number,
                "score": value,
                "label": label,
                "reasons": why,
                "model_version": self.model.version,
                "recommended_at": at,
                **self._status(at),
            }
            for number, (row, value, label, why) in enumerate(
                zip(chosen, values.tolist(), labelled(values, self.candidates.job.labels), words, strict=True), 1
            )
        ]

    def _status(self, at: dt.datetime) -> dict[str, Any]:
        if self.candidates.job.approval == "people":
            return {"status": PROPOSED, "answered_by": None, "answered_at": None, "answer_reason": None}
        by, why = f"job {self.candidates.name}", 'it declares approval = "none"'
        return {"status": APPROVED, "answered_by": by, "answered_at": at, "answer_reason": why}

    def _reasons(self, rows: Sequence[Any], order: Sequence[int]) -> list[str]:
        job, scorer = self.candidates.job, self.model.scorer
        matrix = read(self.candidates.columns(rows), scorer.features, len(rows)).matrix
        shares = scorer.contributions(matrix)[:, :-1]
        said = reasons(shares, matrix, scorer.features, job.reasons)
        return [said[at] for at in order]


def _repeated(items: Sequence[str]) -> list[bool]:
    """Tell of each item whether it stood there before."""
    first = {item: place for place, item in reversed([*enumerate(items)])}
    return [first[item] != place for place, item in enumerate(items)]


def _queries(size: int, queries: int, rows: int) -> int:
    """Return how many queries have about `size` candidates."""
    return max(1, size * queries // max(1, rows))


def _open(database: Database, name: str, model: Model, scale: Scale) -> int:
    """Return the unfinished run to go on with, or a new one."""
    with database.begin() as connection:
        if database.is_postgresql:  # two workers that begin at once begin one run
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:job))"), {"job": f"ltr rank {name}"})
        newest = select(RUNS).where(RUNS.c.job == name, RUNS.c.kind == "rank").order_by(RUNS.c.run_id.desc()).limit(1)
        found = connection.execute(newest).first()
        if (
            found
            and found.state in {"running", "failed"}
            and found.version == model.version
            and found.scale == scale.name
            and runs.now() - found.started_at < GOES_ON
        ):
            return int(found.run_id)
        values = {"job": name, "kind": "rank", "mode": "all", "version": model.version, "scale": scale.name}
        new = insert(RUNS).values(**values, state="running", started_at=runs.now(), rows=0, batches=0, rejected=0)
        return int(connection.execute(new.returning(RUNS.c.run_id)).scalar_one())


def _fail(database: Database, run: Run, error: BaseException) -> None:
    try:
        runs.end(database, run.run_id, "failed", str(error) or type(error).__name__, run.rejected)
    except LtrError:
        runs.log.warning("that the run has failed could not be entered", run_id=run.run_id)


def _outcome(name: str, model: Model, scale: Scale, run_id: int | None, run: Run, *, ok: bool, reason: str) -> Outcome:
    return Outcome(
        job=name,
        kind="rank",
        version=model.version,
        mode="all",
        scale=scale.name,
        rows=run.rows,
        batches=run.number,
        rejected=run.rejected,
        seconds=round(run.seconds, 3),
        rows_per_second=round(run.rows / max(run.seconds, 1e-3), 1),
        run_id=run_id,
        ok=ok,
        reason=reason,
    )
