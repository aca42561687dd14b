"""Answers of people to recommendations: what waits is read, approved or rejected, and superseded by a newer run.

A row is answered once. Whoever answers locks what waits of the run, in one order, so that of two at once the second
sees what the first has done; a newer run locks what it supersedes in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, case, func, select, tuple_, update

from ltr_pipeline.batch import runs
from ltr_pipeline.batch.proposed import (
    COMPLETE,
    LONGEST_WHO,
    LONGEST_WHY,
    PROPOSED,
    SUPERSEDED,
    Answer,
    Proposal,
    ProposedRun,
    Row,
    Rows,
    said,
)
from ltr_pipeline.batch.tables import RECOMMENDATIONS, RUNS
from ltr_pipeline.database.engine import Database
from ltr_pipeline.errors import ScoringError
from ltr_pipeline.printable import counted

__all__ = ["answer", "newest_runs", "proposals", "run_of", "supersede"]

_R: Final = RECOMMENDATIONS.c
_ORDER: Final = (_R.query_id, _R.run_id, _R.item_id)
_AT_ONCE: Final = 1000  # rows that one statement names
_NAMED: Final = 3  # rows that a message names


def newest_runs(database: Database, limit: int = 30) -> list[ProposedRun]:
    """Return the newest runs that recommended anything, newest first."""
    with database.begin(write=False) as connection:
        newest = select(RUNS).where(RUNS.c.kind == "rank").order_by(RUNS.c.run_id.desc()).limit(limit)
        return [_summary(connection, found) for found in connection.execute(newest)]


def run_of(database: Database, run_id: int) -> ProposedRun:
    """Return a run; ScoringError where none of that number recommended anything."""
    with database.begin(write=False) as connection:
        return _found(connection, run_id)


def proposals(database: Database, run: ProposedRun, *, limit: int | None = None, offset: int = 0) -> list[Proposal]:
    """Return the recommendations of a run: query by query those that wait first, each query's best first."""
    first = func.max(case((_R.status == PROPOSED, 1), else_=0)).over(partition_by=_R.query_id)
    columns = [_R[name] for name in Proposal.__struct_fields__]
    query = (
        select(*columns)
        .where(_R.job == run.job, _R.run_id == run.run_id)
        .order_by(first.desc(), _R.query_id, _R.rank)
        .offset(offset)
    )
    with database.begin(write=False) as connection:
        query = query if limit is None else query.limit(limit)
        return [Proposal(**row._mapping) for row in connection.execute(query)]


def answer(
    database: Database,
    run_id: int,
    status: Answer,
    *,
    who: str,
    why: str,
    rows: Rows | None = None,
    seen: int | None = None,
) -> int:
    """Answer what waits of a run, or some rows of it, and return how many rows that were; all of them or none.

    Parameters
    ----------
    status
        What they become.
    who, why
        Are kept with each row.
    rows
        Rows that are answered; None = all that wait.
    seen
        How many rows waited when the person looked; another number is refused.

    Raises
    ------
    ScoringError
        The run is unknown or not complete, somebody else has answered meanwhile, a newer run has superseded it, or a
        reason is missing.
    DatabaseError
        The database refuses, or stays away.
    """
    who, why = said(who, "who answers", LONGEST_WHO), said(why, "the reason", LONGEST_WHY)
    with database.begin() as connection:
        run = _found(connection, run_id)
        if not run.complete:
            raise ScoringError(
                f"run {run_id} of {run.job} is not complete ({run.state}): `ltr score {run.job}` completes it, or "
                "begins a newer one"
            )
        of_run = and_(_R.job == run.job, _R.run_id == run_id)
        waiting = _locked(connection, select(_R.item_id).where(of_run, _R.status == PROPOSED))
        if not waiting or (seen is not None and seen != waiting):
            raise ScoringError(_refusal(connection, run, waiting, seen))
        values = {"status": status, "answered_by": who, "answered_at": runs.now(), "answer_reason": why}
        if rows is None:
            connection.execute(update(RECOMMENDATIONS).where(of_run, _R.status == PROPOSED).values(**values))
            return waiting
        _check_rows(connection, run, rows)
        for some in _parts(rows):
            named = tuple_(_R.query_id, _R.item_id).in_(some)
            connection.execute(update(RECOMMENDATIONS).where(of_run, named).values(**values))
        return len(rows)


