"""Tables of batch scoring: runs, their batches, rows that could not be scored, and recommendations with their view."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, PrimaryKeyConstraint, String, Table, Text

from ltr_pipeline.database.engine import Database
from ltr_pipeline.database.tables import Step, Tables
from ltr_pipeline.database.types import Utc, serial

__all__ = ["BATCHES", "RECOMMENDATIONS", "REFERENCES", "REJECTS", "RUNS", "TABLES"]

_METADATA = MetaData()

RUNS: Final = Table(
    "score_runs",
    _METADATA,
    Column("run_id", serial(), primary_key=True),
    Column("job", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("version", String, nullable=False),
    Column("scale", String, nullable=False),
    Column("state", String, nullable=False),
    Column("started_at", Utc, nullable=False),
    Column("ended_at", Utc),
    Column("rows", BigInteger, nullable=False),
    Column("batches", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("last_key", Text),
    Column("reason", Text),
    Index("score_runs_job", "job", "run_id"),
)
"""A run of a job by one worker, or for recommendations by several; `state` is running, done, rejected or failed."""

BATCHES: Final = Table(
    "score_batches",
    _METADATA,
    Column("run_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("first_key", Text, nullable=False),
    Column("last_key", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("fetch_ms", Float, nullable=False),
    Column("score_ms", Float, nullable=False),
    Column("write_ms", Float, nullable=False),
    Column("ended_at", Utc, nullable=False),
    PrimaryKeyConstraint("run_id", "number"),
)
"""A batch of a run, written by its own transaction: rows scored, rows rejected, milliseconds of each part."""

REJECTS: Final = Table(
    "score_rejects",
    _METADATA,
    Column("job", String, nullable=False),
    Column("key", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("rejected_at", Utc, nullable=False),
    PrimaryKeyConstraint("job", "key"),
)
"""Rows that could not be scored, and why; a row that is scored later leaves this table."""

REFERENCES: Final = Table(
    "score_references",
    _METADATA,
    Column("job", String, nullable=False),
    Column("version", String, nullable=False),
    Column("quantiles", Text, nullable=False),
    PrimaryKeyConstraint("job", "version"),
)
"""Quantiles of a version's scores over a job's rows, as JSON: what percentiles are read from, for all workers alike."""

RECOMMENDATIONS: Final = Table(
    "recommendations_v1",
    _METADATA,
    Column("run_id", BigInteger, nullable=False),
    Column("job", String, nullable=False),
    Column("query_id", String, nullable=False),
    Column("item_id", String, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("label", String),
    Column("reasons", Text, nullable=False),
    Column("model_version", String, nullable=False),
    Column("status", String, nullable=False, server_default="proposed"),
    Column("recommended_at", Utc, nullable=False),
    Column("answered_by", String),
    Column("answered_at", Utc),
    Column("answer_reason", Text),
    PrimaryKeyConstraint("job", "query_id", "run_id", "item_id"),
    Index("recommendations_v1_status", "job", "status", "run_id"),
)
"""Candidates of each query in their order, of every run; `status` is proposed, approved, rejected or superseded."""

CURRENT: Final = """\
SELECT job, query_id, item_id, rank, score, label, reasons, model_version, run_id, status, recommended_at,
    answered_by, answered_at, answer_reason
FROM recommendations_v1 AS shown
WHERE status = 'approved' AND run_id = (
    SELECT max(run_id) FROM recommendations_v1 AS newest
    WHERE newest.job = shown.job AND newest.query_id = shown.query_id AND newest.status = 'approved'
)"""
"""What was approved last for each query."""


def _answered(database: Database) -> list[str]:
    """Give recommendations an answer; those that the first release showed in the view stay there, as approved."""
    moment = "TIMESTAMP WITH TIME ZONE" if database.is_postgresql else "DATETIME"
    columns = {"answered_by": "VARCHAR", "answered_at": moment, "answer_reason": "TEXT"}
    answer = "answered_by = 'ltr-pipeline', answered_at = recommended_at, answer_reason ="
    newest = (
        "(SELECT max(run_id) FROM recommendations_v1 AS newest WHERE newest.job = recommendations_v1.job "
        "AND newest.query_id = recommendations_v1.query_id)"
    )
    return [
        *(f"ALTER TABLE recommendations_v1 ADD COLUMN {name} {kind}" for name, kind in columns.items()),
        "CREATE INDEX recommendations_v1_status ON recommendations_v1 (job, status, run_id)",
        f"UPDATE recommendations_v1 SET status = 'superseded', {answer} 'a newer run had proposed anew' "  # noqa: S608
        f"WHERE status = 'proposed' AND run_id < {newest}",
        f"UPDATE recommendations_v1 SET status = 'approved', {answer} "  # noqa: S608 - our own words
        "'shown before people approved recommendations' "
        "WHERE status = 'proposed'",
    ]


TABLES: Final = Tables(
    name="batch",
    metadata=_METADATA,
    views={"recommendations_current": CURRENT},
    steps=[Step(2, _answered, keeps_views=True)],
)
