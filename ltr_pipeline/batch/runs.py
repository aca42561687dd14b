"""Runs and batches: what is told of them while they go on, and the rows that keep it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ltr_pipeline.batch.tables import BATCHES, REJECTS, RUNS
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import DatabaseUnavailableError

__all__ = ["Batch", "Begun", "Outcome", "Run", "Tell", "begin", "end", "patiently", "record"]

log = structlog.get_logger(__name__)

State = Literal["done", "rejected", "failed"]
"""How a run ends; rejected: nothing is left, but too many rows could not be scored."""
Mode = Literal["unscored", "all", "again", "stale"]
T = TypeVar("T")

WAITS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 20.0)
"""Seconds before a batch is tried again whose database was away: a server starts again within them."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that begins, and how much is before it; without a version that is asked for none would begin."""

    job: str
    version: str
    rows: int
    batches: int

    def __str__(self) -> str:
        return f"{self.job}: {self.rows:,} rows to score by {self.version}, in {self.batches:,} batches"


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is done; times are in ms."""

    job: str
    number: int
    batches: int
    rows: int
    rejected: int
    fetch_ms: float
    score_ms: float
    write_ms: float
    first_key: str
    last_key: str

    @property
    def rows_per_second(self) -> float:
        """Return the rows that were scored or rejected, by the time that took."""
        return 1000 * (self.rows + self.rejected) / max(1e-3, self.fetch_ms + self.score_ms + self.write_ms)

    def __str__(self) -> str:
        return (
            f"batch {self.number:,} of {max(self.number, self.batches):,}: {self.rows:,} rows, "
            f"{self.rows_per_second:,.0f} rows/s, fetch {self.fetch_ms:.0f} ms, score {self.score_ms:.0f} ms, "
            f"write {self.write_ms:.0f} ms, rejected {self.rejected:,}"
        )


Tell: TypeAlias = Callable[[Begun | Batch], object]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run.

    Attributes
    ----------
    rows, batches
        Rows that were scored, or recommendations that were written, and the batches that did it.
    rejected
        Rows that cannot be scored, and stay as they are.
    scale
        Whether a score is 100 times a probability, or a percentile.
    waiting
        Recommendations that wait for people's answer.
    ok
        Whether nothing is left to score but rejected rows, and these are few enough.
    """

    job: str
    kind: str
    version: str
    mode: str
    scale: str
    rows: int
    batches: int
    rejected: int
    seconds: float
    rows_per_second: float
    run_id: int | None
    ok: bool
    reason: str
    waiting: int = 0


@dataclass
class Run:
    """A run under way, counted by its own batches."""

    run_id: int
    job: str
    number: int = 0
    rows: int = 0
    rejected: int = 0
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Return the time since it began."""
        return time.monotonic() - self.begun


def begin(database: Database, job: str, kind: str, mode: str, version: str, scale: str) -> Run:
    """Enter a run that begins."""
    values = {"job": job, "kind": kind, "mode": mode, "version": version, "scale": scale, "state": "running"}
    with database.begin() as connection:
        entered = insert(RUNS).values(**values, started_at=now(), rows=0, batches=0, rejected=0)
        (run_id,) = connection.execute(entered.returning(RUNS.c.run_id)).one()
    return Run(run_id=run_id, job=job)


def record(connection: Connection, run_id: int, batch: Batch, *, rejected: int | None = None) -> Batch:
    """Count a batch for its run, in its own transaction, enter it, and return it with its number.

    The number is that of the database: whoever does a batch again because the answer to its commit was lost has
    counted one less.

    Parameters
    ----------
    rejected
        Rejected rows that count for the run; by default those of the batch.
    """
    counted = (
        update(RUNS)
        .where(RUNS.c.run_id == run_id)
        .values(
            rows=RUNS.c.rows + batch.rows,
            batches=RUNS.c.batches + 1,
            rejected=RUNS.c.rejected + (batch.rejected if rejected is None else rejected),
            last_key=batch.last_key,
        )
    )
    number = connection.execute(counted.returning(RUNS.c.batches)).scalar_one()
    connection.execute(
        insert(BATCHES).values(
            run_id=run_id,
            number=number,
            first_key=batch.first_key,
            last_key=batch.last_key,
            rows=batch.rows,
            rejected=batch.rejected,
            fetch_ms=round(batch.fetch_ms, 3),
            score_ms=round(batch.score_ms, 3),
            write_ms=round(batch.write_ms, 3),
            ended_at=now(),
        )
    )
    return msgspec.structs.replace(batch, number=number)


def end(
    database: Database,
    run_id: int,
    state: State,
    reason: str,
    rejected: int,
    also: Callable[[Connection], object] = lambda _: None,
) -> tuple[int, int]:
    """Enter how a run ended, in one transaction with what `also` does, and return its rows and batches."""
    with database.begin() as connection:
        also(connection)
        values = {"state": state, "reason": reason, "ended_at": now(), "rejected": rejected}
        ended = update(RUNS).where(RUNS.c.run_id == run_id).values(**values).returning(RUNS.c.rows, RUNS.c.batches)
        rows, batches = connection.execute(ended).one()
    return rows, batches


def reject(database: Database, connection: Connection, job: str, run_id: int, reasons: dict[str, str]) -> None:
    """Keep why rows, by their keys, could not be scored."""
    if not reasons:
        return
    dialect = postgresql if database.is_postgresql else sqlite
    new = dialect.insert(REJECTS)
    changed = {name: new.excluded[name] for name in ("reason", "run_id", "rejected_at")}
    rows = [{"job": job, "key": k, "reason": r, "run_id": run_id, "rejected_at": now()} for k, r in reasons.items()]
    connection.execute(new.on_conflict_do_update(index_elements=["job", "key"], set_=changed), rows)


def has_rejects(connection: Connection, job: str) -> bool:
    """Tell whether rows of a job were rejected before."""
    return bool(connection.scalar(select(exists().where(REJECTS.c.job == job))))


def accept(connection: Connection, job: str, keys: Iterable[str]) -> None:
    """Forget that rows could not be scored: now they are."""
    connection.execute(delete(REJECTS).where(REJECTS.c.job == job, REJECTS.c.key.in_(list(keys))))


def patiently(job: str, do: Callable[[], T]) -> T:
    """Do a whole transaction, and again where the database was away or another session in the way.

    Raises
    ------
    DatabaseUnavailableError
        It still is, after `WAITS`.
    """
    for wait in WAITS:
        try:
            return do()
        except DatabaseUnavailableError as error:
            log.warning("a batch is tried again", job=job, seconds=wait, error=str(error))
            time.sleep(wait)
    return do()


def too_many(rejected: int, rows: int, limit: float) -> str:
    """Say that too many rows were rejected; empty where they were not."""
    share = rejected / max(1, rejected + rows)
    if share <= limit or not rejected:
        return ""
    return (
        f"{rejected:,} of {rejected + rows:,} rows cannot be scored, {share:.1%}, more than the {limit:.1%} that "
        "rejects_max allows: score_rejects has the reasons"
    )


def now() -> dt.datetime:
    """Return this moment, UTC."""
    return dt.datetime.now(dt.UTC)


def milliseconds(since: float) -> float:
    """Return the time since a moment of `time.perf_counter`."""
    return 1000 * (time.perf_counter() - since)


def as_text(key: Any) -> str:  # noqa: ANN401 - of any type that a key may have
    """Return a key as our tables keep it."""
    return str(key)