def supersede(connection: Connection, job: str, run_id: int) -> int:
    """Let a run that is complete take the place of what still waits of a job's former runs; how many rows that were.

    Where a newer one is complete already, it takes the place of this one, too.
    """
    complete = and_(RUNS.c.job == job, RUNS.c.kind == "rank", RUNS.c.state.in_(COMPLETE))
    newest = max(run_id, connection.scalar(select(func.max(RUNS.c.run_id)).where(complete)) or 0)
    former = and_(_R.job == job, _R.run_id < newest, _R.status == PROPOSED)
    waiting = _locked(connection, select(_R.item_id).where(former))
    if waiting:
        values = {
            "status": SUPERSEDED,
            "answered_by": f"run {newest}",
            "answered_at": runs.now(),
            "answer_reason": "a newer run has proposed anew",
        }
        connection.execute(update(RECOMMENDATIONS).where(former).values(**values))
    return waiting


def _locked(connection: Connection, wanted: Select[Any]) -> int:
    """Lock rows in the one order in which everybody does, and count them; those that another has changed are none."""
    rows = wanted.order_by(*_ORDER).with_for_update().subquery("locked")
    return connection.scalar(select(func.count()).select_from(rows)) or 0


def _found(connection: Connection, run_id: int) -> ProposedRun:
    found = connection.execute(select(RUNS).where(RUNS.c.run_id == run_id, RUNS.c.kind == "rank")).first()
    if found is None:
        newest = connection.scalar(select(func.max(RUNS.c.run_id)).where(RUNS.c.kind == "rank"))
        known = f"the newest is {newest}" if newest else "there is none yet: `ltr score` makes one"
        raise ScoringError(f"no run {run_id} has recommended anything; {known}")
    return _summary(connection, found)


def _summary(connection: Connection, found: Any) -> ProposedRun:  # noqa: ANN401 - a row of SQLAlchemy's
    counts = select(_R.status, func.count()).where(_R.job == found.job, _R.run_id == found.run_id).group_by(_R.status)
    return ProposedRun(
        run_id=found.run_id,
        job=found.job,
        version=found.version,
        state=found.state,
        started_at=found.started_at,
        counts={row[0]: row[1] for row in connection.execute(counts)},
    )


def _refusal(connection: Connection, run: ProposedRun, waiting: int, seen: int | None) -> str:
    """Say why a run cannot be answered as it was asked: who was first, and what they said."""
    answered = (
        select(_R.status, _R.answered_by, _R.answer_reason, func.count().label("many"), func.max(_R.answered_at))
        .where(_R.job == run.job, _R.run_id == run.run_id, _R.status != PROPOSED)
        .group_by(_R.status, _R.answered_by, _R.answer_reason)
        .order_by(func.max(_R.answered_at).desc())
        .limit(_NAMED)
    )
    done = "; ".join(_told(row) for row in connection.execute(answered))
    begin = f"run {run.run_id} of {run.job}"
    if not waiting:
        return f"nothing of {begin} waits for an answer: {done or 'it recommended nothing'}"
    return (
        f"{counted(waiting, 'row')} of {begin} {'waits' if waiting == 1 else 'wait'} for an answer, not the {seen:,} "
        f"that you saw: look again ({done or 'none was answered'})"
    )


def _told(row: Any) -> str:  # noqa: ANN401 - a row of SQLAlchemy's
    status, who, why, many, at = row
    when = f" on {at:%Y-%m-%d %H:%M} UTC" if at else ""
    by = f" by {who}{when}" if who else " by hand"
    return f"{counted(many, 'row')} {status}{by}" + (f" ({why})" if why and status != SUPERSEDED else "")


def _check_rows(connection: Connection, run: ProposedRun, rows: Rows) -> None:
    """Raise ScoringError unless every named row is there and waits."""
    found: dict[Row, Any] = {}
    for some in _parts(rows):
        named = tuple_(_R.query_id, _R.item_id).in_(some)
        query = select(_R.query_id, _R.item_id, _R.status, _R.answered_by, _R.answered_at).where(
            _R.job == run.job, _R.run_id == run.run_id, named
        )
        found |= {Row(row[0], row[1]): row for row in connection.execute(query)}
    if unknown := [row for row in rows if row not in found]:
        raise ScoringError(f"run {run.run_id} of {run.job} did not recommend {_named(unknown)}; nothing was answered")
    if answered := [row for row in rows if found[row].status != PROPOSED]:
        first = found[answered[0]]
        by = f" by {first.answered_by} on {first.answered_at:%Y-%m-%d %H:%M} UTC" if first.answered_by else ""
        raise ScoringError(
            f"{_named(answered)} of run {run.run_id} waits for no answer: it is {first.status}{by}; nothing was "
            "answered"
        )


def _named(rows: Sequence[Row]) -> str:
    some = ", ".join(f"item {row.item_id} for {row.query_id}" for row in rows[:_NAMED])
    return some + (f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else "")


def _parts(rows: Rows) -> Iterator[Rows]:
    for begin in range(0, len(rows), _AT_ONCE):
        yield rows[begin : begin + _AT_ONCE]
